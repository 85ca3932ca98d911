"""The sets of an assessment: opened, checked, and measured once.

`measure_sets` gives all that figures are made of: features, copies, thumbnails, spectra and labels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gan.quality.inception import inception_features, load_inception
from gan.settings.assess import AssessSettings
from synthdp.data.dataset import Dataset, Row, evenly_spaced, open_dataset
from synthdp.data.looks.spectrum import binned_powers
from synthdp.errors import InputError
from synthdp.evaluation.groups import refuse_no_groups
from synthdp.evaluation.settings import FairnessSettings
from synthdp.machine.devices import has_bfloat16
from synthdp.machine.progress import progress
from synthdp.networks.cache import cached_features
from synthdp.networks.frozen import Extractor, build_extractor
from synthdp.networks.readout import dihedral_copy

Array = NDArray[Any]
Subject = Literal["synthetic", "baseline", "real"]

#: The feature space of thumbnails, which needs no network.
PIXELS = "pixels"
THUMBNAIL_PX = 32
N_COPIES = 8
#: An attribute with more levels is no condition.
MOST_LEVELS = 16
NO_VAL = "the real set has no val"
#: So many images of a side are compared at most: distances of all pairs take memory, and figures
#: hardly change beyond.
MOST_COMPARED = 1104
#: The copies of so many images are cached together: a kill costs no more.
_BLOCK = 128


@dataclass(frozen=True)
class Networks:
    """The frozen networks of an assessment: extractors by label, perhaps Inception."""

    extractors: Mapping[str, Extractor]
    inception: Any = None
    inception_sha256: str = ""


class Level(NamedTuple):
    """A level of an attribute that a generator was asked for, such as view AP."""

    name: str
    level: str


@dataclass(frozen=True)
class MeasuredSet:
    """N images of one set, as figures see them.

    dataset, rows: where they are; n_images: how many there were to choose them from.
    labels: (N, T) of 1 malignant (of other targets: has it), 0 benign, nan unknown. conditions:
    (N, C) likewise, whether the image was drawn with each level of its attributes. patients: (N,)
    ids. features: (N, D) by space, among them `pixels`: thumbnails without mean, of unit length,
    whose product is their correlation. copies: (N, 8, D) likewise, of the eight symmetries of the
    square, the image itself first; None for made-up images. powers: (N, B) of
    `spectrum.binned_powers`.
    duplicates: how many equal an earlier one; label_conflicts: how many pictures have both labels
    of a target.
    inception: (N, 2048), where FID is asked for.
    """

    dataset: Dataset
    rows: tuple[Row, ...]
    n_images: int
    labels: Array
    conditions: Array
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
        """Whether the images are of patients: of these the mirrored and turned copies count too."""
        return self.copies is not None


@dataclass(frozen=True)
class Sets:
    """The sets of an assessment; `compare_n` images of each are compared where n is to be equal.

    `targets` are those of the synthetic set, which the real one has too, perhaps beside others;
    `conditions` the levels of attributes that both have.
    `seed` drives every draw; patients are drawn `redraws` times for an interval.
    """

    targets: tuple[str, ...]
    conditions: tuple[Level, ...]
    synthetic: MeasuredSet
    baseline: MeasuredSet | None
    train: MeasuredSet
    held_out: MeasuredSet | None
    networks: Networks
    compare_n: int
    seed: int
    redraws: int

    @property
    def made_up(self) -> dict[Subject, MeasuredSet]:
        """The synthetic set and, where there is one, the baseline."""
        both: dict[Subject, MeasuredSet] = {"synthetic": self.synthetic}
        return both if self.baseline is None else {**both, "baseline": self.baseline}

    @property
    def size_px(self) -> int:
        """The side at which spectra are compared: that of the real set."""
        return self.train.dataset.info.size_px


def measure_sets(settings: AssessSettings) -> Sets:
    """Open, check and measure the sets; what networks give is kept in the caches of the sets.

    Raises:
        InputError: when a set is of the wrong kind, has other targets, or lacks train images; when
            weights do not fit or an image is unreadable.
        RunError: when features are not finite, or the disk is full.
    """
    real = open_real(settings.real)
    if settings.attributes is not None:
        by = FairnessSettings(attributes=settings.attributes)
        refuse_no_groups(real, real.rows, by, setting="attributes")
    train = real.split("train")
    val = [row for row in real.rows if row.split == "val"]
    synthetic = open_synthetic(settings.synthetic, real)
    baseline = None if settings.baseline is None else open_synthetic(settings.baseline, real)
    if baseline is not None and set(baseline.info.targets) != set(synthetic.info.targets):
        raise InputError(
            f"{baseline.info.name}: its targets are {', '.join(baseline.info.targets)}, those of "
            f"{synthetic.info.name} {', '.join(synthetic.info.targets)}; compare sets of the same"
        )
    sizes = {
        "the synthetic set": min(len(synthetic.rows), settings.max_images),
        "the real train split": len(train),
    }
    if baseline is not None:
        sizes["the baseline"] = min(len(baseline.rows), settings.max_images)
    compare_n = _equal_n(settings.compare_n, sizes)
    networks = _networks(settings)
    size_px, targets = real.info.size_px, synthetic.info.targets
    conditions = _common_levels(synthetic, real)

    def made_up(dataset: Dataset) -> MeasuredSet:
        rows = dataset.split("all")
        chosen = evenly_spaced(rows, settings.max_images)
        return _measure(
            dataset, chosen, len(rows), networks,
            targets=targets, conditions=conditions, size_px=size_px, copies=False,
        )  # fmt: skip

    def of_patients(rows: Sequence[Row]) -> MeasuredSet:
        return _measure(
            real, rows, len(rows), networks,
            targets=targets, conditions=conditions, size_px=size_px, copies=True,
        )  # fmt: skip

    return Sets(
        targets=targets,
        conditions=conditions,
        synthetic=made_up(synthetic),
        baseline=None if baseline is None else made_up(baseline),
        train=of_patients(train),
        held_out=of_patients(val) if val else None,
        networks=networks,
        compare_n=compare_n,
        seed=settings.seed,
        redraws=settings.redraws,
    )


def open_real(path: Path) -> Dataset:
    """The set that others are to be like, opened.

    Raises:
        InputError: when it is a synthetic one, or damaged.
    """
    real = open_dataset(path)
    if real.info.kind == "synthetic":
        raise InputError(
            f"real: {real.info.name} is a synthetic set; name the set of patients (or phantoms) "
            "that it is to be like"
        )
    return real


def open_synthetic(path: Path, real: Dataset) -> Dataset:
    """A made-up set whose targets the real one has, opened.

    Raises:
        InputError: when it holds patients' images, has other targets, or is damaged.
    """
    dataset = open_dataset(path)
    info = dataset.info
    if info.protects_patients or info.shows_patients:
        raise InputError(
            f"{info.name}: holds patients' images, and the page would show them; assess judges "
            "made-up sets, so name a synthetic one first and the real one with --real"
        )
    if not set(info.targets) <= set(real.info.targets):
        raise InputError(
            f"{info.name}: its target is {', '.join(info.targets)}, that of {real.info.name} is "
            f"{', '.join(real.info.targets)}; name the columns of both alike"
        )
    return dataset


def _common_levels(synthetic: Dataset, real: Dataset) -> tuple[Level, ...]:
    """The levels of attributes that a generator was asked for, and real images have as well.

    Of two levels of an attribute one is named: the other is the rest.
    """
    levels: list[Level] = []
    for name in sorted(synthetic.rows[0].attributes.keys() & real.rows[0].attributes.keys()):
        asked, known = (
            {row.attributes[name] for row in of.rows} - {""} for of in (synthetic, real)
        )
        common = sorted(asked & known)
        if 2 <= len(common) <= MOST_LEVELS:
            levels += [Level(name, one) for one in (common[:1] if len(common) == 2 else common)]
    return tuple(levels)


def _levels_of(rows: Sequence[Row], levels: Sequence[Level]) -> Array:
    """Whether each of N rows has each of C levels, (N, C): 1, 0, or nan where it is unknown."""
    has = [
        [float(cell == one.level) if (cell := row.attributes.get(one.name, "")) else math.nan
         for one in levels]
        for row in rows
    ]  # fmt: skip
    return np.array(has, dtype=np.float64).reshape(len(rows), len(levels))


def _equal_n(asked: int | None, sizes: Mapping[str, int]) -> int:
    """How many images of each side are compared where n is equal, of sets of these sizes."""
    least = min(sizes, key=lambda name: sizes[name])
    if asked is not None and asked > sizes[least]:
        raise InputError(
            f"compare_n: {asked} images of each set were asked for, but {least} has fewer; lower "
            "it, or leave it out for as many as every set has"
        )
    return asked or min(MOST_COMPARED, sizes[least])


def _networks(settings: AssessSettings) -> Networks:
    in_bfloat16 = settings.precision == "auto" and has_bfloat16(torch.device("cpu"))
    extractors = {
        space.label: build_extractor(space, seed=settings.seed, in_bfloat16=in_bfloat16).to(
            memory_format=torch.channels_last
        )
        for space in settings.features
    }
    if settings.inception is None:
        return Networks(extractors)
    return Networks(extractors, load_inception(settings.inception), settings.inception.sha256)


# Measuring one set.


def _measure(
    dataset: Dataset,
    chosen: Sequence[Row],
    n_images: int,
    networks: Networks,
    *,
    targets: Sequence[str],
    conditions: Sequence[Level],
    size_px: int,
    copies: bool,
) -> MeasuredSet:
    """What figures need of some rows of a data set.

    Args:
        dataset: the opened data set.
        chosen: the rows.
        n_images: how many there were to choose them from.
        networks: what turns images into features.
        targets: what labels are of, by name.
        conditions: levels of attributes that count as labels too.
        size_px: the side at which spectra are compared.
        copies: whether mirrored and turned copies are looked at too.
    """
    rows = list(chosen)
    thumbnails = _thumbnails(dataset, rows)
    powers = cached_features(
        dataset,
        rows,
        extractor_id="binned powers 1",
        size_px=size_px,
        compute=binned_powers,
        what="spectra",
    )
    inception = None
    if networks.inception is not None:
        inception = inception_features(networks.inception, dataset, rows, networks.inception_sha256)
    columns = [dataset.info.targets.index(name) for name in targets]
    labels = np.array([[row.targets[column] for column in columns] for row in rows])
    by_space = _features(dataset, rows, networks, thumbnails, copies=copies)
    duplicates, conflicts = _repeats(thumbnails, labels)
    return MeasuredSet(
        dataset=dataset,
        rows=tuple(rows),
        n_images=n_images,
        labels=labels,
        conditions=_levels_of(rows, conditions),
        patients=np.array([row.patient_id for row in rows]),
        features={space: features[:, 0] for space, features in by_space.items()},
        copies=by_space if copies else None,
        powers=powers,
        duplicates=duplicates,
        label_conflicts=conflicts,
        inception=inception,
    )


def _features(
    dataset: Dataset,
    rows: list[Row],
    networks: Networks,
    thumbnails: Array,
    *,
    copies: bool,
) -> dict[str, Array]:
    """Features (N, 8, D) of all copies by space; (N, 1, D) where copies are not looked at."""
    squares = torch.from_numpy(thumbnails).view(-1, 1, THUMBNAIL_PX, THUMBNAIL_PX)
    pixels = _dihedral_copies(squares) if copies else squares[:, None]
    by_space = {PIXELS: _unit_length(pixels.flatten(2).numpy())}
    extractors = networks.extractors
    for label, extractor in progress(list(extractors.items()), what="feature spaces"):
        read = _features_of_copies if copies else _features_of_images
        by_space[label] = read(extractor, dataset, rows)
    return by_space


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


def _features_of_images(extractor: Extractor, dataset: Dataset, rows: list[Row]) -> Array:
    """Features (N, 1, D) of each image itself."""

    def compute(images: Array) -> Array:
        with torch.inference_mode():
            features: Array = extractor(torch.from_numpy(images)).numpy()
        return features

    features = cached_features(
        dataset,
        rows,
        extractor_id=extractor.identity(),
        size_px=dataset.info.size_px,
        compute=compute,
        batch=32,
        what=f"{extractor.settings.name} features",
    )
    return features[:, None]


def _features_of_copies(extractor: Extractor, dataset: Dataset, rows: list[Row]) -> Array:
    """Features (N, 8, D) of the eight copies of each image, kept block by block."""

    def compute(images: Array) -> Array:
        copies = _dihedral_copies(torch.from_numpy(images))
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


def _dihedral_copies(images: Tensor) -> Tensor:
    """The eight symmetries (B, 8, C, S, S) of images (B, C, S, S), the image itself first."""
    return torch.stack([dihedral_copy(images, number) for number in range(N_COPIES)], dim=1)


def _unit_length(thumbnails: Array) -> Array:
    """Thumbnails (..., D) without their mean, of length 1; a constant one becomes zeros."""
    centred = thumbnails - thumbnails.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    unit: Array = np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-4)
    return unit


def _repeats(thumbnails: Array, labels: Array) -> tuple[int, int]:
    """How many images equal an earlier one, and how many such pictures have both labels."""
    _, picture_of = np.unique(thumbnails, axis=0, return_inverse=True)
    count = int(picture_of.max()) + 1
    conflicts = np.zeros(count, dtype=bool)
    for of_target in labels.T:
        has = [np.bincount(picture_of[of_target == one], minlength=count) > 0 for one in (0, 1)]
        conflicts |= has[0] & has[1]
    return len(labels) - count, int(conflicts.sum())
