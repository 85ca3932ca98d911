"""What an assessment reads of a set of images: features, copies, thumbnails, spectra, labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gan.inception import inception_features
from synthdp.data.dataset import Dataset, Row
from synthdp.data.spectrum import binned_powers
from synthdp.extractors import Extractor, extract
from synthdp.features import cached_features

Array = NDArray[Any]

PIXELS = "pixels"
THUMBNAIL_PX = 32
N_COPIES = 8
_BLOCK = 128  # images whose copies are kept together: what a kill can cost


@dataclass(frozen=True)
class Networks:
    """The frozen networks of an assessment: extractors by label, perhaps Inception."""

    extractors: Mapping[str, Extractor]
    inception: Any = None
    inception_sha256: str = ""


@dataclass(frozen=True)
class MeasuredSet:
    """N images of one set, as figures see them.

    labels: (N,) of 1 malignant, 0 benign, nan unknown. patients: (N,) ids. features: (N, D) by
    space, among them `pixels`: thumbnails without mean, of unit length, whose product is their
    correlation. copies: (N, 8, D) likewise, of the eight symmetries of the square, the image
    itself first; None for made-up images. powers: (N, B) of `spectrum.binned_powers`. inception:
    (N, 2048), where FID is asked for.
    """

    labels: Array
    patients: Array
    features: Mapping[str, Array]
    copies: Mapping[str, Array] | None
    powers: Array
    duplicates: int
    label_conflicts: int
    inception: Array | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_real(self) -> bool:
        """Whether the images are of patients, whose copies are looked at too."""
        return self.copies is not None


def dihedral_copies(images: Tensor) -> Tensor:
    """The eight symmetries (B, 8, C, S, S) of images (B, C, S, S), the image itself first."""
    return torch.stack([turned(images, number) for number in range(N_COPIES)], dim=1)


def turned(images: Tensor, number: int) -> Tensor:
    """Copy `number` (0 to 7) of images (..., S, S): mirrored from 4 on, then turned."""
    return torch.rot90(images if number < 4 else images.flip(-1), number % 4, dims=(-2, -1))


def measure_set(
    dataset: Dataset, rows: Sequence[Row], networks: Networks, *, size_px: int, copies: bool
) -> MeasuredSet:
    """Read some rows of a data set; what networks give for them is kept in its cache.

    Args:
        dataset: the opened data set, of one target.
        rows: some of its rows.
        networks: what turns images into features.
        size_px: the side at which spectra are compared.
        copies: whether mirrored and turned copies are looked at too.

    Raises:
        InputError: when an image is unreadable.
        RunError: when features are not finite, or the disk is full.
    """
    chosen = list(rows)
    thumbnails = _thumbnails(dataset, chosen)
    powers = cached_features(
        dataset,
        chosen,
        extractor_id="binned powers 1",
        size_px=size_px,
        compute=binned_powers,
        what="spectra",
    )
    inception = None
    if networks.inception is not None:
        inception = inception_features(
            networks.inception, dataset, chosen, networks.inception_sha256
        )
    labels = np.array([row.targets[0] for row in chosen])
    seen = _spaces(dataset, chosen, networks, thumbnails, copies=copies)
    duplicates, conflicts = _repeats(thumbnails, labels)
    return MeasuredSet(
        labels=labels,
        patients=np.array([row.patient_id for row in chosen]),
        features={label: found[:, 0] for label, found in seen.items()},
        copies=seen if copies else None,
        powers=powers,
        duplicates=duplicates,
        label_conflicts=conflicts,
        inception=inception,
    )


def _spaces(
    dataset: Dataset,
    rows: list[Row],
    networks: Networks,
    thumbnails: Array,
    *,
    copies: bool,
) -> dict[str, Array]:
    """Features (N, 8, D) of all copies by space; (N, 1, D) where copies are not looked at."""
    squares = torch.from_numpy(thumbnails).view(-1, 1, THUMBNAIL_PX, THUMBNAIL_PX)
    pixels = dihedral_copies(squares) if copies else squares[:, None]
    seen = {PIXELS: _unit_length(pixels.flatten(2).numpy())}
    for label, extractor in networks.extractors.items():
        found = _of_copies(extractor, dataset, rows) if copies else None
        seen[label] = extract(extractor, dataset, rows)[:, None] if found is None else found
    return seen


def _thumbnails(dataset: Dataset, rows: list[Row]) -> Array:
    def compute(images: Array) -> Array:
        small: Array = F.adaptive_avg_pool2d(torch.from_numpy(images), THUMBNAIL_PX).numpy()
        return small.reshape(len(small), -1)

    return cached_features(
        dataset,
        rows,
        extractor_id=f"thumbnails {THUMBNAIL_PX}",
        size_px=dataset.info.size_px,
        compute=compute,
        what="thumbnails",
    )


def _of_copies(extractor: Extractor, dataset: Dataset, rows: list[Row]) -> Array:
    """Features (N, 8, D) of the eight copies of each image, kept block by block."""

    def compute(images: Array) -> Array:
        copies = dihedral_copies(torch.from_numpy(images))
        with torch.inference_mode():
            features: Array = extractor(copies.flatten(0, 1)).numpy()
        return features.reshape(len(images), N_COPIES, -1)

    identity = extractor.identity()
    return np.concatenate(
        [
            cached_features(
                dataset,
                rows[start : start + _BLOCK],
                extractor_id=f"{identity} eight copies",
                size_px=dataset.info.size_px,
                compute=compute,
                batch=4,
                what=f"{extractor.settings.name} features, 8 copies",
            )
            for start in range(0, len(rows), _BLOCK)
        ]
    )


def _unit_length(thumbnails: Array) -> Array:
    """Thumbnails (..., D) without their mean, of length 1; a constant one becomes nought."""
    centred = thumbnails - thumbnails.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    unit: Array = np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-4)
    return unit


def _repeats(thumbnails: Array, labels: Array) -> tuple[int, int]:
    """How many images equal an earlier one, and how many such pictures have both labels."""
    _, place = np.unique(thumbnails, axis=0, return_inverse=True)
    count = int(place.max()) + 1
    has = [np.bincount(place[labels == value], minlength=count) > 0 for value in (0, 1)]
    return len(labels) - count, int((has[0] & has[1]).sum())
