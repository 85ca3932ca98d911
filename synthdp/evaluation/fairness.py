"""Does a classifier serve all groups alike? Figures by group, and how far groups lie apart.

After arXiv 2302.01622, which follows the AUROC of groups, the statistical parity difference, and
Pearson's r through a range of epsilons. Groups go by a column of the manifest. What models do for
each is its figures, on these images and on every redraw of the patients; all groups of all models
share the redraws, so that intervals of differences are paired ones
(`synthdp.evaluation.intervals.Redrawn`). No difference is taken to a group that is too small, or
that lacks the class which the figure needs.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synthdp.config.settings import (
    Settings,
)
from synthdp.data.columns import UNKNOWN, cell_of, refuse_missing_column
from synthdp.data.dataset import Dataset, Row
from synthdp.errors import InputError
from synthdp.evaluation.intervals import Redrawn, itself_and_redraws, redrawn_auroc, redraws_of
from synthdp.evaluation.metrics import FloatArray
from synthdp.evaluation.predictions import Scored, ScoredImages, ScoredTarget
from synthdp.evaluation.settings import CutPoints, FairnessSettings
from synthdp.machine.progress import progress

# Groups of images by a column of the manifest: by its values, or by bins of its numbers.

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
        numbers = [_number(cell) for cell in cells]
        wrong = sum(number is None for number in numbers)
        if wrong:
            raise InputError(
                f"{where}: {wrong} cell(s) of column {attribute} are no numbers, so "
                "they fall into no bin; name the column without cut points"
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
    """A group: how many images and patients, its measures, or `why` it has none."""

    name: str
    n_images: int
    n_patients: int
    measures: Mapping[GroupMeasure, Redrawn]
    why: str = ""

    def has(self, measure: GroupMeasure) -> bool:
        """Whether the group has a value for the measure."""
        return measure in self.measures and not math.isnan(self.measures[measure].value)


@dataclass(frozen=True)
class Judgement:
    """All groups of one attribute by one target, and the same measures of all images together.

    `threshold` is where all models call the target positive, None where they have their own.
    """

    target: str
    attribute: str
    threshold: float | None
    whole: JudgedGroup
    groups: tuple[JudgedGroup, ...]

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
    """Judge models by every attribute and target.

    Args:
        images: what the models gave.
        panel: of these images.
    """
    names = images.predictions.targets
    targets = [images.target(index, panel.patients) for index in range(len(names))]
    wholes = [judged_group("", scored, panel.weights) for scored, _ in targets]
    for attribute, groups in panel.groups.items():
        for index, (scored, known) in enumerate(targets):
            yield Judgement(
                target=names[index],
                attribute=attribute,
                threshold=images.threshold(index),
                whole=wholes[index],
                groups=judged_groups(scored, groups[known].tolist(), panel.weights),
            )


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
        return JudgedGroup(name, n_images, n_patients, {}, TOO_FEW)
    why = ONE_CLASS if len(present) == 1 else ""
    return JudgedGroup(name, n_images, n_patients, group_measures(scored, weights), why)


def group_measures(scored: ScoredTarget, weights: NDArray[np.int64]) -> dict[GroupMeasure, Redrawn]:
    """Every measure of some images, each the mean over the models.

    All but the AUROC are counts of images over counts. All models have the same images below the
    line, so that the mean over models is counted above it. Images are summed by patient first, and
    all counts are one product with the redraws.

    Args:
        scored: the images.
        weights: (R, P) of `patient_weights`, of all patients.
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
            "auroc": redrawn_auroc(scored.labels, scored.scores, scored.patients, weights),
        }


# The figures of a judgement: of each group, and differences between groups.

#: Fewest points of a correlation: two always lie on a line.
MIN_POINTS = 3
TOO_FEW_GROUPS = "fewer than two groups to compare"

Measure: TypeAlias = Literal[
    GroupMeasure,
    "auroc_loss",
    "statistical_parity_difference",
    "equal_opportunity_difference",
    "worst_group_gap",
    "r_size_auroc",
    "r_epsilon_parity",
]


class FairnessFigure(Settings):
    """One figure of one group, or of all groups together where `group` is empty.

    `auroc_loss` is the AUROC without privacy minus this one. A difference is that of two groups,
    which `note` names; `n_points` says how many points a correlation is of. `n_images` and
    `n_patients` are those of the group, or of the whole set. `threshold` is where a score
    is called positive, None where models have their own. A figure without a value is None, and
    `note` says why.
    """

    target: str
    attribute: str
    group: str = ""
    measure: Measure
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_images: int
    n_patients: int
    n_points: int | None = None
    threshold: float | None = None
    note: str = ""


def judge_images(images: ScoredImages, by: FairnessSettings) -> list[FairnessFigure]:
    """All figures of models by themselves.

    Raises:
        InputError: when an attribute makes no groups of these images.
    """
    return judge_panel(images, panel_of(images, by))


def judge_panel(images: Scored, panel: Panel) -> list[FairnessFigure]:
    """All figures of models by themselves, by the groups and redraws of a panel."""
    return [figure for judgement in judgements(images, panel) for figure in figures(judgement)]


