"""Runs and zones of one grey level, and the sixteen features that are taken of either.

A run is a straight row of equal pixels along one of four directions, a zone all equal pixels that
touch, corners too. Definitions: IBSI (arXiv 1612.07003, sections 3.7 and 3.8), flat; of runs each
feature is taken along each direction and averaged.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from gan.quality.radiomics.cooccurrence import DIRECTIONS, neighbours
from gan.quality.radiomics.levels import Counts, count_pairs

Array = NDArray[Any]


def runs(levels: Array) -> dict[str, Array]:
    """16 features of runs, each (F,), of `grey_levels` (F, H, W)."""
    n_pictures, pixels = len(levels), levels[0].size
    features = _features(
        _run_counts(levels), pixels, "Run", small="ShortRun", large="LongRun", size="RunLength"
    )
    return {
        name: values.reshape(n_pictures, DIRECTIONS).mean(axis=1)
        for name, values in features.items()
    }


def zones(levels: Array) -> dict[str, Array]:
    """16 features of zones, each (F,), of `grey_levels` (F, H, W)."""
    return _features(
        _zone_counts(levels), levels[0].size, "Zone", small="SmallArea", large="LargeArea",
        size="SizeZone",
    )  # fmt: skip


def _features(
    counts: Counts, pixels: int, kind: str, *, small: str, large: str, size: str
) -> dict[str, Array]:
    """The features of counts of (level, size) by group, in pictures of so many pixels."""
    i, j = counts.i.astype(np.float64), counts.j.astype(np.float64)
    i2, j2, total = i**2, j**2, counts.total
    by_level, by_size = counts.along(counts.i), counts.along(counts.j)
    level_squares, size_squares = (each.sum(each.count) for each in (by_level, by_size))
    return {
        "GrayLevelNonUniformity": level_squares / total,
        "GrayLevelNonUniformityNormalized": level_squares / total**2,
        "GrayLevelVariance": counts.mean((i - counts.mean(i)[counts.group]) ** 2),
        f"HighGrayLevel{kind}Emphasis": counts.mean(i2),
        f"{large}Emphasis": counts.mean(j2),
        f"{large}HighGrayLevelEmphasis": counts.mean(i2 * j2),
        f"{large}LowGrayLevelEmphasis": counts.mean(j2 / i2),
        f"LowGrayLevel{kind}Emphasis": counts.mean(1 / i2),
        f"{kind}Entropy": counts.entropy(),
        f"{size}NonUniformity": size_squares / total,
        f"{size}NonUniformityNormalized": size_squares / total**2,
        f"{kind}Percentage": total / pixels,
        f"{kind}Variance": counts.mean((j - counts.mean(j)[counts.group]) ** 2),
        f"{small}Emphasis": counts.mean(1 / j2),
        f"{small}HighGrayLevelEmphasis": counts.mean(i2 / j2),
        f"{small}LowGrayLevelEmphasis": counts.mean(1 / (i2 * j2)),
    }


def _run_counts(levels: Array) -> Counts:
    """Counts of (level, length) of runs, by picture and direction."""
    n_pictures, height, width = levels.shape
    flat = levels.reshape(n_pictures, -1)
    order, starts = _lines(height, width)
    along = flat[:, order]  # (F, 4, H W)
    begins = np.empty(along.shape, dtype=bool)
    begins[:] = starts
    begins[:, :, 1:] |= along[:, :, 1:] != along[:, :, :-1]
    firsts = np.flatnonzero(begins)
    lengths = np.diff(firsts, append=begins.size)
    group = firsts // (height * width)
    return count_pairs(group, along.ravel()[firsts], lengths, n_pictures * DIRECTIONS)


@cache
def _lines(height: int, width: int) -> tuple[Array, Array]:
    """Pixels in the order of lines along four directions, (4, H W), and where a line starts."""
    pixels = np.arange(height * width).reshape(height, width)
    mirrored = pixels[:, ::-1]
    offsets = range(1 - height, width)
    lines = [
        list(pixels),
        list(pixels.T),
        [np.diagonal(pixels, offset) for offset in offsets],
        [np.diagonal(mirrored, offset) for offset in offsets],
    ]
    order = np.stack([np.concatenate(of_direction) for of_direction in lines])
    starts = np.zeros(order.shape, dtype=bool)
    for of_direction, row in zip(lines, starts, strict=True):
        ends = np.cumsum([len(line) for line in of_direction])
        row[np.r_[0, ends[:-1]]] = True
    return order, starts


def _zone_counts(levels: Array) -> Counts:
    """Counts of (level, pixels) of zones, by picture."""
    n_pictures, pixels = len(levels), levels[0].size
    indices = np.arange(levels.size).reshape(levels.shape)
    first, second = [], []
    for (here, there), (level, beside) in zip(neighbours(indices), neighbours(levels), strict=True):
        equal = level == beside
        first.append(here[equal])
        second.append(there[equal])
    rows, columns = np.concatenate(first), np.concatenate(second)
    touching = coo_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), (levels.size,) * 2)
    n_zones, zone_of = connected_components(touching, directed=False)
    size = np.bincount(zone_of, minlength=n_zones)
    any_pixel = np.empty(n_zones, dtype=np.int64)
    any_pixel[zone_of] = np.arange(levels.size)
    return count_pairs(any_pixel // pixels, levels.ravel()[any_pixel], size, n_pictures)
