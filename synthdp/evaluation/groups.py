"""Groups of images by a column of the manifest, and what models do for each.

What models do for a group is its figures, on these images and on every redraw of the patients; all
groups of all models share the redraws, so that intervals of differences are paired ones
(`synthdp.evaluation.uncertainty.intervals.Redrawn`). Differences between groups:
`synthdp.evaluation.fairness`.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synthdp.data.columns import UNKNOWN, cell_of, refuse_missing_column
from synthdp.data.dataset import Dataset, Row
from synthdp.data.people.ages import AGE_COLUMNS, years
from synthdp.errors import InputError
from synthdp.evaluation.metrics import MACRO
from synthdp.evaluation.predictions import Scored, ScoredImages, ScoredTarget
from synthdp.evaluation.settings import CutPoints, FairnessSettings
from synthdp.evaluation.uncertainty.intervals import (
    Redrawn,
    itself_and_redraws,
    redrawn_auroc,
    redraws_of,
)
from synthdp.machine.progress import progress

#: A column of more values is an id or a measurement, not a group.
MAX_GROUPS = 40


def bin_names(cuts: Sequence[float]) -> list[str]:
    """The names of the bins that rising points cut the numbers into, the lowest first."""
    ends = [f"{cut:.15g}" for cut in cuts]
    middle = [f"{low} to below {high}" for low, high in pairwise(ends)]
    return [f"below {ends[0]}", *middle, f"{ends[-1]} and above"]


def group_names(
    dataset: Dataset, rows: Sequence[Row], attribute: str, cuts: CutPoints = None
) -> list[str]:
    """The group of each row by one column of the manifest; `unknown` where its cell is empty.

    A group depends on the row alone.

    Raises:
        InputError: when the set has no such column, a cell that is to be binned is no number, or
            there are more than `MAX_GROUPS` groups. The error repeats no cell, which may be an id.
    """
    refuse_missing_column(dataset, attribute)
    cells = [cell_of(row, attribute) for row in rows]
    return groups_of_cells(cells, attribute, cuts, where=dataset.info.name)


def groups_of_cells(
    cells: Sequence[str], attribute: str, cuts: CutPoints = None, *, where: str
) -> list[str]:
    """The group of each cell of a column, as `group_names`; `where` says what the column is of.

    Raises:
        InputError: as `group_names`, but for a missing column.
    """
    if cuts is not None:
        names = bin_names(cuts)
        number_of = _age if attribute.lower() in AGE_COLUMNS else _number
        numbers = [number_of(cell) for cell in cells]
        wrong = sum(number is None for number in numbers)
        if wrong:
            raise InputError(
                f"{where}: {wrong} cell(s) of column {attribute} are no numbers, so "
                "they fall into no bin; empty them where nobody knows the number, and import the "
                "files again, or name the column without cut points"
            )
        return [
            UNKNOWN if number is None or math.isnan(number) else names[bisect_right(cuts, number)]
            for number in numbers
        ]
    if len(set(cells)) > MAX_GROUPS:
        raise InputError(
            f"{where}: column {attribute} holds more than {MAX_GROUPS} different "
            "values, which make no groups; give cut points, as in age: [50, 70], or name another"
        )
    return list(cells)


def _number(cell: str) -> float | None:
    """The cell as a number, nan when it is unknown, None when it is none."""
    if cell == UNKNOWN:
        return math.nan
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _age(cell: str) -> float | None:
    """As `_number`, of an age that may stand as DICOM writes it (`045Y`, `018M`)."""
    age = None if cell == UNKNOWN else years(cell)
    return _number(cell) if age is None else _number(str(age))


def refuse_no_groups(
    dataset: Dataset, rows: Sequence[Row], by: FairnessSettings, *, setting: str
) -> None:
    """Refuse columns that the set lacks, or that make no groups; `setting` asks for them.

    Raises:
        InputError: as `group_names`.
    """
    for attribute, cuts in by.attributes.items():
        refuse_missing_column(dataset, attribute, setting=setting)
        group_names(dataset, rows, attribute, cuts)


def sorted_groups(names: Sequence[str]) -> list[str]:
    """The different groups in an order for people: numbers by size, then words, unknown last."""

    def order(name: str) -> tuple[int, float, str]:
        if name == UNKNOWN:
            return 2, 0.0, ""
        number = _number(name.removeprefix("below ").split(" ")[0])
        if number is None:
            return 1, 0.0, name
        return 0, number - 0.5 * name.startswith("below "), name

    return sorted(set(names), key=order)


# What models do for each group, on these images and on every redraw.

#: Fewest patients of each class that a group holds; a smaller group has no figure but its size. A
#: group of one class has the figures that need no other.
MIN_PATIENTS = 10
ONE_CLASS = "one class alone"
TOO_FEW_TARGETS = "too small for half of the targets, or for those that other groups share"
TOO_FEW = f"too few: fewer than {MIN_PATIENTS} patients of a class"

GroupMeasure: TypeAlias = Literal[
    "prevalence", "auroc", "sensitivity", "specificity", "positive_rate", "accuracy"
]
GROUP_MEASURES: tuple[GroupMeasure, ...] = (
    "prevalence",
    "auroc",
    "sensitivity",
    "specificity",
    "positive_rate",
    "accuracy",
)


@dataclass(frozen=True)
class JudgedGroup:
    """A group: how many images and patients, its measures, or `why` it has none.

    `n_positive`: its patients with a positive image. `images`: how many images it has on each
    redraw, None where it has no measures.
    """

    name: str
    n_images: int
    n_patients: int
    measures: Mapping[GroupMeasure, Redrawn]
    why: str = ""
    n_positive: int = 0
    images: Redrawn | None = None

    def has(self, measure: GroupMeasure) -> bool:
        """Whether the group has a value for the measure."""
        return measure in self.measures and not math.isnan(self.measures[measure].value)


@dataclass(frozen=True)
class Judgement:
    """All groups of one attribute by one target, and the same measures of all images together.

    `threshold` is where all models call the target positive, None where they have their own. Of
    several targets one more judgement, `macro`, has their mean; `over` names those that it is of.
    """

    target: str
    attribute: str
    threshold: float | None
    whole: JudgedGroup
    groups: tuple[JudgedGroup, ...]
    over: tuple[str, ...] = ()

    def with_value(self, measure: GroupMeasure) -> list[JudgedGroup]:
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


def judgements(images: Scored, panel: Panel) -> Iterator[Judgement]:
    """Judge models by every attribute and target, and of several targets by their mean.

    Args:
        images: what the models gave.
        panel: of these images.
    """
    names = images.predictions.targets
    targets = [images.target(index, panel.patients) for index in range(len(names))]
    wholes = [judged_group("", scored, panel.weights) for scored, _ in targets]
    for attribute, groups in panel.groups.items():
        by_target = [
            Judgement(
                target=names[index],
                attribute=attribute,
                threshold=images.threshold(index),
                whole=wholes[index],
                groups=judged_groups(scored, groups[known].tolist(), panel.weights),
            )
            for index, (scored, known) in enumerate(targets)
        ]
        yield from by_target
        if len(by_target) > 1:
            yield macro_judgement(by_target)


def macro_judgement(by_target: Sequence[Judgement]) -> Judgement:
    """The mean over several targets, of one attribute.

    A mean over other targets is another figure, so all groups have theirs over the same: those of
    which each group has both classes. A group that lacks this for more than half of the targets is
    left out, lest it leave few targets to all others.
    """
    ranked = [one for one in by_target if one.whole.has("auroc")]
    parts: dict[str, dict[str, JudgedGroup]] = {}
    for one in by_target:
        for group in one.groups:
            parts.setdefault(group.name, {})[one.target] = group
    have = {
        name: {one.target for one in ranked if one.target in of and of[one.target].has("auroc")}
        for name, of in parts.items()
    }
    kept = [targets for targets in have.values() if targets and 2 * len(targets) >= len(ranked)]
    every = set.intersection(*kept) if kept else {one.target for one in ranked}
    over = tuple(one.target for one in by_target if one.target in every)
    wholes = {one.target: one.whole for one in by_target}
    return Judgement(
        target=MACRO,
        attribute=by_target[0].attribute,
        threshold=None,
        whole=_macro_group("", wholes, over, len(by_target)),
        groups=tuple(
            _macro_group(name, parts[name], over if every <= have[name] else (), len(by_target))
            for name in sorted_groups([*parts])
        ),
        over=over,
    )


def _macro_group(
    name: str, of: Mapping[str, JudgedGroup], over: Sequence[str], n_targets: int
) -> JudgedGroup:
    """The mean of a group's measures over the targets `over`; none where there are none."""
    n_images = max(group.n_images for group in of.values())
    n_patients = max(group.n_patients for group in of.values())
    if not over:
        return JudgedGroup(name, n_images, n_patients, {}, TOO_FEW_TARGETS)
    chosen = [of[target] for target in over]
    images = [group.images for group in chosen if group.images is not None]
    return JudgedGroup(
        name,
        n_images,
        n_patients,
        {name: Redrawn.mean([one.measures[name] for one in chosen]) for name in GROUP_MEASURES},
        why="" if len(over) == n_targets else _over_words(over, n_targets),
        images=Redrawn.mean(images),
    )


