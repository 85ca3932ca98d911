"""Fine-tuning to a risk, and per image with a bound on the images of a patient."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up import clinic_set, give_even_key

from classify.calibrate import run_calibrate
from classify.finetune import run_finetune
from classify.head.examples import private_sum
from classify.plans import finetuning_plan, plan_finetune
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import CalibrateSettings
from classify.settings.head import HeadSettings
from classify.settings.pretrain import PretrainSettings
from classify.setup.head import set_up_head
from classify.strategies import Ingredients, expand
from gan.settings.train import TrainGanSettings
from synthdp.config.settings import load_settings, validate_settings
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.people.units import bounded_rows
from synthdp.errors import InputError
from synthdp.privacy.promise.plan import statement_of
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.privacy.settings import RiskTarget
from synthdp.study.settings import StudySettings

BACKBONE = {"name": "test_vit", "size_px": 32}
RISK = {"found": 0.05, "false_alarms": 0.01}
TO_RISK: dict[str, Any] = {"risk": RISK, "delta": 1e-3, "population": 50}
PER_IMAGE: dict[str, Any] = {
    "epsilon": 6, "unit": "image", "images_per_patient": 2, "delta": 1e-3, "population": 90
}  # fmt: skip


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Twelve patients of one to three images."""
    return give_even_key(clinic_set(tmp_path / "clinic", "real"))


def settings(clinic: Path, privacy: dict[str, Any], **changes: Any) -> FinetuneSettings:
    values = {"data": clinic, "out": clinic.parent / "run", "backbone": BACKBONE}
    return validate_settings(
        FinetuneSettings, {**values, "privacy": privacy, **changes}, where="finetune"
    )


def test_a_run_keeps_the_risk_that_it_was_asked_for(clinic: Path) -> None:
    asked = settings(clinic, TO_RISK)
    planned = plan_finetune(asked)
    run = run_finetune(asked)
    made = read_statement(run)
    assert made.odds.found_at_1_percent <= 0.05 <= 1.001 * made.odds.found_at_1_percent
    assert made.risk == RiskTarget(**RISK)
    assert made.epsilon == planned.epsilon == pytest.approx(1.9, abs=0.2)
    assert "falsely accused; kept" in (run / "card.md").read_text()
    again = load_settings(FinetuneSettings, run / "config.yaml", [f"out={run}"])
    assert run_finetune(again) == run  # the settings of the run are read back as they were


def test_what_a_run_spent_is_taken_off_the_risk_of_the_next(clinic: Path) -> None:
    run = run_finetune(settings(clinic, {**TO_RISK, "risk": {**RISK, "found": 0.03}}))
    out = clinic.parent / "calibrated"
    values = {"run": run, "data": clinic, "out": out, "privacy": TO_RISK}
    calibrated = run_calibrate(validate_settings(CalibrateSettings, values, where="calibrate"))
    made = read_statement(calibrated)
    assert len(made.lineage.releases) == 2
    assert 0.999 * 0.05 <= made.odds.found_at_1_percent <= 0.05
    assert statement_of([clinic]).odds.found_at_1_percent <= 0.05
    with pytest.raises(InputError, match=r"^privacy\.risk .* has spent so much that .* found alre"):
        run_calibrate(
            validate_settings(
                CalibrateSettings,
                {**values, "out": clinic.parent / "c", "run": calibrated},
                where="calibrate",
            )
        )


def test_sampled_steps_keep_a_risk(clinic: Path) -> None:
    head = HeadSettings(sampling_rate=0.5, steps=20)
    made = plan_finetune(settings(clinic, TO_RISK, head=head.model_dump()))
    assert 0.99 * 0.05 <= made.odds.found_at_1_percent <= 0.05


def test_stages_without_a_mechanism_refuse_a_risk_by_name(clinic: Path) -> None:
    common = {"data": clinic, "out": "x", "privacy": TO_RISK}
    with pytest.raises(InputError, match=r"privacy\.risk must be none"):
        validate_settings(PretrainSettings, common, where="pretrain")
    with pytest.raises(InputError, match=r"privacy\.risk is given, but method: adversarial"):
        validate_settings(TrainGanSettings, common, where="train-gan")
    with pytest.raises(InputError, match=r"privacy\.population is missing"):
        settings(clinic, {"risk": RISK})


