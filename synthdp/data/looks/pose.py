"""Chest radiographs that look inverted or turned: noticed and told, never mended.

Chest radiographs of a set resemble each other: two dark lungs beside a bright spine. So the median of
their thumbnails is a picture, and an image that is like that picture turned, or like its negative,
and not like itself, is told. Measured on 594 images of NIH ChestX-ray14 (`nih-cxr`, train) and others:
docs/radiographs.md has the shares that are found, and the false alarms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthdp.data.importing.images.thumbnails import THUMBNAIL_PX, Thumbnails

Floats = NDArray[np.float32]
Pose = Literal["inverted", "upside down", "turned by a quarter"]
#: What a set of chest radiographs has among its targets, as all mappings of collections call it.
CHEST_FINDINGS = frozenset(
    (
        *("atelectasis", "cardiomegaly", "consolidation", "edema", "effusion", "emphysema"),
        *("enlarged_cardiomediastinum", "fibrosis", "hernia", "infiltration", "lung_lesion"),
        *("lung_opacity", "mass", "nodule", "nodule_or_mass", "pleural_other"),
        *("pleural_thickening", "pneumonia", "pneumothorax", "no_finding", "tuberculosis"),
        *("aortic_enlargement", "interstitial_lung_disease"),
    )
)
#: How much better than its own a pose must fit, and how well at all. At .2 and .2 a quarter-turn
#: more in a hundred is found, and 4 in 1000 are told for nothing (bedside images of Hannover).
_MARGIN, _LEAST = 0.25, 0.3
#: Of fewer images no picture is common; so many are looked at for it, spread over the set.
_FEWEST, _SAMPLE = 20, 4096
#: Half of the images of a set in one pose correlate with the common picture by more than this.
_COMMON = 0.3
#: The common picture of upright sets correlates with `_thorax` by .19 to .59 (NIH, Hannover,
#: Guangzhou), and of inverted ones by the negative of that.
_AS_A_WHOLE = -0.1
_READ_AT_ONCE = 8192


@dataclass(frozen=True)
class Poses:
    """What looks wrong in a set: images by index and pose, and words on the set as a whole."""

    of_images: tuple[tuple[int, Pose], ...] = ()
    of_set: str = ""


def shows_chests(targets: Sequence[str]) -> bool:
    """Whether the targets of a set are findings of chest radiographs."""
    return not CHEST_FINDINGS.isdisjoint(targets)


def unlike_poses(thumbnails: Thumbnails) -> Poses:
    """The images that look inverted or turned among N chest radiographs.

    Mirrored ones look as others do: only the heart's side tells, which is small here.
    """
    count = len(thumbnails)
    if count < _FEWEST:
        return Poses()
    sample = thumbnails.rows(range(0, count, max(1, count // _SAMPLE)))
    common = np.median(sample, axis=0)
    common = _unit(common)
    if np.median(sample @ common) < _COMMON:
        return Poses(
            of_set="the images have no picture in common, as chest radiographs in one pose have; "
            "look whether many are inverted or turned"
        )
    whole = ""
    if float(common @ _thorax()) < _AS_A_WHOLE:
        whole = "the set as a whole looks inverted: bones dark and lungs bright"
    found: list[tuple[int, Pose]] = []
    poses = _poses(common)
    for start in range(0, count, _READ_AT_ONCE):
        rows = thumbnails.rows(range(start, min(start + _READ_AT_ONCE, count)))
        own = rows @ common
        fits = np.stack([rows @ picture for _, picture in poses], axis=1)
        best = fits.argmax(axis=1)
        top = fits[np.arange(len(rows)), best]
        told = np.flatnonzero((top - own > _MARGIN) & (top > _LEAST))
        found += [(start + int(index), poses[best[index]][0]) for index in told]
    return Poses(tuple(found), whole)


def _poses(common: Floats) -> list[tuple[Pose, Floats]]:
    """The common picture in each pose that is told."""
    picture = common.reshape(THUMBNAIL_PX, THUMBNAIL_PX)
    return [
        ("inverted", -common),
        ("upside down", picture[::-1, ::-1].ravel()),
        ("upside down", picture[::-1].ravel()),
        ("turned by a quarter", np.rot90(picture, 1).ravel()),
        ("turned by a quarter", np.rot90(picture, 3).ravel()),
    ]


def _thorax() -> Floats:
    """A drawing of a chest: two dark lungs, a bright spine and belly; (1024,) of length 1."""
    y, x = (np.mgrid[0:THUMBNAIL_PX, 0:THUMBNAIL_PX] / (THUMBNAIL_PX - 1) * 2 - 1).astype(float)

    def lung(centre: float) -> NDArray[np.float64]:
        return np.asarray(np.exp(-((((x - centre) / 0.28) ** 2 + ((y + 0.1) / 0.55) ** 2) ** 2)))

    spine, belly = 0.5 * np.exp(-((x / 0.15) ** 2)), 0.6 * np.clip(y, 0, 1)
    return _unit((spine + belly - lung(-0.45) - lung(0.45)).ravel().astype(np.float32))


def _unit(vector: Floats) -> Floats:
    centred = vector - vector.mean()
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length if length > 0 else centred, dtype=np.float32)
