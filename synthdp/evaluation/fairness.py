"""Does a classifier serve all groups alike? Figures by group, and how far groups lie apart.

After arXiv 2302.01622, which follows the AUROC of groups, the statistical parity difference, and
Pearson's r through a range of epsilons. All groups of all models share the redraws of the patients,
so that intervals of differences are paired ones.

A group that has fewer than `MIN_PATIENTS` patients of a class that it holds is too small to say
anything: it is named with its size alone, and no difference is taken to it. A group of one class
alone has the figures that need no other.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synthdp.config import Settings
from synthdp.evaluation.groups import FairnessSettings, group_names, sorted_groups
from synthdp.evaluation.metrics import METRICS, FloatArray
from synthdp.evaluation.scored import Estimate, Scored, ScoredImages, mean_over_models, redraws_of
from synthdp.evaluation.statistics import bootstrap_draws

#: Fewest patients of each class that a group has in it, for its figures to be told.
MIN_PATIENTS = 10
#: Two points always lie on a line.
MIN_POINTS = 3
ONE_CLASS = "one class alone"
TOO_FEW = f"too few: fewer than {MIN_PATIENTS} patients of a class"
TOO_FEW_GROUPS = "fewer than two groups to compare"

GroupMeasure: TypeAlias = Literal[
    "prevalence", "auroc", "sensitivity", "specificity", "positive_rate"
]
GapMeasure: TypeAlias = Literal[
    "statistical_parity_difference", "equal_opportunity_difference", "worst_group_gap"
]
Measure: TypeAlias = (
    GroupMeasure | GapMeasure | Literal["auroc_loss", "r_size_auroc", "r_epsilon_parity"]
)
GROUP_MEASURES: tuple[GroupMeasure, ...] = (
    "prevalence",
    "auroc",
    "sensitivity",
    "specificity",
    "positive_rate",
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


def estimates(scored: Scored, weights: NDArray[np.int64]) -> dict[str, Estimate]:
    """Every measure of a group, each the mean over the models.

    Args:
        scored: the images of the group.
        weights: (R, P) of `patient_weights`, of all patients.
    """
    images = weights[:, scored.patients].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = images.sum(axis=1)
        prevalence = Estimate(float(scored.labels.mean()), images @ scored.labels / total)
    models: dict[str, list[Estimate]] = {name: [] for name in GROUP_MEASURES[1:]}
    for scores, threshold in zip(scored.scores, scored.thresholds, strict=True):
        draws = bootstrap_draws(
            scored.labels, scores, scored.patients, weights, threshold=threshold
        )
        for name in ("auroc", "sensitivity", "specificity"):
            value = METRICS[name](scored.labels, scores, threshold)
            models[name].append(Estimate(value, draws[name]))
        called = (scores >= threshold).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            models["positive_rate"].append(Estimate(float(called.mean()), images @ called / total))
    means = {name: mean_over_models(found) for name, found in models.items()}
    return {"prevalence": prevalence, **means}


def _judge_group(name: str, scored: Scored, weights: NDArray[np.int64]) -> JudgedGroup:
    by_class = [np.unique(scored.patients[scored.labels == label]).size for label in (0, 1)]
    present = [count for count in by_class if count]
    n_patients = np.unique(scored.patients).size
    if not present or min(present) < MIN_PATIENTS:
        return JudgedGroup(name, len(scored.labels), n_patients, {}, TOO_FEW)
    found = estimates(scored, weights)
    why = ONE_CLASS if len(present) == 1 else ""
    return JudgedGroup(name, len(scored.labels), n_patients, found, why)


def judge(scored: Scored, names: Sequence[str], weights: NDArray[np.int64]) -> Judgement:
    """Judge one target by the groups of one attribute.

    Args:
        scored: the N images whose label is known.
        names: the group of each, N.
        weights: (R, P) of `patient_weights`.
    """
    places = np.asarray(names)
    groups = [
        _judge_group(name, scored.of(places == name), weights) for name in sorted_groups(names)
    ]
    return Judgement(_judge_group("", scored, weights), tuple(groups))


def judgements(images: ScoredImages, by: FairnessSettings) -> Iterator[tuple[str, int, Judgement]]:
    """Judge models by every attribute and target: its name, the target's index, the judgement."""
    patients = [row.patient_id for row in images.rows]
    columns, weights = redraws_of(patients, by.seed, by.redraws)
    for attribute, cuts in by.attributes.items():
        names = np.array(group_names(images.dataset, images.rows, attribute, cuts))
        for index in range(len(images.targets)):
            scored, known = images.target(index, columns)
            yield attribute, index, judge(scored, names[known].tolist(), weights)


def judge_images(images: ScoredImages, by: FairnessSettings) -> list[FairnessFigure]:
    """All figures of models by themselves."""
    return [
        figure
        for attribute, index, judgement in judgements(images, by)
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
    redraw; the more groups, the larger the difference that chance alone makes.
    """
    groups = judgement.with_value(of)
    if len(groups) < 2:
        return _of_all(measure, judgement, None, about, TOO_FEW_GROUPS)
    high = max(groups, key=lambda group: group.estimates[of].value)
    low = min(groups, key=lambda group: group.estimates[of].value)
    if high is low:  # all alike
        high, low = groups[0], groups[1]
    difference = high.estimates[of].minus(low.estimates[of])
    note = f"group {high.name} minus group {low.name}, of {len(groups)} groups"
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

    The sizes of groups in the training set would be the natural ones, but they are private.
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
    """Pearson's r of x (K,) with each row of y (..., K); nan where either does not vary."""
    across, along = x - x.mean(), y - y.mean(axis=-1, keepdims=True)
    spread = np.sqrt((across**2).sum() * (along**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.where(spread > 1e-12, (along * across).sum(axis=-1) / spread, np.nan)
    return np.asarray(np.clip(r, -1, 1))


def epsilon_correlation(
    parities: Mapping[float, FairnessFigure], like: FairnessFigure
) -> FairnessFigure:
    """Pearson's r between finite epsilons and the statistical parity difference at each.

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
    return like.model_copy(
        update={
            "measure": "r_epsilon_parity",
            "value": None if math.isnan(value) else value,
            "ci_low": None,
            "ci_high": None,
            "n_points": len(points),
            "note": note,
        }
    )
