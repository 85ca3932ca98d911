"""A set of several targets, walked through from settings to card: labels that are unknown, a
finding that nobody has, a patient of whom nothing is known."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import clinic_set, several_targets_set

from classify.calibrate import run_calibrate
from classify.evaluate import run_evaluate
from classify.finetune import run_finetune
from classify.model.folder import load_classifier
from classify.predict import run_predict
from classify.pretrain import fit_logistic, run_pretrain
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import CalibrateSettings, EvaluateSettings, PredictSettings
from classify.settings.head import HeadSettings
from classify.settings.pretrain import PretrainSettings
from classify.setup.head import set_up_head
from classify.setup.start import starting_classifier
from synthdp.command_line.ends import print_end
from synthdp.config.settings import validate_settings
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.evaluation.predictions import read_metrics
from synthdp.releases.release import Asked, release
from synthdp.storage.files import read_json, write_json

NAMES = ("bright", "dark", "rare")
RANDOM = {"name": "test_vit", "size_px": 32}
PROMISED = {"epsilon": 6, "delta": 1e-3, "population": 50}
PLAIN = {"epsilon": None, "delta": 1e-3, "population": 50}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "clinic"
    return several_targets_set(out, n_patients=24, splits=("train", "val"))


def finetuned(data: Path, out: Path, privacy: Mapping[str, object], **changes: object) -> Path:
    return run_finetune(asked(data, out, privacy, **changes))


def asked(
    data: Path, out: Path, privacy: Mapping[str, object], **changes: object
) -> FinetuneSettings:
    values = {"data": data, "out": out, "privacy": privacy, "head": {"steps": 40}, **changes}
    if "init" not in values:
        values["backbone"] = RANDOM
    return validate_settings(FinetuneSettings, values, where="finetune")


@pytest.fixture(scope="module")
def private_run(clinic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetuned(clinic, tmp_path_factory.mktemp("runs") / "private", PROMISED)


@pytest.fixture(scope="module")
def plain_run(clinic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetuned(clinic, tmp_path_factory.mktemp("runs") / "plain", PLAIN)


def evaluated(run: Path, data: Path, out: Path, **changes: object) -> Path:
    values = {"run": run, "dataset": data, "out": out, "redraws": 50, **changes}
    return run_evaluate(validate_settings(EvaluateSettings, values, where="evaluate"))


def test_a_head_learns_each_target_and_its_card_names_them(plain_run: Path, clinic: Path) -> None:
    classifier = load_classifier(plain_run)
    assert classifier.targets == NAMES
    assert classifier.head_weight.shape[0] == 3
    card = (plain_run / "card.md").read_text()
    assert "# Classifier for clinic" in card
    assert "bright, dark, rare" in card


def test_figures_stand_for_each_target_and_for_their_mean(
    plain_run: Path, clinic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = evaluated(plain_run, clinic, tmp_path / "ev", by="view")
    metrics = read_metrics(out)
    each = metrics["targets"]
    assert metrics["macro"]["over"] == ["bright", "dark"]
    means = [each[name]["auroc"]["value"] for name in ("bright", "dark")]
    assert metrics["macro"]["auroc"]["value"] == pytest.approx(np.mean(means))
    assert min(means) > 0.9
    assert each["rare"]["auroc"]["value"] is None
    assert each["rare"]["n_positive"] == 0
    assert each["dark"]["n_images"] < each["bright"]["n_images"] < 48
    found = {figure["target"] for figure in read_json(out / "fairness.json")}
    assert found == {*NAMES, "macro"}
    settings = EvaluateSettings(run=plain_run, dataset=clinic, out=out)
    print_end("evaluate", settings, out)
    assert capsys.readouterr().out == f"{out}\n"


def test_the_end_of_an_evaluation_names_the_mean_and_each(
    plain_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = several_targets_set(tmp_path / "drawn", "phantom", splits=("val",))
    out = evaluated(plain_run, drawn, tmp_path / "ev")
    print_end("evaluate", EvaluateSettings(run=plain_run, dataset=drawn, out=out), out)
    message = capsys.readouterr().err
    assert "macro AUROC 1.000 [1.000, 1.000] (bright 1.000, dark 1.000, rare -)" in message


def test_a_mean_of_an_earlier_version_is_read(
    plain_run: Path, clinic: Path, tmp_path: Path
) -> None:
    out = evaluated(plain_run, clinic, tmp_path / "ev")
    content = read_json(out / "metrics.json")
    older = {**content, "mean": content["macro"]}
    del older["macro"], older["mean"]["over"]
    write_json(out / "metrics.json", older)
    assert read_metrics(out)["macro"]["auroc"] == content["macro"]["auroc"]
    broken = {**content, "targets": {"bright": {"auroc": {"value": "high"}}}}
    write_json(out / "metrics.json", broken)
    with pytest.raises(InputError, match="bright"):
        read_metrics(out)


def test_a_target_may_not_be_called_as_the_mean_is(plain_run: Path, tmp_path: Path) -> None:
    info = DatasetInfo(name="s", kind="phantom", size_px=32, targets=("macro", "dark"))
    with create_dataset(tmp_path / "set", info) as writer:
        for patient in range(8):
            pixels = np.random.default_rng(patient).integers(0, 255, (32, 32)).astype(np.uint8)
            split = "train" if patient < 4 else "val"
            writer.add(
                pixels, patient_id=f"p{patient}", split=split, targets=[patient % 2, patient % 2]
            )
    run = finetuned(tmp_path / "set", tmp_path / "run", {**PLAIN, "population": None})
    with pytest.raises(InputError, match="a target is called macro"):
        evaluated(run, tmp_path / "set", tmp_path / "ev")


def test_thresholds_and_slopes_are_of_each_target(
    plain_run: Path, clinic: Path, tmp_path: Path
) -> None:
    """A target of one class keeps its scores as they are."""
    settings = CalibrateSettings(run=plain_run, data=clinic, out=tmp_path / "run", split="val")
    points = load_classifier(run_calibrate(settings)).points
    assert len({point.slope for point in points}) == 3
    assert (points[2].slope, points[2].offset, points[2].threshold) == (1, 0, 0.5)
    pictures = clinic / "images"
    predict = PredictSettings(run=tmp_path / "run", images=pictures, out=tmp_path / "scores.csv")
    with open(run_predict(predict), encoding="utf-8") as stream:
        row = next(iter(csv.DictReader(stream)))
    assert [name for name in row if name.startswith("score_")] == [f"score_{n}" for n in NAMES]
    assert {row[f"positive_{name}"] for name in NAMES} <= {"0", "1"}


def test_a_private_calibration_refuses_no_finding_that_nobody_has(
    private_run: Path, clinic: Path, tmp_path: Path
) -> None:
    settings = validate_settings(
        CalibrateSettings,
        {
            "run": private_run,
            "data": clinic,
            "out": tmp_path / "run",
            "split": "val",
            "privacy": {**PROMISED, "epsilon": 9},
        },
        where="calibrate",
    )
    points = load_classifier(run_calibrate(settings)).points
    assert all(math.isfinite(point.slope) and 0 <= point.threshold <= 1 for point in points)


def test_a_release_shows_the_noisy_figure_of_each_target(
    private_run: Path, clinic: Path, tmp_path: Path
) -> None:
    paid = {"auroc_epsilon": 30, "population": 50, "auroc_delta": 1e-3}
    out = evaluated(private_run, clinic, tmp_path / "ev", **paid)
    release(private_run, tmp_path / "left", Asked(evidence=(out,)))
    card = (tmp_path / "left" / "README.md").read_text()
    assert "- noisy macro AUROC (the mean over " in card
    for name in NAMES:
        assert f"- noisy AUROC of {name} " in card
    assert "(standard error of the noise 0." in card
    assert "whose epsilon 3 targets share" in card


def test_all_findings_of_one_class_are_nothing_to_learn_without_privacy(tmp_path: Path) -> None:
    data = several_targets_set(tmp_path / "clinic", n_patients=1)
    with pytest.raises(InputError, match="not of both classes of bright or dark or rare"):
        finetuned(data, tmp_path / "run", PLAIN)
    finetuned(data, tmp_path / "private", PROMISED)  # a refusal would tell of the patient


def test_features_start_from_a_run_of_any_targets_and_a_head_from_its_own(
    clinic: Path, tmp_path: Path
) -> None:
    other = clinic_set(tmp_path / "phantoms", "phantom")
    one = {"data": other, "out": tmp_path / "other", "backbone": RANDOM, "trainable_blocks": 0}
    pretrained = run_pretrain(validate_settings(PretrainSettings, one, where="pretrain"))
    begun = finetuned(clinic, tmp_path / "begun", PLAIN, init=pretrained)
    assert load_classifier(begun).targets == NAMES
    head = {"steps": 5, "start": "pretrained"}
    with pytest.raises(InputError, match="was trained for malignant, but the data set has bright"):
        finetuned(clinic, tmp_path / "refused", PLAIN, init=pretrained, head=head)
    own = {"data": clinic, "out": tmp_path / "own", "backbone": RANDOM, "trainable_blocks": 0}
    run = run_pretrain(validate_settings(PretrainSettings, own, where="pretrain"))
    known = load_classifier(run)
    info = DatasetInfo(name="s", kind="real", size_px=32, targets=("dark", "bright"))
    start = starting_classifier(asked(clinic, tmp_path / "x", PLAIN, init=run, head=head), info)
    assert torch.equal(start.head_weight, known.head_weight[[1, 0]])
    assert torch.equal(start.head_bias, known.head_bias[[1, 0]])


def relabelled(data: Dataset, out: Path, targets: tuple[str, ...]) -> Path:
    """A synthetic set of the same images, with these of its targets in this order."""
    columns = [data.info.targets.index(name) for name in targets]
    about = DatasetInfo(name="synthetic", kind="synthetic", size_px=32, targets=targets)
    with create_dataset(out, about) as writer:
        for row in data.split("train"):
            labels = [row.targets[column] for column in columns]
            png = (data.root / row.image).read_bytes()
            writer.add_png(png, patient_id=row.patient_id, split="train", targets=labels)
    return out


def test_labels_of_a_set_that_is_mixed_in_are_matched_by_name(clinic: Path, tmp_path: Path) -> None:
    data = open_dataset(clinic)
    mixed = {
        order: relabelled(data, tmp_path / "-".join(order), order)
        for order in (NAMES, ("rare", "dark", "bright"), ("dark",))
    }
    labels = {}
    for order, synthetic in mixed.items():
        settings = asked(clinic, tmp_path / "unused", PLAIN, synthetic=synthetic)
        public = set_up_head(settings, data).public
        assert public is not None
        labels[order] = public.examples.targets
    whole, turned, dark = labels.values()
    torch.testing.assert_close(whole, turned, equal_nan=True)
    torch.testing.assert_close(whole[:, 1], dark[:, 1], equal_nan=True)
    assert torch.isnan(dark[:, [0, 2]]).all()
    run = finetuned(clinic, tmp_path / "run", PLAIN, synthetic=mixed[("dark",)])
    assert "mixed with: synthetic, of dark" in (run / "card.md").read_text()
    strange = clinic_set(tmp_path / "strange", "phantom")
    with pytest.raises(InputError, match="shares a target"):
        finetuned(clinic, tmp_path / "refused", PLAIN, synthetic=strange)
    assert not (tmp_path / "refused").exists()


def test_a_public_share_of_positives_weighs_and_a_counted_one_is_refused(
    clinic: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"pos_weight: .* `prior` of the head"):
        validate_settings(HeadSettings, {"pos_weight": 3}, where="head")
    head = {"steps": 40, "prior": {"bright": 0.2, "rare": 0.001}}
    setup = set_up_head(asked(clinic, tmp_path / "x", PROMISED, head=head), open_dataset(clinic))
    weights = setup.examples.positive_weights
    assert weights is not None
    assert weights.tolist() == [4, 1, 10]
    assert setup.start[:, -1].tolist()[:2] == [0, 0]
    assert 0.5 * setup.start[2, -1] == pytest.approx(math.log(0.01 / 0.999), rel=1e-5)
    run = finetuned(clinic, tmp_path / "run", PROMISED, head=head)
    assert "public shares of positives: bright 0.2, rare 0.001" in (run / "card.md").read_text()
    unknown = {"prior": {"mass": 0.2}}
    with pytest.raises(InputError, match="has no target mass"):
        finetuned(clinic, tmp_path / "refused", PROMISED, head=unknown)
    for share in (0, 1):
        with pytest.raises(InputError, match="prior"):
            validate_settings(HeadSettings, {"prior": {"bright": share}}, where="head")
    assert asked(clinic, tmp_path / "x", PROMISED, head=head, network={}).head.prior is not None


def test_each_head_is_fitted_as_if_there_were_no_other_target() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 5, generator=generator)
    targets = (inputs[:, :3] + torch.randn(60, 3, generator=generator) > 0).float()
    targets[20:, 1] = math.nan
    targets[:, 2] = math.nan
    together = fit_logistic(inputs, targets, l2=0.1)
    for index in (0, 1):
        alone = fit_logistic(inputs, targets[:, [index]], l2=0.1)
        torch.testing.assert_close(
            together.weight[index : index + 1], alone.weight, atol=1e-4, rtol=1e-3
        )
    assert not together.weight[2].any()
