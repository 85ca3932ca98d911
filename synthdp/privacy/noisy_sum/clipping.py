"""Images' gradients to one bounded vector a unit, safe against NaN: how everything here is clipped.

`clip_factors` says what to scale a vector by, from its norm. `clip_rows` uses it where the vectors
are at hand as rows; heads and networks use it where the vectors are never made.
`surely_unclipped` says which vectors may be summed as they are, since none can be too long. The
replay of an audit computes the clipped sum a second time, by code of its own: it is the check.
"""

import torch
from torch import Tensor

from synthdp.privacy.noisy_sum.exact import row_norms

#: What is held back of the clip norm for float32 rounding.
_ROUNDING_MARGIN = 1 - 1e-6
#: Share of the clip norm up to which a bound on a vector's norm is beyond doubt.
_SURELY_SHORT = 1 - 1e-5


def unit_means(gradients: Tensor, units: Tensor, n_units: int) -> Tensor:
    """Mean of the rows of each unit.

    Args:
        gradients: (N, D) float, one row an image.
        units: (N,) int64 in [0, n_units), the unit that each row belongs to.
        n_units: how many units there are.

    Returns:
        (n_units, D): the mean over a unit's rows; zeros for a unit without rows.
    """
    totals = gradients.new_zeros(n_units, gradients.shape[1]).index_add_(0, units, gradients)
    counts = torch.bincount(units, minlength=n_units).clamp_(min=1)
    return totals.div_(counts.unsqueeze(1).to(gradients.dtype))


def clip_rows(rows: Tensor, clip_norm: float) -> Tensor:
    """Scale each row to a Euclidean norm of at most `clip_norm`; a non-finite row becomes zero.

    Guarantee: adding or removing one row changes the exact column sum by at most `clip_norm`, of
    which a millionth is held back for rounding; a row's result depends on that row alone. Sums in
    floating point are rounded: `synthdp.privacy.noisy_sum.lattice` adds up exactly.
    """
    norms = row_norms(rows).unsqueeze(1)  # float64 holds the norm of any finite float32 row
    factors = clip_factors(norms, clip_norm)
    scaled = rows * factors.to(rows.dtype)
    return scaled.masked_fill_(factors == 0, 0)  # NaN * 0 is NaN: zero has to be written


def clip_factors(norms: Tensor, clip_norm: float) -> Tensor:
    """What to scale vectors of these norms by, for a norm of at most `clip_norm`.

    Args:
        norms: any shape, float64.
        clip_norm: the bound.

    Returns:
        In (0, 1], as `norms`; 0 where the norm is not finite: such a vector is to be put to zero,
        since its product with 0 is not.
    """
    finite = torch.isfinite(norms)
    norms = torch.where(finite, norms, torch.zeros_like(norms))
    factors: Tensor = _ROUNDING_MARGIN * clip_norm / norms.clamp_min(clip_norm)
    return torch.where(finite, factors, torch.zeros_like(factors))


def surely_unclipped(bounds: Tensor, clip_norm: float) -> Tensor:
    """Which vectors may be summed as they are, from upper bounds on their norms.

    Args:
        bounds: any shape, float64.
        clip_norm: the bound that a clipped vector keeps.

    Returns:
        bool, as `bounds`; false where a bound is not finite.
    """
    return bounds <= clip_norm * _SURELY_SHORT
