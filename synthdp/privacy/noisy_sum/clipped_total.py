"""The clipped sum of vectors that are made one after another, in parts: those of whole networks.

`lattice.clipped_sum` is for vectors at hand as rows. Here each unit's vector comes by itself, a
part for each parameter, and is gone when it is added.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from synthdp.privacy.noisy_sum.clipping import clip_factors
from synthdp.privacy.noisy_sum.lattice import clip_bound, new_room, on_lattice, whole_vectors

#: Entries of a vector whose squares are summed in float32 before float64 takes over.
_PIECE = 256
#: What that can be off by, relatively: 2^-24 (256 / 2 + 2), with room.
_NORM_ERROR = 1e-5
#: Entries of a vector that are added to the sum at a time, so that what is between stays in the
#: processor's cache.
_AT_ONCE = 2**16


class ClippedTotal:
    """A sum of clipped vectors; begins at zero.

    Args:
        parameters: whose shapes and device the parts of a vector have.
        clip_norm: bound on the norm of each whole vector.

    Guarantee: with or without one vector the `total` differs by at most `clip_norm`, in whatever
    order they come; a vector that is not finite counts as zero. Each must be a function of its own
    unit.
    """

    def __init__(self, parameters: Sequence[Tensor], clip_norm: float) -> None:
        self._size = sum(parameter.numel() for parameter in parameters)
        self._like = [parameter.detach() for parameter in parameters]
        self._clip_norm = clip_norm
        self._bound = clip_bound(clip_norm, self._size) * (1 - _NORM_ERROR)
        self._whole = [
            torch.zeros(parameter.numel(), dtype=torch.int64, device=parameter.device)
            for parameter in parameters
        ]
        self._room = new_room(_AT_ONCE, parameters[0].device)

    def add(self, vector: Sequence[Tensor]) -> None:
        """Add a unit's vector, clipped: a float part for each parameter, of its shape or flat."""
        vector = [_as_stored(part, like) for part, like in zip(vector, self._like, strict=True)]
        norm = torch.stack([_norm(part) for part in vector]).square().sum().sqrt()
        factor = float(clip_factors(norm, self._bound))
        if factor == 0:  # a vector that is not finite
            return
        for whole, part in zip(self._whole, vector, strict=True):
            for sums, values in zip(whole.split(_AT_ONCE), part.split(_AT_ONCE), strict=True):
                sums.add_(whole_vectors(values, self._clip_norm, factor, self._room))

    @property
    def sums(self) -> list[Tensor]:
        """The sum for each parameter in whole numbers of the finer step, int64, as it stands."""
        return self._whole

    @property
    def total(self) -> Tensor:
        """The sum on the lattice of the clip norm: (P,) float64."""
        total = torch.empty(self._size, dtype=torch.float64, device=self._whole[0].device)
        parts = total.split([len(whole) for whole in self._whole])
        for whole, part, like in zip(self._whole, parts, self._like, strict=True):
            ordered = whole.as_strided(like.shape, _dense_strides(like)).flatten()
            for sums, values in zip(ordered.split(_AT_ONCE), part.split(_AT_ONCE), strict=True):
                values.copy_(on_lattice(sums, self._clip_norm))
        return total


def _dense_strides(like: Tensor) -> tuple[int, ...]:
    """How a tensor's entries lie in memory where no gap is between them."""
    return torch.empty_like(like, device="meta").stride()


def _as_stored(part: Tensor, like: Tensor) -> Tensor:
    """A part, shaped as a parameter or flat, as (size,) in the order of the parameter's memory.

    The weights of a convolution lie in memory channels last: to bring each unit's gradient into the
    usual order would be a copy of it.
    """
    part, strides = part.view(like.shape) if part.is_contiguous() else part, _dense_strides(like)
    if part.stride() != strides:
        part = torch.empty_like(like, dtype=part.dtype).copy_(part)
    return part.as_strided((part.numel(),), (1,))


def _norm(values: Tensor) -> Tensor:
    """The norm of (size,), float64; float32 over short pieces, float64 over these.

    Shorter floats would round a norm by more than is held back for it.
    """
    pieces = values.float().view(-1, math.gcd(len(values), _PIECE))
    of_pieces = torch.linalg.vector_norm(pieces, dim=1)
    norm: Tensor = torch.linalg.vector_norm(of_pieces, dtype=torch.float64)
    return norm
