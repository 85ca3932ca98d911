"""Grey levels of pictures, and counts of pairs of numbers by picture: what textures are made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Width of a bin of grey levels, after normalisation to a standard deviation of 100.
BIN_WIDTH = 5.0
#: Grey levels so little below an edge count as on it: an even area, whose bands are 0 but for
#: rounding, would fall into two bins by chance.
_ROUNDING = 1e-6
#: With so many times more cells than pairs, sorting pairs is faster than a cell for each.
_SPARSE = 8


def grey_levels(pictures: Array) -> Array:
    """Levels (F, H, W) from 1 on of pictures (F, H, W): bins of `BIN_WIDTH`, with an edge at 0.

    The lowest bin of a picture is its level 1 (the fixed bin width of IBSI, arXiv 1612.07003,
    section 2.7; its bins begin at the least grey level, pyradiomics' and these at 0).
    """
    bins = np.floor((pictures + _ROUNDING) / BIN_WIDTH).astype(np.int64)
    levels: Array = bins - bins.min(axis=(1, 2), keepdims=True) + 1
    return levels


@dataclass(frozen=True)
class Counts:
    """How often pairs (i, j) of positive integers occur in each of G groups: K entries in all.

    group, i, j, count: (K,), of pairs that occur; groups: G; total: (G,) counts of each group.
    """

    group: Array
    i: Array
    j: Array
    count: Array
    groups: int
    total: Array

    def sum(self, values: Array | float = 1.0) -> Array:
        """The sum (G,) over the pairs of a group of count times value; values: (K,)."""
        return np.bincount(self.group, self.count * values, minlength=self.groups)

    def mean(self, values: Array) -> Array:
        """The mean (G,) over the pairs of a group; values: (K,)."""
        mean: Array = self.sum(values) / self.total
        return mean

    def entropy(self) -> Array:
        """In bits, (G,), of the shares of pairs within a group."""
        share = self.count / self.total[self.group]
        entropy: Array = -np.bincount(self.group, share * np.log2(share), minlength=self.groups)
        return entropy

    def along(self, numbers: Array) -> "Counts":
        """Counts of one number (K,) of a pair alone, as i; j is 1."""
        return count_pairs(self.group, numbers, np.ones_like(numbers), self.groups, self.count)


def count_pairs(
    group: Array, i: Array, j: Array, groups: int, weight: Array | None = None
) -> Counts:
    """Count pairs (i, j) in each group.

    Args:
        group: (N,) from 0 to groups - 1.
        i: (N,) integers, at least 0.
        j: (N,) likewise.
        groups: how many.
        weight: (N,) what each counts; 1 each without.
    """
    high_i, high_j = (int(numbers.max(initial=0)) + 1 for numbers in (i, j))
    code = (group * high_i + i) * high_j + j
    if weight is None and groups * high_i * high_j > _SPARSE * len(code):
        distinct, counted = np.unique(code, return_counts=True)
    else:
        counted = np.bincount(code, weight)
        distinct = np.flatnonzero(counted > 0)
        counted = counted[distinct]
    count = counted.astype(np.float64)
    rest, of_j = np.divmod(distinct, high_j)
    of_group, of_i = np.divmod(rest, high_i)
    total = np.bincount(of_group, count, minlength=groups)
    return Counts(of_group, of_i, of_j, count, groups, total)
