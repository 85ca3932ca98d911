import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch
from made_up import token_examples, without_patient
from timm.layers import LayerScale
from torch import Tensor, nn
from torch.nn import functional as F

from classify.features.scaling import plain_scaling
from classify.network.gradients import PatientGradients, TokenExamples, Views, all_views
from classify.network.top import TrainedTop, trained_network
from classify.settings.network import Tune
from synthdp.errors import InputError
from synthdp.networks.backbone import Backbone, build_backbone
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.noisy_sum.lattice import clip_bound, lattice_step

CLIP = 0.5
#: What float32 may move a sum of clipped vectors by, as a share of the clip norm.
ROUNDING = 1e-5
SHAPE = (5, 64)
examples = partial(token_examples, SHAPE)


def backbone(blocks: int = 1) -> Backbone:
    return build_backbone(
        FeatureSettings(name="test_vit", size_px=32), seed=0, trainable_blocks=blocks
    )


def with_layer_scale() -> Backbone:
    """A small ViT with a LayerScale not near zero, and an `fc_norm` that is called twice."""
    built = backbone()
    built.network.fc_norm = nn.LayerNorm(64)
    block = built.network.blocks[-1]
    block.ls1, block.ls2 = LayerScale(64, 0.5), LayerScale(64, 0.7)
    return built


def top_of(
    built: Backbone, *, scale: float = 1.0, dtype: torch.dtype = torch.float32
) -> TrainedTop:
    head = torch.randn(2, built.n_features + 1, generator=torch.Generator().manual_seed(5))
    centre = torch.full((built.n_features,), 0.1)
    scaling = dataclasses.replace(plain_scaling(built), centre=centre)
    top = trained_network(built, head, scaling=scaling, scale=scale, precision=dtype)
    assert isinstance(top, TrainedTop)
    return top


def low_rank_top() -> TrainedTop:
    """A top that trains low-rank additions to its blocks, somewhere in the middle of a training."""
    built = with_layer_scale()
    head = torch.randn(2, built.n_features + 1, generator=torch.Generator().manual_seed(5))
    top = trained_network(
        built, head, scaling=None, precision=torch.float32, tune="lora", scale=0.3
    )
    assert isinstance(top, TrainedTop)
    moved = torch.randn(top.flat().shape, generator=torch.Generator().manual_seed(6))
    top.load_flat(top.flat() + 0.1 * moved)
    return top


def everybody(data: TokenExamples) -> Tensor:
    return torch.arange(len(data.tags))


def total(data: TokenExamples, *, batch: int = 4) -> Tensor:
    gradients = PatientGradients(top_of(with_layer_scale()))
    return gradients.clipped_sum(
        data, all_views(data, everybody(data)), clip_norm=CLIP, batch=batch
    )


def by_autograd(top: TrainedTop, data: TokenExamples, views: Views) -> Tensor:
    """Each patient's gradient of its mean loss, (U, P), one patient at a time."""
    rows = []
    for patient in views.patients.unique():
        chosen = views.patients == patient
        images = views.images[chosen]
        tokens = torch.from_numpy(data.tokens[images.numpy(), views.views[chosen].numpy()]).float()
        logits, targets = top(tokens), data.targets[images]
        known = ~torch.isnan(targets)
        loss = F.binary_cross_entropy_with_logits(logits[known], targets[known], reduction="sum")
        found = torch.autograd.grad(loss / len(images), top.trained())
        rows.append(torch.cat([gradient.flatten() for gradient in found]))
    return torch.stack(rows)


def clipped(rows: Tensor, clip_norm: float) -> Tensor:
    bound = clip_bound(clip_norm, rows.shape[1])
    return (rows * (bound / rows.norm(dim=1, keepdim=True)).clamp(max=1)).sum(dim=0)


def near(clip_norm: float, rows: Tensor) -> float:
    """Rounding of each row, and of the sum to its lattice."""
    return ROUNDING * clip_norm * len(rows) + lattice_step(clip_norm) * rows.shape[1] ** 0.5


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_the_sum_is_that_of_each_patients_own_autograd(views: int, scale: float) -> None:
    data = examples(views=views)
    top = top_of(with_layer_scale(), scale=scale)
    looked_at = all_views(data, everybody(data))
    rows = by_autograd(top, data, looked_at)
    norms = rows.norm(dim=1)
    middle = float(norms.median())
    assert norms.min() < middle < norms.max()  # some are clipped, some are not
    sums = PatientGradients(top).clipped_sum(data, looked_at, clip_norm=middle, batch=4)
    assert (sums - clipped(rows, middle)).norm() < near(middle, rows)


