"""A square crop around a lesion, cut from its full image and averaged down to the set's size.

The recipe of the paper's patches: the full image's darkest and brightest pixel become 0 and 255, a
square around the lesion is cut, and its pixels are averaged by area (arXiv 2407.12669; `notes`).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthdp.data.importing.lesions.region import Region
from synthdp.data.importing.settings.lesions import CropSettings
from synthdp.errors import InputError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

#: A crop is no wider: twice the widest image that is read.
MAX_CROP_PX = 32768
#: Extra crops are moved alike for every lesion: what is drawn for one depends on nobody else.
_JITTER_SEED = 20170


@dataclass(frozen=True)
class Square:
    """A square in pixels of a full image; it may reach beyond."""

    left: int
    top: int
    side: int


def mask_region(mask: Pixels) -> Region:
    """The box around what is bright in a (H, W) mask, of two values with the darker outside.

    Raises:
        InputError: when it holds other values too, or one alone.
    """
    low, high = mask.min(), mask.max()
    if low == high:
        raise InputError("the mask is empty: every pixel has one value; restore it")
    lit = mask == high
    # Counting in rows is cheap; a set of 12 million pixels is not.
    if int(np.count_nonzero(mask == low)) + int(np.count_nonzero(lit)) != mask.size:
        raise InputError(
            "holds more than two values where a mask is expected; name the mask's file"
        )
    columns, rows = np.flatnonzero(lit.any(axis=0)), np.flatnonzero(lit.any(axis=1))
    return Region(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def squares_around(
    region: Region, crop: CropSettings, *, spacing_mm: float | None
) -> tuple[Square, ...]:
    """The square around a region, then the extra ones.

    Args:
        region: of the lesion, with y downwards.
        crop: how it is cut.
        spacing_mm: from pixel to pixel in the full image, where it is known.

    Raises:
        InputError: when the side is given in mm and the spacing is not known, or a crop would be
            wider than any image.
    """
    longer = max(region.right - region.left, region.bottom - region.top)
    wanted = longer * (1 + 2 * crop.margin) + 2 * crop.margin_px
    if crop.side_px is not None:
        wanted = crop.side_px
    elif crop.side_mm is not None:
        if spacing_mm is None:
            raise InputError(
                "has no pixel spacing, which crop.side_mm needs; set crop.side_px instead, or "
                "leave both out"
            )
        wanted = crop.side_mm / spacing_mm
    if crop.side_px is None:
        wanted = max(wanted, crop.least_side_px)
    if wanted > MAX_CROP_PX:
        raise InputError(
            f"the crop would be {wanted:,.0f} px wide (at most {MAX_CROP_PX:,}); ask for less "
            "margin, or look at the pixel spacing that the file states"
        )
    x, y = (region.left + region.right) / 2, (region.top + region.bottom) / 2
    squares = [_square(x, y, wanted)]
    for extra in range(crop.extra_crops):
        right, down, wider = np.random.default_rng([_JITTER_SEED, extra]).uniform(
            -crop.jitter, crop.jitter, 3
        )
        squares.append(_square(x + right * wanted, y + down * wanted, wanted * (1 + wider)))
    return tuple(squares)


def _square(x: float, y: float, side: float) -> Square:
    whole = max(math.ceil(side), 1)
    return Square(math.floor(x - whole / 2 + 0.5), math.floor(y - whole / 2 + 0.5), whole)


def cut(pixels: Pixels, square: Square, edge: str) -> Pixels:
    """The part of a (H, W) image in a square, (side, side), of the image's own depth.

    `edge` is one of `CropSettings`: what lies beyond the image is the image's darkest level, or
    mirrored; `shift` moves the square inside as far as it fits.
    """
    height, width = pixels.shape
    left, top, side = square.left, square.top, square.side
    if edge == "shift":
        left = min(max(left, 0), width - side) if side <= width else left
        top = min(max(top, 0), height - side) if side <= height else top
    inside = pixels[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    if inside.shape == (side, side):
        return inside
    above, before = max(-top, 0), max(-left, 0)
    below, behind = max(top + side - height, 0), max(left + side - width, 0)
    margins = ((above, below), (before, behind))
    if edge == "mirror":
        filled = np.pad(inside, margins, mode="symmetric")
    else:
        filled = np.pad(inside, margins, constant_values=pixels.min())
    return filled.astype(np.uint8) if pixels.dtype == np.uint8 else filled.astype(np.uint16)


def averaged(pixels: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """A (S, S) image averaged by area to (size_px, size_px); a smaller one is interpolated."""
    import cv2  # noqa: PLC0415 (settings alone need none of it, and every command reads settings)

    smaller = pixels.shape[0] < size_px
    how = cv2.INTER_LINEAR if smaller else cv2.INTER_AREA
    return cv2.resize(pixels, (size_px, size_px), interpolation=how).astype(np.float32, copy=False)


def crops(
    pixels: Pixels, squares: tuple[Square, ...], crop: CropSettings, size_px: int
) -> list[Pixels]:
    """The parts of a full (H, W) image in `squares`, each (size_px, size_px).

    Raises:
        InputError: when every pixel of the full image is the same.
    """
    low, high = int(pixels.min()), int(pixels.max())
    if low == high:
        raise InputError("every pixel of the full image is the same; restore the file")
    stretched = crop.levels == "image_range"
    kind = np.uint8 if stretched or pixels.dtype == np.uint8 else np.uint16
    scale, zero = (255 / (high - low), low) if stretched else (1.0, 0)
    made: list[Pixels] = []
    for square in squares:
        part = averaged(cut(pixels, square, crop.edge).astype(np.float32), size_px)
        levels = np.clip(np.rint((part - zero) * scale), 0, np.iinfo(kind).max)
        made.append(levels.astype(kind))
    return made
