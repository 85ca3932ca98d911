"""Does a classifier serve all groups alike? How far the groups of a judgement lie apart.

After arXiv 2302.01622, which follows the AUROC of groups, the statistical parity difference, and
Pearson's r through a range of epsilons. No difference is taken to a group that is too small, or
that lacks the class which the figure needs (`synthdp.evaluation.judging`).
"""

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synthdp.config import Settings
from synthdp.evaluation.groups import FairnessSettings
from synthdp.evaluation.judging import (
    GROUP_MEASURES,
    GroupMeasure,
    JudgedGroup,
    Judgement,
    judgements,
    panel_of,
)
from synthdp.evaluation.metrics import FloatArray
from synthdp.evaluation.scored import Estimate, ScoredImages

#: Two points always lie on a line.
MIN_POINTS = 3
TOO_FEW_GROUPS = "fewer than two groups to compare"

GapMeasure: TypeAlias = Literal[
    "statistical_parity_difference", "equal_opportunity_difference", "worst_group_gap"
]
Measure: TypeAlias = (
    GroupMeasure | GapMeasure | Literal["auroc_loss", "r_size_auroc", "r_epsilon_parity"]
)


class FairnessFigure(Settings):
    """One figure of one group, or of all groups together where `group` is empty.

    `auroc_loss` is the AUROC without privacy minus this one. A difference is that of two groups,
    which `note` names; `n_points` says how many points a correlation is of. `n_images` and
    `n_patients` are those of the group, or of the whole set. `threshold` is where a score
    is called positive, None where models have their own. A figure that can't be told is None, and
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
    return [
        figure
        for attribute, index, judgement in judgements(images, panel_of(images, by))
        for figure in figures(
            judgement,
            target=images.targets[index],
            attribute=attribute,
            threshold=images.threshold(index),
        )
    ]


def figures(
    judgement: Judgement,
    *,
    target: str,
    attribute: str,
    threshold: float | None,
    without_privacy: Judgement | None = None,
) -> list[FairnessFigure]:
    """All figures of a judgement: of each group, then of all groups together.

    `without_privacy` judges the same recipe without privacy on the same redraws.
    """
    about = {"target": target, "attribute": attribute, "threshold": threshold}
    found = [
        _figure(group, name, group.estimates.get(name), about)
        for group in judgement.groups
        for name in GROUP_MEASURES
    ]
    if without_privacy is not None:
        pairs = zip(judgement.groups, without_privacy.groups, strict=True)
        for group, free in pairs:
            both = group.has("auroc") and free.has("auroc")
            loss = free.estimates["auroc"].minus(group.estimates["auroc"]) if both else None
            found.append(_figure(group, "auroc_loss", loss, about))
    return [*found, *_gaps(judgement, about), _size_correlation(judgement, about)]


def _figure(
    group: JudgedGroup, measure: str, estimate: Estimate | None, about: Mapping[str, object]
) -> FairnessFigure:
    content = {"group": group.name, "measure": measure, **_numbers(estimate)}
    sizes = {"n_images": group.n_images, "n_patients": group.n_patients}
    return FairnessFigure.model_validate({**about, **content, **sizes, "note": group.why})


def _numbers(estimate: Estimate | None) -> dict[str, float | None]:
    return {} if estimate is None else estimate.interval().to_json()


def _gaps(judgement: Judgement, about: Mapping[str, object]) -> list[FairnessFigure]:
    return [
        _between("statistical_parity_difference", "positive_rate", judgement, about),
        _between("equal_opportunity_difference", "sensitivity", judgement, about),
        _worst_group(judgement, about),
    ]


def _between(
    measure: GapMeasure, of: str, judgement: Judgement, about: Mapping[str, object]
) -> FairnessFigure:
    """The highest group minus the lowest, each of them chosen by its value on the set itself.

    So the interval may reach below 0, which it could not if the extremes were chosen anew on each
    redraw; the more groups, the larger the difference that chance alone makes. Groups that are all
    alike say at what value: a model that calls no image positive has no difference either.
    """
    groups = judgement.with_value(of)
    if len(groups) < 2:
        return _of_all(measure, judgement, None, about, TOO_FEW_GROUPS)
    high = max(groups, key=lambda group: group.estimates[of].value)
    low = min(groups, key=lambda group: group.estimates[of].value)
    alike = ""
    if high is low:
        high, low, alike = groups[0], groups[1], f"; all alike, at {high.estimates[of].value:.3g}"
    difference = high.estimates[of].minus(low.estimates[of])
    note = f"group {high.name} minus group {low.name}, of {len(groups)} groups{alike}"
    return _of_all(measure, judgement, difference, about, note)


def _worst_group(judgement: Judgement, about: Mapping[str, object]) -> FairnessFigure:
    """The AUROC of all images minus that of the group with the lowest."""
    groups = judgement.with_value("auroc")
    if len(groups) < 2 or not judgement.whole.has("auroc"):
        return _of_all("worst_group_gap", judgement, None, about, TOO_FEW_GROUPS)
    worst = min(groups, key=lambda group: group.estimates["auroc"].value)
    gap = judgement.whole.estimates["auroc"].minus(worst.estimates["auroc"])
    note = f"all images minus group {worst.name}, of {len(groups)} groups"
    return _of_all("worst_group_gap", judgement, gap, about, note)


def _size_correlation(judgement: Judgement, about: Mapping[str, object]) -> FairnessFigure:
    """Pearson's r between the number of patients of a group, as evaluated, and its AUROC.

    Sizes are the same on each redraw, so that the interval is of the AUROCs alone. The sizes of
    groups in the training set would be the natural ones, but they are private.
    """
    groups = judgement.with_value("auroc")
    if len(groups) < MIN_POINTS:
        note = f"fewer than {MIN_POINTS} groups"
        return _of_all("r_size_auroc", judgement, None, about, note, len(groups))
    sizes = np.array([group.n_patients for group in groups], dtype=np.float64)
    value = pearson(sizes, np.array([group.estimates["auroc"].value for group in groups]))
    draws = pearson(sizes, np.stack([group.estimates["auroc"].draws for group in groups], axis=1))
    estimate = Estimate(float(value), draws)
    note = f"of {len(groups)} groups" + (
        "" if math.isfinite(estimate.value) else "; all are of one size, or have one AUROC"
    )
    return _of_all("r_size_auroc", judgement, estimate, about, note, len(groups))


def _of_all(  # noqa: PLR0917 (a line of a table, cell by cell)
    measure: str,
    judgement: Judgement,
    estimate: Estimate | None,
    about: Mapping[str, object],
    note: str,
    n_points: int | None = None,
) -> FairnessFigure:
    found = _figure(judgement.whole, measure, estimate, about)
    return found.model_copy(update={"n_points": n_points, "note": note})


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