@pytest.mark.parametrize("views", [1, 3])
def test_low_rank_additions_have_the_same_sum_by_hooks_and_autograd(views: int) -> None:
    data = token_examples((17, 64), views=views)
    top = low_rank_top()
    looked_at = all_views(data, everybody(data))
    rows = by_autograd(top, data, looked_at)
    norms = rows.norm(dim=1)
    middle = float(norms.median())
    assert norms.min() < middle < norms.max()  # some are clipped, some are not
    assert 0.1 < (rows[:, : -top.head.weight.numel()].norm() / rows.norm()) < 1
    sums = PatientGradients(low_rank_top()).clipped_sum(data, looked_at, clip_norm=middle, batch=4)
    assert (sums - clipped(rows, middle)).norm() < near(middle, rows)


@pytest.mark.parametrize("shape", [SHAPE, (17, 64)])
def test_low_rank_additions_keep_the_bound_on_neighbours(shape: tuple[int, int]) -> None:
    data = token_examples(shape, 7)
    data.tokens[3] *= 40
    data.tokens[np.flatnonzero(data.units == 2)[0]] = math.nan

    def sum_of(some: TokenExamples) -> Tensor:
        views = all_views(some, everybody(some))
        return PatientGradients(low_rank_top()).clipped_sum(some, views, clip_norm=CLIP, batch=4)

    whole = sum_of(data)
    assert bool(torch.isfinite(whole).all())
    moved = [float((whole - sum_of(without_patient(data, p))).norm()) for p in range(7)]
    assert 0.9 * CLIP < max(moved) <= CLIP


def test_the_flat_vector_holds_what_is_trained_and_no_more() -> None:
    top = low_rank_top()
    named = {k: p for k, p in top.named_parameters() if p.requires_grad}
    assert list(named)[-1] == "head.weight"
    blocks = {k: p for k, p in named.items() if k != "head.weight"}
    assert blocks
    assert all(name.endswith(("down.weight", "up.weight")) for name in blocks)
    n_head = top.head.weight.numel()
    assert len(top.flat()) == sum(p.numel() for p in named.values())
    expected = torch.cat([torch.full((len(top.flat()) - n_head,), 0.3), torch.ones(n_head)])
    assert torch.equal(top.units(), expected)


def test_a_scale_shortens_the_blocks_gradients_and_moves_no_logit() -> None:
    data = examples(3)
    plain, scaled = top_of(backbone()), top_of(backbone(), scale=0.1)
    tokens = torch.from_numpy(data.tokens[:, 0]).float()
    assert torch.equal(plain(tokens), scaled(tokens))
    views = all_views(data, everybody(data))
    expected = by_autograd(plain, data, views) * scaled.units()
    assert torch.allclose(by_autograd(scaled, data, views), expected, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_removing_any_patient_moves_the_sum_by_at_most_the_clip_norm(batch: int) -> None:
    data = examples()
    data.tokens[3] *= 40  # one whose gradient is far beyond the clip norm
    whole = total(data, batch=batch)
    moved = []
    for patient in range(len(data.tags)):
        neighbour = without_patient(data, patient)
        moved.append(float((whole - total(neighbour, batch=batch)).norm()))
    assert max(moved) <= CLIP
    assert min(moved) > 0


def test_the_physical_batch_changes_no_sum() -> None:
    data = examples(views=2)
    whole = total(data, batch=1000)
    for batch in (1, 2, 3, 7):
        assert (total(data, batch=batch) - whole).norm() < ROUNDING * CLIP


def test_views_that_are_kept_apart_are_the_same_and_are_not_joined() -> None:
    whole = examples(views=3)
    parts = dataclasses.replace(whole, tokens=whole.tokens[:, :1], others=whole.tokens[:, 1:])
    assert parts.n_views == 3
    views = torch.tensor([0, 2, 1, 0])
    asked = torch.tensor([1, 0, 3, 2]), views
    assert torch.equal(parts.inputs(*asked), whole.inputs(*asked))
    assert torch.equal(total(parts, batch=2), total(whole, batch=2))


def test_a_patient_of_500_images_weighs_as_much_as_any_other() -> None:
    data = examples(4)
    more = np.repeat(data.tokens[data.units == 0], 500, axis=0)
    many = TokenExamples(
        np.concatenate([data.tokens, more]),
        torch.cat([data.targets, torch.ones(500, 2)]),
        torch.cat([data.units, torch.zeros(500, dtype=torch.int64)]),
        data.tags,
    )
    moved = total(many, batch=64) - total(without_patient(many, 0), batch=64)
    assert 0.9 * CLIP < moved.norm() <= CLIP


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_spoiled_image_costs_its_patient_alone(value: float) -> None:
    data = examples()
    for batch in (1, 4, 64):
        spoiled = examples()
        spoiled.tokens[np.flatnonzero(data.units == 2)] = value
        expected = total(without_patient(data, 2), batch=batch)
        assert (total(spoiled, batch=batch) - expected).norm() < ROUNDING * CLIP


def test_bfloat16_keeps_the_bound_and_nearly_the_sum() -> None:
    data = examples()

    def sum_of(some: TokenExamples, dtype: torch.dtype) -> Tensor:
        gradients = PatientGradients(top_of(with_layer_scale(), dtype=dtype))
        return gradients.clipped_sum(
            some, all_views(some, everybody(some)), clip_norm=CLIP, batch=4
        )

    whole = sum_of(data, torch.bfloat16)
    assert whole.dtype == torch.float64
    fine = sum_of(data, torch.float32)
    assert 0 < (whole - fine).norm() < 0.02 * fine.norm()
    for patient in range(len(data.tags)):
        neighbour = sum_of(without_patient(data, patient), torch.bfloat16)
        assert (whole - neighbour).norm() <= CLIP


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_patients_vector_is_the_same_to_the_bit_whoever_is_there(dtype: torch.dtype) -> None:
    data = examples(views=2)

    def vectors(some: TokenExamples, drawn: list[int]) -> list[Tensor]:
        top = top_of(with_layer_scale(), dtype=dtype)
        gradients = PatientGradients(top)
        return [
            gradients.clipped_sum(
                some, all_views(some, torch.tensor([patient])), clip_norm=CLIP, batch=3
            )
            for patient in drawn
        ]

    everybody_there = vectors(data, [1, 2, 4])
    fewer = vectors(without_patient(data, 0), [0, 1, 3])
    assert all(torch.equal(a, b) for a, b in zip(everybody_there, fewer, strict=True))
    top = top_of(with_layer_scale(), dtype=dtype)
    views = all_views(data, torch.tensor([1, 2, 4]))
    together = PatientGradients(top).clipped_sum(data, views, clip_norm=CLIP, batch=3)
    step = lattice_step(CLIP)  # each of the three was rounded to the lattice alone
    assert (together - torch.stack(everybody_there).sum(dim=0)).abs().max() <= 2 * step


def test_nobody_drawn_is_a_sum_of_zeros() -> None:
    data = examples(3)
    views, top = all_views(data, torch.zeros(0, dtype=torch.int64)), top_of(backbone())
    zeros = PatientGradients(top).clipped_sum(data, views, clip_norm=1.0, batch=4)
    assert torch.equal(zeros, torch.zeros_like(top.flat(), dtype=torch.float64))


class Normed(nn.Sequential):
    """A layer that couples the images of a batch."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(5))


class Table(nn.Module):
    """A trained layer with a buffer, as in a Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(3))
        self.register_buffer("index", torch.zeros(3))


