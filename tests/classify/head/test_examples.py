import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from made_up import head_examples, without_head_patient
from torch import Tensor
from torch.nn import functional as F

from classify.head.examples import (
    HeadExamples,
    MlpExamples,
    MlpShape,
    PublicExamples,
    private_sum,
    private_sums,
    residuals,
)
from classify.head.train import HeadRecipe, train_head
from classify.settings.head import LinearLoss
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.clipping import clip_rows, unit_means

SHAPE = MlpShape(inputs=7, hidden=5, targets=2)


def test_closed_form_gradients_equal_autograd() -> None:
    data = head_examples()
    weights = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    closed = data.gradients(weights).float()
    for index in range(len(data.inputs)):
        free = weights.clone().requires_grad_()
        known = ~torch.isnan(data.targets[index])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            (free @ data.inputs[index])[known], data.targets[index][known], reduction="sum"
        )
        (gradient,) = torch.autograd.grad(loss, free)
        assert torch.allclose(closed[index], gradient.flatten(), atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_removing_any_patient_moves_the_sum_by_at_most_the_clip_norm(scale: float) -> None:
    data = head_examples()
    data = HeadExamples(data.inputs * scale, data.targets, data.units)
    weights = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    whole = private_sum(weights, data, 1.0)
    for patient in range(data.n_units):
        neighbour = private_sum(weights, without_head_patient(data, patient), 1.0)
        assert (whole - neighbour).norm() <= 1.0


@pytest.mark.parametrize("clip_norm", [0.05, 0.3, 0.7, 5.0])
@pytest.mark.parametrize("loss", ["logistic", "least_squares"])
def test_patients_who_need_no_clipping_are_summed_to_the_same(
    clip_norm: float, loss: LinearLoss
) -> None:
    data = replace(head_examples(), loss=loss)
    lengths = torch.linspace(0.1, 3, len(data.inputs)).unsqueeze(1)
    data = replace(data, inputs=data.inputs * lengths)
    weights = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    means = unit_means(data.gradients(weights), data.units, data.n_units)
    expected = clip_rows(means, clip_norm).sum(dim=0).reshape(2, 9)
    torch.testing.assert_close(
        private_sum(weights, data, clip_norm), expected, atol=1e-5 * (1 + clip_norm), rtol=1e-5
    )


def test_no_gradient_is_made_where_nobody_may_be_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = HeadExamples.made_sum

    def counting(self: HeadExamples, weights: Tensor, clip_norm: float) -> Tensor:
        made.append(self.n_units)
        return original(self, weights, clip_norm)

    monkeypatch.setattr(HeadExamples, "made_sum", counting)
    data, weights = head_examples(), torch.zeros(2, 9)
    private_sum(weights, data, 1e6)
    assert not made
    private_sum(weights, data, 1e-6)
    assert made == [data.n_units]


def test_a_patient_without_a_known_label_adds_nothing() -> None:
    data = head_examples()
    unknown = data.targets.clone()
    unknown[data.units == 5] = math.nan
    blank = HeadExamples(data.inputs, unknown, data.units)
    drawn = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    for weights in (torch.zeros(2, 9), drawn):
        total = private_sum(weights, blank, 1.0)
        assert torch.equal(total, private_sum(weights, without_head_patient(blank, 5), 1.0))


def test_an_unknown_label_leaves_the_others_of_its_image() -> None:
    data = head_examples()
    weights = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    hidden = data.targets.clone()
    hidden[:, 1] = math.nan
    total = private_sum(weights, HeadExamples(data.inputs, hidden, data.units), 100.0)
    alone = private_sum(weights[:1], replace(data, targets=data.targets[:, :1]), 100.0)
    torch.testing.assert_close(total[:1], alone, atol=1e-2, rtol=0)
    assert not total[1].any()


def test_positives_weigh_as_public_shares_say() -> None:
    data = replace(head_examples(), positive_weights=torch.tensor([3.0, 1.0]))
    weights = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    plain = replace(data, positive_weights=None).gradients(weights).view(-1, 2, 9)
    weighed = data.gradients(weights).view(-1, 2, 9)
    positive = data.targets[:, 0] == 1
    torch.testing.assert_close(weighed[positive, 0], 3 * plain[positive, 0])
    assert torch.equal(weighed[~positive], plain[~positive])
    assert torch.equal(weighed[:, 1], plain[:, 1])
    whole = private_sum(weights, data, 0.4)
    for patient in range(0, data.n_units, 7):
        neighbour = data.of(torch.tensor([u for u in range(data.n_units) if u != patient]))
        assert (whole - private_sum(weights, neighbour, 0.4)).norm() <= 0.4


def test_a_patient_of_500_images_weighs_as_much_as_any_other() -> None:
    data = head_examples()
    many = HeadExamples(
        torch.cat([data.inputs, data.inputs[:1].repeat(500, 1)]),
        torch.cat([data.targets, data.targets[:1].repeat(500, 1)]),
        torch.cat([data.units, data.units[:1].repeat(500)]),
    )
    weights = torch.zeros(2, 9)
    moved = private_sum(weights, many, 1.0) - private_sum(
        weights, without_head_patient(many, 0), 1.0
    )
    assert moved.norm() <= 1.0


def test_a_nan_image_costs_its_patient_only() -> None:
    data = head_examples()
    spoiled = data.inputs.clone()
    spoiled[0] = math.nan
    total = private_sum(torch.zeros(2, 9), HeadExamples(spoiled, data.targets, data.units), 1.0)
    assert torch.allclose(total, private_sum(torch.zeros(2, 9), without_head_patient(data, 0), 1.0))


def test_the_images_of_chosen_patients_are_theirs_and_counted_anew() -> None:
    data = head_examples()
    chosen = data.of(torch.tensor([3, 7]))
    assert chosen.n_units == 2
    for new, old in enumerate((3, 7)):
        assert torch.equal(chosen.inputs[chosen.units == new], data.inputs[data.units == old])
    assert data.of(torch.zeros(0, dtype=torch.int64)).n_units == 0


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        ("logistic", lambda z, y: torch.nn.functional.softplus(z) - y * z),
        ("least_squares", lambda z, y: (z - (2 * y - 1)).square() / 4),
        ("class_means", lambda z, y: -(2 * y - 1) * z / 2),
    ],
)
def test_residuals_are_the_derivatives_of_their_losses(
    loss: LinearLoss, formula: Callable[[Tensor, Tensor], Tensor]
) -> None:
    logits = torch.linspace(-3, 3, 13).unsqueeze(1).requires_grad_()
    targets = (torch.arange(13) % 2).float().unsqueeze(1)
    (expected,) = torch.autograd.grad(formula(logits, targets).sum(), logits)
    torch.testing.assert_close(residuals(logits.detach(), targets, loss), expected)
    unknown = residuals(logits.detach(), torch.full((13, 1), math.nan), loss)
    assert torch.equal(unknown, torch.zeros(13, 1))
    at_zero = residuals(torch.zeros(13, 1), targets, loss)
    torch.testing.assert_close(at_zero, 0.5 - targets)


