"""From raw features to a head's input: parts centred and whitened by public sets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from synthdp.networks.backbone import Backbone

#: Whitening divides by the variance along each direction plus this share of the mean variance.
_RIDGE = 0.3


@dataclass(frozen=True, eq=False)
class Scaling:
    """How the features of one backbone enter a head.

    parts: the lengths of the parts that a feature vector is made of, D in all; weights: what each
    part counts; centre: (D,) or None for no shift; whitening: one (P, P) matrix for each part, or
    none. All of it comes from public images or settings.
    """

    parts: tuple[int, ...]
    weights: tuple[float, ...]
    centre: Tensor | None = None
    whitening: tuple[Tensor, ...] = ()

    def scaled_parts(self, raw: Tensor) -> list[Tensor]:
        """Raw features (N, D) to parts whose rows have the norm of their weight, or 0."""
        shifted = raw if self.centre is None else raw - self.centre.to(raw)
        parts = list(shifted.split(self.parts, dim=1))
        if self.whitening:
            parts = [p @ m.to(p) for p, m in zip(parts, self.whitening, strict=True)]
        return [
            weight * F.normalize(part, dim=1, eps=1e-12)
            for part, weight in zip(parts, self.weights, strict=True)
        ]

    def fitted(self, public: Tensor, exponent: float) -> "Scaling":
        """The same parts, centred on public features (N, D) and whitened by them.

        A part is multiplied by (C + r I)^(-exponent / 2), where C is its covariance and r a share
        of its mean variance; an exponent of 0 centres alone.
        """
        centre = public.mean(dim=0)
        whitening: tuple[Tensor, ...] = ()
        if exponent > 0:
            parts = (public - centre).split(self.parts, dim=1)
            whitening = tuple(_whitening(part, exponent) for part in parts)
        return replace(self, centre=centre, whitening=whitening)


def plain_scaling(backbone: Backbone) -> Scaling:
    """The scaling of a backbone's features without a public set."""
    return Scaling(backbone.parts, (backbone.settings.weight,) * len(backbone.parts))


def _whitening(centred: Tensor, exponent: float) -> Tensor:
    """The matrix (P, P) of centred features (N, P)."""
    values = centred.double()
    spread, directions = torch.linalg.eigh(values.T @ values / len(values))
    spread = spread.clamp(min=0)
    scale = (spread + _RIDGE * spread.mean() + 1e-12).pow(-exponent / 2)
    matrix: Tensor = directions * scale @ directions.T
    return matrix.float()


def head_input(raws: Sequence[Tensor], scalings: Sequence[Scaling]) -> Tensor:
    """Raw features of each backbone, (N, D) each, to inputs of a head, (N, sum of D).

    Rows have norm 1: each part counts the share of its weight. A part that is zero stays zero, and
    the row is shorter.
    """
    parts = [
        part
        for raw, scaling in zip(raws, scalings, strict=True)
        for part in scaling.scaled_parts(raw)
    ]
    whole = math.sqrt(sum(weight**2 for scaling in scalings for weight in scaling.weights))
    return torch.cat(parts, dim=1) / whole