class Odd(nn.Module):
    """A layer with a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.bare = nn.Parameter(torch.zeros(3))


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.Dropout(0.1), "drops at random"),
        (Normed(), "normalises over the batch"),
        (Table(), "has buffers"),
        (Odd(), "Odd"),
    ],
)
@pytest.mark.parametrize("tune", ["blocks", "lora"])
def test_a_layer_that_couples_or_draws_is_refused_by_name(
    layer: nn.Module, why: str, tune: Tune
) -> None:
    built = backbone()
    built.network.blocks[-1].drop_path1 = layer
    head = torch.zeros(1, built.n_features + 1)
    with pytest.raises(InputError, match=rf"layer blocks\.5\.drop_path1.*{why}.*leave `network`"):
        trained_network(built, head, scaling=None, tune=tune)


@dataclasses.dataclass(frozen=True, eq=False)
class AtAddress:
    """Made-up images as floats, so many numbers beyond an address as new tensors have."""

    images: Tensor
    beyond: int
    units: Tensor
    targets: Tensor
    tags: tuple[bytes, ...]
    n_views: int = 1
    positive_weights: None = None

    def inputs(self, images: Tensor, views: Tensor) -> Tensor:
        rows = self.images[images]
        room = torch.empty(rows.numel() + self.beyond)[self.beyond :]
        return room.view_as(rows).copy_(rows)


def test_where_images_stand_in_memory_moves_no_bit() -> None:
    """An array is put where there is room, which depends on what was read of others before; a
    product adds up in another order at another kind of address."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(63 * 61, 33), nn.ReLU(), nn.Linear(33, 2))
    images, targets = torch.randn(12, 1, 63, 61), torch.randint(0, 2, (12, 2)).float()
    units = torch.arange(4).repeat_interleave(3)
    sums = []
    for beyond in (0, 1, 2, 4):
        data = AtAddress(images, beyond, units, targets, (b"a", b"b", b"c", b"d"))
        views = all_views(data, torch.arange(4))
        own = PatientGradients(module).clipped_sum(data, views, clip_norm=CLIP, batch=8)
        sums.append(own)
    assert all(torch.equal(own, sums[0]) for own in sums[1:])
