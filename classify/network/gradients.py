"""The sum of patients' clipped gradients over the end of a ViT, from Opacus's per-sample gradients.

A patient's gradient is the mean over all views of its images, all parameters together, and is
clipped as one vector (`synthdp.privacy.clipping`). Views come a physical batch at a time, ordered
by patient; what a batch holds of a patient that goes on in the next one is carried over, so that
the size of the batch changes memory and time, and no sum beyond rounding.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.layer_norm import compute_layer_norm_grad_sample
from opacus.grad_sample.utils import register_grad_sampler
from timm.layers import LayerNorm as TimmLayerNorm
from timm.layers import LayerScale
from torch import Tensor, nn
from torch.nn import functional as F

from classify.network.top import TrainedTop
from synthdp.privacy.clipping import clip_factors

#: Entries of a gradient whose squares are summed in float32 before float64 takes over.
_PIECE = 256


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


def weighted_loss(
    top: nn.Module, examples: TokenExamples, views: Views, part: slice, shares: Tensor
) -> tuple[Tensor, Tensor]:
    """The sum over some views of their loss times their share, and the tokens that it is of.

    The loss of a view is the logistic loss summed over the known targets of its image.
    """
    images, device = views.images[part], next(top.parameters()).device
    values = torch.from_numpy(examples.tokens[images.numpy(), views.views[part].numpy()])
    tokens = values.to(device, torch.float32).requires_grad_()
    targets = examples.targets[images].to(device)
    known = ~torch.isnan(targets)
    filled = torch.where(known, targets, torch.zeros_like(targets))
    losses = F.binary_cross_entropy_with_logits(top(tokens), filled, reduction="none")
    by_view = torch.where(known, losses, torch.zeros_like(losses)).sum(dim=1)
    return (by_view * shares[part].to(device)).sum(), tokens


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
            # For each parameter one row a patient: the sum of its views' shares of the gradient,
            # which over all of a patient's views is its mean gradient.
            sums = self._patient_sums(examples, views, part, shares)
            if carried is not None:  # the first patient here is the last one of the batch before
                for rows, before in zip(sums, carried, strict=True):
                    rows[0] += before
            carried = None
            if _goes_on(views.patients, part):
                # Nobody may be clipped before all of its views are summed: clipping parts would
                # let a patient through once for each batch that it stands in.
                carried = [rows[-1].clone() for rows in sums]
                sums = [rows[:-1] for rows in sums]
            _add_clipped(total, sums, clip_norm)
        return torch.cat(total)

    def _patient_sums(
        self, examples: TokenExamples, views: Views, part: slice, shares: Tensor
    ) -> list[Tensor]:
        """For each parameter the sums (U, size) over a batch's views of each patient."""
        _, counts = torch.unique_consecutive(views.patients[part], return_counts=True)
        sums = self._hooked.collect(counts.tolist())
        loss, tokens = weighted_loss(self._hooked, examples, views, part, shares)
        # towards the tokens alone: the sums of gradients over the batch are not computed
        torch.autograd.grad(loss, tokens)
        return [sums.pop(parameter) for parameter in self._parameters]


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
            rows[lost] = 0  # NaN * 0 is NaN: zero has to be written
        whole.addmv_(rows.T, scales)  # scales and sums at once, without scaled copies of the rows


def _norms(rows: Tensor) -> Tensor:
    """Norms of rows (U, size), (U,) float64; float32 over short pieces, float64 over these."""
    n_units, size = rows.shape
    piece = math.gcd(size, _PIECE)
    pieces = rows.view(n_units, -1, piece) if n_units else rows.reshape(0, 1, 1)
    of_pieces = torch.linalg.vector_norm(pieces, dim=2)
    norms: Tensor = torch.linalg.vector_norm(of_pieces, dim=1, dtype=torch.float64)
    return norms


# Below, Opacus's hooks, taught two kinds of layers and to sum within a patient.

register_grad_sampler(TimmLayerNorm)(compute_layer_norm_grad_sample)


