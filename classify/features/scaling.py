"""From raw features to a head's input: parts centred and whitened by public sets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from synthdp.networks.backbone import Backbone
from synthdp.privacy.noisy_sum.exact import ExactRows, row_norms

#: Whitening divides by the variance along each direction plus this share of the mean variance.
_RIDGE = 0.3
#: Rows in float64 at a time, for memory.
_AT_ONCE = 4096


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

    def scaled_parts_alone(self, raw: Tensor) -> list[Tensor]:
        """As `scaled_parts`, each row a function of its own features alone; without gradients.

        A product of many rows with a matrix rounds some of them by how many there are, so that a
        patient's input would depend on who else is there (`synthdp.privacy.noisy_sum.exact`). A row
        that is not finite stays so.
        """
        shifted = raw if self.centre is None else raw - self.centre.to(raw)
        scaled = []
        whitening = self.whitening or (None,) * len(self.parts)
        weighed = zip(shifted.split(self.parts, dim=1), whitening, self.weights, strict=True)
        for part, matrix, weight in weighed:
            values = part.double() if matrix is None else ExactRows.of(part).products(matrix.T)
            norms = row_norms(values).clamp(min=1e-12).unsqueeze(1)
            scaled.append((weight * values / norms).to(raw.dtype))
        return scaled

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
    pairs = zip(raws, scalings, strict=True)
    return _joined([part for raw, one in pairs for part in one.scaled_parts(raw)], scalings)


def head_input_alone(raws: Sequence[Tensor], scalings: Sequence[Scaling]) -> Tensor:
    """As `head_input`, by `scaled_parts_alone`: a row depends on no other, and has no gradient."""
    rows = raws[0].new_empty(len(raws[0]), sum(sum(one.parts) for one in scalings))
    pieces = zip(*(raw.split(_AT_ONCE) for raw in raws), strict=True)
    for part, of_part in zip(rows.split(_AT_ONCE), pieces, strict=True):
        pairs = zip(of_part, scalings, strict=True)
        parts = [values for raw, one in pairs for values in one.scaled_parts_alone(raw)]
        part.copy_(_joined(parts, scalings))
    return rows


def _joined(parts: Sequence[Tensor], scalings: Sequence[Scaling]) -> Tensor:
    whole = math.sqrt(sum(weight**2 for scaling in scalings for weight in scaling.weights))
    return torch.cat(list(parts), dim=1) / whole
