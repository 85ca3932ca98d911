"""The sum of patients' clipped gradients over the end of a ViT, from Opacus's hooks.

A patient's gradient is the mean over all views of its images, all parameters together, and is
clipped as one vector. Patients are taken one at a time: what a kernel gives for one image may
differ in its last bits with the number of images beside it, and in bfloat16 those are no small
part, so that in a batch of several patients each would depend on the others. A patient of many
views comes a physical batch at a time, whose size changes memory and time, and no sum beyond
rounding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

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
from synthdp.machine.progress import progress
from synthdp.privacy.noisy_sum.clipped_total import ClippedTotal


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

    @cached_property
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
        self._hooked = _ViewSums(top)

    def clipped_sum(
        self, examples: TokenExamples, views: Views, *, clip_norm: float, batch: int
    ) -> Tensor:
        """The sum over the patients of `views`, on the lattice of `clip_norm`: (P,) float64.

        Args:
            examples: the patients' images.
            views: what the step looks at.
            clip_norm: bound on each patient's whole vector.
            batch: how many views are computed at a time.

        Guarantee: adding or removing a patient moves it by at most `clip_norm`; a patient whose
        gradient is not finite counts as zero. Assumed: that the same kernels, of as many threads,
        give the same bits for the same patient in two runs on one machine; the sum over patients
        assumes nothing (`synthdp.privacy.noisy_sum.lattice`).
        """
        clipped = ClippedTotal(self._parameters, clip_norm)
        for patient in progress(list(_patients(views.patients)), what="gradients of a step"):
            clipped.add(self._mean_gradient(examples, views, patient, batch))
        return clipped.total

    def _mean_gradient(
        self, examples: TokenExamples, views: Views, patient: slice, batch: int
    ) -> list[Tensor]:
        """The mean over a patient's views of their gradients: for each parameter (size,)."""
        mean: list[Tensor] = []
        for start in range(patient.start, patient.stop, batch):
            part = slice(start, min(start + batch, patient.stop))
            sums = self._hooked.collect()
            loss, tokens = weighted_loss(self._hooked, examples, views, part, views.shares)
            # towards the tokens alone: the hooks make the parameters' gradients
            torch.autograd.grad(loss, tokens)
            parts = [sums.pop(parameter) for parameter in self._parameters]
            mean = [m + p for m, p in zip(mean, parts, strict=True)] if mean else parts
        return mean


def _patients(patients: Tensor) -> Iterator[slice]:
    """Where each patient's views stand, from the ordered patients of views, (R,)."""
    _, counts = torch.unique_consecutive(patients, return_counts=True)
    start = 0
    for count in counts.tolist():
        yield slice(start, start + count)
        start += count


# Below, Opacus's hooks, taught two kinds of layers and to sum within a patient.

register_grad_sampler(TimmLayerNorm)(compute_layer_norm_grad_sample)


@register_grad_sampler(LayerScale)
def _layer_scale_gradients(
    layer: LayerScale, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """Of y = x * gamma: the sum over tokens of x * dy, (B, C)."""
    return {layer.gamma: (activations[0] * backprops).flatten(1, -2).sum(dim=1)}


class _ViewSums(GradSampleModule):
    """Opacus's hooks, whose gradients are summed over the views of a batch layer by layer.

    A matrix's gradient is one product over the tokens of all views; other parameters, which are
    short, have one for each view, and these are summed.
    """

    def __init__(self, top: TrainedTop) -> None:
        super().__init__(top, loss_reduction="sum")
        self._sums: dict[Tensor, Tensor] = {}

    def collect(self) -> dict[Tensor, Tensor]:
        """Be ready for a batch; gives what its backward pass will fill: (size,) by parameter."""
        self._sums = {}
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
            # An image's gradient is dy^T x summed over its tokens: one product over the tokens of
            # all views gives the sum, and no image's is made.
            x, dy = activations[0].flatten(0, -2), backprops.flatten(0, -2)
            self._keep(module.weight, _product(dy.T, x))
            if module.bias is not None and module.bias.requires_grad:
                self._keep(module.bias, dy.sum(dim=0, dtype=torch.float32))
            return
        sampler = self.GRAD_SAMPLERS[type(module)]
        for parameter, gradients in sampler(module, activations, backprops).items():
            self._keep(parameter, gradients.sum(dim=0, dtype=torch.float32))

    def _keep(self, parameter: Tensor, gradient: Tensor) -> None:
        flat, before = gradient.flatten(), self._sums.get(parameter)
        # there is one before if the layer was called more than once
        self._sums[parameter] = flat if before is None else before + flat


def _product(first: Tensor, second: Tensor) -> Tensor:
    """The product of two matrices, summed in float32.

    Where `first` is in bfloat16 the numbers multiplied are so too, and their products are exact.
    """
    before = torch.get_float32_matmul_precision()
    try:
        if first.dtype == torch.bfloat16:
            torch.set_float32_matmul_precision("medium")
        return first.float() @ second.float()
    finally:
        torch.set_float32_matmul_precision(before)
