"""Does a synthetic image copy a patient? Nearest patients, near copies, and the closest pairs.

Distances are to patients, over the eight symmetries of the square: a mirrored copy is a copy, and
another image of the same patient does not count as another patient. Held-out patients show which
distances are normal. First the measures, on arrays in memory; then the figures of an assessment, and
the closest pairs, which are private.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gan.quality.sets import NO_VAL, PIXELS, MeasuredSet, Sets, Subject, dihedral_copy
from synthdp.data.dataset import load_images
from synthdp.data.images import encode_png, to_uint8
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Figure, Value
from synthdp.evaluation.intervals import (
    REDRAWS,
    Interval,
    patient_bootstrap,
    percentile_interval,
)

Array = NDArray[Any]

#: The chance with which a set without copies is accused of holding one.
FALSE_ACCUSATION = 0.01
#: False alarms that the membership attack is allowed.
FALSE_ALARMS = 0.01
_ROWS_AT_ONCE = 256
_TAIL = 0.01
_TINY = 1e-6


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

    judged: from each judged image to train. known: the ratios of real images to other patients,
    which say what is normal: of held-out images, and of train images without their own patient.
    between: from each train image to the train images of other patients.
    """

    space: str
    judged: Nearest
    known: Array
    between: Nearest

    @property
    def dimension(self) -> float:
        """The d for which a ratio below r has the chance r^d among real patients.

        That is the law of points scattered evenly in d dimensions (Facco et al. 2017, Scientific
        Reports 7:12140); d is the smaller of the likeliest and of what the lowest 1 % show.
        """
        logs = -np.log(np.clip(self.known, _TINY, 1 - _TINY))
        likeliest = len(logs) / logs.sum()
        return float(min(likeliest, -np.log(_TAIL) / np.quantile(logs, 1 - _TAIL)))

    @property
    def log_chance(self) -> Array:
        """For each judged image the log of the chance that it is this close unless copied, (M,)."""
        log_chance: Array = self.dimension * np.log(np.clip(self.judged.ratio, _TINY, 1))
        return log_chance


@dataclass(frozen=True)
class Attack:
    """How well members are told from strangers by patient, each with its interval.

    auc: 0.5 is chance. true_positive_rate: the share of members who are told from strangers at no
    more than 1 % false alarms.
    """

    auc: Interval
    true_positive_rate: Interval


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
    for start in range(0, len(points), _ROWS_AT_ONCE):
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
    """Squared distances (B, N) in float32, less the block's own lengths: of the same order."""
    squares: Array = (flat**2).sum(axis=1) - 2 * (block.astype(np.float32) @ flat.T)
    return squares


def _exact(points: Array, others: Array) -> Array:
    """The distance of each point to the other in its row, (M,), in float64."""
    distance: Array = np.linalg.norm(points.astype(np.float64) - others, axis=1)
    return distance


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


def distance_attack(real: Array, synthetic: Array) -> Array:
    """Scores (N,) of real images: minus the distance to the nearest synthetic one, over copies.

    The attack of GAN-Leaks (arXiv 1909.03935, section 5) on samples alone.

    Args:
        real: (N, C, D), members and strangers.
        synthetic: (M, D).
    """
    return -_to_synthetic(real, synthetic)


def density_attack(real: Array, synthetic: Array, patients: Array) -> Array:
    """Scores (N,): log density of the synthetic set over that of all other patients.

    The idea of DOMIAS (arXiv 2302.12580, eq. 2), each density by its nearest neighbour: an image
    of a dense region is close to synthetic ones without having been learnt. The other patients are
    members and strangers alike, so neither side has an advantage.

    Args:
        real: (N, C, D), members and strangers.
        synthetic: (M, D).
        patients: (N,) of the real images.
    """
    among = nearest(real[:, 0], real, patients, own=patients).distance
    tiny = np.finfo(np.float32).tiny
    scores: Array = np.log(among + tiny) - np.log(_to_synthetic(real, synthetic) + tiny)
    return scores


def _to_synthetic(real: Array, synthetic: Array) -> Array:
    """The least distance (N,) of any copy of each real image to a synthetic one."""
    copies = real.reshape(-1, real.shape[-1])
    flat = synthetic.astype(np.float32)
    blocks = range(0, len(copies), _ROWS_AT_ONCE)
    closest = np.concatenate(
        [_squares(copies[start : start + _ROWS_AT_ONCE], flat).argmin(axis=1) for start in blocks]
    )
    least: Array = _exact(copies, flat[closest]).reshape(real.shape[:2]).min(axis=1)
    return least


