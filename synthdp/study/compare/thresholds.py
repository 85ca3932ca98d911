"""Sensitivity and specificity of a study's cells at thresholds that were fixed on another split.

The threshold of each run is the highest that finds the wanted share of positives there. It is an
exact function of those patients, who therefore stand outside every promise: a threshold that may be
published comes from `synthdp calibrate`.
"""

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.config.settings import Settings
from synthdp.evaluation.metrics import MACRO
from synthdp.evaluation.operating_point import threshold_of_scores
from synthdp.evaluation.uncertainty.differences import correlated_shares, mean_over_runs
from synthdp.privacy.settings import EpsilonTarget
from synthdp.study.compare.cells import Cell, chosen_cells, sets_of
from synthdp.study.compare.predictions import ScoredRuns, read_scored
from synthdp.study.compare.results import ResultRow, six_digits, table_csv
from synthdp.study.compared import ComparePlan


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
    target: str = ""


def thresholds_csv(rows: Sequence[ThresholdRow]) -> str:
    """`thresholds.csv`: without a column of targets where no set has several."""
    several = any(row.target for row in rows)
    return table_csv(ThresholdRow, rows, () if several else THRESHOLDS_OF_ONE_TARGET)


#: As `COLUMNS_OF_ONE_TARGET`.
THRESHOLDS_OF_ONE_TARGET = tuple(ThresholdRow.model_fields)[:-1]


def threshold_rows(study: Path, rows: Sequence[ResultRow], plan: ComparePlan) -> list[ThresholdRow]:
    """Every cell on every other split than the one that thresholds are fixed on.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        plan: what is compared; without `threshold_on` there are no rows.
    """
    fixed_on = plan.threshold_on
    if fixed_on is None:
        return []
    cells = chosen_cells(rows)
    runs = [run for cell in cells for run in cell.runs]
    fitted = {
        target: _thresholds(scored, plan.sensitivity)
        for target, scored in _each_target(study, fixed_on.data_set, fixed_on.split, runs)
    }
    decided = []
    for data_set, split in sets_of(rows):
        if (data_set, split) == (fixed_on.data_set, fixed_on.split):
            continue
        for (target, scored), cell in product(_each_target(study, data_set, split, runs), cells):
            row = ThresholdRow(
                data_set=data_set,
                split=split,
                strategy=cell.strategy,
                epsilon=cell.epsilon,
                tuned=cell.tuned,
                trained_on=cell.trained_on,
                fixed_on=fixed_on.data_set,
                fixed_on_split=fixed_on.split,
                at_sensitivity=plan.sensitivity,
                n_seeds=0,
                target=target,
            )
            decided.append(row.model_copy(update=_decisions(scored, fitted.get(target, {}), cell)))
    return decided


def _each_target(
    study: Path, data_set: str, split: str, runs: Sequence[str]
) -> list[tuple[str, ScoredRuns]]:
    """What runs gave on one split by target: a threshold is of one, and a mean has none."""
    by_target = read_scored(study, data_set, split, runs).by_target()
    return [(target, scored) for target, scored in by_target if target != MACRO]


def _thresholds(scored: ScoredRuns, sensitivity: float) -> dict[str, float]:
    """Each run's threshold for its one target; none where no positive is known."""
    labels, scores = scored.predictions.labels, scored.predictions.scores
    if not (labels == 1).any():
        return {}
    known = ~np.isnan(labels[:, 0])
    positives = labels[known, 0].astype(np.float64)
    return {
        run: threshold_of_scores(
            scores[position, known, 0].astype(np.float64), positives, sensitivity
        )
        for run, position in scored.index.items()
    }


def _decisions(
    scored: ScoredRuns, fitted: dict[str, float], cell: Cell
) -> dict[str, float | str | None]:
    """The columns of a cell at its own thresholds."""
    labels, scores = scored.predictions.labels, scored.predictions.scores
    runs = [run for run in cell.runs if run in fitted and run in scored.index]
    missing = cell.n_asked - len(runs)
    lost = f"{missing} of {cell.n_asked} runs have no threshold or no predictions"
    columns: dict[str, float | str | None] = {"n_seeds": len(runs), "note": lost if missing else ""}
    if not runs:
        return columns
    thresholds = np.array([fitted[run] for run in runs])
    called = scores[scored.positions(runs), :, 0] >= thresholds[:, None]
    positive, negative = labels[:, 0] == 1, labels[:, 0] == 0
    return {
        **columns,
        "threshold_low": six_digits(float(thresholds.min())),
        "threshold_high": six_digits(float(thresholds.max())),
        **share_columns("sensitivity", called[:, positive], scored.patients[positive]),
        **share_columns("specificity", ~called[:, negative], scored.patients[negative]),
    }


def share_columns(
    name: str, hits: NDArray[np.bool_], patients: NDArray[np.intp]
) -> dict[str, float | None]:
    """A share over several runs with its interval and standard deviation, as columns of a table.

    Args:
        name: begins the columns' names.
        hits: (K, N) of K runs.
        patients: (N,), counted from 0.
    """
    shares = correlated_shares(hits, patients)
    estimate = mean_over_runs(shares, range(len(hits)))
    interval = estimate.interval().within(0.0, 1.0)
    # all or none of the images are hits, which is not known without error
    exact = estimate.standard_error == 0
    sd = float(shares.values.std(ddof=1)) if len(hits) > 1 else math.nan
    return {
        name: six_digits(estimate.value),
        f"{name}_ci_low": None if exact else six_digits(interval.ci_low),
        f"{name}_ci_high": None if exact else six_digits(interval.ci_high),
        f"{name}_sd_seeds": six_digits(sd),
    }