def _over_words(over: Sequence[str], n_targets: int) -> str:
    return f"mean over {len(over)} of {n_targets} targets: {', '.join(over)}"


def judged_groups(
    scored: ScoredTarget, names: Sequence[str], weights: NDArray[np.int64]
) -> tuple[JudgedGroup, ...]:
    """The groups of one attribute by one target, in the order of `sorted_groups`.

    Args:
        scored: the N images whose label is known.
        names: the group of each, N.
        weights: (R, P) of `patient_weights`.
    """
    group_of = np.asarray(names)
    return tuple(
        judged_group(name, scored.only(group_of == name), weights)
        for name in progress(sorted_groups(names), what="groups judged")
    )


def judged_group(name: str, scored: ScoredTarget, weights: NDArray[np.int64]) -> JudgedGroup:
    """One group, each measure the mean over the models; none where it is too small.

    Args:
        name: of the group.
        scored: its images.
        weights: (R, P) of `patient_weights`, of all patients.
    """
    by_class = [np.unique(scored.patients[scored.labels == label]).size for label in (0, 1)]
    present = [count for count in by_class if count]
    n_images, n_patients = len(scored.labels), np.unique(scored.patients).size
    if not present or min(present) < MIN_PATIENTS:
        return JudgedGroup(name, n_images, n_patients, {}, TOO_FEW, by_class[1])
    images = np.bincount(scored.patients, minlength=weights.shape[1])
    return JudgedGroup(
        name,
        n_images,
        n_patients,
        group_measures(scored, weights),
        ONE_CLASS if len(present) == 1 else "",
        by_class[1],
        Redrawn.of((itself_and_redraws(weights) @ images).astype(np.float64)),
    )


