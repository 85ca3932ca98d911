"""What a model does for each group of images: its figures, on these images and on every redraw.

All groups of all models share the redraws of the patients, so that intervals of differences are
paired ones. A group that has fewer than `MIN_PATIENTS` patients of a class that it holds is too
small to say anything: it has its size alone. A group of one class has the figures that need no
other.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synthdp.evaluation.groups import FairnessSettings, group_names, sorted_groups
from synthdp.evaluation.scored import (
    Estimate,
    Scored,
    ScoredImages,
    auroc_estimate,
    itself_and_redraws,
    redraws_of,
)

#: Fewest patients of each class that a group has in it, for its figures to be told.
MIN_PATIENTS = 10
ONE_CLASS = "one class alone"
TOO_FEW = f"too few: fewer than {MIN_PATIENTS} patients of a class"

GroupMeasure: TypeAlias = Literal[
    "prevalence", "auroc", "sensitivity", "specificity", "positive_rate"
]
GROUP_MEASURES: tuple[GroupMeasure, ...] = (
    "prevalence",
    "auroc",
    "sensitivity",
    "specificity",
    "positive_rate",
)


@dataclass(frozen=True)
class JudgedGroup:
    """A group: how many images and patients, its figures, or why none of them is told."""

    name: str
    n_images: int
    n_patients: int
    estimates: Mapping[str, Estimate]
    why: str = ""

    def has(self, measure: str) -> bool:
        """Whether the group has a value for the measure."""
        return measure in self.estimates and not math.isnan(self.estimates[measure].value)


@dataclass(frozen=True)
class Judgement:
    """All groups of one attribute, and the same figures of all images together."""

    whole: JudgedGroup
    groups: tuple[JudgedGroup, ...]

    def with_value(self, measure: str) -> list[JudgedGroup]:
        """The groups that can be compared in a measure."""
        return [group for group in self.groups if group.has(measure)]


@dataclass(frozen=True, eq=False)
class Panel:
    """What all models share that were scored on the same N images.

    patients: (N,), the column of `weights` that each image's patient has; weights: (R, P) of
    `patient_weights`; groups: attribute -> the group of each image, (N,).
    """

    patients: NDArray[np.intp]
    weights: NDArray[np.int64]
    groups: Mapping[str, NDArray[np.str_]]


def panel_of(images: ScoredImages, by: FairnessSettings) -> Panel:
    """The groups of the images by every attribute, and redraws of their patients.

    Raises:
        InputError: as `group_names`.
    """
    patients, weights = redraws_of([row.patient_id for row in images.rows], by.seed, by.redraws)
    groups = {
        attribute: np.array(group_names(images.dataset, images.rows, attribute, cuts))
        for attribute, cuts in by.attributes.items()
    }
    return Panel(patients, weights, groups)


def judgements(images: ScoredImages, panel: Panel) -> Iterator[tuple[str, int, Judgement]]:
    """Judge models by every attribute and target: its name, the target's index, the judgement.

    Args:
        images: what the models gave.
        panel: of these images.
    """
    targets = [images.target(index, panel.patients) for index in range(len(images.targets))]
    wholes = [_judge_group("", scored, panel.weights) for scored, _ in targets]
    for attribute, names in panel.groups.items():
        for index, (scored, known) in enumerate(targets):
            here = names[known].tolist()
            yield attribute, index, judge(scored, here, panel.weights, whole=wholes[index])


def judge(
    scored: Scored,
    names: Sequence[str],
    weights: NDArray[np.int64],
    *,
    whole: JudgedGroup | None = None,
) -> Judgement:
    """Judge one target by the groups of one attribute.

    Args:
        scored: the N images whose label is known.
        names: the group of each, N.
        weights: (R, P) of `patient_weights`.
        whole: the judgement of all images, where it has been made for another attribute.
    """
    places = np.asarray(names)
    groups = [
        _judge_group(name, scored.of(places == name), weights) for name in sorted_groups(names)
    ]
    return Judgement(whole or _judge_group("", scored, weights), tuple(groups))


def _judge_group(name: str, scored: Scored, weights: NDArray[np.int64]) -> JudgedGroup:
    by_class = [np.unique(scored.patients[scored.labels == label]).size for label in (0, 1)]
    present = [count for count in by_class if count]
    n_patients = np.unique(scored.patients).size
    if not present or min(present) < MIN_PATIENTS:
        return JudgedGroup(name, len(scored.labels), n_patients, {}, TOO_FEW)
    found = estimates(scored, weights)
    why = ONE_CLASS if len(present) == 1 else ""
    return JudgedGroup(name, len(scored.labels), n_patients, found, why)


def estimates(scored: Scored, weights: NDArray[np.int64]) -> dict[str, Estimate]:
    """Every measure of a group, each the mean over the models.

    Args:
        scored: the images of the group.
        weights: (R, P) of `patient_weights`, of all patients.
    """
    shares = _shares(scored, itself_and_redraws(weights))
    found = {name: Estimate.of(share) for name, share in shares.items()}
    return {**found, "auroc": auroc_estimate(scored, weights)}


def _shares(scored: Scored, drawn: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The measures that are counts of images over counts, (R,) each, for `drawn` (R, P).

    All models have the same images below the line, so that the mean over models is counted above
    it. Images are summed by patient first, and all counts are one product with the redraws.
    """
    positive, negative = scored.labels, 1 - scored.labels
    called = (scored.scores >= np.array(scored.thresholds)[:, None]).mean(axis=0)
    images = np.stack(
        [
            np.ones_like(positive),
            positive,
            negative,
            called,
            called * positive,
            (1 - called) * negative,
        ],
        axis=1,
    )
    by_patient = np.zeros((drawn.shape[1], images.shape[1]))
    np.add.at(by_patient, scored.patients, images)
    total, positives, negatives, flagged, found, cleared = (drawn @ by_patient).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "prevalence": positives / total,
            "sensitivity": found / positives,
            "specificity": cleared / negatives,
            "positive_rate": flagged / total,
        }
