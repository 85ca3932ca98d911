"""The pictures of one image that radiomic features are taken of: itself, blurred, and in bands.

Preparation, filters and their order are those of the Frechet radiomics distance (arXiv 2412.01496,
and the settings of its package frd-score, version 1): grey levels to mean 0 and standard deviation
100, every second pixel by cubic splines (a pixel counts as 1 mm, and features are taken at 2 mm),
then the bands of the wavelet coif1, and Laplacians of Gaussians of 2, 3, 4 and 5 mm.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, spline_filter1d

Array = NDArray[Any]

#: The smallest side: at half of it the wavelet's six taps still fit.
LEAST_SIDE_PX = 16
#: Grey levels after normalisation: their standard deviation.
SCALE = 100.0
#: Of a pixel after resampling, in mm.
SPACING_MM = 2
#: Of the Laplacians of Gaussians.
SIGMAS_MM = (2, 3, 4, 5)
#: The names of the pictures, in order; the first letter of a band is along rows, the second along
#: columns.
PLAIN = ("original", "wavelet-LH", "wavelet-HL", "wavelet-HH", "wavelet-LL")
BLURRED = tuple(f"log-sigma-{sigma}-mm" for sigma in SIGMAS_MM)
#: Weights of the four spline coefficients about a place half way between two pixels.
_HALF_WAY = np.array([1, 23, 23, 1]) / 48


def _coiflet() -> tuple[Array, Array]:
    """Low and high pass of coif1, six taps each (Daubechies, Ten Lectures on Wavelets, 8.2)."""
    root = np.sqrt(7)
    low = np.array([root - 3, 1 - root, 14 - 2 * root, 14 + 2 * root, 5 + root, 1 - root])
    low /= 16 * np.sqrt(2)
    return low, low[::-1] * np.array([-1, 1] * 3)


_LOW, _HIGH = _coiflet()
#: The tap that falls on the pixel itself, as in PyWavelets.
_MIDDLE = 3


def prepared(images: Array) -> Array:
    """Images (N, S, S), normalised and halved: (N, S // 2, S // 2) float64.

    One whose pixels are all equal becomes zeros.
    """
    pixels = images.astype(np.float64)
    pixels -= pixels.mean(axis=(1, 2), keepdims=True)
    flat = images.max(axis=(1, 2)) == images.min(axis=(1, 2))
    deviation = np.where(flat, np.inf, pixels.std(axis=(1, 2), ddof=1))
    pixels *= SCALE / deviation[:, None, None]
    return _halved(_halved(pixels, 1), 2)


def _halved(pixels: Array, axis: int) -> Array:
    """The cubic spline through pixels, half way between the first and the second, and so on."""
    coefficients = spline_filter1d(pixels, order=3, axis=axis, mode="mirror")
    padding = [(1, 1) if dimension == axis else (0, 0) for dimension in range(pixels.ndim)]
    around = np.moveaxis(np.pad(coefficients, padding, mode="reflect"), axis, 0)
    count = 2 * (pixels.shape[axis] // 2)
    halved = sum(
        weight * around[first : first + count : 2] for first, weight in enumerate(_HALF_WAY)
    )
    return np.moveaxis(np.asarray(halved), 0, axis)


def plain_pictures(pixels: Array) -> Array:
    """Prepared images and their four wavelet bands, (N, 5, H, W), in the order of `PLAIN`.

    The transform keeps the size and wraps at the edges (PyWavelets' `swtn` of one level); an odd
    side is lengthened for it by its first pixel.
    """
    height, width = pixels.shape[1:]
    even = np.pad(pixels, [(0, 0), (0, height % 2), (0, width % 2)], mode="wrap")
    low, high = (_convolved(even, taps, axis=2) for taps in (_LOW, _HIGH))
    bands = [
        _convolved(part, taps, axis=1)[:, :height, :width]
        for part, taps in ((low, _HIGH), (high, _LOW), (high, _HIGH), (low, _LOW))
    ]
    return np.stack([pixels, *bands], axis=1)


def _convolved(pixels: Array, taps: Array, *, axis: int) -> Array:
    convolved = np.zeros_like(pixels)
    for number, tap in enumerate(taps):
        convolved += tap * np.roll(pixels, number - _MIDDLE, axis=axis)
    return convolved


def blurred_pictures(pixels: Array) -> Array:
    """Laplacians of Gaussians of prepared images, times sigma squared in mm, (N, 4, H, W)."""
    blurred = []
    for sigma in SIGMAS_MM:
        of_axis = partial(gaussian_filter1d, sigma=sigma / SPACING_MM, mode="nearest")
        curved = [of_axis(of_axis(pixels, axis=axis, order=2), axis=3 - axis) for axis in (1, 2)]
        blurred.append((sigma / SPACING_MM) ** 2 * (curved[0] + curved[1]))
    return np.stack(blurred, axis=1)
