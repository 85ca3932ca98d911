"""Does a classifier serve all groups alike? Figures by group, and how far groups lie apart.

After arXiv 2302.01622, as the field has it and as the paper has it, under names of their own. What
the paper calls statistical parity difference is a difference of *accuracies*:
`accuracy_difference_paper`, of women less men, of an age band less the size-weighted mean of the
others. The field's is one of the shares that are called positive, `statistical_parity_difference`;
`positive_rate_difference` is built as the paper's is, so that the two can be laid side by side. The
paper's four correlations follow. No difference is taken to a group that is too small, or that lacks
the class which the figure needs.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synthdp.config.settings import Settings
from synthdp.data.columns import UNKNOWN
from synthdp.evaluation.groups import (
    GROUP_MEASURES,
    GroupMeasure,
    JudgedGroup,
    Judgement,
    Panel,
    judgements,
    panel_of,
)
from synthdp.evaluation.metrics import MACRO, FloatArray
from synthdp.evaluation.predictions import Scored, ScoredImages
from synthdp.evaluation.settings import FairnessSettings
from synthdp.evaluation.uncertainty.intervals import Redrawn

#: Fewest points of a correlation: two always lie on a line.
MIN_POINTS = 3
TOO_FEW_GROUPS = "fewer than two groups to compare"
#: Stands for the column where the points of a correlation are not groups but the targets.
FINDINGS = "findings"

Measure: TypeAlias = Literal[
    GroupMeasure,
    "auroc_loss",
    "accuracy_difference_paper",
    "positive_rate_difference",
    "statistical_parity_difference",
    "equal_opportunity_difference",
    "worst_group_gap",
    "r_size_auroc",
    "r_loss_auroc",
    "r_loss_size",
    "r_epsilon_parity",
    "r_epsilon_accuracy",
]


class FairnessFigure(Settings):
    """One figure of one group, or of all groups together where `group` is empty.

    `auroc_loss` is the AUROC without privacy minus this one. `accuracy_difference_paper` and
    `positive_rate_difference` are a group's accuracy, or share called positive, less the mean of
    the other groups, each weighted by its images. Other differences are of two groups, which `note`
    names. `r_...` are correlations of `n_points` groups, of as many targets where `attribute` is
    `findings`, or of as many epsilons: of size, AUROC, loss of AUROC, AUROC without privacy, and
    the differences named. `n_images` and `n_patients` are those of the group, or of the whole set.
    `threshold` is where a score is called positive, None where models have their own. A figure
    without a value is None, and `note` says why.
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
    judged = list(judgements(images, panel))
    by_group = [figure for judgement in judged for figure in figures(judgement)]
    return by_group + finding_correlations(wholes(judged))


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
        *_less_the_others("accuracy_difference_paper", "accuracy", judgement),
        *_less_the_others("positive_rate_difference", "positive_rate", judgement),
        _highest_less_lowest("statistical_parity_difference", "positive_rate", judgement),
        _highest_less_lowest("equal_opportunity_difference", "sensitivity", judgement),
        _worst_group_gap(judgement),
        *_group_correlations(judgement, without_privacy),
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


