"""Bad privacy settings and awkward patients: handled or refused, and nothing under-counted."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from classify.finetune import run_finetune
from classify.head import train as dp_head
from classify.settings.finetune import FinetuneSettings
from classify.setup import head as setup
from synthdp.checkpoint import load_weights
from synthdp.config.settings import validate_settings
from synthdp.data.dataset import Dataset, Row, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError, RunError
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.promise.stated import read_statement

PRIVACY = {"epsilon": 6, "delta": 1e-3, "population": 50}
HEAD = {"steps": 20, "block_steps": 10}


def make_set(out: Path, images: Sequence[int], *, split: str = "train") -> Path:
    """Patients with so many images each; the last patient's are the brightest."""
    rng = np.random.default_rng(0)
    with create_dataset(out, DatasetInfo(name="clinic", kind="real", size_px=16)) as writer:
        for patient, count in enumerate(images):
            for _ in range(count):
                pixels = rng.normal(60 + 20 * patient, 20, (16, 16)).clip(0, 255)
                writer.add(
                    pixels.astype(np.uint8),
                    patient_id=f"secret-{patient}",
                    split=split,
                    targets=[patient % 2],
                )
    return out


def settings(data: Path, out: str = "run", **changes: object) -> FinetuneSettings:
    values = {
        "data": data,
        "out": data.parent / out,
        "privacy": PRIVACY,
        "head": HEAD,
        "backbone": {"name": "test_vit", "size_px": 32},
        **changes,
    }
    return validate_settings(FinetuneSettings, values, where="finetune")


def head_of(run: Path) -> Tensor:
    return load_weights(run / "model" / "weights.safetensors")["head.weight"]


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    return make_set(tmp_path / "clinic", [1, 2, 3, 1, 2, 3])