def figures(
    judgement: Judgement, *, without_privacy: Judgement | None = None
) -> list[FairnessFigure]:
    """All figures of a judgement: of each group, then of all groups together.

    `without_privacy` judges the same recipe without privacy on the same redraws.
    """
    of_groups = [
        _figure(judgement, group, name, group.measures.get(name), note=group.why)
        for group in judgement.groups
        for name in GROUP_MEASURES
    ]
    if without_privacy is not None:
        for group, free in zip(judgement.groups, without_privacy.groups, strict=True):
            both = group.has("auroc") and free.has("auroc")
            loss = free.measures["auroc"].minus(group.measures["auroc"]) if both else None
            of_groups.append(_figure(judgement, group, "auroc_loss", loss, note=group.why))
    return [
        *of_groups,
        _highest_less_lowest("statistical_parity_difference", "positive_rate", judgement),
        _highest_less_lowest("equal_opportunity_difference", "sensitivity", judgement),
        _worst_group_gap(judgement),
        _size_correlation(judgement),
    ]


def _figure(
    judgement: Judgement,
    group: JudgedGroup,
    measure: Measure,
    redrawn: Redrawn | None,
    *,
    note: str,
    n_points: int | None = None,
) -> FairnessFigure:
    interval = {} if redrawn is None else redrawn.interval().to_json()
    return FairnessFigure(
        target=judgement.target,
        attribute=judgement.attribute,
        group=group.name,
        measure=measure,
        **interval,
        n_images=group.n_images,
        n_patients=group.n_patients,
        n_points=n_points,
        threshold=judgement.threshold,
        note=note,
    )


def _highest_less_lowest(
    measure: Measure, of: GroupMeasure, judgement: Judgement
) -> FairnessFigure:
    """The highest group minus the lowest, each of them chosen by its value on the set itself.

    So the interval may reach below 0, which it could not if the extremes were chosen anew on each
    redraw; the more groups, the larger the difference that chance alone makes. Groups that are all
    alike say at what value: a model that calls no image positive has no difference either.
    """
    groups = judgement.with_value(of)
    if len(groups) < 2:
        return _figure(judgement, judgement.whole, measure, None, note=TOO_FEW_GROUPS)
    high = max(groups, key=lambda group: group.measures[of].value)
    low = min(groups, key=lambda group: group.measures[of].value)
    alike = ""
    if high is low:
        high, low, alike = groups[0], groups[1], f"; all alike, at {high.measures[of].value:.3g}"
    difference = high.measures[of].minus(low.measures[of])
    note = f"group {high.name} minus group {low.name}, of {len(groups)} groups{alike}"
    return _figure(judgement, judgement.whole, measure, difference, note=note)


def _worst_group_gap(judgement: Judgement) -> FairnessFigure:
    """The AUROC of all images minus that of the group with the lowest."""
    groups, whole = judgement.with_value("auroc"), judgement.whole
    if len(groups) < 2 or not whole.has("auroc"):
        return _figure(judgement, whole, "worst_group_gap", None, note=TOO_FEW_GROUPS)
    worst = min(groups, key=lambda group: group.measures["auroc"].value)
    gap = whole.measures["auroc"].minus(worst.measures["auroc"])
    note = f"all images minus group {worst.name}, of {len(groups)} groups"
    return _figure(judgement, whole, "worst_group_gap", gap, note=note)


def _size_correlation(judgement: Judgement) -> FairnessFigure:
    """Pearson's r between the number of patients of a group, as evaluated, and its AUROC.

    Sizes are the same on each redraw, so that the interval is of the AUROCs alone. The sizes of
    groups in the training set would be the natural ones, but they are private.
    """
    groups, r = judgement.with_value("auroc"), None
    note = f"of {len(groups)} groups"
    if len(groups) < MIN_POINTS:
        note = f"fewer than {MIN_POINTS} groups"
    else:
        sizes = np.array([group.n_patients for group in groups], dtype=np.float64)
        aurocs = [group.measures["auroc"] for group in groups]
        value = float(pearson(sizes, np.array([auroc.value for auroc in aurocs])))
        r = Redrawn(value, pearson(sizes, np.stack([auroc.draws for auroc in aurocs], axis=1)))
        note += "" if math.isfinite(value) else "; all are of one size, or have one AUROC"
    return _figure(judgement, judgement.whole, "r_size_auroc", r, note=note, n_points=len(groups))


def pearson(x: FloatArray, y: FloatArray) -> NDArray[np.float64]:
    """Pearson's r of x (K,) with each row of y (..., K), (...); nan where either does not vary."""
    across, along = x - x.mean(), y - y.mean(axis=-1, keepdims=True)
    spread = np.sqrt((across**2).sum() * (along**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.where(spread > 1e-12, (along * across).sum(axis=-1) / spread, np.nan)
    return np.asarray(np.clip(r, -1, 1))


def epsilon_correlation(
    parities: Mapping[float, FairnessFigure], like: FairnessFigure
) -> FairnessFigure:
    """Pearson's r between finite epsilons and the statistical parity difference at each.

    It has no interval: the points are differences of groups which may be others at each epsilon.

    Args:
        parities: the difference at each epsilon; one without a value is left out.
        like: any of them, for what they are about.
    """
    points = {epsilon: one.value for epsilon, one in parities.items() if one.value is not None}
    value, note = math.nan, f"of {len(points)} epsilons"
    if len(points) < MIN_POINTS:
        note = f"fewer than {MIN_POINTS} epsilons"
    else:
        value = float(pearson(np.array(list(points)), np.array(list(points.values()))))
        note += "" if math.isfinite(value) else "; all have one difference"
    thresholds = {one.threshold for one in parities.values()}
    return like.model_copy(
        update={
            "measure": "r_epsilon_parity",
            "value": None if math.isnan(value) else value,
            "ci_low": None,
            "ci_high": None,
            "n_points": len(points),
            "threshold": like.threshold if len(thresholds) == 1 else None,
            "note": note,
        }
    )
