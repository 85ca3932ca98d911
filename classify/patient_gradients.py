"""Sums of patients' clipped gradients over the end of a ViT, from Opacus's per-sample gradients.

A patient's gradient is the mean over its views, all parameters together. Views come a physical
batch at a time, ordered by patient; what a batch holds of a patient that goes on in the next one is
carried over, so that the size of the batch changes memory and time, and no sum beyond rounding.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.layer_norm import compute_layer_norm_grad_sample
from opacus.grad_sample.utils import register_grad_sampler
from timm.layers import LayerNorm as TimmLayerNorm
from timm.layers import LayerScale
from torch import Tensor, nn

from classify.trained_top import TrainedTop, image_losses
from synthdp.privacy.clipping import clip_factors

_WORD_BYTES = 8
#: Entries of a gradient whose squares are summed in float32 before float64 takes over.
_PIECE = 256

register_grad_sampler(TimmLayerNorm)(compute_layer_norm_grad_sample)


@register_grad_sampler(LayerScale)
def _layer_scale_gradients(
    layer: LayerScale, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """Of y = x * gamma: the sum over tokens of x * dy, (B, C)."""
    return {layer.gamma: (activations[0] * backprops).flatten(1, -2).sum(dim=1)}


@dataclass(frozen=True, eq=False)
class TokenExamples:
    """Patients' images as the frozen trunk hands them on, each in K views.

    tokens: (N, K, L, C) float16; targets: (N, T) float32 in {0, 1}, nan unknown; units: (N,)
    int64, the patient of each image, counted from 0; tags: a secret name for each patient.
    """

    tokens: NDArray[np.float16]
    targets: Tensor
    units: Tensor
    tags: Sequence[bytes]


@dataclass(frozen=True, eq=False)
class Views:
    """Views of images, ordered by patient: (R,) int64 each, `patients` counted from 0."""

    images: Tensor
    views: Tensor
    patients: Tensor

    @property
    def shares(self) -> Tensor:
        """What each view counts in the mean of its patient, (R,) float32."""
        return 1 / torch.bincount(self.patients)[self.patients].to(torch.float32)

    def batches(self, size: int) -> Iterator[slice]:
        """Slices of `size` views at most."""
        for start in range(0, len(self.images), size):
            yield slice(start, min(start + size, len(self.images)))


def all_views(examples: TokenExamples, drawn: Tensor) -> Views:
    """All views of all images of the patients `drawn`, (U,) int64, ascending."""
    order = torch.argsort(examples.units, stable=True)
    images = order[torch.isin(examples.units[order], drawn)]
    n_views = examples.tokens.shape[1]
    patients = torch.searchsorted(drawn, examples.units[images])
    return Views(
        images=images.repeat_interleave(n_views),
        views=torch.arange(n_views).repeat(len(images)),
        patients=patients.repeat_interleave(n_views),
    )


def one_view_each(examples: TokenExamples, drawn: Tensor, *, seed: int, step: int) -> Views:
    """One view of each patient drawn: by a hash of seed, step and the patient's tag alone.

    Guarantee: whoever else is there does not move it.
    """
    choice = all_views(examples, drawn)
    counts = torch.bincount(choice.patients, minlength=len(drawn))
    firsts = torch.cumsum(counts, dim=0) - counts
    known = f"view {seed} {step} ".encode()
    picks = [
        int(first) + _hashed(known + examples.tags[int(unit)]) % int(count)
        for unit, first, count in zip(drawn, firsts, counts, strict=True)
    ]
    chosen = torch.tensor(picks, dtype=torch.int64)
    return Views(choice.images[chosen], choice.views[chosen], choice.patients[chosen])


def _hashed(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:_WORD_BYTES], "big")


def weighted_loss(
    top: nn.Module, examples: TokenExamples, views: Views, part: slice, shares: Tensor
) -> tuple[Tensor, Tensor]:
    """The sum over some views of their loss times their share, and the tokens that it is of."""
    images, device = views.images[part], next(top.parameters()).device
    values = torch.from_numpy(examples.tokens[images.numpy(), views.views[part].numpy()])
    tokens = values.to(device, torch.float32).requires_grad_()
    losses = image_losses(top(tokens), examples.targets[images].to(device))
    return (losses * shares[part].to(device)).sum(), tokens


class _PatientSums(GradSampleModule):
    """Opacus's hooks, whose gradients are summed inside each patient layer by layer.

    A matrix's gradient is made for each patient at once, as one product over the tokens of all of
    the patient's views; other parameters, which are short, for each view and then summed.
    """

    def __init__(self, top: TrainedTop) -> None:
        super().__init__(top, loss_reduction="sum")
        self.slots = torch.zeros(0, dtype=torch.int64)
        self.sums: dict[Tensor, Tensor] = {}
        self._rooms: dict[Tensor, Tensor] = {}

    def capture_backprops_hook(
        self,
        module: nn.Module,
        _forward_input: Tensor,
        forward_output: Sequence[Tensor],
        loss_reduction: str,
        batch_first: bool,
    ) -> None:
        activations, backprops = self.rearrange_grad_samples(
            module=module,
            backprops=forward_output[0].detach(),
            loss_reduction=loss_reduction,
            batch_first=batch_first,
        )
        if not module.activations:
            del module.max_batch_len
        if isinstance(module, nn.Linear) and module.weight.requires_grad:
            self._add_matrix(module.weight, activations[0], backprops)
            if module.bias is not None and module.bias.requires_grad:
                self._add(module.bias, backprops.float().flatten(1, -2).sum(dim=1))
            return
        sampler = self.GRAD_SAMPLERS[type(module)]
        for parameter, gradients in sampler(module, activations, backprops).items():
            self._add(parameter, gradients)

    def _add(self, parameter: Tensor, gradients: Tensor) -> None:
        """Add gradients (B, ...) of single views."""
        rows = _summed(gradients.flatten(1), self.slots)
        if parameter in self.sums:  # the layer was called more than once
            rows += self.sums[parameter]
        self.sums[parameter] = rows

    def _add_matrix(self, weight: Tensor, came_in: Tensor, came_back: Tensor) -> None:
        """Add the gradients of a linear layer's matrix, from what came in and what came back.

        The products are summed in float32. Where the forward pass was in bfloat16 they are taken
        of bfloat16 numbers, as the pass itself takes them.
        """
        counts = torch.bincount(self.slots).tolist()
        again = weight in self.sums
        rows = (
            weight.new_empty(len(counts), weight.numel()) if again else self._room(weight, counts)
        )
        parts = zip(came_in.split(counts), came_back.split(counts), rows, strict=True)
        with _bfloat16_products(enabled=came_back.dtype == torch.bfloat16):
            for x, dy, row in parts:
                x_tokens, dy_tokens = (v.flatten(0, -2).float() for v in (x.to(dy.dtype), dy))
                torch.mm(dy_tokens.T, x_tokens, out=row.view_as(weight))
        self.sums[weight] = self.sums[weight] + rows if again else rows

    def _room(self, weight: Tensor, counts: Sequence[int]) -> Tensor:
        """Memory for rows (U, size) that the next batch uses again: new pages take time."""
        room = self._rooms.get(weight)
        if room is None or len(room) < len(counts):
            room = self._rooms[weight] = weight.new_empty(len(counts), weight.numel())
        return room[: len(counts)]


@contextmanager
def _bfloat16_products(*, enabled: bool) -> Iterator[None]:
    """Let products of float32 matrices be taken of bfloat16 numbers, and summed in float32."""
    before = torch.get_float32_matmul_precision()
    try:
        if enabled:
            torch.set_float32_matmul_precision("medium")
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _summed(rows: Tensor, slots: Tensor) -> Tensor:
    """Sum the rows (B, D) of each slot, (B,) int64 ascending from 0; float32 (U, D)."""
    sums = rows.new_zeros(len(torch.unique(slots)), rows.shape[1], dtype=torch.float32)
    return sums.index_add_(0, slots.to(rows.device), rows.float())


class PatientGradients:
    """Sums over patients of their clipped mean gradients, by Opacus's hooks on a trained top."""

    def __init__(self, top: TrainedTop) -> None:
        self._parameters = top.trained()
        self._hooked = _PatientSums(top)

    def clipped_sum(
        self, examples: TokenExamples, views: Views, *, clip_norm: float, batch: int
    ) -> Tensor:
        """The sum over the patients of `views`, (P,) float32.

        Args:
            examples: the patients' images.
            views: what the step looks at.
            clip_norm: bound on each patient's whole vector.
            batch: how many views are computed at a time.

        Guarantee: adding or removing a patient moves it by at most `clip_norm`, beyond float32
        rounding; a patient whose gradient is not finite counts as zero.
        """
        total = [torch.zeros_like(p).flatten() for p in self._parameters]
        carried: list[Tensor] | None = None
        shares = views.shares
        for part in views.batches(batch):
            sums = self._patient_sums(examples, views, part, shares)
            if carried is not None:
                for rows, before in zip(sums, carried, strict=True):
                    rows[0] += before
            carried = None
            if _goes_on(views.patients, part):
                carried = [rows[-1].clone() for rows in sums]
                sums = [rows[:-1] for rows in sums]
            _add_clipped(total, sums, clip_norm)
        return torch.cat(total)

    def _patient_sums(
        self, examples: TokenExamples, views: Views, part: slice, shares: Tensor
    ) -> list[Tensor]:
        """For each parameter the sums (U, size) over a batch's views of each patient."""
        patients = views.patients[part]
        _, self._hooked.slots = torch.unique_consecutive(patients, return_inverse=True)
        loss, tokens = weighted_loss(self._hooked, examples, views, part, shares)
        # towards the tokens alone: the sums of gradients over the batch are not computed
        torch.autograd.grad(loss, tokens)
        sums, self._hooked.sums = self._hooked.sums, {}
        return [sums[parameter] for parameter in self._parameters]


