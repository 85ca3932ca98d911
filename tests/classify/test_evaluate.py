import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import random_run
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from classify.evaluate import run_evaluate
from classify.settings.finished import EvaluateSettings
from synthdp.config.settings import validate_settings
from synthdp.data.description import DatasetInfo
from synthdp.data.images import encode_png
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.storage.files import read_json

UNKNOWN = float("nan")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_run(tmp_path_factory.mktemp("runs") / "run")


def images(n: int, *, side: int = 32, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, (side, side)).astype(np.uint8) for _ in range(n)]


def make_set(
    out: Path,
    pictures: Sequence[np.ndarray],
    labels: Sequence[Sequence[float]],
    targets: tuple[str, ...] = ("malignant",),
    views: Sequence[str] = (),
) -> Path:
    info = DatasetInfo(name="clinic", kind="real", size_px=32, targets=targets)
    with create_dataset(out, info) as writer:
        for index, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
            writer.add(
                pixels,
                patient_id=f"p{index // 2}",
                split="val",
                targets=label,
                attributes={"view": views[index]} if views else None,
            )
    return out


def evaluate(run: Path, dataset: Path, out: Path, **changes: Any) -> tuple[dict[str, Any], list]:
    values = {"run": run, "dataset": dataset, "out": out, "redraws": 50, **changes}
    folder = run_evaluate(validate_settings(EvaluateSettings, values, where="evaluate"))
    with open(folder / "predictions.csv", encoding="utf-8") as stream:
        predictions = list(csv.DictReader(stream))
    return read_json(folder / "metrics.json"), predictions


def test_metrics_agree_with_the_predictions_and_with_sklearn(run: Path, tmp_path: Path) -> None:
    labels = [[index % 3 == 0] for index in range(14)]
    dataset = make_set(tmp_path / "set", images(14), labels)
    metrics, predictions = evaluate(run, dataset, tmp_path / "out")
    assert list(predictions[0]) == ["image", "patient_id", "malignant", "score_malignant"]
    targets = [int(row["malignant"]) for row in predictions]
    scores = [float(row["score_malignant"]) for row in predictions]
    assert targets == [int(label[0]) for label in labels]
    assert metrics["auroc"]["value"] == pytest.approx(roc_auc_score(targets, scores))
    assert metrics["auprc"]["value"] == pytest.approx(average_precision_score(targets, scores))
    called = np.array(scores) >= 0.5
    assert metrics["sensitivity"]["value"] == pytest.approx(called[np.array(targets) == 1].mean())
    assert metrics["specificity"]["value"] == pytest.approx(
        (~called)[np.array(targets) == 0].mean()
    )
    assert metrics["brier"]["value"] == pytest.approx(brier_score_loss(targets, scores))
    assert metrics["auprc_benign"]["value"] == pytest.approx(
        average_precision_score(targets, np.negative(scores), pos_label=0)
    )
    assert {"calibration_slope", "calibration_intercept"} < set(metrics)
    assert metrics["at_sensitivity"] == 0.9
    lower, _ = evaluate(run, dataset, tmp_path / "lower", at_sensitivity=0.3)
    name = "specificity_at_sensitivity"
    assert lower[name]["value"] >= metrics[name]["value"]
    for name in ("auroc", "auprc", "sensitivity", "specificity", "brier"):
        assert metrics[name]["ci_low"] <= metrics[name]["value"] <= metrics[name]["ci_high"]
    assert (metrics["n_images"], metrics["n_patients"]) == (14, 7)
    assert (metrics["duplicates"], metrics["label_conflicts"]) == (0, 0)
    assert (metrics["data_set"], metrics["split"]) == ("clinic", "val")


def test_another_sites_images_are_reported_and_not_fatal(run: Path, tmp_path: Path) -> None:
    deep = (np.random.default_rng(3).random((70, 50)) * 65535).astype(np.uint16)
    pictures = [*images(3), *images(3), *images(1, side=200, seed=4), deep, deep]
    labels = [[0], [1], [1], [0], [0], [UNKNOWN], [1], [0], [UNKNOWN]]
    dataset = make_set(tmp_path / "set", pictures, labels)
    metrics, predictions = evaluate(run, dataset, tmp_path / "out")
    assert metrics["duplicates"] == 4
    assert metrics["label_conflicts"] == 1
    assert metrics["n_images"] == 7
    assert len(predictions) == 9
    assert [row["malignant"] for row in predictions if row["malignant"] == ""] == ["", ""]
    assert all(0 <= float(row["score_malignant"]) <= 1 for row in predictions)


def test_one_class_leaves_figures_undefined(run: Path, tmp_path: Path) -> None:
    dataset = make_set(tmp_path / "set", images(4), [[1]] * 4)
    metrics, _ = evaluate(run, dataset, tmp_path / "out")
    assert metrics["auroc"]["value"] is None
    assert metrics["sensitivity"]["value"] is not None


