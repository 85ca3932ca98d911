"""Noise taken out of an image before a network sees it, as far as that image itself shows it.

A frozen network takes white noise for texture, so that a head that learned on film is led astray by
another scanner.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from synthdp.data.images import resize_pixels
from synthdp.networks.settings import FeatureSettings

#: Noise up to this share of the grey range is left: film grain, rounding to 256 greys, and all
#: that phantoms have. An image with no more stays as it is, to the bit.
LEAST_NOISE = 0.01
#: Images with a longer side are filtered at this one, which no network needs more than.
LARGEST_PX = 512
#: Below it an image shows too little of itself for noise and detail to be told apart.
SMALLEST_PX = 16
#: Of the Haar transform, and pixels around an image that its longest steps reach beyond it.
_LEVELS, _MARGIN = 3, 15
#: Median of the absolute value of a normal variable, and root of the sum of the mask's squares.
_NORMAL_MEDIAN, _MASK_NORM = 0.6745, 6.0
_MASK = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))
#: The grey value of black, and the width of the range that grey values have.
_BLACK, _RANGE = -1.0, 2.0


def noise_level(images: Tensor) -> Tensor:
    """The standard deviation of white noise in each image, as a share of the grey range, (B,).

    The median size of what a mask gives that no slope nor line along an axis moves (Immerkaer 1996,
    Computer Vision and Image Understanding 64:300-302; his is the mean, which edges raise). Where
    all around is black, as in what images are padded with, nothing is looked at.

    Args:
        images: (B, 1, S, S) in [-1, 1].
    """
    mask = images.new_tensor(_MASK)[None, None]
    sizes = F.conv2d(images, mask).abs().flatten(1)
    looked_at = _not_black(images)[:, :, 1:-1, 1:-1].flatten(1)
    # the median of what is looked at: the rest is sorted behind it
    ordered = torch.where(looked_at, sizes, torch.full_like(sizes, math.inf)).sort(dim=1).values
    middle = ((looked_at.sum(dim=1, keepdim=True) - 1).clamp(min=0)) // 2
    medians = ordered.gather(1, middle).squeeze(1)
    medians = torch.where(medians.isinf(), torch.zeros_like(medians), medians)
    return medians / (_NORMAL_MEDIAN * _MASK_NORM * _RANGE)


def _not_black(images: Tensor) -> Tensor:
    """Which pixels have one that is not black among them and their neighbours; bool."""
    return F.max_pool2d(images, 3, stride=1, padding=1) > _BLACK


def denoised(images: Tensor) -> Tensor:
    """Images with less white noise, each by itself; one that shows none comes back to the bit.

    Soft thresholds in an undecimated Haar transform, each band of an image by its own: n / x, where
    n is the variance that noise has in that band and x the root of what variance is left without it
    (BayesShrink, Chang, Yu and Vetterli 2000, IEEE Transactions on Image Processing 9:1532-1546);
    a band that shows no more than noise becomes 0. n goes with the square of `noise_level` less
    that of `LEAST_NOISE`, so that nothing jumps there.

    Args:
        images: (B, 1, S, S) in [-1, 1], S at least `SMALLEST_PX`.

    Returns:
        As `images`.
    """
    level = noise_level(images)
    variance = (level.square() - LEAST_NOISE**2).clamp(min=0).view(-1, 1, 1, 1) * _RANGE**2
    # black that an image is padded with has no noise, and no detail: means are of the rest
    share = _not_black(images).to(images.dtype).mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
    smooth, levels = F.pad(images, (_MARGIN,) * 4, mode="reflect"), []
    for number in range(_LEVELS):
        step = 2**number
        low, high = _halves(smooth, step, dim=3)
        smooth, rows = _halves(low, step, dim=2)
        columns, diagonal = _halves(high, step, dim=2)
        noise = variance / 4 ** (number + 1)
        levels.append([_shrunk(band, noise, share) for band in (rows, columns, diagonal)])
    for number in reversed(range(_LEVELS)):
        step, (rows, columns, diagonal) = 2**number, levels[number]
        low, high = _whole(smooth, rows, step, dim=2), _whole(columns, diagonal, step, dim=2)
        smooth = _whole(low, high, step, dim=3)
    return torch.where(variance > 0, _inner(smooth), images)


def _halves(values: Tensor, step: int, dim: int) -> tuple[Tensor, Tensor]:
    """Half the sum of each value and the one `step` further on, and half their difference."""
    beside = values.roll(-step, dim)
    return (values + beside) / 2, (values - beside) / 2


def _whole(low: Tensor, high: Tensor, step: int, dim: int) -> Tensor:
    """What `_halves` halved: the mean of what both pairs say that a value stands in."""
    return (low + high + (low - high).roll(step, dim)) / 2


def _inner(values: Tensor) -> Tensor:
    return values[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def _shrunk(band: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """A band nearer to 0 by its threshold; noise: its variance; share: of what is not padding."""
    inner = _inner(band)
    left = (inner.square().mean(dim=(1, 2, 3), keepdim=True) / share - noise).clamp(min=0)
    largest = band.abs().amax(dim=(1, 2, 3), keepdim=True)
    threshold = torch.minimum(noise / left.sqrt().clamp(min=1e-9), largest)
    return band.sign() * (band.abs() - threshold).clamp(min=0)


#: What is done to a square image (S, S) in [-1, 1] before it is resampled for a network.
Prepare = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def preparation(settings: FeatureSettings) -> Prepare | None:
    """What a network's settings say is done to each image as it is stored; None for nothing.

    Guarantee: what it gives is a function of the one image and of public numbers alone.
    """
    return None if settings.denoise is None else _denoised_alone


def resampled_for(settings: FeatureSettings, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """A square image (S, S) in [-1, 1] at the side of a network, denoised before where it is set.

    Guarantee: as `preparation`.
    """
    prepare = preparation(settings)
    return resize_pixels(image if prepare is None else prepare(image), settings.size_px)


def _denoised_alone(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """One square image (S, S), in a batch of its own."""
    side = len(image)
    if side < SMALLEST_PX:
        return image
    small = image if side <= LARGEST_PX else resize_pixels(image, LARGEST_PX)
    with torch.inference_mode():
        before = torch.from_numpy(np.ascontiguousarray(small))[None, None]
        after: NDArray[np.float32] = denoised(before)[0, 0].numpy()
    return image if np.array_equal(after, small) else after