def _goes_on(patients: Tensor, part: slice) -> bool:
    """Whether the last patient of a batch has views in the next one."""
    return part.stop < len(patients) and bool(patients[part.stop] == patients[part.stop - 1])


def _add_clipped(total: Sequence[Tensor], sums: Sequence[Tensor], clip_norm: float) -> None:
    """Add each patient's clipped vector onto `total`, in place.

    Args:
        total: one (size,) for each parameter.
        sums: (U, size) for each parameter, changed in place; a patient's vector is its row in all
            of them.
        clip_norm: bound on the norm of that vector.
    """
    squares = [_norms(rows).square() for rows in sums]
    factors = clip_factors(torch.stack(squares).sum(dim=0).sqrt(), clip_norm)
    lost = factors == 0  # a vector that is not finite
    scales = factors.float()
    for whole, rows in zip(total, sums, strict=True):
        if bool(lost.any()):
            rows[lost] = 0
        whole.addmv_(rows.T, scales)


def _norms(rows: Tensor) -> Tensor:
    """Norms of rows (U, size), (U,) float64; float32 over short pieces, float64 over these."""
    n_units, size = rows.shape
    piece = math.gcd(size, _PIECE)
    pieces = rows.view(n_units, -1, piece) if n_units else rows.reshape(0, 1, 1)
    of_pieces = torch.linalg.vector_norm(pieces, dim=2)
    norms: Tensor = torch.linalg.vector_norm(of_pieces, dim=1, dtype=torch.float64)
    return norms
