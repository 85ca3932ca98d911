import hashlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gan.network.discriminator import Discriminator
from gan.private.dp_discriminator import (
    Fakes,
    PatientImages,
    View,
    clipped_gradient_sum,
    patient_gradient,
)
from gan.settings.parts import AugmentationSettings

CLIP = 0.5
VIEW = View(seed=0, step=3, class_strength=1.0, augmentation=AugmentationSettings())


def new_discriminator() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator((8, 8, 8), batch_deviation=False)


def patients_of(n_patients: int = 6) -> PatientImages:
    """Patients with one to three images, in mixed order."""
    rng = torch.Generator().manual_seed(1)
    units = torch.arange(n_patients).repeat_interleave(1 + torch.arange(n_patients) % 3)
    units = units[torch.randperm(len(units), generator=rng)]
    images = torch.rand(len(units), 1, 32, 32, generator=rng) * 2 - 1
    tags = [hashlib.sha256(b"%d" % unit).digest() for unit in range(n_patients)]
    return PatientImages.of(images, torch.arange(len(units)) % 2, units, tags)


def without(patients: PatientImages, patient: int) -> PatientImages:
    kept = [index for index in range(len(patients.tags)) if index != patient]
    return replace(
        patients,
        indices=[patients.indices[index] for index in kept],
        tags=[patients.tags[index] for index in kept],
    )


def fakes_of(count: int = 8) -> Fakes:
    rng = torch.Generator().manual_seed(2)
    images = torch.rand(count, 1, 32, 32, generator=rng) * 2 - 1
    return Fakes(images, torch.arange(count) % 2)


def summed(patients: PatientImages, clip_norm: float | None = CLIP) -> Tensor:
    drawn = torch.arange(len(patients.tags))
    return clipped_gradient_sum(
        new_discriminator(), patients, drawn, fakes_of(), VIEW, clip_norm=clip_norm
    )


@pytest.mark.parametrize("patient", [1, 2, 5])
def test_a_patient_of_several_images_moves_the_sum_by_the_clip_norm_at_most(patient: int) -> None:
    data = patients_of()
    assert len(data.indices[patient]) > 1
    own = patient_gradient(new_discriminator(), data, patient, fakes_of(), VIEW)
    assert float(own.norm()) > CLIP  # so that the bound is reached
    moved = float((summed(data) - summed(without(data, patient))).norm())
    assert moved == pytest.approx(CLIP, rel=1e-4)


def test_nobody_else_moves_a_patients_gradient() -> None:
    data, neighbour = patients_of(), without(patients_of(), 1)
    discriminator = new_discriminator()
    for patient in (0, 2, 3, 4, 5):
        there = patient_gradient(discriminator, data, patient, fakes_of(), VIEW)
        index = patient - (patient > 1)
        here = patient_gradient(discriminator, neighbour, index, fakes_of(), VIEW)
        assert torch.equal(there, here)


def test_a_patient_with_an_image_that_is_no_number_counts_as_nobody() -> None:
    data = patients_of()
    images = data.images.clone()
    images[data.indices[2][0], 0, 5, 5] = torch.nan
    assert torch.equal(summed(replace(data, images=images)), summed(without(data, 2)))


def test_nobody_drawn_gives_zeros() -> None:
    discriminator, nobody = new_discriminator(), torch.empty(0, dtype=torch.int64)
    total = clipped_gradient_sum(
        discriminator, patients_of(), nobody, fakes_of(), VIEW, clip_norm=CLIP
    )
    assert len(total) == sum(parameter.numel() for parameter in discriminator.parameters())
    assert not total.any()


def test_the_gradient_is_the_mean_over_the_patients_images() -> None:
    still = replace(
        VIEW, augmentation=AugmentationSettings(symmetry="none", strength_start=0, strength_min=0)
    )
    data, one_fake, discriminator = patients_of(), fakes_of(1), new_discriminator()
    indices = data.indices[2]
    assert len(indices) == 3
    whole = patient_gradient(discriminator, data, 2, one_fake, still)
    apart = [
        patient_gradient(
            discriminator, replace(data, indices=[index[None]], tags=[b"t"]), 0, one_fake, still
        )
        for index in indices
    ]
    assert torch.allclose(whole, torch.stack(apart).mean(dim=0), atol=1e-5)


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 4}])
def test_each_step_pairs_and_augments_anew(change: dict[str, Any]) -> None:
    discriminator = new_discriminator()
    first, again, other = (
        patient_gradient(discriminator, patients_of(), 2, fakes_of(), view)
        for view in (VIEW, VIEW, replace(VIEW, **change))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_a_clip_norm_the_sum_is_that_of_the_gradients() -> None:
    data = patients_of()
    gradients = [
        patient_gradient(new_discriminator(), data, patient, fakes_of(), VIEW)
        for patient in range(len(data.tags))
    ]
    assert torch.allclose(summed(data, None), torch.stack(gradients).sum(dim=0), atol=1e-5)