def differences_from_others(judgement: Judgement, of: GroupMeasure) -> dict[str, Redrawn]:
    """Each group's measure less the mean of the other groups, weighted by their images, by name.

    Of two groups it is the difference: women less men stands with the women. A group of images
    whose cell is unknown is none of them.
    """
    groups = [group for group in judgement.with_value(of) if group.name != UNKNOWN]
    if len(groups) < 2:
        return {}
    # (G, 1 + R): the set itself, then its redraws, in which a group may have no image
    values, sizes = (
        np.array([[one.value, *one.draws] for one in some])
        for some in (
            [group.measures[of] for group in groups],
            [group.images for group in groups if group.images is not None],
        )
    )
    weighed = np.where(sizes > 0, values * sizes, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        others = (weighed.sum(axis=0) - weighed) / (sizes.sum(axis=0) - sizes)
    return {
        group.name: Redrawn.of(own - other)
        for group, own, other in zip(groups, values, others, strict=True)
    }


def _less_the_others(
    measure: Measure, of: GroupMeasure, judgement: Judgement
) -> Iterator[FairnessFigure]:
    differences = differences_from_others(judgement, of)
    known = [*differences]
    for group in judgement.groups:
        note = group.why or TOO_FEW_GROUPS
        if group.name in differences:
            (other, *more) = (name for name in known if name != group.name)
            weighted = f"less the size-weighted mean of the {len(more) + 1} others"
            words = weighted if more else f"less group {other}"
            note = f"{group.why}; {words}" if group.why else words
        yield _figure(judgement, group, measure, differences.get(group.name), note=note)


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


def _group_correlations(judgement: Judgement, free: Judgement | None) -> Iterator[FairnessFigure]:
    """Of groups' sizes and AUROCs; of their losses too, where `free` judges without privacy."""
    groups = judgement.with_value("auroc")
    sizes = [float(group.n_patients) for group in groups]
    aurocs = [group.measures["auroc"] for group in groups]
    yield _correlation("r_size_auroc", judgement, sizes, aurocs, "groups")
    if free is None:
        return
    like = {group.name: group for group in free.groups}
    without = [like[group.name].measures["auroc"] for group in groups if group.name in like]
    losses = [one.minus(other) for one, other in zip(without, aurocs, strict=True)]
    yield _correlation("r_loss_auroc", judgement, without, losses, "groups")
    yield _correlation("r_loss_size", judgement, sizes, losses, "groups")


def wholes(judged: Sequence[Judgement]) -> dict[str, JudgedGroup]:
    """All images by target, as they were judged; without the mean over targets."""
    return {one.target: one.whole for one in judged if one.target != MACRO}


def finding_correlations(
    of: Mapping[str, JudgedGroup], free: Mapping[str, JudgedGroup] | None = None
) -> list[FairnessFigure]:
    """The paper's correlations over findings; none where there is one target.

    Args:
        of: all images as they were judged, by target.
        free: the same without privacy.
    """
    if len(of) < 2:
        return []
    largest = max(of.values(), key=lambda whole: whole.n_images)
    judgement = Judgement(MACRO, FINDINGS, None, largest, ())
    ranked = {name: whole for name, whole in of.items() if whole.has("auroc")}
    sizes = [float(whole.n_positive) for whole in ranked.values()]
    aurocs = [whole.measures["auroc"] for whole in ranked.values()]
    correlations = [_correlation("r_size_auroc", judgement, sizes, aurocs, "findings")]
    if free is not None and ranked.keys() <= free.keys():
        without = [free[name].measures["auroc"] for name in ranked]
        losses = [one.minus(other) for one, other in zip(without, aurocs, strict=True)]
        correlations.append(_correlation("r_loss_auroc", judgement, without, losses, "findings"))
        correlations.append(_correlation("r_loss_size", judgement, sizes, losses, "findings"))
    return correlations


def _correlation(
    measure: Measure,
    judgement: Judgement,
    x: Sequence[float] | Sequence[Redrawn],
    y: Sequence[Redrawn],
    points: str,
) -> FairnessFigure:
    """Pearson's r of two figures of some groups, or of some findings.

    A size (a number) is that of the images evaluated, since those of training are private, and is
    the same on each redraw. So the interval holds that other patients might have been scored, of
    these very groups; it says nothing of other groups.
    """
    r, note = None, f"of {len(y)} {points}"
    if len(y) < MIN_POINTS:
        note = f"fewer than {MIN_POINTS} {points}"
    else:
        value = float(pearson(_values(x), _values(y)))
        r = Redrawn(value, pearson(_draws(x), _draws(y)))
        note += "" if math.isfinite(value) else _STILL.get(measure, "; one of them is all alike")
    return _figure(judgement, judgement.whole, measure, r, note=note, n_points=len(y))


_STILL = {"r_size_auroc": "; all are of one size, or have one AUROC"}


def _values(figures: Sequence[float] | Sequence[Redrawn]) -> FloatArray:
    return np.array([one.value if isinstance(one, Redrawn) else one for one in figures])


def _draws(figures: Sequence[float] | Sequence[Redrawn]) -> FloatArray:
    """(R, K) of K figures; (K,) of K numbers, which are the same on each redraw."""
    return np.stack([one.draws if isinstance(one, Redrawn) else one for one in figures], axis=-1)


def pearson(x: FloatArray, y: FloatArray) -> NDArray[np.float64]:
    """Pearson's r of rows of x and of y, (..., K) each, (...); nan where either does not vary."""
    across, along = (one - one.mean(axis=-1, keepdims=True) for one in (x, y))
    spread = np.sqrt((across**2).sum(axis=-1) * (along**2).sum(axis=-1))
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


def epsilon_accuracy_correlation(
    differences: Mapping[float, Redrawn], like: FairnessFigure
) -> FairnessFigure:
    """Pearson's r between finite epsilons and a group's `accuracy_difference_paper` at each.

    The group is the same at each epsilon, and all are of the same redraws, so it has an interval.

    Args:
        differences: of that group, by epsilon.
        like: its figure at any of them, for what they are about.
    """
    epsilons, r = np.array([*differences]), None
    note = f"group {like.group} {like.note}; of {len(epsilons)} epsilons"
    if len(epsilons) < MIN_POINTS:
        note = f"fewer than {MIN_POINTS} epsilons"
    else:
        figures = [*differences.values()]
        value = float(pearson(epsilons, _values(figures)))
        r = Redrawn(value, pearson(epsilons, _draws(figures)))
        note += "" if math.isfinite(value) else "; all have one difference"
    none: dict[str, float | None] = {"value": None, "ci_low": None, "ci_high": None}
    interval = none if r is None else r.interval().to_json()
    about = {"measure": "r_epsilon_accuracy", "n_points": len(epsilons), "note": note}
    return like.model_copy(update={**interval, **about})
