"""First-order features: of the grey levels of a picture, wherever they are.

Definitions: pyradiomics' and IBSI's (arXiv 1612.07003, sections 3.3 and 3.4), kurtosis without -3.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.quality.radiomics.filters import SPACING_MM
from gan.quality.radiomics.levels import count_pairs

Array = NDArray[Any]

#: Added to grey levels before squares are summed, so that few are negative.
SHIFT = 300.0


def first_order(pictures: Array, levels: Array) -> dict[str, Array]:
    """18 features, each (F,), of pictures (F, H, W) and their `grey_levels`."""
    n_pictures = len(pictures)
    pixels = pictures.reshape(n_pictures, -1)
    shares = [10, 25, 50, 75, 90]
    tenth, quarter, median, three_quarters, ninth = np.percentile(pixels, shares, axis=1)
    low, high, mean = pixels.min(axis=1), pixels.max(axis=1), pixels.mean(axis=1)
    centred = pixels - mean[:, None]
    squares = centred**2
    variance = squares.mean(axis=1)
    third, fourth = (squares * centred).mean(axis=1), (squares**2).mean(axis=1)
    spread = np.where(variance == 0, 1, variance)  # of a flat picture both moments are 0
    energy = ((pixels + SHIFT) ** 2).sum(axis=1)
    picture_of = np.repeat(np.arange(n_pictures), pixels.shape[1])
    flat = levels.reshape(-1)
    histogram = count_pairs(picture_of, flat, np.ones_like(flat), n_pictures)
    return {
        "10Percentile": tenth,
        "90Percentile": ninth,
        "Energy": energy,
        "Entropy": histogram.entropy(),
        "InterquartileRange": three_quarters - quarter,
        "Kurtosis": fourth / spread**2,
        "Maximum": high,
        "Mean": mean,
        "MeanAbsoluteDeviation": np.abs(centred).mean(axis=1),
        "Median": median,
        "Minimum": low,
        "Range": high - low,
        "RobustMeanAbsoluteDeviation": _robust_deviation(pixels, tenth, ninth),
        "RootMeanSquared": np.sqrt(energy / pixels.shape[1]),
        "Skewness": third / spread**1.5,
        "TotalEnergy": energy * SPACING_MM**2,
        "Uniformity": histogram.sum(histogram.count) / histogram.total**2,
        "Variance": variance,
    }


def _robust_deviation(pixels: Array, tenth: Array, ninth: Array) -> Array:
    """The mean absolute deviation (F,) of what lies between the two percentiles, each (F,)."""
    inside = (pixels >= tenth[:, None]) & (pixels <= ninth[:, None])
    count = inside.sum(axis=1)
    mean = (pixels * inside).sum(axis=1) / count
    deviation: Array = (np.abs(pixels - mean[:, None]) * inside).sum(axis=1) / count
    return deviation