def attack_by_patient(
    scores: Array,
    members: Array,
    patients: Array,
    *,
    redraws: int = REDRAWS,
    generator: np.random.Generator,
) -> Attack:
    """How well scores tell members from strangers; a patient's score is that of the closest image.

    Args:
        scores: (N,) of images, higher for members.
        members: (N,) of bool, the same for all images of a patient.
        patients: (N,) ids.
        redraws: how often patients are drawn for the intervals.
        generator: the source of the draws.
    """
    names, patient_of = np.unique(patients, return_inverse=True)
    best = np.full(len(names), -np.inf)
    np.maximum.at(best, patient_of, scores)
    is_member = np.zeros(len(names), dtype=bool)
    is_member[patient_of] = members
    auc = patient_bootstrap(
        is_member.astype(np.float64), best, list(names), redraws=redraws, generator=generator
    )["auroc"]
    inside, outside = best[is_member], best[~is_member]
    draws = [
        _true_positive_rate(
            generator.choice(inside, len(inside)), generator.choice(outside, len(outside))
        )
        for _ in range(redraws)
    ]
    rate = percentile_interval(_true_positive_rate(inside, outside), np.array(draws))
    return Attack(auc, rate)


def _true_positive_rate(inside: Array, outside: Array) -> float:
    """The share of members above a threshold that at most 1 % of the strangers pass."""
    allowed = int(FALSE_ALARMS * len(outside))
    threshold = np.sort(outside)[len(outside) - 1 - allowed]
    return float((inside > threshold).mean())


# The figures of an assessment that say whether a synthetic set holds copies of patients.

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
    if held_out:  # these are judged by what is known of train alone
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
        known = [between[space].ratio, *([held_out[space].ratio] if held_out else [])]
        by_space[space] = Closeness(space, to_train, np.concatenate(known), between[space])
    return SetCloseness(by_space, train.patients)


def copy_figures(closeness: Mapping[Subject, SetCloseness]) -> Iterator[Figure]:
    """Nearest distances, authenticity and near copies; held-out patients are the reference."""
    counted = {
        subject: _value(subject, of_set, near_copies(of_set.spaces).sum())
        for subject, of_set in closeness.items()
    }
    yield _figure(
        counted,
        measure="Near copies of a patient (images)",
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


def membership_figures(sets: Sets) -> Iterator[Figure]:
    """Attacks that know the samples alone: members are train patients, strangers those of val."""
    real = _members_and_strangers(sets)
    for space in sets.train.features:
        for attack in ("nearest synthetic image", "density ratio"):
            values = {
                subject: _attack_values(sets, made_up.features[space], space, real, attack=attack)
                for subject, made_up in sets.made_up.items()
            }
            for number, (words, chance) in enumerate(
                (("AUC", "0.5"), ("found at 1 % false alarms", "0.01"))
            ):
                yield _figure(
                    {subject: pair[number] for subject, pair in values.items()},
                    section="Membership",
                    measure=f"Membership attack, {words}",
                    features=space,
                    comparison=f"by {attack}; chance is {chance}",
                    better="chance",
                    main=space != PIXELS and words == "AUC",
                )


@dataclass(frozen=True)
class MembersAndStrangers:
    """Train and held-out images together: copies (N, 8, D) by space, patients, who is a member."""

    copies: Mapping[str, Array]
    patients: Array
    members: Array


def _members_and_strangers(sets: Sets) -> MembersAndStrangers | None:
    train, held_out = sets.train, sets.held_out
    if held_out is None or train.copies is None or held_out.copies is None:
        return None
    return MembersAndStrangers(
        copies={
            space: np.concatenate([copies, held_out.copies[space]])
            for space, copies in train.copies.items()
        },
        patients=np.r_[train.patients, held_out.patients],
        members=np.arange(len(train) + len(held_out)) < len(train),
    )


def _attack_values(
    sets: Sets, synthetic: Array, space: str, real: MembersAndStrangers | None, *, attack: str
) -> tuple[Value, Value]:
    """AUC and true positive rate of one attack in one space; n counts members and strangers."""
    n_patients = len(np.unique(sets.train.patients))
    split = "train patients, val patients"
    if real is None:
        missing = Value(value=None, n=(n_patients, 0), split=split, why=NO_VAL)
        return missing, missing
    copies = real.copies[space]
    if attack == "density ratio":
        scores = density_attack(copies, synthetic, real.patients)
    else:
        scores = distance_attack(copies, synthetic)
    by_patient = attack_by_patient(
        scores,
        real.members,
        real.patients,
        redraws=sets.redraws,
        generator=np.random.default_rng((sets.seed, 8)),
    )
    n = (n_patients, len(np.unique(real.patients)) - n_patients)

    def value(interval: Interval) -> Value:
        return Value(n=n, split=split, **dict[str, Any](interval.to_json()))

    return value(by_patient.auc), value(by_patient.true_positive_rate)


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
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    kinds = ("distance", "ratio", "image", "copy")
    columns = [f"{space}_{kind}" for space in closeness.by_space for kind in kinds]
    writer.writerow(["image", "near_copy", *columns])
    copied = near_copies(closeness.spaces)
    for number, row in enumerate(synthetic.rows):
        cells: list[str] = []
        for to_train in (space.judged for space in closeness.spaces):
            image = train.rows[to_train.index[number]].image
            numbers = [f"{value[number]:.6g}" for value in (to_train.distance, to_train.ratio)]
            cells += [*numbers, image, str(to_train.copy[number])]
        writer.writerow([row.image, int(copied[number]), *cells])
    return stream.getvalue()
