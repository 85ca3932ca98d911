"""What an assessment reads of a set of images: features, copies, thumbnails, spectra, labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gan.config import AssessSettings
from gan.quality.inception import inception_features, load_inception
from gan.training.examples import refuse_other_targets
from synthdp.data.dataset import Dataset, Row, open_dataset
from synthdp.data.spectrum import binned_powers
from synthdp.devices import has_bfloat16
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Value
from synthdp.networks.cache import cached_features
from synthdp.networks.frozen import Extractor, build_extractor

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
        read = _of_copies if copies else _of_images
        seen[label] = read(extractor, dataset, rows)
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


def _of_images(extractor: Extractor, dataset: Dataset, rows: list[Row]) -> Array:
    """Features (N, 1, D) of each image itself."""

    def compute(images: Array) -> Array:
        with torch.inference_mode():
            features: Array = extractor(torch.from_numpy(images)).numpy()
        return features

    values = cached_features(
        dataset,
        rows,
        extractor_id=extractor.identity(),
        size_px=dataset.info.size_px,
        compute=compute,
        batch=32,
        what=f"{extractor.settings.name} features",
    )
    return values[:, None]


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


# Which images are compared with which: beside each figure stands a real one of the same n. Four
# comparisons: *all* images against train; *equal n* of either; as many as one *half* of the train
# patients against the other half, where real halves give the reference; and as many as the
# *held-out* patients' images against train, where these give it.

Name = Literal["all", "equal", "halves", "held-out"]
Subject = Literal["synthetic", "baseline", "real"]

SUBJECTS: tuple[Subject, ...] = ("synthetic", "baseline", "real")
HALVINGS = 4
WORDS: Mapping[Name, str] = {
    "all": "all images against train",
    "equal": "equal n, against train",
    "halves": "as many as half of train, against the other half",
    "held-out": "as many as val, against train",
}
#: Bounds on what is compared of either side: pairs take memory, and figures settle well before.
MOST_COMPARED, MOST_AGAINST = 1104, 5000
NO_VAL = "the real set has no val"


@dataclass(frozen=True)
class Part:
    """Some images of a set: what is compared of them (N, D), and their patients (N,), if real."""

    values: Array
    patients: Array | None


Pick = Callable[[MeasuredSet], Array]
Measure = Callable[[Part, Part], Sequence[float]]
#: A judged set, its rows, and the rows of train that they are judged against.
Pair = tuple[MeasuredSet, Array, Array]


@dataclass(frozen=True)
class Sets:
    """The sets of an assessment; `compare_n` images of each side where n is to be equal.

    `seed` drives every draw; patients are drawn `redraws` times for an interval.
    """

    synthetic: MeasuredSet
    baseline: MeasuredSet | None
    train: MeasuredSet
    held_out: MeasuredSet | None
    compare_n: int
    seed: int
    redraws: int

    @property
    def made_up(self) -> dict[Subject, MeasuredSet]:
        """The synthetic set and, where there is one, the baseline."""
        both: dict[Subject, MeasuredSet] = {"synthetic": self.synthetic}
        return both if self.baseline is None else {**both, "baseline": self.baseline}


def chosen_n(asked: int | None, sizes: Mapping[str, int]) -> int:
    """How many images of each side are compared where n is equal.

    Args:
        asked: the setting, None for as many as every set has, at most 1104.
        sizes: the images of each set.

    Raises:
        InputError: when a set has fewer than what was asked for.
    """
    least = min(sizes, key=lambda name: sizes[name])
    if asked is not None and asked > sizes[least]:
        raise InputError(
            f"compare_n: {asked} images of each set were asked for, but {least} has fewer; lower "
            "it, or leave it out for as many as every set has"
        )
    return asked or min(MOST_COMPARED, sizes[least])


def compared(
    sets: Sets, name: Name, pick: Pick, measure: Measure, count: int
) -> list[dict[Subject, Value]]:
    """What `measure` gives in one comparison, for each subject that takes part in it.

    Args:
        sets: what is compared.
        name: the comparison.
        pick: what of a set is compared, such as its features in one space.
        measure: takes train's part and the judged part, and gives `count` numbers.
        count: how many.

    Returns:
        For each number its value by subject: the mean over halvings, or none with the reason.
    """
    found: list[dict[Subject, Value]] = [{} for _ in range(count)]
    for subject in SUBJECTS:
        pairs = _pairs(sets, name, subject)
        if not pairs:
            continue
        n = (len(pairs[0][1]), len(pairs[0][2]))
        why, numbers = "", [None] * count
        try:
            numbers = _measured(sets, pick, measure, pairs)
        except InputError as error:
            why = str(error)
        for values, number in zip(found, numbers, strict=True):
            values[subject] = Value(value=number, n=n, split=_split_words(name, subject), why=why)
    return found


def _measured(sets: Sets, pick: Pick, measure: Measure, pairs: Sequence[Pair]) -> list[Any]:
    """The mean over the pairs of each number."""
    train = pick(sets.train)
    numbers = [
        measure(
            Part(train[against], sets.train.patients[against]),
            Part(pick(judged)[rows], judged.patients[rows] if judged.is_real else None),
        )
        for judged, rows, against in pairs
    ]
    means: list[Any] = np.mean(numbers, axis=0).tolist()
    return means


def _pairs(sets: Sets, name: Name, subject: Subject) -> list[Pair]:
    """The judged set, its rows, and the rows of train that they are judged against."""
    if subject == "real":
        return _real_pairs(sets, name)
    judged = sets.made_up.get(subject)
    return [] if judged is None else _made_up_pairs(sets, name, judged)


def _made_up_pairs(sets: Sets, name: Name, judged: MeasuredSet) -> list[Pair]:
    size = len(judged)
    if name == "all":
        return [(judged, np.arange(size), np.arange(len(sets.train)))]
    if name == "halves":
        return [
            (judged, _drawn(size, len(other), (sets.seed, 1, turn)), half)
            for turn, (half, other) in enumerate(_halves(sets))
        ]
    if name == "equal":
        rows = _drawn(size, sets.compare_n, (sets.seed, 2))
        return [(judged, rows, _drawn(len(sets.train), sets.compare_n, (sets.seed, 3)))]
    if count := _held_out_n(sets):
        return [(judged, _drawn(size, count, (sets.seed, 4)), _against(sets))]
    return []


def _real_pairs(sets: Sets, name: Name) -> list[Pair]:
    if name == "halves":
        return [(sets.train, other, half) for half, other in _halves(sets)]
    if name == "held-out" and sets.held_out is not None:
        rows = _drawn(len(sets.held_out), _held_out_n(sets), (sets.seed, 5))
        return [(sets.held_out, rows, _against(sets))]
    return []


def _against(sets: Sets) -> Array:
    """The rows of train that held-out images, and as many made-up ones, are judged against."""
    return _drawn(len(sets.train), MOST_AGAINST, (sets.seed, 9))


def _held_out_n(sets: Sets) -> int:
    if sets.held_out is None:
        return 0
    return min(MOST_COMPARED, len(sets.held_out), *_made_up_sizes(sets))


def _halves(sets: Sets) -> list[tuple[Array, Array]]:
    """Rows of two halves of the train patients, `HALVINGS` times, all of the same length."""
    names, places = np.unique(sets.train.patients, return_inverse=True)
    if len(names) < 2:
        return []
    halves = []
    for turn in range(HALVINGS):
        rng = np.random.default_rng((sets.seed, 0, turn))
        first = rng.permutation(np.arange(len(names)) % 2 == 0)[places]
        halves.append((rng.permutation(np.flatnonzero(first)), np.flatnonzero(~first)))
    count = min(min(map(len, pair)) for pair in halves)
    count = min(MOST_COMPARED, count, *_made_up_sizes(sets))
    return [
        (np.sort(half[:count]), other[_drawn(len(other), count, (sets.seed, 6, turn))])
        for turn, (half, other) in enumerate(halves)
    ]


def _made_up_sizes(sets: Sets) -> list[int]:
    return [len(made_up) for made_up in sets.made_up.values()]


def _drawn(size: int, count: int, key: tuple[int, ...]) -> Array:
    """`count` of `size` rows, without replacement, in order; all of them where that is as many."""
    chosen: Array = np.sort(np.random.default_rng(key).permutation(size)[:count])
    return chosen


def _split_words(name: Name, subject: Subject) -> str:
    if subject != "real":
        return "all against half of train" if name == "halves" else "all against train"
    return "halves of train" if name == "halves" else "val against train"


# The data sets of an assessment: opened, checked against each other, and measured.


@dataclass(frozen=True)
class Opened:
    """A data set and those of its rows that are looked at."""

    dataset: Dataset
    rows: tuple[Row, ...]
    n_images: int


@dataclass(frozen=True)
class Material:
    """All sets of an assessment, as folders and as measured."""

    synthetic: Opened
    baseline: Opened | None
    train: Opened
    held_out: Opened | None
    networks: Networks
    sets: Sets

    @property
    def made_up(self) -> dict[Subject, Opened]:
        """The synthetic set and, where there is one, the baseline."""
        both: dict[Subject, Opened] = {"synthetic": self.synthetic}
        return both if self.baseline is None else {**both, "baseline": self.baseline}


def read_material(settings: AssessSettings) -> Material:
    """Open, check and measure the sets.

    Raises:
        InputError: when a set is of the wrong kind, has other targets, or lacks train images; when
            weights do not fit or an image is unreadable.
        RunError: when features are not finite, or the disk is full.
    """
    real = open_dataset(settings.real)
    _refuse_made_up(real)
    train = _opened(real, real.split("train"))
    val = tuple(row for row in real.rows if row.split == "val")
    held_out = _opened(real, val) if val else None
    synthetic = _open_synthetic(settings.synthetic, real, settings.max_images)
    baseline = None
    if settings.baseline is not None:
        baseline = _open_synthetic(settings.baseline, real, settings.max_images)
    sizes = {"the synthetic set": len(synthetic.rows), "the real train split": len(train.rows)}
    if baseline is not None:
        sizes["the baseline"] = len(baseline.rows)
    compare_n = chosen_n(settings.compare_n, sizes)
    networks = _networks(settings)

    def measured(opened: Opened, *, copies: bool) -> MeasuredSet:
        size_px = real.info.size_px
        return measure_set(opened.dataset, opened.rows, networks, size_px=size_px, copies=copies)

    sets = Sets(
        synthetic=measured(synthetic, copies=False),
        baseline=None if baseline is None else measured(baseline, copies=False),
        train=measured(train, copies=True),
        held_out=None if held_out is None else measured(held_out, copies=True),
        compare_n=compare_n,
        seed=settings.seed,
        redraws=settings.redraws,
    )
    return Material(synthetic, baseline, train, held_out, networks, sets)


def _opened(dataset: Dataset, rows: Sequence[Row], most: int | None = None) -> Opened:
    """The rows, or `most` of them, evenly spaced."""
    count = min(len(rows), most or len(rows))
    places = np.linspace(0, len(rows) - 1, count).round().astype(int)
    return Opened(dataset, tuple(rows[place] for place in places), len(rows))


def _open_synthetic(path: Path, real: Dataset, most: int) -> Opened:
    dataset = open_dataset(path)
    info = dataset.info
    if info.protects_patients:
        raise InputError(
            f"{info.name}: holds patients' images, and the page would show them; assess judges "
            "made-up sets, so name a synthetic one first and the real one with --real"
        )
    if info.targets != real.info.targets:
        raise InputError(
            f"{info.name}: its target is {', '.join(info.targets)}, that of {real.info.name} is "
            f"{', '.join(real.info.targets)}; name the columns of both alike"
        )
    return _opened(dataset, dataset.split("all"), most)


def _refuse_made_up(real: Dataset) -> None:
    refuse_other_targets(real.info)
    if real.info.kind == "synthetic":
        raise InputError(
            f"real: {real.info.name} is a synthetic set; name the set of patients (or phantoms) "
            "that it is to be like"
        )


def _networks(settings: AssessSettings) -> Networks:
    low = settings.precision == "auto" and has_bfloat16(torch.device("cpu"))
    extractors = {
        space.label: build_extractor(space, seed=settings.seed, in_bfloat16=low).to(
            memory_format=torch.channels_last
        )
        for space in settings.features
    }
    if settings.inception is None:
        return Networks(extractors)
    return Networks(extractors, load_inception(settings.inception), settings.inception.sha256)
