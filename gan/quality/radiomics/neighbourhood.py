"""Neighbourhood grey-tone differences: how far a pixel is from the mean of those about it.

Definitions: IBSI (arXiv 1612.07003, section 3.10; Amadasun and King 1989), flat, distance 1; at an
edge the mean is over what neighbours there are.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Coarseness of a picture of one level, whose formula divides by 0 (as in pyradiomics).
NO_DIFFERENCE = 1e6


def neighbourhood(levels: Array) -> dict[str, Array]:
    """5 features, each (F,), of `grey_levels` (F, H, W)."""
    differences = np.abs(levels - _mean_about(levels))
    by_picture = [_features(*of_picture) for of_picture in zip(levels, differences, strict=True)]
    return {name: np.array([one[name] for one in by_picture]) for name in by_picture[0]}


def _mean_about(levels: Array) -> Array:
    """The mean level of the up to eight neighbours of each pixel, (F, H, W)."""
    padded = np.pad(levels.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    inside = np.pad(np.ones(levels.shape[1:]), 1)
    height, width = levels.shape[1:]
    total, count = np.zeros(levels.shape), np.zeros((height, width))
    for row in range(3):
        for column in range(3):
            if (row, column) != (1, 1):
                total += padded[:, row : row + height, column : column + width]
                count += inside[row : row + height, column : column + width]
    mean: Array = total / count
    return mean


def _features(levels: Array, differences: Array) -> dict[str, float]:
    counts = np.bincount(levels.ravel())
    i = np.flatnonzero(counts)
    p = counts[i] / levels.size
    s = np.bincount(levels.ravel(), differences.ravel())[i]
    n, all_s, coarse = len(i), s.sum(), float((p * s).sum())
    apart = np.abs(i[:, None] - i[None, :])
    both = p[:, None] + p[None, :]
    i_p, p_s = i * p, p * s
    busy = float(np.abs(i_p[:, None] - i_p[None, :]).sum())
    contrast = 2 * float((i**2 * p).sum() - (i * p).sum() ** 2) * all_s / levels.size
    complexity = (apart * (p_s[:, None] + p_s[None, :]) / both).sum() / levels.size
    return {
        "Busyness": coarse / busy if busy else 0.0,
        "Coarseness": 1 / coarse if coarse else NO_DIFFERENCE,
        "Complexity": float(complexity),
        "Contrast": contrast / (n * (n - 1)) if n > 1 else 0.0,
        "Strength": float((both * apart**2).sum() / all_s) if all_s else 0.0,
    }