def test_studies_refuse_a_risk_and_pass_a_bound_on_images(clinic: Path, tmp_path: Path) -> None:
    study = {
        "data": clinic,
        "out": "x",
        "strategies": ["real_only"],
        "epsilons": [6],
        "seeds": [0],
        "evaluate_on": [{"data": clinic, "split": "train"}],
    }
    for cls, values in ((StudySettings, study), (Ingredients, {"data": clinic})):
        with pytest.raises(InputError, match=r"privacy\.risk is for a single run"):
            validate_settings(cls, {**values, "privacy": TO_RISK}, where="study")
    bound = {key: value for key, value in PER_IMAGE.items() if key != "epsilon"}
    names = {}
    for privacy in (bound, {**bound, "images_per_patient": None}, {**bound, "risk": "none"}):
        ingredients = {"data": clinic, "privacy": privacy, "backbone": BACKBONE}
        (call,) = expand("transformer_only", ingredients, epsilon=6.0, seed=0, root=tmp_path)
        assert call.setting("privacy").images_per_patient == privacy["images_per_patient"]
        names[call.folder] = privacy
    assert len(names) == 2  # an unset key leaves the name of a folder as it was


def test_a_patient_gives_no_more_images_than_were_declared(clinic: Path) -> None:
    asked = settings(clinic, PER_IMAGE)
    dataset = open_dataset(clinic)
    rows = set_up_head(asked, dataset).rows
    assert len(rows) == 12 * 2 - 4  # four patients have one image, four two and four three
    unbounded = settings(clinic, {**PER_IMAGE, "images_per_patient": None})
    assert len(set_up_head(unbounded, dataset).rows) == 24
    made = read_statement(run_finetune(asked))
    assert made.patient is not None
    assert made.epsilon <= 6 < made.patient.epsilon
    assert made.patient.epsilon == pytest.approx(
        made.lineage.loss.of_group(2).epsilon(1e-3), rel=1e-9
    )
    assert "a PATIENT, of whom at most 2 images are used" in statement_text(made)


def test_the_images_of_a_patient_depend_on_that_patient_alone(clinic: Path) -> None:
    rows = open_dataset(clinic).rows
    kept = bounded_rows(rows, 2)
    for patient in {row.patient_id for row in rows}:
        others = [row for row in rows if row.patient_id != patient]
        assert bounded_rows(others, 2) == tuple(r for r in kept if r.patient_id != patient)
    assert bounded_rows(rows, None) == rows
    assert bounded_rows((), 1) == ()


def without(clinic: Path, patient: str) -> Dataset:
    """The set without one patient, whose other images keep their names."""
    smaller = clinic.parent / f"without-{patient}"
    shutil.copytree(clinic, smaller)
    with (smaller / "manifest.csv").open(newline="") as file:
        first, *records = csv.reader(file)
    with (smaller / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([first, *(r for r in records if patient not in r)])
    return open_dataset(smaller)


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_patient_moves_a_sum_by_no_more_than_the_declared_images(
    clinic: Path, images: int
) -> None:
    asked = settings(clinic, {**PER_IMAGE, "images_per_patient": images})
    clip_norm = finetuning_plan(asked).release.mechanism.clip_norm  # type: ignore[union-attr]
    whole = set_up_head(asked, open_dataset(clinic))
    weights = torch.randn(whole.start.shape, generator=torch.Generator().manual_seed(0)) * 5
    moved = []
    for patient in ("secret-2", "secret-5"):  # of three images
        smaller = set_up_head(asked, without(clinic, patient))
        sums = [private_sum(weights, one.examples, clip_norm) for one in (whole, smaller)]
        moved.append(float((sums[0] - sums[1]).norm()))
    assert all(0 < one <= images * clip_norm * (1 + 1e-6) for one in moved)


def test_a_bound_on_images_that_nobody_could_keep_is_refused(tmp_path: Path) -> None:
    unknown = clinic_set(tmp_path / "unknown", "real", unit="image")
    with pytest.raises(InputError, match=r"privacy\.images_per_patient: unknown was imported"):
        plan_finetune(settings(unknown, PER_IMAGE))
    with pytest.raises(InputError, match=r"images_per_patient belongs to unit: image"):
        settings(unknown, {**PER_IMAGE, "unit": "patient"})
    with pytest.raises(InputError, match="images_per_patient"):
        settings(unknown, {**PER_IMAGE, "images_per_patient": 0})