def test_public_images_are_drawn_at_the_sampling_rate() -> None:
    known, weights = head_examples(seed=2), torch.zeros(2, 9)
    every = PublicExamples(known, 0.5).mean(weights, 0)
    drawn = PublicExamples(known, 0.5, sampling_rate=0.25, seed=1)
    steps = torch.stack([drawn.mean(weights, step) for step in range(400)])
    assert torch.equal(steps[3], drawn.mean(weights, 3))
    assert not torch.equal(steps[3], steps[4])
    nobody = PublicExamples(known, 0.5, sampling_rate=1e-9).mean(weights, 0)
    assert torch.equal(nobody, torch.zeros_like(weights))
    error = steps.std(dim=0) / 20
    assert bool(((steps.mean(dim=0) - every).abs() < 5 * error + 1e-6).all())
    assert bool((error > 0).all())


def mlp_examples(n_patients: int = 12, scale: float = 1.0) -> MlpExamples:
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


def mlp_weights(scale: float = 1.0) -> Tensor:
    return scale * torch.randn(SHAPE.size, generator=torch.Generator().manual_seed(1))


def loss_of(flat: Tensor, data: MlpExamples, image: int) -> Tensor:
    first, second = SHAPE.split(flat)
    hidden = torch.cat([(first @ data.inputs[image]).relu(), torch.ones(1)])
    known = ~torch.isnan(data.targets[image])
    soft = data.targets[image][known] * (1 - data.smoothing) + data.smoothing / 2
    return F.binary_cross_entropy_with_logits((second @ hidden)[known], soft, reduction="sum")


def image_gradients(flat: Tensor, data: MlpExamples, patient: int) -> Tensor:
    """Those of the patient's images, by autograd."""
    free = flat.clone().requires_grad_()
    images = torch.nonzero(data.units == patient).flatten().tolist()
    return torch.stack([torch.autograd.grad(loss_of(free, data, i), free)[0] for i in images])


def without_mlp_patient(data: MlpExamples, patient: int) -> MlpExamples:
    kept = data.units != patient
    units = data.units[kept] - (data.units[kept] > patient).long()
    return dataclasses.replace(
        data, inputs=data.inputs[kept], targets=data.targets[kept], units=units
    )


