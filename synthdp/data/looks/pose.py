"""Chest radiographs that look inverted or turned: noticed and told, never mended.

Chest radiographs of a set resemble each other: two dark lungs beside a bright spine. So the median
of their thumbnails is a picture, and an image that is like that picture turned, or like its
negative, and not like itself, is told. docs/radiographs.md has the shares that are found, and the
false alarms.
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
#: Which middle part of the thumbnail is looked at: around it are bars of black, where images that
#: are no squares were made so, and the edges of films.
_FROM, _TO = 4, 28
_SIDE = _TO - _FROM
#: How much better than its own a pose must fit, and how well at all. Chosen on `nih-cxr` (train),
#: where at .25 two of 594 images were told for nothing, and at .4 a tenth less was found.
_MARGIN, _LEAST = 0.3, 0.3
#: Of fewer images no picture is common; so many are looked at for it, spread over the set.
_FEWEST, _SAMPLE = 20, 4096
#: Half of the images of a set in one pose correlate with the common picture by more than this.
_COMMON = 0.3
#: The common picture of upright sets correlates with `_thorax` by .62 to .85 (NIH, Hannover,
#: Guangzhou), and of inverted ones by the negative of that.
_AS_A_WHOLE = -0.3
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
    sample = _middles(thumbnails.rows(range(0, count, max(1, count // _SAMPLE))))
    common = _unit(np.median(sample, axis=0, keepdims=True))[0]
    if np.median(sample @ common) < _COMMON:
        return Poses(
            of_set="the images have no picture in common, as chest radiographs in one pose have; "
            "look whether many are inverted or turned"
        )
    whole = ""
    if float(common @ _thorax()) < _AS_A_WHOLE:
        whole = "the set as a whole looks inverted: bones dark and lungs bright"
    return Poses(_unlike(thumbnails, common), whole)


def unlike_upright(thumbnails: Thumbnails, upright: Floats) -> Poses:
    """The images that look inverted or turned beside chest radiographs that are neither.

    Args:
        thumbnails: of any number of images, which need have no picture in common.
        upright: thumbnails of radiographs as they should be, (n, 1024), such as phantoms'.
    """
    common = _unit(np.median(_middles(upright), axis=0, keepdims=True))[0]
    return Poses(_unlike(thumbnails, common))


def _unlike(thumbnails: Thumbnails, common: Floats) -> tuple[tuple[int, Pose], ...]:
    """The images that are more like a picture in another pose than like it, by index."""
    better: list[tuple[int, Pose]] = []
    poses, count = _poses(common), len(thumbnails)
    for start in range(0, count, _READ_AT_ONCE):
        rows = _middles(thumbnails.rows(range(start, min(start + _READ_AT_ONCE, count))))
        own = rows @ common
        fits = np.stack([rows @ picture for _, picture in poses], axis=1)
        best = fits.argmax(axis=1)
        top = fits[np.arange(len(rows)), best]
        unlike = np.flatnonzero((top - own > _MARGIN) & (top > _LEAST))
        better += [(start + int(index), poses[best[index]][0]) for index in unlike]
    return tuple(better)


def _poses(common: Floats) -> list[tuple[Pose, Floats]]:
    """The common picture in each pose that is told."""
    picture = common.reshape(_SIDE, _SIDE)
    return [
        ("inverted", -common),
        ("upside down", picture[::-1, ::-1].ravel()),
        ("upside down", picture[::-1].ravel()),
        ("turned by a quarter", np.rot90(picture, 1).ravel()),
        ("turned by a quarter", np.rot90(picture, 3).ravel()),
    ]


def _thorax() -> Floats:
    """A drawing of a chest, two dark lungs, a bright spine and belly, as the middle of an image."""
    y, x = np.mgrid[0:THUMBNAIL_PX, 0:THUMBNAIL_PX] / (THUMBNAIL_PX - 1) * 2 - 1

    def lung(centre: float) -> NDArray[np.float64]:
        return np.asarray(np.exp(-((((x - centre) / 0.28) ** 2 + ((y + 0.1) / 0.55) ** 2) ** 2)))

    spine, belly = 0.5 * np.exp(-((x / 0.15) ** 2)), 0.6 * np.clip(y, 0, 1)
    drawn = (spine + belly - lung(-0.45) - lung(0.45)).astype(np.float32)
    return np.asarray(_middles(drawn.reshape(1, -1))[0], dtype=np.float32)


def _middles(rows: Floats) -> Floats:
    """The middles of (n, 1024) thumbnails, each of mean 0 and length 1, or 0."""
    pictures = rows.reshape(-1, THUMBNAIL_PX, THUMBNAIL_PX)[:, _FROM:_TO, _FROM:_TO]
    return _unit(pictures.reshape(len(rows), -1))


def _unit(rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(lengths > 1e-6, lengths, 1), dtype=np.float32)
