import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from classify.head import examples as head_examples
from classify.head import lengths
from classify.head.examples import HeadExamples, private_sum
from classify.head.lengths import Images, Pairs, longest_sums
from synthdp.privacy.noisy_sum.exact import ExactRows
from synthdp.privacy.noisy_sum.lattice import on_lattice

TARGETS, WIDTH = 5, 9


@pytest.fixture(autouse=True)
def never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the way of many weights with few."""
    monkeypatch.setattr(head_examples, "_MADE_UP_TO", 0)


def made_up(n_patients: int = 30, scale: float = 1.0) -> HeadExamples:
    """Patients with one to five images in mixed order; some targets are unknown."""
    generator = torch.Generator().manual_seed(0)
    units = torch.arange(n_patients).repeat_interleave(1 + torch.arange(n_patients) % 5)
    order = torch.randperm(len(units), generator=generator)
    inputs = F.normalize(torch.randn(len(units), WIDTH, generator=generator), dim=1)
    inputs = inputs * torch.linspace(0.1, 4, len(units)).unsqueeze(1)
    targets = (torch.rand(len(units), TARGETS, generator=generator) < 0.3).float()
    targets[::4, 1] = math.nan
    targets[units == 7] = math.nan
    return HeadExamples(scale * inputs[order], targets[order], units[order])


def weights(scale: float = 1.0) -> Tensor:
    return scale * torch.randn(TARGETS, WIDTH, generator=torch.Generator().manual_seed(1))


def without(data: HeadExamples, patient: int) -> HeadExamples:
    kept = data.units != patient
    units = data.units[kept] - (data.units[kept] > patient).long()
    return replace(data, inputs=data.inputs[kept], targets=data.targets[kept], units=units)


def test_one_target_to_a_small_norm_is_summed_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    data = replace(made_up(), targets=made_up().targets[:, :1])
    made = on_lattice(data.made_sum(weights()[:1], 0.2), 0.2)
    monkeypatch.setattr(HeadExamples, "made_sum", lambda *_: pytest.fail("a gradient was made"))
    whole = private_sum(weights()[:1], data, 0.2)
    torch.testing.assert_close(whole, made, atol=3e-6 * 0.2 * data.n_units, rtol=0)
    for patient in range(data.n_units):
        moved = whole - private_sum(weights()[:1], without(data, patient), 0.2)
        assert moved.norm() <= 0.2


@pytest.mark.parametrize("clip_norm", [0.01, 0.3, 1.0, 100.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("loss", ["logistic", "least_squares", "class_means"])
def test_the_sum_is_that_of_gradients_that_are_made(
    clip_norm: float, scale: float, loss: head_examples.LinearLoss
) -> None:
    data = replace(made_up(scale=scale), loss=loss)
    made = on_lattice(data.made_sum(weights(), clip_norm), clip_norm)
    found = private_sum(weights(), data, clip_norm)
    # of each patient 20 bits of each weight, and a millionth of its length, are rounded away
    torch.testing.assert_close(found, made, atol=3e-6 * clip_norm * data.n_units, rtol=0)


def test_no_gradient_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object) -> None:
        raise AssertionError("a gradient was made")

    monkeypatch.setattr(HeadExamples, "gradients", made)
    assert private_sum(weights(), made_up(), 1e-3).any()


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("clip_norm", [0.1, 1.0])
def test_removing_a_patient_moves_it_by_at_most_the_clip_norm_and_nobody_else(
    scale: float, clip_norm: float
) -> None:
    data = made_up(scale=scale)
    whole = data.patient_sum(weights(), clip_norm)
    for patient in range(data.n_units):
        smaller = without(data, patient)
        moved = whole - private_sum(weights(), smaller, clip_norm)
        assert moved.norm() <= clip_norm
        alone = private_sum(weights(), data.of(torch.tensor([patient])), clip_norm)
        step = 2.0 ** (math.frexp(clip_norm)[1] - 21)
        assert (moved - alone).abs().max() <= step  # what the two roundings of sums leave


def test_images_that_cancel_are_within_the_clip_norm() -> None:
    image = 1e4 * made_up().inputs[:1]
    label = torch.zeros(1, TARGETS)
    pair = HeadExamples(
        torch.cat([image, image, 3 * image]),
        torch.cat([label, 1 - label, label]),
        torch.tensor([0, 0, 0]),
    )
    for start in (torch.zeros(TARGETS, WIDTH), weights(1e-5), weights()):
        for clip_norm in (1e-3, 1.0):
            assert private_sum(start, pair, clip_norm).norm() <= clip_norm


def test_no_image_is_too_long_for_sums_to_be_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    image = made_up().inputs[:1]
    label = torch.zeros(1, TARGETS)
    cancel = HeadExamples(
        torch.cat([1e5 * image, 1e5 * image, 100 * image]),
        torch.cat([label, 1 - label, label]),
        torch.tensor([0, 0, 0]),
    )
    largest = list[float]()
    original = ExactRows.weighted_sum

    def looked_at(rows: ExactRows, of_rows: Tensor, step: float) -> Tensor:
        largest.append(float((of_rows * rows.scales.unsqueeze(1)).abs().max() * 2**20 / step))
        return original(rows, of_rows, step)

    monkeypatch.setattr(ExactRows, "weighted_sum", looked_at)
    total = private_sum(torch.zeros(TARGETS, WIDTH), cancel, 1.0)
    assert 0 < total.norm() <= 1.0
    assert max(largest) < 2**24


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e38])
def test_an_image_that_is_no_number_costs_its_patient_only(value: float) -> None:
    data = made_up()
    spoiled = data.inputs.clone()
    spoiled[int(torch.nonzero(data.units == 4)[1]), 2] = value
    found = private_sum(weights(), replace(data, inputs=spoiled), 1.0)
    others = private_sum(weights(), without(data, 4), 1.0)
    assert (found - others).norm() <= (1.0 if value == 1e38 else 0.0)


def test_weights_beyond_all_numbers_give_zero() -> None:
    found = private_sum(torch.full((TARGETS, WIDTH), math.nan), made_up(), 1.0)
    assert torch.equal(found, torch.zeros(TARGETS, WIDTH, dtype=torch.float64))


def test_nobody_gives_zero() -> None:
    nobody = made_up().of(torch.zeros(0, dtype=torch.int64))
    assert not private_sum(weights(), nobody, 1.0).any()


def test_a_sample_of_patients_is_summed_as_they_are_alone() -> None:
    data = made_up()
    private_sum(weights(), data, 0.1)  # pairs of images are known now
    drawn = torch.tensor([2, 3, 11, 24])
    fresh = replace(data.of(drawn))  # a copy, which knows nothing
    assert torch.equal(
        private_sum(weights(), data.of(drawn), 0.1), private_sum(weights(), fresh, 0.1)
    )


def test_of_very_many_images_the_mean_of_lengths_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "MOST_PAIRED", 3)
    monkeypatch.setattr(head_examples, "MOST_PAIRED", 3)
    data, clip_norm = made_up(), 0.1
    single = torch.stack([data.gradients(weights())[i] for i in range(len(data.units))])
    for patient in range(data.n_units):
        own = data.units == patient
        mean = single[own].mean(dim=0)
        length = single[own].norm(dim=1).mean() if int(own.sum()) > 3 else mean.norm()
        expected = mean * (clip_norm / length).clamp(max=1)
        found = private_sum(weights(), data.of(torch.tensor([patient])), clip_norm)
        assert (found.flatten() - expected).norm() <= 3e-5 * clip_norm


def test_lengths_are_those_of_the_sums() -> None:
    data = made_up()
    images = Images.of(data.units, data.n_units)
    rows = ExactRows.of(data.inputs)
    parts = torch.randn(len(data.units), TARGETS, generator=torch.Generator().manual_seed(3))
    parts = parts.double()
    several = torch.nonzero(images.counts > 1).flatten()
    of_images = parts.norm(dim=1) * rows.norms
    pairs, summed = Pairs.of(rows, images), rows.whole.double() * rows.scales.unsqueeze(1)
    found = longest_sums(pairs, images, several, parts, of_images)
    for patient, length in zip(several.tolist(), found.tolist(), strict=True):
        own = data.units == patient
        whole = (parts[own].T @ summed[own]).norm()
        assert whole <= length <= whole + 1e-3 * of_images[own].sum()


def test_products_of_wide_rows_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made_up()
    images = Images.of(data.units, data.n_units)
    rows = ExactRows.of(data.inputs)
    at_once = Pairs.of(rows, images)
    monkeypatch.setattr(lengths, "_EXACT_WIDTH", 4)
    monkeypatch.setattr(lengths, "_AT_ONCE", 50)
    in_pieces = Pairs.of(rows, images)
    torch.testing.assert_close(at_once.products, in_pieces.products, rtol=1e-6, atol=1e-6)
    assert torch.equal(at_once.starts, in_pieces.starts)
