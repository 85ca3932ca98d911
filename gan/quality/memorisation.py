"""Does a synthetic image copy a patient? Nearest patients, near copies, and the closest pairs.

Distances are to patients, over the eight symmetries of the square: a mirrored copy is a copy, and
another image of the same patient does not count as another patient. Held-out patients show which
distances are normal. First the measures, on arrays in memory; then the figures of an assessment;
then the closest pairs, which are private.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gan.quality.sets import PIXELS, MeasuredSet, Sets, Subject
from synthdp.data.dataset import load_images
from synthdp.data.images import encode_png, to_uint8
from synthdp.data.manifest.tables import csv_text
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Figure, Value
from synthdp.machine.progress import progress
from synthdp.networks.readout import dihedral_copy

Array = NDArray[Any]

#: The chance with which a set without copies is accused of holding one.
FALSE_ACCUSATION = 0.01
#: The share of the lowest ratios that the dimension is also estimated from.
_TAIL = 0.01
#: Ratios are kept this far from 0 and 1, where their log is infinite or 0.
_TINY = 1e-6
#: Distances of so many points are computed at a time.
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Nearest:
    """For each of M images the closest one of train: how far, index, which copy of it.

    ratio: its distance over that of the closest image of any other patient; 0 for a copy, about 1
    for an image that is no closer to one patient than to the next.
    """

    distance: Array
    index: Array
    copy: Array
    ratio: Array

    def __len__(self) -> int:
        return len(self.distance)


@dataclass(frozen=True)
class Closeness:
    """Distances in one feature space that tell copies from strangers.

    judged: from each judged image to train. real_ratios: the ratios of real images to other
    patients, which show what is normal: of held-out images, and of train images without their own
    patient.
    between: from each train image to the train images of other patients.
    """

    space: str
    judged: Nearest
    real_ratios: Array
    between: Nearest

    @property
    def dimension(self) -> float:
        """The d for which a ratio below r has the chance r^d among real patients.

        That is the law of points scattered evenly in d dimensions (Facco et al. 2017, Scientific
        Reports 7:12140); d is the smaller of the likeliest and of what the lowest 1 % show.
        """
        logs = -np.log(np.clip(self.real_ratios, _TINY, 1 - _TINY))
        likeliest = len(logs) / logs.sum()
        return float(min(likeliest, -np.log(_TAIL) / np.quantile(logs, 1 - _TAIL)))

    @property
    def log_chance(self) -> Array:
        """For each judged image the log of the chance that it is this close unless copied, (M,)."""
        log_chance: Array = self.dimension * np.log(np.clip(self.judged.ratio, _TINY, 1))
        return log_chance


def nearest(points: Array, copies: Array, patients: Array, *, own: Array | None = None) -> Nearest:
    """The closest of many images, over all copies of each, for every point.

    Args:
        points: (M, D).
        copies: (N, C, D), C copies of each image.
        patients: (N,) of the images.
        own: (M,) patients of the points; images of the same patient are passed over.

    Raises:
        InputError: when a point is left with the images of fewer than two patients.
    """
    flat = np.ascontiguousarray(copies.reshape(-1, copies.shape[-1]), dtype=np.float32)
    n_copies = copies.shape[1]
    # Rows of `flat`: the closest copy, and the closest of any other patient.
    first, second = (np.empty(len(points), dtype=np.intp) for _ in range(2))
    # In blocks of points: all distances at once, (M, N C), would not fit in memory.
    for start in progress(
        range(0, len(points), _ROWS_AT_ONCE), what="comparing with each patient's images"
    ):
        rows = slice(start, start + _ROWS_AT_ONCE)
        squares = _squares(points[rows], flat)
        if own is not None:
            squares[np.repeat(own[rows, None] == patients, n_copies, axis=1)] = np.inf
        first[rows] = squares.argmin(axis=1)
        # The next one is that of the next patient: two views of one patient resemble each other,
        # and would hide a copy of either.
        same = patients[first[rows] // n_copies][:, None] == patients
        squares[np.repeat(same, n_copies, axis=1)] = np.inf
        if np.isinf(squares.min(axis=1)).any():
            raise InputError("memorisation: train holds fewer than three patients; add some")
        second[rows] = squares.argmin(axis=1)
    # float32 squares only say which is closest: of large features they cancel, so the distances
    # themselves are taken again.
    distance, further = (_exact(points, flat[closest]) for closest in (first, second))
    ratio = np.divide(distance, further, out=np.ones(len(points)), where=further > 0)
    return Nearest(distance, first // n_copies, first % n_copies, ratio)


def _squares(block: Array, flat: Array) -> Array:
    """Squared distances (B, N) in float32, less the squared length of each point of the block.

    That is the same number along a row, so the order of a row stays.
    """
    squares: Array = (flat**2).sum(axis=1) - 2 * (block.astype(np.float32) @ flat.T)
    return squares


def _exact(points: Array, others: Array) -> Array:
    """The distance of each point to the other in its row, (M,), in float64."""
    distance: Array = np.linalg.norm(points.astype(np.float64) - others, axis=1)
    return distance


def distance_to_closest(points: Array, others: Array) -> Array:
    """The distance (M,) in float64 of each point (M, D) to the closest of others (N, D)."""
    flat = others.astype(np.float32)
    blocks = range(0, len(points), _ROWS_AT_ONCE)
    closest = np.concatenate(
        [_squares(points[start : start + _ROWS_AT_ONCE], flat).argmin(axis=1) for start in blocks]
    )
    return _exact(points, flat[closest])


def authentic_share(points: Nearest, between: Nearest) -> float:
    """The share of images that are farther from their nearest patient's image than that is from
    the nearest image of another patient (arXiv 2102.08921, section 4; there over images).

    Near 0 for copies. Held-out patients give the figure of images that are certainly new.

    Args:
        points: from each judged image to train.
        between: from each train image to those of other patients.
    """
    return float((points.distance > between.distance[points.index]).mean())


def near_copies(spaces: Sequence[Closeness]) -> Array:
    """Which judged images, (M,), are near copies of a patient.

    The rule: in any space an image is so much closer to one patient than to every other that
    among as many images without copies there would be such a one with a chance of 1 %
    (`FALSE_ACCUSATION`). Being close is not enough, for a smooth or typical image is close to
    many. Where train holds one picture under two patients the rule is blind; where an artefact
    such as the border of a film fills two images it may accuse: look at the closest pairs.
    """
    limit = np.log(FALSE_ACCUSATION / (len(spaces) * len(spaces[0].judged)))
    copied: Array = _least_chance(spaces)[0] < limit
    return copied


def closest_pairs(
    spaces: Sequence[Closeness], patients: Array, count: int
) -> list[tuple[int, int]]:
    """The pairs least likely by chance, one a patient, as (judged image, index of the space).

    Args:
        spaces: distances in each space.
        patients: (N,) of the train images.
        count: how many pairs at most.
    """
    chance, space_of = _least_chance(spaces)
    pairs: list[tuple[int, int]] = []
    taken = set()
    for image in chance.argsort(kind="stable"):
        patient = patients[spaces[space_of[image]].judged.index[image]]
        if patient not in taken:
            taken.add(patient)
            pairs.append((int(image), int(space_of[image])))
        if len(pairs) == count:
            break
    return pairs


def _least_chance(spaces: Sequence[Closeness]) -> tuple[Array, Array]:
    """For each judged image the least log chance over spaces, and the space that has it."""
    chances = np.stack([space.log_chance for space in spaces])
    return chances.min(axis=0), chances.argmin(axis=0)


# The figures of an assessment that say whether a synthetic set holds copies of patients.

#: What decides whether a set holds copies.
NEAR_COPIES = "Near copies of a patient (images)"
COPIES = "8 mirrored and turned copies of each patient's image"


@dataclass(frozen=True)
class SetCloseness:
    """How close each image of one set is to train, by space, pixels first."""

    by_space: Mapping[str, Closeness]
    patients: Array

    @property
    def spaces(self) -> list[Closeness]:
        """All spaces, pixels first."""
        return list(self.by_space.values())


def closeness_to_train(sets: Sets) -> dict[Subject, SetCloseness]:
    """How close every set is to train; `real` are the held-out patients, judged in the same way.

    Raises:
        InputError: when train holds fewer than three patients.
    """
    train = sets.train
    assert train.copies is not None  # train is real
    between = {
        space: nearest(train.features[space], copies, train.patients, own=train.patients)
        for space, copies in train.copies.items()
    }
    held_out = _to_train(sets.held_out, train) if sets.held_out is not None else {}
    closeness = {
        subject: _set_closeness(_to_train(made_up, train), held_out, between, train)
        for subject, made_up in sets.made_up.items()
    }
    if held_out:  # held-out images are judged by the ratios within train alone
        closeness["real"] = _set_closeness(held_out, {}, between, train)
    return closeness


def _to_train(judged: MeasuredSet, train: MeasuredSet) -> dict[str, Nearest]:
    assert train.copies is not None  # train is real
    return {
        space: nearest(judged.features[space], copies, train.patients)
        for space, copies in train.copies.items()
    }


def _set_closeness(
    judged: Mapping[str, Nearest],
    held_out: Mapping[str, Nearest],
    between: Mapping[str, Nearest],
    train: MeasuredSet,
) -> SetCloseness:
    """Closeness of images by space; `held_out` and `between` say what is normal."""
    by_space = {}
    for space, to_train in judged.items():
        ratios = [between[space].ratio, *([held_out[space].ratio] if held_out else [])]
        by_space[space] = Closeness(space, to_train, np.concatenate(ratios), between[space])
    return SetCloseness(by_space, train.patients)


def copy_figures(closeness: Mapping[Subject, SetCloseness]) -> Iterator[Figure]:
    """Nearest distances, authenticity and near copies; held-out patients are the reference."""
    counted = {
        subject: _value(subject, of_set, near_copies(of_set.spaces).sum())
        for subject, of_set in closeness.items()
    }
    yield _figure(
        counted,
        measure=NEAR_COPIES,
        features="all",
        comparison="far closer to one patient than to any other",
        better="low",
        digits=0,
        main=True,
    )
    for space in next(iter(closeness.values())).by_space:
        yield from _copy_figures_in(space, closeness)


def _copy_figures_in(space: str, closeness: Mapping[Subject, SetCloseness]) -> Iterator[Figure]:
    def values(number: Callable[[Closeness], Any]) -> dict[Subject, Value]:
        return {
            subject: _value(subject, of_set, number(of_set.by_space[space]))
            for subject, of_set in closeness.items()
        }

    about: dict[str, Any] = {"features": space, "comparison": COPIES, "better": "real"}
    pixels = space == PIXELS
    yield _figure(
        values(lambda images: authentic_share(images.judged, images.between)),
        measure="Authenticity",
        main=not pixels,
        **about,
    )
    what = "Correlation with the nearest patient" if pixels else "Distance to the nearest patient"
    for words, share in (("median", 0.5), ("closest 1 %", 0.01)):
        yield _figure(
            values(partial(_distance, share=share, correlation=pixels)),
            measure=f"{what}, {words}",
            main=words != "median",
            digits=3 if pixels else 2,
            **about,
        )
    yield _figure(
        values(lambda images: images.judged.ratio.min()),
        measure="Distance to the nearest patient over that to the next, least",
        main=pixels,
        **about,
    )
    yield _figure(
        values(lambda images: near_copies([images]).sum()),
        measure="Near copies of a patient in this space (images)",
        digits=0,
        **{**about, "better": "low"},
    )


def _distance(images: Closeness, *, share: float, correlation: bool) -> float:
    """A quantile of the distances; of thumbnails of unit length as their correlation."""
    distance = float(np.quantile(images.judged.distance, share))
    return 1 - distance**2 / 2 if correlation else distance


def _value(subject: Subject, of_set: SetCloseness, number: Any) -> Value:
    return Value(
        value=float(number),
        n=(len(of_set.by_space[PIXELS].judged), len(of_set.patients)),
        split="val against train" if subject == "real" else "all against train",
    )


def _figure(values: Mapping[Subject, Value], **about: Any) -> Figure:
    fields: dict[Any, Any] = {"section": "Memorisation", **values, **about}
    return Figure(**fields)


# The closest pairs of a synthetic and a patient's image, as a picture and a table: private.

SHOWN = 16
COLUMNS = 4
GAP_PX = 12
WHITE = 255


def draw_closest_pairs(
    closeness: SetCloseness, synthetic: MeasuredSet, train: MeasuredSet
) -> bytes:
    """A PNG of the 16 most suspect pairs, one a patient, row by row: patient left, synthetic right.

    The patient's image is mirrored and turned as it matches.

    Raises:
        InputError: when an image is unreadable.
    """
    spaces = closeness.spaces
    size_px = train.dataset.info.size_px
    pairs = []
    for image, space in closest_pairs(spaces, closeness.patients, SHOWN):
        to_train = spaces[space].judged
        patient = load_images(train.dataset, [train.rows[to_train.index[image]]], size_px)
        matched = dihedral_copy(torch.from_numpy(patient), int(to_train.copy[image])).numpy()
        made_up = load_images(synthetic.dataset, [synthetic.rows[image]], size_px)
        pairs.append(to_uint8(np.concatenate([matched[0, 0], made_up[0, 0]], axis=1)))
    height, width = pairs[0].shape
    columns = min(COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    size = (rows * (height + GAP_PX) + GAP_PX, columns * (width + GAP_PX) + GAP_PX)
    sheet = np.full(size, WHITE, dtype=np.uint8)
    for number, pair in enumerate(pairs):
        top = GAP_PX + number // columns * (height + GAP_PX)
        left = GAP_PX + number % columns * (width + GAP_PX)
        sheet[top : top + height, left : left + width] = pair
    return encode_png(sheet)


def nearest_table(closeness: SetCloseness, synthetic: MeasuredSet, train: MeasuredSet) -> str:
    """CSV text: for each synthetic image the nearest train image in each space, and the verdict.

    `copy` says how the patient's image was turned: 0 to 3 quarter turns, 4 to 7 mirrored before.
    `ratio` is the distance over that to the next patient. Thumbnails are of unit length: their
    correlation is 1 - distance^2 / 2.
    """
    kinds = ("distance", "ratio", "image", "copy")
    columns = [f"{space}_{kind}" for space in closeness.by_space for kind in kinds]
    rows: list[list[object]] = []
    copied = near_copies(closeness.spaces)
    for number, row in enumerate(synthetic.rows):
        cells: list[str] = []
        for to_train in (space.judged for space in closeness.spaces):
            image = train.rows[to_train.index[number]].image
            numbers = [f"{value[number]:.6g}" for value in (to_train.distance, to_train.ratio)]
            cells += [*numbers, image, str(to_train.copy[number])]
        rows.append([row.image, int(copied[number]), *cells])
    return csv_text(["image", "near_copy", *columns], rows)
