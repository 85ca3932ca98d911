"""Does a synthetic image copy a patient? Nearest patients, copies, and an attack on membership.

Everything is by patient and over the eight symmetries of the square: a mirrored copy is a copy,
and another image of the same patient is no other patient. Held-out patients tell what is normal.
Every function takes arrays in memory and looks at nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthdp.errors import InputError
from synthdp.evaluation.statistics import (
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
    """For each of M images the closest one of train: how far, which row, which copy of it.

    ratio: its distance over that of the closest image of any other patient; 0 for a copy, about 1
    for an image that is no closer to one patient than to the next.
    """

    distance: Array
    place: Array
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
        found: Array = self.dimension * np.log(np.clip(self.judged.ratio, _TINY, 1))
        return found


@dataclass(frozen=True)
class Attack:
    """How well members are told from strangers by patient, each with its interval.

    auc: 0.5 is chance. found: the share of members found at no more than 1 % false alarms.
    """

    auc: Interval
    found: Interval


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
    first, second = (np.empty(len(points), dtype=np.intp) for _ in range(2))
    for start in range(0, len(points), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        squares = _squares(points[rows], flat)
        if own is not None:
            squares[np.repeat(own[rows, None] == patients, n_copies, axis=1)] = np.inf
        first[rows] = squares.argmin(axis=1)
        same = patients[first[rows] // n_copies][:, None] == patients
        squares[np.repeat(same, n_copies, axis=1)] = np.inf
        if np.isinf(squares.min(axis=1)).any():
            raise InputError("memorisation: train holds fewer than three patients; add some")
        second[rows] = squares.argmin(axis=1)
    distance, further = (_exact(points, flat[found]) for found in (first, second))
    ratio = np.divide(distance, further, out=np.ones(len(points)), where=further > 0)
    return Nearest(distance, first // n_copies, first % n_copies, ratio)


def _squares(block: Array, flat: Array) -> Array:
    """Squared distances (B, N) in float32, less the block's own lengths: of the same order."""
    squares: Array = (flat**2).sum(axis=1) - 2 * (block.astype(np.float32) @ flat.T)
    return squares


def _exact(points: Array, found: Array) -> Array:
    """The distance of each point to what was found for it, (M,), in float64."""
    distance: Array = np.linalg.norm(points.astype(np.float64) - found, axis=1)
    return distance


def authentic_share(points: Nearest, between: Nearest) -> float:
    """The share of images that are farther from their nearest patient's image than that is from
    the nearest image of another patient (arXiv 2102.08921, section 4; there over images).

    Near 0 for copies. Held-out patients give the figure of images that are certainly new.

    Args:
        points: from each judged image to train.
        between: from each train image to those of other patients.
    """
    return float((points.distance > between.distance[points.place]).mean())


def near_copies(spaces: Sequence[Closeness]) -> Array:
    """Which judged images, (M,), are near copies of a patient.

    The rule: in any space an image is so much closer to one patient than to every other that
    among as many images without copies there would be such a one with a chance of 1 %
    (`FALSE_ACCUSATION`). Being close is not enough, for a smooth or typical image is close to
    many. Where train holds one picture under two patients the rule is blind; where an artefact
    such as the border of a film fills two images it may accuse: look at the closest pairs.
    """
    limit = np.log(FALSE_ACCUSATION / (len(spaces) * len(spaces[0].judged)))
    found: Array = _least_chance(spaces)[0] < limit
    return found


def closest_pairs(
    spaces: Sequence[Closeness], patients: Array, count: int
) -> list[tuple[int, int]]:
    """The pairs least likely by chance, one a patient, as (judged image, place in `spaces`).

    Args:
        spaces: distances in each space.
        patients: (N,) of the train images.
        count: how many pairs at most.
    """
    chance, space_of = _least_chance(spaces)
    pairs: list[tuple[int, int]] = []
    taken = set()
    for image in chance.argsort(kind="stable"):
        patient = patients[spaces[space_of[image]].judged.place[image]]
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
    found = np.concatenate(
        [_squares(copies[start : start + _ROWS_AT_ONCE], flat).argmin(axis=1) for start in blocks]
    )
    least: Array = _exact(copies, flat[found]).reshape(real.shape[:2]).min(axis=1)
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
    names, places = np.unique(patients, return_inverse=True)
    best = np.full(len(names), -np.inf)
    np.maximum.at(best, places, scores)
    is_member = np.zeros(len(names), dtype=bool)
    is_member[places] = members
    auc = patient_bootstrap(
        is_member.astype(np.float64), best, list(names), redraws=redraws, generator=generator
    )["auroc"]
    inside, outside = best[is_member], best[~is_member]
    draws = [
        _found(generator.choice(inside, len(inside)), generator.choice(outside, len(outside)))
        for _ in range(redraws)
    ]
    return Attack(auc, percentile_interval(_found(inside, outside), np.array(draws)))


def _found(inside: Array, outside: Array) -> float:
    """The share of members above a threshold that at most 1 % of the strangers pass."""
    allowed = int(FALSE_ALARMS * len(outside))
    threshold = np.sort(outside)[len(outside) - 1 - allowed]
    return float((inside > threshold).mean())