@register_grad_sampler(LayerScale)
def _layer_scale_gradients(
    layer: LayerScale, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """Of y = x * gamma: the sum over tokens of x * dy, (B, C)."""
    return {layer.gamma: (activations[0] * backprops).flatten(1, -2).sum(dim=1)}


@dataclass(frozen=True)
class _Run:
    """Patients who follow each other in a batch, each with `count` views: where they and their
    views stand in it."""

    patients: slice
    views: slice
    count: int

    def by_patient(self, values: Tensor) -> Tensor:
        """Values of a batch's views, (B, ...), to those of the run's patients, (U, count, ...)."""
        grouped: Tensor = values[self.views].unflatten(0, (-1, self.count))
        return grouped


def _runs(counts: Sequence[int]) -> list[_Run]:
    """What one operation can sum at once, from each patient's number of views."""
    runs, patient, view = [], 0, 0
    for count, same in groupby(counts):
        n = len(list(same))
        runs.append(_Run(slice(patient, patient + n), slice(view, view + n * count), count))
        patient, view = patient + n, view + n * count
    return runs


class _PatientSums(GradSampleModule):
    """Opacus's hooks, whose gradients are summed inside each patient layer by layer.

    A matrix's gradient is made for each patient at once, as one product over the tokens of all of
    the patient's views; other parameters, which are short, for each view and then summed.
    """

    def __init__(self, top: TrainedTop) -> None:
        super().__init__(top, loss_reduction="sum")
        self._counts: Sequence[int] = ()
        self._sums: dict[Tensor, Tensor] = {}
        self._buffers_of: dict[Tensor, Tensor] = {}

    def collect(self, counts: Sequence[int]) -> dict[Tensor, Tensor]:
        """Be ready for a batch with so many views of each patient, in order.

        Gives what its backward pass will fill: sums (U, size) for each parameter.
        """
        self._counts, self._sums = counts, {}
        return self._sums

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
                tokens = backprops.unflatten(0, (-1, 1)).flatten(1, -2)
                self._add(module.bias, tokens.sum(dim=1, dtype=torch.float32))
            return
        sampler = self.GRAD_SAMPLERS[type(module)]
        for parameter, gradients in sampler(module, activations, backprops).items():
            self._add(parameter, gradients)

    def _add(self, parameter: Tensor, gradients: Tensor) -> None:
        """Add gradients (B, ...) of single views."""
        flat = gradients.flatten(1)
        rows = flat.new_empty(len(self._counts), flat.shape[1], dtype=torch.float32)
        for run in _runs(self._counts):
            torch.sum(run.by_patient(flat), dim=1, dtype=torch.float32, out=rows[run.patients])
        self._keep(parameter, rows)

    def _add_matrix(self, weight: Tensor, came_in: Tensor, came_back: Tensor) -> None:
        """Add the gradients of a linear layer's matrix, from what came in and what came back."""
        n, again = len(self._counts), weight in self._sums
        rows = weight.new_empty(n, weight.numel()) if again else self._buffer(weight, n)
        matrices = rows.view(n, *weight.shape)
        for run in _runs(self._counts):
            # An image's gradient is dy^T x summed over its tokens. With the tokens of all views of
            # a patient in one axis, one product gives the patient's sum, and no image's is made.
            x, dy = (run.by_patient(values).flatten(1, -2) for values in (came_in, came_back))
            _multiply(dy.mT, x, out=matrices[run.patients])
        self._keep(weight, rows)

    def _keep(self, parameter: Tensor, rows: Tensor) -> None:
        before = self._sums.get(parameter)  # there is one if the layer was called more than once
        self._sums[parameter] = rows if before is None else before + rows

    def _buffer(self, weight: Tensor, n: int) -> Tensor:
        """Memory for rows (n, size) that the next batch uses again: new pages take time."""
        buffer = self._buffers_of.get(weight)
        if buffer is None or len(buffer) < n:
            buffer = self._buffers_of[weight] = weight.new_empty(n, weight.numel())
        return buffer[:n]


def _multiply(first: Tensor, second: Tensor, *, out: Tensor) -> None:
    """Write the product of matrices, or of batches of such, into `out`, summed in float32.

    Where `first` is in bfloat16 the numbers multiplied are so too, and their products are exact.
    """
    before = torch.get_float32_matmul_precision()
    try:
        if first.dtype == torch.bfloat16:
            torch.set_float32_matmul_precision("medium")
        torch.matmul(first.float(), second.float(), out=out)
    finally:
        torch.set_float32_matmul_precision(before)
