"""A few patches of each class, ready to stand in a page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthdp.data.dataset import Dataset, Row, load_images
from synthdp.data.images import encode_png, to_uint8

SHOWN_PX = 128


@dataclass(frozen=True)
class ClassPatches:
    """Patches of one class as data URIs of grey PNG files without any text in them."""

    label: str
    images: tuple[str, ...]


def _classes(targets: Sequence[str]) -> list[tuple[str, int, float]]:
    """Label, target index and target value of each class to show."""
    if len(targets) > 1:
        return [(name, index, 1.0) for index, name in enumerate(targets)]
    negative = "benign" if targets[0] == "malignant" else f"not {targets[0]}"
    return [(targets[0], 0, 1.0), (negative, 0, 0.0)]


def _evenly(rows: Sequence[Row], count: int) -> list[Row]:
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[place] for place in places]


def class_patches(dataset: Dataset, per_class: int = 8) -> list[ClassPatches]:
    """Up to `per_class` patches of each class, evenly spaced over the manifest.

    Raises:
        InputError: when an image is unreadable or unsafe.
    """
    size_px = min(dataset.info.size_px, SHOWN_PX)
    found = []
    for label, index, value in _classes(dataset.info.targets):
        rows = [row for row in dataset.rows if row.targets[index] == value]
        if rows:
            images = to_uint8(load_images(dataset, _evenly(rows, per_class), size_px)[:, 0])
            pngs = (base64.b64encode(encode_png(image)).decode() for image in images)
            uris = tuple(f"data:image/png;base64,{png}" for png in pngs)
            found.append(ClassPatches(label, uris))
    return found
