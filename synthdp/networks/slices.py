"""Slices of volumes along some axes, as flat networks see them."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from synthdp.data.images import resize

#: How many slices of each axis are seen where nobody says it.
SLICES = 16
#: How what a network gives for slices is made one vector, where nobody says it.
SLICE_POOL: Literal["mean"] = "mean"


def slices_along(volumes: Tensor, axes: Sequence[int], count: int, size_px: int) -> Tensor:
    """Evenly spaced slices along each axis, each over the whole of a square.

    A plane that is no square, since volumes have another number of slices than rows, is stretched
    to one: its voxels are seldom as far from each other in both directions.

    Args:
        volumes: (B, D, S, S).
        axes: along which: 0 across the stored slices, 1 across rows, 2 across columns.
        count: how many of each axis; all, where there are fewer.
        size_px: the side of what comes out.

    Returns:
        (B, K, 1, size_px, size_px), the slices of an axis together, in their order.
    """
    seen = []
    for axis in axes:
        along = volumes.movedim(axis + 1, 1)
        here = min(count, along.shape[1])
        # the middles of as many equal parts
        at = [(2 * index + 1) * along.shape[1] // (2 * here) for index in range(here)]
        planes = along[:, at].flatten(0, 1).unsqueeze(1)
        seen.append(resize(planes, size_px).unflatten(0, (-1, here)))
    return torch.cat(seen, dim=1)