def group_measures(scored: ScoredTarget, weights: NDArray[np.int64]) -> dict[GroupMeasure, Redrawn]:
    """Every measure of some images, each the mean over the models.

    Args:
        scored: the images.
        weights: (R, P) of `patient_weights`, of all patients.
    """
    ranked = redrawn_auroc(scored.labels, scored.scores, scored.patients, weights)
    return {**decision_measures(scored, weights), "auroc": ranked}


def decision_measures(
    scored: ScoredTarget, weights: NDArray[np.int64]
) -> dict[GroupMeasure, Redrawn]:
    """What is decided at the models' thresholds: every measure but the AUROC, as `group_measures`.

    These are counts of images over counts. All models have the same images below the line, so that
    the mean over models is counted above it. Images are summed by patient first, and all counts are
    one product with the redraws.
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
    drawn = itself_and_redraws(weights)
    by_patient = np.zeros((drawn.shape[1], images.shape[1]))
    np.add.at(by_patient, scored.patients, images)
    total, positives, negatives, flagged, detected, cleared = (drawn @ by_patient).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "prevalence": Redrawn.of(positives / total),
            "sensitivity": Redrawn.of(detected / positives),
            "specificity": Redrawn.of(cleared / negatives),
            "positive_rate": Redrawn.of(flagged / total),
            "accuracy": Redrawn.of((detected + cleared) / total),
        }