@pytest.mark.parametrize("clip_norm", [None, 0.05, 0.5, 100.0])
def test_an_mlps_clipped_sum_equals_that_of_gradients_by_autograd(clip_norm: float | None) -> None:
    data, flat = mlp_examples(), mlp_weights()
    expected = torch.zeros(SHAPE.size)
    for patient in range(data.n_units):
        gradients = image_gradients(flat, data, patient)
        length = float(gradients.norm(dim=1).mean())
        factor = 1.0 if clip_norm is None else min(1.0, clip_norm / length)
        expected += factor * gradients.mean(dim=0)
    found = private_sum(flat, data, clip_norm).float()
    torch.testing.assert_close(found, expected, atol=2e-5 * (1 + (clip_norm or 0)), rtol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_removing_any_patient_moves_an_mlps_sum_by_at_most_the_clip_norm(scale: float) -> None:
    data, flat = mlp_examples(scale=scale), mlp_weights(3.0)
    whole = private_sum(flat, data, 1.0)
    for patient in range(data.n_units):
        moved = whole - private_sum(flat, without_mlp_patient(data, patient), 1.0)
        assert moved.norm() <= 1.0


def test_images_that_cancel_are_not_let_through_above_the_clip_norm() -> None:
    data = mlp_examples(1)
    image, label = data.inputs[:1] * 1e4, torch.tensor([[0.0, 0.0]])
    pair = dataclasses.replace(
        data,
        inputs=torch.cat([image, image]),
        targets=torch.cat([label, 1 - label]),
        units=torch.tensor([0, 0]),
    )
    assert private_sum(mlp_weights(), pair, 1.0).norm() <= 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_image_that_is_no_number_costs_its_patient_only(value: float) -> None:
    data, flat = mlp_examples(), mlp_weights()
    spoiled = data.inputs.clone()
    spoiled[int(torch.nonzero(data.units == 3)[1]), 2] = value
    found = private_sum(flat, dataclasses.replace(data, inputs=spoiled), 1.0)
    torch.testing.assert_close(found, private_sum(flat, without_mlp_patient(data, 3), 1.0))


def test_weights_beyond_all_numbers_give_an_mlp_zero() -> None:
    found = private_sum(torch.full((SHAPE.size,), math.nan), mlp_examples(), 1.0)
    assert torch.equal(found, torch.zeros(SHAPE.size, dtype=torch.float64))


def test_chosen_patients_keep_shape_and_smoothing() -> None:
    data, flat = mlp_examples(), mlp_weights()
    chosen = data.of(torch.tensor([1, 6]))
    expected = sum(image_gradients(flat, data, patient).mean(dim=0) for patient in (1, 6))
    torch.testing.assert_close(private_sum(flat, chosen, None), expected, atol=2e-5, rtol=1e-4)
    nobody = data.of(torch.zeros(0, dtype=torch.int64))
    assert not private_sum(flat, nobody, 1.0).any()


def test_an_mlp_learns_what_no_linear_head_can() -> None:
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


def some_heads(n_targets: int, width: int) -> list[Tensor]:
    """Heads at which nobody, some, and all are clipped; and one whose weights are no numbers."""
    generator = torch.Generator().manual_seed(1)
    heads = [torch.randn(n_targets, width, generator=generator) * s for s in (0, 0.1, 1, 10, 100)]
    return [*heads, torch.full((n_targets, width), math.nan)]


@pytest.mark.parametrize("width", [9, 700])  # gradients are made up to 1024 weights
@pytest.mark.parametrize("loss", ["logistic", "least_squares", "class_means"])
@pytest.mark.parametrize("clip_norm", [1.0, 0.05])
def test_sums_of_several_heads_are_those_of_each_to_the_bit(
    width: int, loss: LinearLoss, clip_norm: float
) -> None:
    data, generator = head_examples(), torch.Generator().manual_seed(0)
    inputs = torch.randn(len(data.units), width, generator=generator)
    inputs[3, 4] = math.inf
    weights = torch.tensor([3.0, 1.0])
    data = replace(data, inputs=F.normalize(inputs, dim=1), loss=loss, positive_weights=weights)
    one_target = replace(data, targets=data.targets[:, :1], positive_weights=weights[:1])
    for several, n_targets in ((data, 2), (one_target, 1)):
        heads = some_heads(n_targets, width)
        together = private_sums(heads, several, clip_norm)
        alone = [private_sum(head, several, clip_norm) for head in heads]
        assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))
        assert any(bool(total.any()) for total in together)


@pytest.mark.parametrize("width", [9, 700])
def test_removing_a_patient_moves_no_heads_sum_by_more_than_the_clip_norm(width: int) -> None:
    data, generator = head_examples(), torch.Generator().manual_seed(0)
    data = replace(data, inputs=50 * torch.randn(len(data.units), width, generator=generator))
    heads = some_heads(2, width)
    whole = private_sums(heads, data, 1.0)
    moved = torch.zeros(len(heads))
    for patient in range(0, data.n_units, 5):
        without = private_sums(heads, without_head_patient(data, patient), 1.0)
        changes = [float((a - b).norm()) for a, b in zip(whole, without, strict=True)]
        moved = torch.maximum(moved, torch.tensor(changes))
    assert (moved <= 1.0).all()
    assert (moved[:-1] > 0.9).all()


def test_an_mlps_heads_are_summed_one_after_the_other() -> None:
    data = mlp_examples()
    heads = [SHAPE.start(seed) for seed in range(3)]
    together = private_sums(heads, data, 1.0)
    assert all(
        torch.equal(total, private_sum(head, data, 1.0))
        for total, head in zip(together, heads, strict=True)
    )