def test_several_targets_have_a_score_each_in_the_order_of_the_run(tmp_path: Path) -> None:
    run = random_run(tmp_path / "run", ("effusion", "mass"))
    labels = [[index % 2, UNKNOWN if index < 2 else 1, index % 3 == 0] for index in range(10)]
    dataset = make_set(tmp_path / "set", images(10), labels, ("mass", "edema", "effusion"))
    metrics, predictions = evaluate(run, dataset, tmp_path / "out")
    columns = ["image", "patient_id", "effusion", "mass", "score_effusion", "score_mass"]
    assert list(predictions[0]) == columns
    assert [row["mass"] for row in predictions[:2]] == ["0", "1"]
    assert set(metrics["targets"]) == {"effusion", "mass"}


def test_a_target_that_the_set_lacks_is_refused(run: Path, tmp_path: Path) -> None:
    dataset = make_set(tmp_path / "set", images(2), [[0], [1]], ("mass",))
    with pytest.raises(InputError, match="has no target malignant"):
        evaluate(run, dataset, tmp_path / "out")


def test_a_set_that_cannot_be_written_to_is_evaluated(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_set(tmp_path / "set", images(4), [[0], [1], [0], [1]])
    shutil.rmtree(dataset / "private")
    before = sorted(dataset.rglob("*"))
    mkdir = Path.mkdir

    def guarded(path: Path, *args: Any, **options: Any) -> None:
        if path.is_relative_to(dataset):
            raise PermissionError(13, "Permission denied")
        mkdir(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", guarded)
    metrics, _ = evaluate(run, dataset, tmp_path / "out")
    assert metrics["n_images"] == 4
    assert sorted(dataset.rglob("*")) == before


def test_an_unreadable_image_stops_and_leaves_nothing(run: Path, tmp_path: Path) -> None:
    dataset = make_set(tmp_path / "set", images(4), [[0], [1], [0], [1]])
    picture = dataset / "images" / "000003.png"
    picture.write_bytes(picture.read_bytes()[:60])
    with pytest.raises(InputError, match="row 4"):
        evaluate(run, dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_that_hardly_vary_stop_it_all_at_once(run: Path, tmp_path: Path) -> None:
    dataset = make_set(tmp_path / "set", images(4), [[0], [1], [0], [1]])
    for name, grey in (("000002", 200), ("000004", 0)):
        picture = dataset / "images" / f"{name}.png"
        picture.write_bytes(encode_png(np.full((32, 32), grey, np.uint8)))
    with pytest.raises(InputError) as refused:
        evaluate(run, dataset, tmp_path / "out")
    for row in (3, 5):
        assert f"row {row}: uses less than a sixteenth of its 8 bits" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_the_same_evaluation_returns_at_once_and_another_is_refused(
    run: Path, tmp_path: Path
) -> None:
    dataset = make_set(tmp_path / "set", images(4), [[0], [1], [0], [1]])
    first, _ = evaluate(run, dataset, tmp_path / "out")
    stamp = (tmp_path / "out" / "metrics.json").stat().st_mtime_ns
    again, _ = evaluate(run, dataset, tmp_path / "out")
    assert again == first
    assert (tmp_path / "out" / "metrics.json").stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="other settings"):
        evaluate(run, dataset, tmp_path / "out", seed=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        evaluate(run, dataset, tmp_path / "full")


def test_an_absent_split_is_refused(run: Path, tmp_path: Path) -> None:
    dataset = make_set(tmp_path / "set", images(2), [[0], [1]])
    with pytest.raises(InputError, match="no image has split 'external'"):
        evaluate(run, dataset, tmp_path / "out", split="external")


def test_groups_of_a_column_are_judged_on_request(run: Path, tmp_path: Path) -> None:
    labels, views = [[index % 2] for index in range(48)], ["CC"] * 44 + ["MLO"] * 4
    dataset = make_set(tmp_path / "set", images(48), labels, views=views)
    _, predictions = evaluate(run, dataset, tmp_path / "out", by="view")
    figures = read_json(tmp_path / "out" / "fairness.json")
    found = {(figure["group"], figure["measure"]): figure for figure in figures}
    targets = [int(row["malignant"]) for row in predictions[:44]]
    scores = [float(row["score_malignant"]) for row in predictions[:44]]
    auroc = found["CC", "auroc"]
    assert auroc["value"] == pytest.approx(roc_auc_score(targets, scores))
    assert auroc["ci_low"] <= auroc["value"] <= auroc["ci_high"]
    assert (found["MLO", "auroc"]["value"], found["MLO", "auroc"]["n_images"]) == (None, 4)
    assert "too few" in found["MLO", "auroc"]["note"]
    with pytest.raises(InputError, match=r"no column site; .*: view"):
        evaluate(run, dataset, tmp_path / "other", by="site")
    assert not (tmp_path / "other").exists()
    evaluate(run, dataset, tmp_path / "plain")
    assert not (tmp_path / "plain" / "fairness.json").exists()
