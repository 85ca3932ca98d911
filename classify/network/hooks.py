"""Sums over a batch's views of their gradients, for the last blocks of a ViT on cached tokens.

Opacus's hooks, taught two kinds of layers, and to sum layer by layer. Where products are taken in
bfloat16 they are added up in float32, which autograd doesn't do.
"""

from collections.abc import Sequence

import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.layer_norm import compute_layer_norm_grad_sample
from opacus.grad_sample.utils import register_grad_sampler
from timm.layers import LayerNorm as TimmLayerNorm
from timm.layers import LayerScale
from torch import Tensor, nn

register_grad_sampler(TimmLayerNorm)(compute_layer_norm_grad_sample)


@register_grad_sampler(LayerScale)
def _layer_scale_gradients(
    layer: LayerScale, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """Of y = x * gamma: the sum over tokens of x * dy, (B, C)."""
    return {layer.gamma: (activations[0] * backprops).flatten(1, -2).sum(dim=1)}


class ViewSums(GradSampleModule):
    """Opacus's hooks, whose gradients are summed over the views of a batch layer by layer.

    A matrix's gradient is one product over the tokens of all views; other parameters, which are
    short, have one for each view, and these are summed.
    """

    def __init__(self, top: nn.Module) -> None:
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
        """Add a layer's gradients to the batch's sums; called by the hooks on its way back."""
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
