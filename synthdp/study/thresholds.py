"""Sensitivity and specificity at thresholds that were fixed on another split.

The threshold of each run is the highest that finds the wanted share of positives there. It is an
exact function of those patients, who therefore stand outside every promise: a threshold that may
be published comes from `synthdp calibrate`.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.config import EpsilonTarget, Settings
from synthdp.evaluation.comparisons import mean_over_runs
from synthdp.evaluation.delong import correlated_shares
from synthdp.evaluation.operating_point import threshold_of_scores
from synthdp.study.compare import ResultRow
from synthdp.study.comparison_plan import ComparePlan, FixedOn
from synthdp.study.comparisons import rounded
from synthdp.study.predictions import ScoredRuns, read_scored
from synthdp.study.recipes import Recipe, recipes_of, sets_of


class ThresholdRow(Settings):
    """A recipe at its own thresholds on one split: a row of `thresholds.csv`.

    Thresholds find a share `at_sensitivity` of the positives of `fixed_on`, `fixed_on_split`, one
    for each run, from `threshold_low` to `threshold_high`. Means over runs, with intervals that
    hold seeds and patients (of this split; thresholds are taken as given) and standard deviations
    over runs; no interval where all or none are found. `note` says what is missing.
    """

    data_set: str
    split: str
    strategy: str
    epsilon: EpsilonTarget
    tuned: str = ""
    trained_on: str = ""
    fixed_on: str
    fixed_on_split: str
    at_sensitivity: float
    n_seeds: int
    threshold_low: float | None = None
    threshold_high: float | None = None
    sensitivity: float | None = None
    sensitivity_ci_low: float | None = None
    sensitivity_ci_high: float | None = None
    sensitivity_sd_seeds: float | None = None
    specificity: float | None = None
    specificity_ci_low: float | None = None
    specificity_ci_high: float | None = None
    specificity_sd_seeds: float | None = None
    note: str = ""


def threshold_rows(study: Path, rows: Sequence[ResultRow], plan: ComparePlan) -> list[ThresholdRow]:
    """Every recipe on every other split than the one that thresholds are fixed on.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        plan: what is compared; without `threshold_on` there are no rows.
    """
    fixed_on = plan.threshold_on
    if fixed_on is None:
        return []
    recipes = recipes_of(rows)
    runs = [run for recipe in recipes for run in recipe.runs]
    fitted = _fitted(read_scored(study, fixed_on.data_set, fixed_on.split, runs), plan.sensitivity)
    found = []
    for data_set, split in sets_of(rows):
        if (data_set, split) != (fixed_on.data_set, fixed_on.split):
            scored = read_scored(study, data_set, split, runs)
            for recipe in recipes:
                cells = {"data_set": data_set, "split": split, **_asked(recipe, fixed_on, plan)}
                found.append(
                    ThresholdRow.model_validate({**cells, **_figures(scored, fitted, recipe)})
                )
    return found


def _asked(recipe: Recipe, fixed_on: FixedOn, plan: ComparePlan) -> dict[str, object]:
    return {
        "strategy": recipe.strategy,
        "epsilon": recipe.epsilon,
        "tuned": recipe.tuned,
        "trained_on": recipe.trained_on,
        "fixed_on": fixed_on.data_set,
        "fixed_on_split": fixed_on.split,
        "at_sensitivity": plan.sensitivity,
    }


def _fitted(scored: ScoredRuns, sensitivity: float) -> dict[str, float]:
    """Each run's threshold; none where no positive is known, or there are several targets."""
    if scored.targets.shape[1] != 1 or not (scored.targets == 1).any():
        return {}
    known = ~np.isnan(scored.targets[:, 0])
    positives = scored.targets[known, 0]
    return {
        run: threshold_of_scores(scored.scores[place, known, 0], positives, sensitivity)
        for run, place in scored.places.items()
    }


def _figures(scored: ScoredRuns, fitted: dict[str, float], recipe: Recipe) -> dict[str, object]:
    if scored.targets.shape[1] != 1:
        return {"n_seeds": 0, "note": "thresholds are fixed for one target alone"}
    runs = [run for run in recipe.runs if run in fitted and run in scored.places]
    missing = recipe.asked - len(runs)
    lost = f"{missing} of {recipe.asked} runs have no threshold or no predictions"
    cells: dict[str, object] = {"n_seeds": len(runs), "note": lost if missing else ""}
    if not runs:
        return cells
    thresholds = np.array([fitted[run] for run in runs])
    called = scored.scores[[scored.places[run] for run in runs], :, 0] >= thresholds[:, None]
    targets = scored.targets[:, 0]
    return {
        **cells,
        "threshold_low": rounded(float(thresholds.min())),
        "threshold_high": rounded(float(thresholds.max())),
        **_share("sensitivity", called[:, targets == 1], scored.patients[targets == 1]),
        **_share("specificity", ~called[:, targets == 0], scored.patients[targets == 0]),
    }


def _share(
    name: str, hits: NDArray[np.bool_], patients: NDArray[np.intp]
) -> dict[str, float | None]:
    figures = correlated_shares(hits, patients)
    estimate = mean_over_runs(figures, range(len(hits)))
    low, high = np.clip(estimate.interval(), 0.0, 1.0)
    if estimate.standard_error == 0:  # all or none are found, which is not known without error
        low = high = math.nan
    sd = float(figures.values.std(ddof=1)) if len(hits) > 1 else math.nan
    return {
        name: rounded(estimate.value),
        f"{name}_ci_low": rounded(float(low)),
        f"{name}_ci_high": rounded(float(high)),
        f"{name}_sd_seeds": rounded(sd),
    }
