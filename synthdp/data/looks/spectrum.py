"""The power spectrum of images, binned by frequency along rays and along each axis."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthdp.errors import InputError

Array = NDArray[Any]
Line = Literal["radial", "vertical", "horizontal"]

#: Edges of the radial bins and of the bins along each axis, in cycles an image side.
SPECTRUM_EDGES = (0.5, 1.5, 2.5, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 44.0, 64.0)


@dataclass(frozen=True)
class SpectrumError:
    """The largest absolute error in dex, and where: radial, vertical or horizontal, low-high."""

    dex: float
    line: Line
    low: float
    high: float


def spectrum_error(real: Array, synthetic: Array, size_px: int) -> SpectrumError:
    """The largest difference of log10 mean power over all radial bins and both axes' bins.

    Args:
        real: (N, B) of `binned_powers`.
        synthetic: (M, B) likewise.
        size_px: the side of the images.

    Raises:
        InputError: when a set is empty.
    """
    if not len(real) or not len(synthetic):
        raise InputError("spectrum: a set is empty")
    tiny = np.finfo(np.float64).tiny
    means = [powers.astype(np.float64).mean(axis=0) + tiny for powers in (synthetic, real)]
    errors = np.abs(np.log10(means[0] / means[1]))
    worst = int(errors.argmax())
    return SpectrumError(float(errors[worst]), *spectrum_bins(size_px)[worst])


def spectrum_bins(size_px: int) -> list[tuple[Line, float, float]]:
    """Line, lower and upper edge of the bins that images of this side fill, in order."""
    return [described for described, _ in spectrum_masks(size_px)]


def binned_powers(images: Array) -> Array:
    """Mean power of each image in each of `spectrum_bins`.

    Each image loses its mean and is weighted by a Hann window. Single frequencies on an axis are
    noisy, so an axis is binned as the radius is: the power on the line of vertical or horizontal
    frequency is averaged within the same edges. The mean over images of a row is the row of the
    mean power.

    Args:
        images: (N, 1, S, S) in [-1, 1].

    Returns:
        (N, B) float64, at least 0.

    Raises:
        InputError: when an image is smaller than 4 px.
    """
    side = images.shape[-1]
    if side < 4:
        raise InputError("spectrum: images must have a side of 4 px or more")
    window = np.outer(hann_window(side), hann_window(side))
    members = [np.flatnonzero(mask) for _, mask in spectrum_masks(side)]
    powers = np.empty((len(images), len(members)))
    for row, image in zip(powers, images[:, 0].astype(np.float64), strict=True):
        power = np.abs(np.fft.fft2((image - image.mean()) * window)).ravel() ** 2
        row[:] = [power[inside].mean() for inside in members]
    return powers


def hann_window(side: int) -> Array:
    """The periodic Hann window along one axis of an image, (S,) float64."""
    window: Array = np.hanning(side + 1)[:-1]
    return window


@cache
def spectrum_masks(side: int) -> list[tuple[tuple[Line, float, float], Array]]:
    """Each bin that is filled, and the frequencies (S, S) of the power spectrum that lie in it."""
    frequency = np.abs(np.fft.fftfreq(side, 1 / side))
    radius = np.hypot(frequency[:, None], frequency[None, :])
    axis = frequency == 0
    lines: dict[Line, Array] = {
        "radial": radius,
        "vertical": np.where(axis[None, :], frequency[:, None], -1),
        "horizontal": np.where(axis[:, None], frequency[None, :], -1),
    }
    bins = []
    for line, frequencies in lines.items():
        for low, high in pairwise(SPECTRUM_EDGES):
            # The last edge is the Nyquist frequency of 128 px, which belongs to its bin.
            last = high == SPECTRUM_EDGES[-1]
            mask = (frequencies >= low) & ((frequencies <= high) if last else (frequencies < high))
            if mask.any() and low < side / 2:
                bins.append(((line, low, high), mask))
    return bins
