"""The clipped sum where each patient shows one image: norms without gradients, one backward pass.

A linear layer's gradient for an image is the product of what came in and what came back, so its
norm follows from two Gram matrices over tokens (*Scalable and Efficient Training of Large
Convolutional Neural Networks with Differential Privacy*, arXiv 2205.10683), and what was kept for
the norms gives the weighted sum too (book-keeping, arXiv 2210.00038). An image's gradient of a
matrix is made only where it is smaller than the Gram matrices, as LoRA's are (the first paper's
mixed ghost norm).
"""

from collections.abc import Sequence

import torch
from opacus.utils.module_utils import trainable_modules
from timm.layers import LayerScale
from torch import Tensor, nn
from torch.nn import functional as F

from classify.network.examples import TokenExamples, Views, weighted_loss
from classify.network.top import TrainedTop
from synthdp.privacy.clipping import clip_factors

#: Gram matrices lose digits where tokens' parts cancel: this share of the norm that the parts would
#: have without cancelling is added, so that rounding makes no norm too small.
_CANCELLING = 1e-6


class GhostClipping:
    """Sums over patients of the clipped gradient of one view each, by hooks on a trained top."""

    def __init__(self, top: TrainedTop) -> None:
        self._top = top
        self._parameters = top.trained()
        self._kept: dict[nn.Linear, list[tuple[Tensor, Tensor]]] = {}
        self._vectors: dict[Tensor, Tensor] = {}

    def clipped_sum(
        self, examples: TokenExamples, views: Views, *, clip_norm: float, batch: int
    ) -> Tensor:
        """The sum over the patients of `views`, one view each; (P,) float32.

        Guarantee: as `PatientGradients.clipped_sum`, whose sum it equals up to rounding.

        Raises:
            ValueError: when a patient has more than one view.
        """
        if len(torch.unique(views.patients)) != len(views.patients):
            raise ValueError("ghost clipping takes one view of each patient")
        total = torch.zeros_like(self._top.flat())
        for part in views.batches(batch):
            self._look(examples, views, part)
            total += self._clipped(clip_norm)
        return total

    def _look(self, examples: TokenExamples, views: Views, part: slice) -> None:
        """Run a batch, keeping gradients of vectors, and what matrices' gradients are made of."""
        self._kept, self._vectors = {}, {}
        layers = trainable_modules(self._top)
        hooks = [layer.register_forward_hook(self._keep) for _, layer in layers]
        try:
            loss, tokens = weighted_loss(self._top, examples, views, part, views.shares)
            torch.autograd.grad(loss, tokens)
        finally:
            for hook in hooks:
                hook.remove()

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        came_in = _with_tokens(inputs[0].detach())

        def note(came_back: Tensor) -> None:
            dy = _with_tokens(came_back.detach()).float()
            for parameter, rows in _vector_gradients(layer, came_in, dy).items():
                self._vectors[parameter] = rows + self._vectors.get(parameter, 0)
            if isinstance(layer, nn.Linear) and layer.weight.requires_grad:
                self._kept.setdefault(layer, []).append((came_in.float(), dy))

        output.register_hook(note)

    def _clipped(self, clip_norm: float) -> Tensor:
        """The clipped sum of the batch that was looked at, (P,)."""
        large = {layer: _joined(entries) for layer, entries in self._kept.items()}
        rows = self._vectors
        self._kept, self._vectors = {}, {}
        for layer in [layer for layer, (x, _) in large.items() if _is_small(layer, x)]:
            x, dy = large.pop(layer)
            rows[layer.weight] = dy.mT @ x
        squares = [gradients.double().square().flatten(1).sum(dim=1) for gradients in rows.values()]
        squares += [_linear_squares(x, dy) for x, dy in large.values()]
        factors = clip_factors(torch.stack(squares).sum(dim=0).sqrt(), clip_norm)
        sums = {k: _weighted(gradients, factors).sum(dim=0) for k, gradients in rows.items()}
        for layer, (x, dy) in large.items():
            scaled, clean = _weighted(dy, factors), _weighted(x, (factors > 0).double())
            sums[layer.weight] = scaled.flatten(0, 1).T @ clean.flatten(0, 1)
        return torch.cat([sums[parameter].flatten() for parameter in self._parameters])


def _with_tokens(values: Tensor) -> Tensor:
    """(B, C) or (B, L, C) to (B, L, C)."""
    return values.unsqueeze(1) if values.ndim == 2 else values


def _joined(entries: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """All calls of a layer as one: its gradient is their sum, as over tokens."""
    if len(entries) == 1:
        return entries[0]
    came_in, came_back = zip(*entries, strict=True)
    return torch.cat(came_in, dim=1), torch.cat(came_back, dim=1)


def _is_small(layer: nn.Linear, x: Tensor) -> bool:
    """Whether an image's gradient of the matrix has fewer entries than the Gram matrices of x."""
    return layer.weight.numel() <= 2 * x.shape[1] ** 2


def _vector_gradients(layer: nn.Module, x: Tensor, dy: Tensor) -> dict[Tensor, Tensor]:
    """Per-image gradients, (B, C), of the trained parameters of a layer that are vectors."""
    if isinstance(layer, LayerScale):
        return {layer.gamma: (x * dy).sum(dim=1)}
    assert isinstance(layer, nn.Linear | nn.LayerNorm)  # as `trained_top` has seen to
    found: dict[Tensor, Tensor] = {}
    if isinstance(layer, nn.LayerNorm):
        normed = F.layer_norm(x.float(), layer.normalized_shape, eps=layer.eps)
        found[layer.weight] = (normed * dy).sum(dim=1)
    if layer.bias is not None and layer.bias.requires_grad:
        found[layer.bias] = dy.sum(dim=1)
    return found


def _linear_squares(x: Tensor, dy: Tensor) -> Tensor:
    """Squared norms of the gradients dy^T x of each image, (B,) float64, never too small.

    Args:
        x: (B, L, D), what came into the layer.
        dy: (B, L, E), what came back.
    """
    inner_x, inner_dy = x @ x.mT, dy @ dy.mT
    squares = (inner_x * inner_dy).sum(dim=(1, 2), dtype=torch.float64)
    lengths = (inner_x.diagonal(dim1=1, dim2=2) * inner_dy.diagonal(dim1=1, dim2=2)).sqrt()
    return squares + _CANCELLING * lengths.sum(dim=1, dtype=torch.float64).square()


def _weighted(values: Tensor, factors: Tensor) -> Tensor:
    """Each image's values (B, ...) times its factor; zeros where that is 0, be they NaN."""
    shaped = factors.to(values).reshape(-1, *[1] * (values.ndim - 1))
    return torch.where(shaped > 0, values * shaped, torch.zeros_like(values))
