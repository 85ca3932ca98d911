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

_ROWS_AT_ONCE = 256
FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class Nearest:
    """For each of M images the closest one of another set: how far, which row, which copy of it."""

    distance: Array
    place: Array
    copy: Array

    def __len__(self) -> int:
        return len(self.distance)


@dataclass(frozen=True)
class Closeness:
    """Distances in one feature space that tell copies from strangers.

    synthetic: from each synthetic image to train. held_out: from each held-out image to train, None
    without such a split. between: from each train image to the train images of other patients.
    """

    space: str
    synthetic: Nearest
    held_out: Nearest | None
    between: Nearest

    @property
    def floor(self) -> float:
        """The least distance found between images of two different patients."""
        found = [self.between, *([self.held_out] if self.held_out is not None else [])]
        return float(min(nearest.distance.min() for nearest in found))

    @property
    def closer_than_patients(self) -> Array:
        """Which synthetic images, (M,), are closer to a patient than any two patients are."""
        found: Array = self.synthetic.distance < self.floor
        return found


@dataclass(frozen=True)
class Attack:
    """How well members are told from strangers by patient, each with its interval.

    auc: 0.5 is chance. found: the share of members found at no more than 1 % false alarms.
    """

    auc: Interval
    found: Interval


def nearest(
    points: Array, copies: Array, *, own: Array | None = None, others: Array | None = None
) -> Nearest:
    """The closest of many images, over all copies of each, for every point.

    Args:
        points: (M, D).
        copies: (N, C, D), C copies of each image.
        own: (M,) patients of the points; images of the same patient are passed over.
        others: (N,) patients of the images.

    Raises:
        InputError: when a point has no image of another patient to be compared with.
    """
    flat = np.ascontiguousarray(copies.reshape(-1, copies.shape[-1]), dtype=np.float32)
    lengths = (flat**2).sum(axis=1)
    n_copies = copies.shape[1]
    found = np.empty(len(points), dtype=np.intp)
    for start in range(0, len(points), _ROWS_AT_ONCE):
        block = points[start : start + _ROWS_AT_ONCE].astype(np.float32)
        squares = lengths - 2 * (block @ flat.T)  # less the block's own lengths: the same order
        if own is not None and others is not None:
            same = own[start : start + _ROWS_AT_ONCE, None] == others[None, :]
            if same.all(axis=1).any():
                raise InputError("memorisation: one patient alone; images of others are needed")
            squares[np.repeat(same, n_copies, axis=1)] = np.inf
        found[start : start + _ROWS_AT_ONCE] = squares.argmin(axis=1)
    exact = points.astype(np.float64) - flat[found].astype(np.float64)
    return Nearest(np.linalg.norm(exact, axis=1), found // n_copies, found % n_copies)


def authentic_share(points: Nearest, between: Nearest) -> float:
    """The share of images that are farther from their nearest patient's image than that is from
    the nearest image of another patient (arXiv 2102.08921, section 4; there over images).

    Near 0 for copies. Held-out patients give the figure of images that are certainly new.

    Args:
        points: from each image to train.
        between: from each train image to those of other patients.
    """
    return float((points.distance > between.distance[points.place]).mean())


def near_copies(pixels: Closeness, spaces: Sequence[Closeness], patients: Array) -> Array:
    """Which synthetic images, (M,), are near copies of a patient.

    The rule: in pixels and in one feature space or more, the same patient's image is the nearest,
    and it is closer than any two images of different patients are to each other. One space alone
    accuses smooth or typical images, which are close to everybody. Where the real set holds one
    image under two patients the rule is blind: look at the closest pairs.

    Args:
        pixels: distances of thumbnails.
        spaces: distances of features.
        patients: (N,) of the train images.
    """
    found = np.zeros(len(pixels.synthetic), dtype=bool)
    for space in spaces:
        same = patients[space.synthetic.place] == patients[pixels.synthetic.place]
        found |= same & space.closer_than_patients
    copied: Array = found & pixels.closer_than_patients
    return copied


def closest_pairs(
    spaces: Sequence[Closeness], patients: Array, count: int
) -> list[tuple[int, int]]:
    """The closest pairs of all spaces, one a patient, as (synthetic image, place in `spaces`).

    Spaces are made comparable by each one's distance between patients (its first percentile).

    Args:
        spaces: distances in each space.
        patients: (N,) of the train images.
        count: how many pairs at most.
    """
    scales = [max(float(np.quantile(space.between.distance, 0.01)), 1e-9) for space in spaces]
    ratios = np.stack(
        [space.synthetic.distance / scale for space, scale in zip(spaces, scales, strict=True)],
        axis=1,
    )
    pairs: list[tuple[int, int]] = []
    taken = set()
    for image in ratios.min(axis=1).argsort(kind="stable"):
        space = int(ratios[image].argmin())
        patient = patients[spaces[space].synthetic.place[image]]
        if patient not in taken:
            taken.add(patient)
            pairs.append((int(image), space))
        if len(pairs) == count:
            break
    return pairs


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
    among = nearest(real[:, 0], real, own=patients, others=patients).distance
    tiny = np.finfo(np.float32).tiny
    scores: Array = np.log(among + tiny) - np.log(_to_synthetic(real, synthetic) + tiny)
    return scores


def _to_synthetic(real: Array, synthetic: Array) -> Array:
    copies = real.reshape(-1, real.shape[-1])
    least: Array = nearest(copies, synthetic[:, None]).distance.reshape(real.shape[:2]).min(axis=1)
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
