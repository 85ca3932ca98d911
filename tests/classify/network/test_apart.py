from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from made_up import token_examples
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from classify.network.apart import refuse_coupled_examples, refuse_coupling_layers
from classify.network.gradients import (
    PatientGradients,
    TokenExamples,
    Views,
    all_views,
    weighted_loss,
)
from classify.network.top import trained_network
from synthdp.errors import InputError
from synthdp.networks.backbone import build_backbone
from synthdp.networks.settings import FeatureSettings

SHAPE = (5, 64)


class Between(nn.Module):
    """A small network with a function of the whole batch between its two layers."""

    def __init__(self, between: Callable[[Tensor], Tensor], *, zero: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 2)
        self.between = between
        if zero:
            nn.init.zeros_(self.last.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        inner = self.between(torch.tanh(self.first(tokens)))
        logits: Tensor = self.last(inner.mean(dim=1))
        return logits


class Counting(nn.Module):
    """A layer that counts what goes through it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, inner: Tensor) -> Tensor:
        self.seen += inner.detach().mean()
        return inner


MIXED = {
    "the mean": lambda x: x - x.mean(dim=0),
    "the spread": lambda x: torch.cat([x, x.std(dim=0, keepdim=True).expand_as(x)], dim=1),
    "a neighbour": lambda x: x + 0.1 * x.roll(1, dims=0),
    "the order": lambda x: x.sort(dim=0).values,
    "attention": lambda x: x + torch.softmax(x @ x.transpose(1, 2), dim=0) @ x,
    "the largest": lambda x: x / x.abs().amax(),
    "batch_norm": lambda x: F.batch_norm(x.transpose(1, 2), None, None, training=True).mT,
}


@pytest.mark.parametrize("zero", [False, True], ids=["", "behind zeros"])
@pytest.mark.parametrize("mixed", list(MIXED))
def test_a_function_of_the_batch_is_found_by_noise(mixed: str, zero: bool) -> None:
    with pytest.raises(InputError, match=r"mixes the images of a batch.*after the layer last"):
        refuse_coupled_examples(Between(MIXED[mixed], zero=zero), SHAPE)


@pytest.mark.parametrize(
    ("between", "words"),
    [
        (lambda x: F.dropout(x, 0.2), "another output: it draws at random"),
        (lambda x: x / len(x), "alone another output than in a batch"),
        (Counting(), "buffer between.seen changes"),
    ],
)
def test_what_draws_remembers_or_counts_is_refused(
    between: Callable[[Tensor], Tensor], words: str
) -> None:
    module = Between(between)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(InputError, match=words):
        refuse_coupled_examples(module, SHAPE)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize(
    "between",
    [
        lambda x: x,
        nn.LayerNorm(8),
        nn.GroupNorm(1, 5),
        nn.InstanceNorm1d(5),
        nn.BatchNorm1d(5).eval(),
        nn.Dropout(0.5).eval(),
        lambda x: x + torch.softmax(x @ x.transpose(1, 2), dim=2) @ x,
        # windows of an image, and slices of a volume, stand on the first axis for a while
        lambda x: x.flatten(0, 1).tanh().unflatten(0, (len(x), -1)),
        # another order of the first axis inside, which is turned back
        lambda x: x.transpose(0, 1).tanh().transpose(0, 1),
    ],
)
def test_what_keeps_images_apart_passes_and_no_global_draw(
    between: Callable[[Tensor], Tensor],
) -> None:
    module, state = Between(between, zero=True), torch.get_rng_state()
    refuse_coupling_layers(module)
    refuse_coupled_examples(module, SHAPE)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.BatchNorm1d(5), r"layer between \(BatchNorm1d\) mixes.*GroupNorm"),
        (nn.SyncBatchNorm(5), "SyncBatchNorm"),
        (nn.InstanceNorm1d(5, track_running_stats=True), "keeps figures of patients"),
        (nn.Dropout(0.1), r"layer between \(Dropout\) drops at random.*rate to 0"),
        (DropPath(0.1), "DropPath"),
        (nn.MultiheadAttention(8, 2, dropout=0.1), "drops at random"),
    ],
)
def test_kinds_of_layers_are_refused_by_name_before_anything_is_computed(
    layer: nn.Module, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        PatientGradients(Between(layer))


def clipped_sum(module: nn.Module, data: TokenExamples) -> Tensor:
    views = all_views(data, torch.arange(len(data.tags)))
    return PatientGradients(module).clipped_sum(data, views, clip_norm=1.0, batch=4)


def test_a_module_that_mixes_is_refused_before_a_patient_is_looked_at() -> None:
    data = token_examples(SHAPE, 3)
    looked_at: list[Tensor] = []

    def between(x: Tensor) -> Tensor:
        looked_at.append(x)
        return x - x.mean(dim=0)

    with pytest.raises(InputError, match="mixes the images of a batch"):
        clipped_sum(Between(between), data)
    noise = len(looked_at)
    with pytest.raises(InputError, match="mixes the images of a batch"):
        clipped_sum(Between(between), token_examples(SHAPE, 3, seed=1))
    # what was computed is the same for other patients: noise alone
    assert all(map(torch.equal, looked_at[:noise], looked_at[noise:]))


class CountingLater(Counting):
    """A layer that counts in training alone."""

    def forward(self, inner: Tensor) -> Tensor:
        if inner.requires_grad:  # as in training, and not while it is tried
            self.seen += 1
        return inner


class _Leftover(torch.autograd.Function):
    """The gradient of a weight with what memory held before, as some kernels give it."""

    calls = 0

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return inputs * weight

    @staticmethod
    def backward(ctx: Any, *towards: Tensor) -> tuple[Tensor, Tensor]:
        inputs, weight = ctx.saved_tensors
        _Leftover.calls += 1
        return towards[0] * weight, (towards[0] * inputs).sum(dim=0) + _Leftover.calls


class _WithLeftovers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.last = nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.last(_Leftover.apply(inputs, self.scale))
        return logits


def test_a_gradient_that_holds_what_memory_held_is_refused() -> None:
    with pytest.raises(InputError, match="gradient of scale holds what stood in memory"):
        refuse_coupled_examples(_WithLeftovers(), (4,))


def test_a_network_whose_maps_are_narrower_than_a_stride_is_trained_in_float32_alone() -> None:
    """Such a convolution in bfloat16 of oneDNN 3.11 reads memory that nobody wrote. What memory
    holds is left to chance, so that a trial alone would let it pass now and then."""
    backbone = build_backbone(
        FeatureSettings(name="test_efficientnet_gn", size_px=16), seed=0, trainable_blocks="all"
    )
    head = torch.zeros(1, backbone.n_features + 1)
    trained_network(backbone, head, scaling=None, precision=torch.float32)
    with pytest.raises(
        InputError, match=r"blocks\.4\.0\.conv_dw\.weight holds what stood in memory"
    ):
        trained_network(backbone, head, scaling=None, precision=torch.bfloat16)


class _InBfloat16(nn.Module):
    """A convolution of maps of one channel, in bfloat16, under a sum of what it gives."""

    def __init__(self, **layer: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, **layer)

    def forward(self, maps: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            inner: Tensor = self.conv(maps)
        return inner.float().flatten(1)


@pytest.mark.parametrize(("stride", "width"), product((1, 2, 3), (1, 2, 3)))
def test_convolutions_in_bfloat16_are_refused_where_a_padded_map_is_narrower_than_the_stride(
    stride: int, width: int
) -> None:
    padded = _InBfloat16(kernel_size=3, stride=stride, padding=1)
    if width < stride:
        with pytest.raises(InputError, match=r"the gradient of conv\.weight holds"):
            refuse_coupled_examples(padded, (1, 4, width))
        normed = _InBfloat16(kernel_size=3, stride=stride, padding=1)
        nn.utils.parametrizations.weight_norm(normed.conv)
        with pytest.raises(InputError, match=r"the gradient of conv\.weight holds"):
            refuse_coupled_examples(normed, (1, 4, width))
        padded.conv.weight.requires_grad_(False)  # then nobody asks for its gradient
    refuse_coupled_examples(padded, (1, 4, width))
    refuse_coupled_examples(_InBfloat16(kernel_size=1, stride=stride), (1, 4, width))


def test_a_buffer_that_changes_after_all_is_refused() -> None:
    with pytest.raises(InputError, match="a buffer, or a weight, changes while images"):
        clipped_sum(Between(CountingLater()), token_examples(SHAPE, 3))


class _Renormed(nn.Module):
    """Words whose weights a forward pass shortens in place, those that were seen alone."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 8, max_norm=0.01)

    def forward(self, inner: Tensor) -> Tensor:
        seen = self.words((inner.detach() > 0).long().sum(dim=-1))
        return inner + seen


class _SlicesFirst(nn.Module):
    """Attention that takes the first axis for the one along which it looks."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=False)

    def forward(self, inner: Tensor) -> Tensor:
        return inner + self.attention(inner, inner, inner)[0]


class _Recurrent(nn.Module):
    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.recurrent = nn.GRU(8, 8, batch_first=batch_first)

    def forward(self, inner: Tensor) -> Tensor:
        outputs: Tensor = self.recurrent(inner)[0]
        return outputs


class _Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.phase = nn.Parameter(torch.ones(8, dtype=torch.complex64))

    def forward(self, inner: Tensor) -> Tensor:
        return (inner * self.phase).abs()


def test_what_passes_over_patients_in_other_ways_is_refused_by_name() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, recurrent = _SlicesFirst(), _Recurrent(batch_first=False)
        words, spectral = _Renormed(), nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))
    for module in (first, recurrent):
        with pytest.raises(InputError, match="mixes the images of a batch"):
            refuse_coupled_examples(Between(module), SHAPE)
    with pytest.raises(InputError, match=r"weight between.words.weight changes|draws at random"):
        refuse_coupled_examples(Between(words), SHAPE)
    with pytest.raises(InputError, match=r"remembers|buffer between.parametrizations"):
        refuse_coupled_examples(Between(spectral), SHAPE)  # its power iteration goes on
    for layer in (StochasticDepth(0.1, "row"), nn.AlphaDropout(0.2)):
        with pytest.raises(InputError, match="at random"):
            PatientGradients(Between(layer))
    with pytest.raises(InputError, match="at random"):
        refuse_coupled_examples(Between(nn.RReLU()), SHAPE)
    with pytest.raises(InputError, match=r"weight between.phase is complex"):
        PatientGradients(Between(_Complex()))


def test_what_only_looks_dangerous_gives_patients_their_own_gradients() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = [
            nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)).eval(),
            nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
            nn.utils.parametrizations.orthogonal(nn.Linear(8, 8)),
            nn.InstanceNorm1d(5, track_running_stats=True).eval(),
            StochasticDepth(0.1, "row").eval(),
            _Recurrent(batch_first=True),
        ]
    data = token_examples(SHAPE, 3)
    for module in modules:
        network = Between(module)
        parameters = [one for one in network.parameters() if one.requires_grad]
        expected = torch.zeros(sum(one.numel() for one in parameters), dtype=torch.float64)
        views = all_views(data, torch.arange(3))
        for patient in range(3):
            own = views.patients == patient
            loss, _ = weighted_loss(
                network, data, Views(views.images[own], views.views[own], views.patients[own]),
                slice(0, int(own.sum())), views.shares[own],
            )  # fmt: skip
            found = torch.autograd.grad(loss, parameters, materialize_grads=True)
            vector = torch.cat([part.flatten() for part in found]).double()
            expected += vector * (1 / vector.norm()).clamp(max=1)
        total = clipped_sum(network, data)
        assert (total - expected).norm() < 1e-3 * expected.norm(), type(module).__name__


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(InputError, match="nothing is trained"):
        PatientGradients(Between(lambda x: x).requires_grad_(False))


def test_a_weight_that_stands_twice_is_counted_once() -> None:
    tied = Between(lambda x: x)
    tied.again = tied.first  # the same module under a second name
    data = token_examples(SHAPE, 3)
    assert torch.equal(clipped_sum(tied, data), clipped_sum(Between(lambda x: x), data))
