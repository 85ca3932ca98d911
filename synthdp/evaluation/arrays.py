"""Fairness and comparisons from plain arrays, for users of the library.

The same functions judge the runs of a study (`synthdp.evaluation.fairness`, `differences`); here
labels and scores come as arrays, and patients and attributes as columns. What comes out is an exact
function of the images: of patients it is outside every promise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synthdp.data.columns import UNKNOWN
from synthdp.errors import InputError
from synthdp.evaluation.fairness import FairnessFigure, judge_panel
from synthdp.evaluation.groups import Panel, groups_of_cells
from synthdp.evaluation.metrics import THRESHOLD, FloatArray
from synthdp.evaluation.predictions import Predictions, Scored
from synthdp.evaluation.settings import MARGIN, REDRAWS, FairnessSettings
from synthdp.evaluation.uncertainty.differences import (
    Estimate,
    correlated_aurocs,
    difference,
    mean_over_runs,
)
from synthdp.evaluation.uncertainty.intervals import LEVEL, Interval, redraws_of, with_known_target


def fairness(
    y: FloatArray,
    scores: FloatArray,
    groups: Sequence[object],
    attributes: Mapping[str, Sequence[object]],
    *,
    cuts: Mapping[str, Sequence[float]] | None = None,
    threshold: float = THRESHOLD,
    target: str = "malignant",
    redraws: int = REDRAWS,
    seed: int = 0,
) -> list[FairnessFigure]:
    """Does a model serve all groups alike: figures of each group, and how far groups lie apart.

    A group of fewer than ten patients of a class has no figure but its size.

    Args:
        y: (N,) of 1, 0 or nan (unknown, left out).
        scores: (N,), finite; or (S, N) of S models of one recipe, whose mean is judged.
        groups: N, the patient of each image.
        attributes: name of a column -> N cells, such as a view, a site or an age; None, nan and an
            empty text are unknown.
        cuts: name of a column -> rising points that cut its numbers into bins.
        threshold: where a score is called positive.
        target: what the figures call the class.
        redraws: how many times the patients are drawn for the intervals.
        seed: of the draws.

    Returns:
        A figure for each group and measure, then those of all groups together, such as
        `statistical_parity_difference` (Calders and Verwer 2010) and `worst_group_gap`.

    Raises:
        InputError: when a column makes no groups, a score is no number, or no target is known.
        ValueError: when lengths differ.
    """
    cuts = cuts or {}
    by = FairnessSettings.model_validate(
        {"attributes": {name: cuts.get(name) for name in attributes}, "redraws": redraws}
    )
    if unknown := sorted(set(cuts) - set(attributes)):
        raise InputError(
            f"cuts: {', '.join(unknown)} is no column of attributes ({', '.join(attributes)})"
        )
    runs = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    for one in runs:  # refuses what is no number, and lengths that differ
        with_known_target(y, one, groups)
    patients = [str(group) for group in groups]
    columns, weights = redraws_of(patients, seed, redraws)
    of_images = {}
    for name, cells in attributes.items():
        if len(cells) != len(patients):
            raise ValueError(
                f"attributes: {name} has {len(cells)} cells for {len(patients)} images"
            )
        words = [_cell(cell) for cell in cells]
        of_images[name] = np.array(
            groups_of_cells(words, name, by.attributes[name], where="attributes")
        )
    predictions = Predictions(
        images=tuple(map(str, range(len(patients)))),
        patients=tuple(patients),
        targets=(target,),
        labels=np.asarray(y, dtype=np.float64)[:, None],
        scores=runs[:, :, None],
    )
    scored = Scored(predictions, [(threshold,)] * len(runs))
    return judge_panel(scored, Panel(columns, weights, of_images))


def _cell(value: object) -> str:
    """A cell as its group is called; a whole number of a table of numbers is written as one."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


@dataclass(frozen=True)
class Comparison:
    """What `compare` gives: the AUROCs of two recipes and their difference, first less second.

    first, second, difference: with intervals over patients and, where a recipe has several runs,
    over runs. p: two-sided, that the true difference is 0. noninferior: whether the interval of the
    difference lies above -margin; p_noninferior: one-sided, that the first is worse by more. None
    where nothing can be tested.
    """

    first: Interval
    second: Interval
    difference: Interval
    p: float | None
    margin: float
    noninferior: bool | None
    p_noninferior: float | None

    def __str__(self) -> str:
        def shown(one: Interval) -> str:
            return f"{one.value:.3f} [{one.ci_low:.3f}, {one.ci_high:.3f}]"

        p = "" if self.p is None else f", p = {self.p:.3g}"
        return (
            f"AUROC {shown(self.first)} against {shown(self.second)}: "
            f"difference {shown(self.difference)}{p}"
        )


def compare(
    y: FloatArray,
    first: FloatArray,
    second: FloatArray,
    groups: Sequence[object],
    *,
    margin: float = MARGIN,
    level: float = LEVEL,
) -> Comparison:
    """Compare the AUROCs of two recipes on the same images: DeLong's test, by patient.

    With one run each it is the test of DeLong, DeLong and Clarke-Pearson (Biometrics 44:837, 1988)
    with Obuchowski's variance over patients (Biometrics 53:567, 1997); with several runs of a
    recipe their spread is added (`synthdp.evaluation.uncertainty.differences`).

    Args:
        y: (N,) of 1, 0 or nan (unknown, left out).
        first: scores (N,), finite; or (S, N) of S runs of one recipe.
        second: likewise; S may differ.
        groups: N, the patient of each image. Where each image is of another one, `range(N)`.
        margin: by how much the first may be worse and still count as no worse.
        level: of the intervals, in (0, 1).

    Raises:
        InputError: when a score is no number, or no target is known.
        ValueError: when lengths differ.
    """
    runs = [np.atleast_2d(np.asarray(one, dtype=np.float64)) for one in (first, second)]
    for one in (run for recipe in runs for run in recipe):
        labels, _, columns = with_known_target(y, one, groups)
    known = ~np.isnan(np.asarray(y, dtype=np.float64))
    scores = np.concatenate(runs)[:, known, None]
    figures = correlated_aurocs(labels, scores, columns)
    ours, theirs = range(len(runs[0])), range(len(runs[0]), len(scores))
    estimate = difference(figures, ours, theirs)
    interval = estimate.interval(level)
    p, p_noninferior = estimate.p_value(), estimate.p_noninferior(margin)
    return Comparison(
        first=_auroc(mean_over_runs(figures, ours), level),
        second=_auroc(mean_over_runs(figures, theirs), level),
        difference=interval.within(-1.0, 1.0),
        p=None if math.isnan(p) else p,
        margin=margin,
        noninferior=None if math.isnan(interval.ci_low) else interval.ci_low > -margin,
        p_noninferior=None if math.isnan(p_noninferior) else p_noninferior,
    )


def _auroc(estimate: Estimate, level: float) -> Interval:
    return estimate.interval(level).within(0.0, 1.0)
