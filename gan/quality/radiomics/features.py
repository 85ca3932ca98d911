"""The feature list of the Frechet radiomics distance, of one image after another.

It is that of arXiv 2412.01496 (Original, LoG and Wavelet; first order, GLCM, GLRLM, GLSZM, NGTDM),
by our own vectorised code: pyradiomics, which the paper's package uses, needs numpy below 2. Names
and values are pyradiomics 3.0.1's (a test compares each feature, where it is installed). Of an
image of one slice pyradiomics leaves the LoG filters out without an error, so that the package's
distance of such images is over 385 features; with LoG they are 693.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.quality.radiomics.cooccurrence import cooccurrence
from gan.quality.radiomics.filters import (
    BLURRED,
    PLAIN,
    blurred_pictures,
    plain_pictures,
    prepared,
)
from gan.quality.radiomics.first_order import first_order
from gan.quality.radiomics.levels import grey_levels
from gan.quality.radiomics.neighbourhood import neighbourhood
from gan.quality.radiomics.runs_zones import runs, zones

Array = NDArray[Any]

#: Pixels, after halving, of the images that are worked on at once.
_PIXELS_AT_ONCE = 4096


def radiomic_features(images: Array) -> Array:
    """The features (N, 693) float64 of images (N, S, S), in the order of `feature_names`.

    An image of one grey level has those of a picture of zeros, which say nothing.
    """
    height, width = (side // 2 for side in images.shape[1:])
    together = max(1, _PIXELS_AT_ONCE // (height * width))
    return np.concatenate(
        [
            np.stack(list(_by_name(images[start : start + together]).values()), axis=1)
            for start in range(0, len(images), together)
        ]
    )


@cache
def feature_names() -> tuple[str, ...]:
    """Of all features in order, such as `wavelet-HH_glcm_Contrast`."""
    return tuple(_by_name(np.arange(256.0).reshape(1, 16, 16)))


def is_plain(name: str) -> bool:
    """Whether a feature is of a picture without a LoG filter."""
    return not name.startswith("log-")


def _by_name(images: Array) -> dict[str, Array]:
    """Each feature (N,) of images (N, S, S) by its name."""
    pixels = prepared(images)
    of_images = np.concatenate([plain_pictures(pixels), blurred_pictures(pixels)], axis=1)
    pictures = of_images.reshape(-1, *pixels.shape[1:])
    levels = grey_levels(pictures)
    of_classes = {
        "firstorder": first_order(pictures, levels),
        "glcm": cooccurrence(levels),
        "glrlm": runs(levels),
        "glszm": zones(levels),
        "ngtdm": neighbourhood(levels),
    }
    names = (*PLAIN, *BLURRED)
    return {
        f"{picture}_{kind}_{name}": values.reshape(len(images), len(names))[:, number]
        for number, picture in enumerate(names)
        for kind, features in of_classes.items()
        for name, values in features.items()
    }
