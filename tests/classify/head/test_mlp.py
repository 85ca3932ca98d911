import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from classify.head.examples import MlpExamples, MlpShape, private_sum
from classify.head.train import HeadRecipe, train_head
from synthdp.privacy.mechanism import Mechanism

SHAPE = MlpShape(inputs=7, hidden=5, targets=2)


def examples(n_patients: int = 12, scale: float = 1.0) -> MlpExamples:
    """Patients with one to four images in mixed order; some targets are unknown."""
    generator = torch.Generator().manual_seed(0)
    units = torch.arange(n_patients).repeat_interleave(1 + torch.arange(n_patients) % 4)
    order = torch.randperm(len(units), generator=generator)
    inputs = F.normalize(torch.randn(len(units), 7, generator=generator), dim=1)
    targets = (inputs[:, :2] > 0).float()
    targets[::5, 1] = math.nan
    return MlpExamples(
        scale * inputs[order], targets[order], units[order], shape=SHAPE, smoothing=0.1
    )


def weights(scale: float = 1.0) -> Tensor:
    return scale * torch.randn(SHAPE.size, generator=torch.Generator().manual_seed(1))


def loss_of(flat: Tensor, data: MlpExamples, image: int) -> Tensor:
    first, second = SHAPE.split(flat)
    hidden = torch.cat([(first @ data.inputs[image]).relu(), torch.ones(1)])
    known = ~torch.isnan(data.targets[image])
    soft = data.targets[image][known] * (1 - data.smoothing) + data.smoothing / 2
    return F.binary_cross_entropy_with_logits((second @ hidden)[known], soft, reduction="sum")


def patient_gradient(flat: Tensor, data: MlpExamples, patient: int) -> Tensor:
    """The mean over the patient's images, by autograd."""
    free = flat.clone().requires_grad_()
    images = torch.nonzero(data.units == patient).flatten().tolist()
    loss = torch.stack([loss_of(free, data, image) for image in images]).mean()
    return torch.autograd.grad(loss, free)[0]


def without_patient(data: MlpExamples, patient: int) -> MlpExamples:
    kept = data.units != patient
    units = data.units[kept] - (data.units[kept] > patient).long()
    return dataclasses.replace(
        data, inputs=data.inputs[kept], targets=data.targets[kept], units=units
    )


@pytest.mark.parametrize("clip_norm", [None, 0.05, 0.5, 100.0])
def test_the_clipped_sum_equals_that_of_gradients_by_autograd(clip_norm: float | None) -> None:
    data, flat = examples(), weights()
    expected = torch.zeros(SHAPE.size)
    for patient in range(data.n_units):
        gradient = patient_gradient(flat, data, patient)
        factor = 1.0 if clip_norm is None else min(1.0, clip_norm / float(gradient.norm()))
        expected += factor * gradient
    torch.testing.assert_close(private_sum(flat, data, clip_norm), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_removing_any_patient_moves_the_sum_by_at_most_the_clip_norm(scale: float) -> None:
    data, flat = examples(scale=scale), weights(3.0)
    whole = private_sum(flat, data, 1.0)
    for patient in range(data.n_units):
        moved = whole - private_sum(flat, without_patient(data, patient), 1.0)
        assert moved.norm() <= 1.0 + 1e-4


def test_images_that_cancel_are_not_let_through_above_the_clip_norm() -> None:
    data = examples(1)
    image, label = data.inputs[:1] * 1e4, torch.tensor([[0.0, 0.0]])
    pair = dataclasses.replace(
        data,
        inputs=torch.cat([image, image]),
        targets=torch.cat([label, 1 - label]),
        units=torch.tensor([0, 0]),
    )
    assert private_sum(weights(), pair, 1.0).norm() <= 1.0 + 1e-5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_image_that_is_no_number_costs_its_patient_only(value: float) -> None:
    data, flat = examples(), weights()
    spoiled = data.inputs.clone()
    spoiled[int(torch.nonzero(data.units == 3)[1]), 2] = value
    found = private_sum(flat, dataclasses.replace(data, inputs=spoiled), 1.0)
    torch.testing.assert_close(found, private_sum(flat, without_patient(data, 3), 1.0))


def test_weights_beyond_all_numbers_give_zero() -> None:
    found = private_sum(torch.full((SHAPE.size,), math.nan), examples(), 1.0)
    assert torch.equal(found, torch.zeros(SHAPE.size))


def test_chosen_patients_keep_shape_and_smoothing() -> None:
    data, flat = examples(), weights()
    chosen = data.of(torch.tensor([1, 6]))
    expected = sum(patient_gradient(flat, data, patient) for patient in (1, 6))
    torch.testing.assert_close(private_sum(flat, chosen, None), expected, atol=2e-5, rtol=1e-4)
    nobody = data.of(torch.zeros(0, dtype=torch.int64))
    assert torch.equal(private_sum(flat, nobody, 1.0), torch.zeros(SHAPE.size))


def test_it_learns_what_no_linear_head_can() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(400, 2, generator=generator)
    inputs = torch.cat([points, torch.ones(400, 1)], dim=1)
    targets = (points.prod(dim=1, keepdim=True) > 0).float()
    shape = MlpShape(inputs=3, hidden=16, targets=1)
    data = MlpExamples(inputs, targets, torch.arange(400), shape=shape)
    recipe = HeadRecipe(steps=300, lr=1.0, average_from=0.9, block_steps=100)
    plain = Mechanism(noise_multiplier=0, steps=300, normaliser=400)
    found = train_head(shape.start(0), data, recipe, sampling=plain)
    first, second = shape.split(found)
    hidden = torch.cat([(inputs @ first.T).relu(), torch.ones(400, 1)], dim=1)
    agrees = ((hidden @ second.T > 0).float() == targets).float().mean()
    assert agrees > 0.95
