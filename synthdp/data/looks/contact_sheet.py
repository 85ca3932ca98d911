"""A contact sheet: some images of a set in one picture, by class, for who looks before use."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from synthdp.data.dataset import Dataset, evenly_spaced, load_pictures
from synthdp.data.images import encode_png, resample, to_uint8
from synthdp.data.manifest.classes import class_words

CONTACT_SHEET_FILE = "contact-sheet.png"
PER_CLASS, COLUMNS = 24, 8
#: Of several findings, images of each; and what those are called that have none.
PER_FINDING, NONE_SHOWN, UNKNOWN_SHOWN = 16, "none of these", "unknown"
#: Larger images are shown at this side.
SHOWN_PX = 128
_GAP_PX, _BETWEEN_PX, _GROUND, _INK = 2, 12, 255, 0
#: Height of a class's name above its images.
NAME_PX = 15


def sheet_rows(targets: Sequence[str], labels: Sequence[Sequence[float]]) -> dict[str, list[int]]:
    """The images that are shown, by the name that stands above them.

    Of one target those without it, then those with it, and none that is unknown. Of several those
    without any, then those with each, where an image with two may stand twice, then those of which
    no more is known than what they don't have. They are evenly spaced, not chosen by eye.

    Args:
        targets: T names.
        labels: of each image, T of them: 1, 0, or nan for unknown.
    """
    known = np.asarray(labels, dtype=np.float64).reshape(len(labels), len(targets))
    if len(targets) == 1:
        names = class_words(targets[0])
        groups = {name: known[:, 0] == one for name, one in zip(names, (0, 1), strict=True)}
        return {name: _evenly(chosen, PER_CLASS) for name, chosen in groups.items()}
    without, having = (known == 0).all(axis=1), (known == 1).any(axis=1)
    groups = {NONE_SHOWN: without}
    groups |= {name: known[:, index] == 1 for index, name in enumerate(targets)}
    groups |= {UNKNOWN_SHOWN: ~without & ~having}
    return {name: _evenly(chosen, PER_FINDING) for name, chosen in groups.items()}


def _evenly(chosen: NDArray[np.bool_], count: int) -> list[int]:
    rows: list[int] = evenly_spaced(np.flatnonzero(chosen).tolist(), count)
    return rows


def contact_sheet_of(dataset: Dataset) -> bytes | None:
    """The sheet of a data set; None where no image has a known class.

    Raises:
        InputError: when an image is unreadable.
    """
    chosen = sheet_rows(dataset.info.targets, [row.targets for row in dataset.rows])
    side = min(dataset.info.size_px, SHOWN_PX)
    classes = {
        name: list(
            to_uint8(load_pictures(dataset, [dataset.rows[index] for index in rows], side)[:, 0])
        )
        for name, rows in chosen.items()
        if rows
    }
    return contact_sheet(classes) if classes else None


def contact_sheet(classes: Mapping[str, Sequence[NDArray[np.uint8]]]) -> bytes:
    """The PNG file of the sheet, without metadata; the same bytes for the same images and names.

    Args:
        classes: by the name that stands above it, each class's (S, S) images, all of one side, in
            rows of eight; a class begins on a row of its own below a wider gap.

    Raises:
        ValueError: when there is no image.
    """
    bands = [
        band
        for name, images in classes.items()
        if len(images)
        for band in (_name_band(name), _band(images))
    ]
    if not bands:
        raise ValueError("a sheet of no image")
    width = max(band.shape[1] for band in bands)
    parts: list[NDArray[np.uint8]] = []
    for number, band in enumerate(bands):
        if number and number % 2 == 0:
            parts.append(np.full((_BETWEEN_PX, width), _GROUND, dtype=np.uint8))
        room = ((0, 0), (0, width - band.shape[1]))
        parts.append(np.pad(band, room, constant_values=_GROUND))
    return encode_png(np.concatenate(parts))


def _name_band(name: str) -> NDArray[np.uint8]:
    """A name in Pillow's own bitmap font, which is the same on every machine and knows Latin 1."""
    font = ImageFont.load_default_imagefont()
    text = name.encode("latin-1", "replace").decode("latin-1")
    picture = Image.new("L", (int(font.getbbox(text)[2]) + 2, NAME_PX), _GROUND)
    ImageDraw.Draw(picture).text((1, 1), text, fill=_INK, font=font)
    return np.asarray(picture)


def _band(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    shown = [_small(image) for image in images]
    side = shown[0].shape[0] + _GAP_PX
    rows = -(-len(shown) // COLUMNS)
    columns = min(COLUMNS, len(shown))
    band = np.full((rows * side - _GAP_PX, columns * side - _GAP_PX), _GROUND, dtype=np.uint8)
    for number, image in enumerate(shown):
        top, left = (number // COLUMNS) * side, (number % COLUMNS) * side
        band[top : top + side - _GAP_PX, left : left + side - _GAP_PX] = image
    return band


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.shape[0] <= SHOWN_PX:
        return image
    return np.clip(resample(image.astype(np.float32), SHOWN_PX).round(), 0, 255).astype(np.uint8)