@pytest.mark.parametrize(
    ("privacy", "words"),
    [
        ({"delta": 0}, r"privacy\.delta: Input should be greater than 0"),
        ({"delta": -1e-3}, r"privacy\.delta: Input should be greater than 0"),
        ({"delta": 1}, r"privacy\.delta: Input should be less than 1"),
        ({"delta": math.nan}, r"privacy\.delta"),
        ({"delta": "none"}, r"privacy\.delta"),
        ({"delta": 0.02}, "delta 0.02 is not below 1/population = 0.02"),
        ({"delta": 0.5}, "is not below 1/population"),
        ({"epsilon": 0}, r"privacy\.epsilon"),
        ({"epsilon": -6}, r"privacy\.epsilon"),
        ({"epsilon": math.nan}, r"privacy\.epsilon"),
        ({"epsilon": math.inf}, r"privacy\.epsilon"),
        ({"epsilon": True}, r"privacy\.epsilon"),
        ({"epsilon": 1e9}, "more than any noise needs"),
        ({"epsilon": 1e-6, "delta": 1e-15}, "beyond all use; raise privacy.epsilon"),
        ({"population": None}, r"privacy\.population is missing"),
        ({"population": 0}, r"privacy\.population"),
        ({"population": 50.5}, r"privacy\.population"),
    ],
)
def test_a_promise_that_is_none_is_refused_and_costs_nothing(
    clinic: Path, privacy: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        run_finetune(settings(clinic, privacy={**PRIVACY, **privacy}))
    assert recorded_releases(open_dataset(clinic).ledger_path) == ()
    assert not (clinic.parent / "run" / "model").exists()


@pytest.mark.parametrize("privacy", [{"epsilon": 1e-6}, {"delta": 1e-15}])
def test_a_target_near_nothing_gets_the_noise_that_it_takes(
    clinic: Path, privacy: dict[str, float]
) -> None:
    asked = {**PRIVACY, **privacy}
    run = run_finetune(settings(clinic, privacy=asked))
    statement = read_statement(run)
    assert 0 < statement.epsilon <= asked["epsilon"]
    assert statement.epsilon == pytest.approx(asked["epsilon"], rel=1e-3, abs=1e-8)
    assert bool(torch.isfinite(head_of(run)).all())


def test_no_patient_in_train_is_noise_alone_and_refused_without_privacy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic = make_set(tmp_path / "clinic", [1, 2, 1], split="val")
    with pytest.raises(InputError, match="no image has split 'train'"):
        run_finetune(settings(clinic, privacy={**PRIVACY, "epsilon": None}))
    assert recorded_releases(open_dataset(clinic).ledger_path) == ()
    assert not any(bool(total.any()) for total in first_sums(clinic, "private", monkeypatch))
    assert read_statement(tmp_path / "private").epsilon == pytest.approx(6, rel=1e-3)


def test_one_patient_alone_is_trained_on_like_any_other(tmp_path: Path) -> None:
    run = run_finetune(settings(make_set(tmp_path / "clinic", [2])))
    assert read_statement(run).epsilon == pytest.approx(6, rel=1e-3)


def test_a_cohort_that_nobody_belongs_to_is_noise_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic = make_set(tmp_path / "clinic", [1])
    empty = 0
    for part in ("1/2", "2/2"):  # the keyed hash puts the one patient into one of them
        sums = first_sums(clinic, part[0], monkeypatch, cohort=part)
        empty += not any(bool(total.any()) for total in sums)
        assert read_statement(tmp_path / part[0]).epsilon == pytest.approx(6, rel=1e-3)
    assert empty == 1
    assert len(recorded_releases(open_dataset(clinic).ledger_path)) == 2


def first_sums(
    data: Path, out: str, monkeypatch: pytest.MonkeyPatch, **changes: object
) -> list[Tensor]:
    """The sums that met noise in a run: the first is taken at weights of zero."""
    sums: list[Tensor] = []
    noisy = dp_head.noisy_mean

    def spying(total: Tensor, mechanism: Mechanism, source: NoiseSource, step: int) -> Tensor:
        sums.append(total.clone())
        return noisy(total, mechanism, source, step)

    with monkeypatch.context() as patch:
        patch.setattr(dp_head, "noisy_mean", spying)
        run_finetune(settings(data, out, **changes))
    return sums


def test_a_patient_with_500_images_moves_a_step_by_the_clip_norm_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = {**HEAD, "clip_norm": 0.1}
    one = make_set(tmp_path / "one", [1, 2, 1])
    many = make_set(tmp_path / "many", [1, 2, 1, 500])
    with_many = first_sums(many, "a", monkeypatch, head=head)
    without = first_sums(one, "b", monkeypatch, head=head)
    assert len(with_many) == len(without) == HEAD["steps"]
    moved = float(torch.linalg.vector_norm((with_many[0] - without[0]).double()))
    assert moved == pytest.approx(0.1, rel=1e-3)
    assert moved <= 0.1
    statements = [read_statement(tmp_path / out) for out in ("a", "b")]
    assert statements[0].epsilon == statements[1].epsilon


def with_features(monkeypatch: pytest.MonkeyPatch, patient: str, value: float) -> None:
    """Let the features of one patient's images be `value`."""
    sound = setup.features

    def broken(
        classifier: object, dataset: Dataset, rows: Sequence[Row], **named: object
    ) -> list[Tensor]:
        values = sound(classifier, dataset, rows, **named)[0].clone()
        values[[row.patient_id == patient for row in rows]] = value
        return [values]

    monkeypatch.setattr(setup, "features", broken)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
def test_features_that_are_no_numbers_move_nothing(
    clinic: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    with_features(monkeypatch, "secret-5", value)
    harmed = first_sums(clinic, "harmed", monkeypatch)
    monkeypatch.undo()
    others = make_set(clinic.parent / "others", [1, 2, 3, 1, 2])
    spared = first_sums(others, "spared", monkeypatch)
    moved = float(torch.linalg.vector_norm((harmed[0] - spared[0]).double()))
    assert moved <= 1
    if not math.isfinite(value):
        assert moved == pytest.approx(0, abs=1e-6)
    assert bool(torch.isfinite(head_of(clinic.parent / "harmed")).all())
    steps = Ledger(clinic.parent / "harmed" / "private" / "ledger.jsonl").spent_steps
    assert steps == HEAD["steps"]


def test_damaged_weights_are_told_before_anything_is_spent(
    clinic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = setup.starting_classifier

    def damaged(asked: FinetuneSettings, info: DatasetInfo) -> object:
        classifier = sound(asked, info)
        broken = {"norm.weight": torch.full((64,), math.nan)}
        (feature_source,) = classifier.feature_sources
        return classifier.with_feature_sources([replace(feature_source, trained=broken)])

    monkeypatch.setattr(setup, "starting_classifier", damaged)
    with pytest.raises(RunError, match="not finite"):
        run_finetune(settings(clinic))
    assert recorded_releases(open_dataset(clinic).ledger_path) == ()


def test_images_without_any_known_label_are_noise_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "clinic"
    with create_dataset(out, DatasetInfo(name="clinic", kind="real", size_px=16)) as writer:
        for patient in range(3):
            writer.add(
                np.full((16, 16), 50 * patient, np.uint8),
                patient_id=f"p{patient}",
                split="train",
                targets=[math.nan],
            )
    sums = first_sums(out, "run", monkeypatch)
    assert not any(bool(total.any()) for total in sums)
    assert read_statement(tmp_path / "run").epsilon == pytest.approx(6, rel=1e-3)


def test_one_class_is_refused_without_privacy_and_noise_alone_with_it(tmp_path: Path) -> None:
    out = tmp_path / "benign"
    with create_dataset(out, DatasetInfo(name="benign", kind="real", size_px=16)) as writer:
        for patient in range(4):
            pixels = np.full((16, 16), 50 * patient, np.uint8)
            writer.add(pixels, patient_id=f"p{patient}", split="train", targets=[0])
    with pytest.raises(InputError, match="not of both classes of malignant"):
        run_finetune(settings(out, privacy={**PRIVACY, "epsilon": None}))
    assert recorded_releases(open_dataset(out).ledger_path) == ()
    run = run_finetune(settings(out, out=out.parent / "private"))
    assert read_statement(run).epsilon <= PRIVACY["epsilon"]


@pytest.mark.parametrize("tune", ["blocks", "lora"])
def test_discrete_noise_for_the_weights_of_a_network_is_refused(tmp_path: Path, tune: str) -> None:
    """Of millions of weights its distance from the stated curve would count."""
    asked = {"epsilon": 6, "delta": 1e-3, "population": 50, "noise": "discrete"}
    settings = {"data": tmp_path, "out": tmp_path / "run", "backbone": {}, "privacy": asked}
    assert FinetuneSettings.model_validate(settings).privacy.noise == "discrete"
    with pytest.raises(ValueError, match=r"but network releases .* set privacy.noise: shake256"):
        FinetuneSettings.model_validate({**settings, "network": {"tune": tune}})
