"""Noisy copies of a patient's images, shown in the patient's one gradient (`head.image_noise`)."""

from pathlib import Path

import pytest
import torch
from made_up import clinic_set

from classify.cross_validate import cross_validate
from classify.finetune import run_finetune
from classify.head.examples import private_sum
from classify.library.exported import _input_size
from classify.model.folder import load_classifier
from classify.settings.finetune import FinetuneSettings
from classify.setup.head import set_up_head
from synthdp.config.settings import validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.storage.files import read_json

CLIP = 0.2


def settings(clinic: Path, **changes: object) -> FinetuneSettings:
    values = {
        "data": clinic,
        "out": clinic.parent / "unused",
        "privacy": {"epsilon": 60, "delta": 1e-3, "population": 50},
        "backbone": {"name": "test_vit", "size_px": 32, "denoise": "auto"},
        "head": {"steps": 40, "lr_times_steps": 400, "image_noise": 0.1, "clip_norm": CLIP},
    }
    return validate_settings(FinetuneSettings, {**values, **changes}, where="finetune")


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    return clinic_set(tmp_path / "clinic", "real", n_patients=24)


def test_a_patient_has_a_noisy_copy_of_each_image_and_one_bounded_gradient(clinic: Path) -> None:
    asked = settings(clinic)
    plain = settings(clinic, head={**asked.head.model_dump(), "image_noise": None})
    dataset = open_dataset(clinic)
    shown, known = (set_up_head(one, dataset).examples for one in (asked, plain))
    assert len(shown.inputs) == 2 * len(known.inputs)
    assert torch.equal(shown.inputs[::2], known.inputs)
    assert torch.equal(shown.units[1::2], known.units)
    assert torch.equal(shown.targets[1::2], known.targets)
    assert not torch.allclose(shown.inputs[1::2], known.inputs, atol=1e-3)
    weights = torch.zeros(1, shown.inputs.shape[1])
    everybody = private_sum(weights, shown, CLIP)
    for patient in range(3):
        others = shown.of(torch.tensor([one for one in range(24) if one != patient]))
        change = everybody - private_sum(weights, others, CLIP)
        assert 0 < change.norm() <= CLIP


def test_copies_are_not_scored_in_cross_validation(clinic: Path) -> None:
    plain = {"epsilon": None, "delta": 1e-3, "population": 50}
    asked = settings(clinic, privacy=plain)
    (found,) = cross_validate(asked, folds=4, repeats=1, seeds=1)
    assert found.auroc > 0.9


def test_a_run_that_takes_noise_out_keeps_the_side_of_its_images(
    clinic: Path, tmp_path: Path
) -> None:
    """So `predict` and an exported file bring new images to it; of other runs nothing is said."""
    asked = settings(clinic, out=tmp_path / "run")
    model = run_finetune(asked) / "model"
    side = open_dataset(clinic).info.size_px
    assert read_json(model / "settings.json")["input_form"] == {"size_px": side}
    assert _input_size(load_classifier(asked.out), None) == (None, side)
    plain = settings(clinic, out=tmp_path / "plain", backbone={"name": "test_vit", "size_px": 32})
    assert "input_form" not in read_json(run_finetune(plain) / "model" / "settings.json")


def test_what_it_is_not_for_is_refused(clinic: Path) -> None:
    with pytest.raises(InputError, match="image_noise is of a head on frozen features"):
        settings(clinic, network={"trainable_blocks": 1})
