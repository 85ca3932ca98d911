"""A study's cells compared on the same patients, with runs and patients as sources of variance.

For each set and split: the mean AUROC of each strategy at each epsilon; its difference from the
same strategy without privacy; and its difference from a reference strategy at the same epsilon.
Differences that are named as primary come first, as a family of their own.
The tests are DeLong's by patient with runs as a second source, and Holm's adjustment
(`synthdp.evaluation.uncertainty.differences`). How much runs vary is known from all cells of a
split together (`synthdp.evaluation.uncertainty.seed_spread`), since each has a few runs alone. Of
tuned settings the chosen ones alone are compared.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from synthdp.config.settings import Settings
from synthdp.errors import InputError
from synthdp.evaluation.uncertainty.differences import (
    Correlated,
    Estimate,
    correlated_aurocs,
    difference,
    holm,
    mean_over_runs,
)
from synthdp.evaluation.uncertainty.intervals import (
    auroc_draws,
    patient_weights,
    percentile_interval,
)
from synthdp.evaluation.uncertainty.seed_spread import SeedSpread, moderated_spreads
from synthdp.machine.progress import progress
from synthdp.privacy.lineage import Spent
from synthdp.privacy.settings import EpsilonTarget
from synthdp.storage.files import write_atomic
from synthdp.study.compare.cells import Cell, chosen_cells, sets_of
from synthdp.study.compare.predictions import ScoredRuns, has_evaluations, read_scored
from synthdp.study.compare.results import (
    NOT_RUN,
    CellKey,
    ResultRow,
    read_rows,
    six_digits,
    table_csv,
)
from synthdp.study.compare.thresholds import (
    THRESHOLDS_OF_ONE_TARGET,
    ThresholdRow,
    threshold_rows,
    thresholds_csv,
)
from synthdp.study.compared import (
    ComparedGrid,
    ComparePlan,
    primary_cells,
    unfit_primary,
    unknown_reference,
)

COMPARISONS_FILE, THRESHOLDS_FILE = "comparisons.csv", "thresholds.csv"

Kind = Literal["mean", "primary", "without_privacy", "reference"]


class ComparisonRow(Settings):
    """A mean AUROC over seeds, or a difference of two: a row of `comparisons.csv`.

    kind: `mean`; `without_privacy`: less that of the same strategy without privacy;
    `reference`: less that of the strategy `against` at the same epsilon; `primary`: the same, of
    those alone that are named as primary (tables of earlier versions have none). `ci_low` and
    `ci_high` hold patients and seeds; those of `patients` come from redraws of the patients alone,
    with these very runs. `sd_seeds` is the standard deviation over runs; `se_seeds` and
    `se_patients` are what each source adds to the standard error of `value` (their squares add up),
    where seeds add what their spread holds beyond that of runs which err on other patients: it may
    be 0. `p` is that of no difference, `p_noninferior` that of a loss of `margin` or more; those
    with `holm` hold for all rows of a kind (and of one reference) on a split together, target by
    target. `noninferior`: `ci_low` lies above -margin. `note` says what is missing. `target` is
    empty where sets have one; of several there are rows of their mean, `macro`, then of each.
    """

    data_set: str
    split: str
    kind: Kind
    strategy: str = Field(min_length=1)
    epsilon: EpsilonTarget
    tuned: str = ""
    trained_on: str = ""
    against: str = ""
    n_seeds: int
    n_seeds_against: int | None = None
    epsilon_end_to_end: Spent | None = None
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    patients_ci_low: float | None = None
    patients_ci_high: float | None = None
    sd_seeds: float | None = None
    se_seeds: float | None = None
    se_patients: float | None = None
    margin: float | None = None
    p: float | None = None
    p_holm: float | None = None
    noninferior: bool | None = None
    p_noninferior: float | None = None
    p_noninferior_holm: float | None = None
    note: str = ""
    target: str = ""

    @property
    def smallest_gain(self) -> float | None:
        """The smallest true difference that a study of this size shows in four of five repeats, at
        5 % two-sided: 2.8 standard errors; None where these are not known."""
        if self.se_seeds is None or self.se_patients is None:
            return None
        return _SHOWN_ERRORS * math.hypot(self.se_seeds, self.se_patients)


#: Quantiles of the normal distribution at .975 and at .8, added up.
_SHOWN_ERRORS = 1.959964 + 0.841621


@dataclass(frozen=True)
class _OnOneSplit:
    """One split of a data set, by one target: its runs with their AUROCs, redraws of them, (K, R),
    and how much the runs of each cell vary, by the cell's key."""

    data_set: str
    split: str
    target: str
    scored: ScoredRuns
    aurocs: Correlated
    draws: NDArray[np.float64]
    spreads: Mapping[CellKey, SeedSpread | None]

    def positions(self, cell: Cell) -> list[int]:
        """Those of the cell's runs among the K."""
        return self.scored.positions(cell.runs)


#: The columns of a table in which every set has one target, as all had in earlier versions.
COLUMNS_OF_ONE_TARGET = tuple(ComparisonRow.model_fields)[:-1]


def comparisons_csv(rows: Sequence[ComparisonRow]) -> str:
    """`comparisons.csv`: without a column of targets where no set has several."""
    several = any(row.target for row in rows)
    return table_csv(ComparisonRow, rows, () if several else COLUMNS_OF_ONE_TARGET)


def comparison_rows(
    study: Path, rows: Sequence[ResultRow], plan: ComparePlan
) -> list[ComparisonRow]:
    """All comparisons of a study, from the predictions of its runs.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        plan: what is compared.
    """
    cells = chosen_cells(rows)
    references = plan.reference or tuple(cell.strategy for cell in cells[:1])
    compared = []
    for data_set, split in progress(
        list(sets_of(rows)), what="comparing models", public_unit="sets"
    ):
        for on in _on_one_split(study, data_set, split, cells, plan.redraws):
            compared += [_mean_row(on, cell) for cell in cells]
            compared += _adjusted(_primary_rows(on, cells, plan))
            compared += _adjusted(_privacy_rows(on, cells, plan.margin))
            for reference in references:
                compared += _adjusted(_reference_rows(on, cells, reference, plan.margin))
    return compared


def _on_one_split(
    study: Path, data_set: str, split: str, cells: Sequence[Cell], redraws: int
) -> Iterator[_OnOneSplit]:
    """One after the other: of several targets their mean, then each."""
    every = read_scored(study, data_set, split, [run for cell in cells for run in cell.runs])
    n_patients = int(every.patients.max()) + 1 if every.patients.size else 1
    # all cells share these redraws, so that the differences of their draws are paired
    weights = patient_weights(n_patients, redraws, np.random.default_rng(0))
    for target, scored in every.by_target():
        labels, scores = scored.predictions.labels, scored.predictions.scores
        aurocs = correlated_aurocs(labels, scores, scored.patients)
        draws = auroc_draws(labels, scores, scored.patients, weights)
        runs = [aurocs.values[scored.positions(cell.runs)] for cell in cells]
        spreads = dict(zip([cell.key for cell in cells], moderated_spreads(runs), strict=True))
        yield _OnOneSplit(data_set, split, target, scored, aurocs, draws, spreads)


def _mean_row(on: _OnOneSplit, cell: Cell) -> ComparisonRow:
    row, runs = _empty_row(on, cell, "mean", _notes(on, cell)), on.positions(cell)
    if not runs:
        return row
    values = on.aurocs.values[runs]
    estimate = mean_over_runs(on.aurocs, runs, on.spreads[cell.key])
    sd = float(values.std(ddof=1)) if len(runs) > 1 else math.nan
    figures = _figures(estimate, on.draws[runs].mean(axis=0), lowest=0.0)
    return row.model_copy(update={**figures, "sd_seeds": six_digits(sd)})


def compared_grid(cells: Sequence[Cell]) -> ComparedGrid:
    """What the cells of a study are of, in their order."""
    keys = dict[str, list[tuple[float | None, str]]]()
    for cell in cells:
        keys.setdefault(cell.strategy, []).append((cell.epsilon, cell.trained_on))
    level = frozenset(name for name, own in keys.items() if own == [(None, "")])
    crossed = [key for name, own in keys.items() if name not in level for key in own]
    epsilons, parts = zip(*(crossed or [(None, "")]), strict=True)
    return ComparedGrid(
        tuple(keys), level, tuple(dict.fromkeys(epsilons)), tuple(dict.fromkeys(parts))
    )


def _primary_rows(on: _OnOneSplit, cells: Sequence[Cell], plan: ComparePlan) -> list[ComparisonRow]:
    """One for each difference that is named, with figures or without."""
    grid = compared_grid(cells)
    by_key = {(cell.strategy, cell.epsilon, cell.trained_on): cell for cell in cells}
    rows = []
    for one in primary_cells(plan.primary, grid):
        place = one.epsilon, one.trained_on
        cell, other = (
            by_key.get((name, *((None, "") if name in grid.level else place)))
            for name in (one.strategy, one.against)
        )
        if cell is not None and other is not None:
            row = _difference_row(on, cell, other, "primary", plan.margin)
            # of a strategy that meets no patient the cell says neither
            rows.append(row.model_copy(update={"epsilon": place[0], "trained_on": place[1]}))
            continue
        lost = one.strategy if cell is None else one.against
        rows.append(
            ComparisonRow(
                data_set=on.data_set,
                split=on.split,
                kind="primary",
                strategy=one.strategy,
                epsilon=one.epsilon,
                trained_on=one.trained_on,
                against=one.against,
                n_seeds=0,
                note=f"{lost} has no run there",
                target=on.target,
            )
        )
    return rows


def _privacy_rows(on: _OnOneSplit, cells: Sequence[Cell], margin: float) -> list[ComparisonRow]:
    without = {(cell.strategy, cell.trained_on): cell for cell in cells if cell.epsilon is None}
    return [
        _difference_row(on, cell, other, "without_privacy", margin)
        for cell in cells
        if cell.epsilon is not None
        and (other := without.get((cell.strategy, cell.trained_on))) is not None
    ]


def _reference_rows(
    on: _OnOneSplit, cells: Sequence[Cell], reference: str, margin: float
) -> list[ComparisonRow]:
    others = {(cell.epsilon, cell.trained_on): cell for cell in cells if cell.strategy == reference}
    rows = []
    for cell in cells:
        if cell.strategy == reference:
            continue
        other = others.get((cell.epsilon, cell.trained_on))
        if other is not None:
            rows.append(_difference_row(on, cell, other, "reference", margin))
        else:
            note = f"{reference} has no run at this epsilon"
            row = _empty_row(on, cell, "reference", [note])
            rows.append(row.model_copy(update={"against": reference}))
    return rows


def _difference_row(
    on: _OnOneSplit, cell: Cell, other: Cell, kind: Kind, margin: float
) -> ComparisonRow:
    first, second = on.positions(cell), on.positions(other)
    notes = [*_notes(on, cell), *(f"compared with: {note}" for note in _notes(on, other))]
    figures: dict[str, float | bool | None] = {}
    if first and second:
        estimate = difference(
            on.aurocs, first, second, (on.spreads[cell.key], on.spreads[other.key])
        )
        if estimate.standard_error == 0 and estimate.value:
            notes.append("no variance on these patients, so nothing is tested")
        draws = on.draws[first].mean(axis=0) - on.draws[second].mean(axis=0)
        low = estimate.interval().ci_low
        figures = {
            **_figures(estimate, draws, lowest=-1.0),
            "p": six_digits(estimate.p_value()),
            "p_noninferior": six_digits(estimate.p_noninferior(margin)),
            "noninferior": None if math.isnan(low) else low > -margin,
        }
    about = {"against": other.strategy, "n_seeds_against": len(second), "margin": margin}
    return _empty_row(on, cell, kind, notes).model_copy(update={**about, **figures})


def _empty_row(on: _OnOneSplit, cell: Cell, kind: Kind, notes: Sequence[str]) -> ComparisonRow:
    """The row of a cell without any figure yet."""
    return ComparisonRow(
        data_set=on.data_set,
        split=on.split,
        kind=kind,
        strategy=cell.strategy,
        epsilon=cell.epsilon,
        tuned=cell.tuned,
        trained_on=cell.trained_on,
        n_seeds=len(on.positions(cell)),
        epsilon_end_to_end=cell.epsilon_end_to_end,
        note="; ".join(notes),
        target=on.target,
    )


def _figures(
    estimate: Estimate, draws: NDArray[np.float64], *, lowest: float
) -> dict[str, float | bool | None]:
    """The columns of an estimate in [lowest, 1], whose values on redraws are `draws`, (R,)."""
    interval = estimate.interval().within(lowest, 1.0)
    redrawn = percentile_interval(estimate.value, draws)
    return {
        "value": six_digits(estimate.value),
        "ci_low": six_digits(interval.ci_low),
        "ci_high": six_digits(interval.ci_high),
        "patients_ci_low": six_digits(redrawn.ci_low),
        "patients_ci_high": six_digits(redrawn.ci_high),
        "se_seeds": six_digits(math.sqrt(estimate.variance_seeds)),
        "se_patients": six_digits(math.sqrt(estimate.variance_patients)),
    }


def _notes(on: _OnOneSplit, cell: Cell) -> list[str]:
    """What is missing of a cell on a split, in words."""
    runs, problems = on.positions(cell), on.scored.problems
    n_waiting = len({row.seed for row in cell.rows if NOT_RUN in row.error})
    n_failed = cell.n_asked - len(cell.runs) - n_waiting
    counts = {"failed": n_failed, "not run yet": n_waiting}
    notes = [f"{count} of {cell.n_asked} runs {state}" for state, count in counts.items() if count]
    whys = [problems[run] for run in cell.runs if run in problems]
    notes += [f"{whys.count(why)} of {cell.n_asked} runs: {why}" for why in dict.fromkeys(whys)]
    if not runs:
        return notes or ["no run"]
    if math.isnan(on.aurocs.values[runs[0]]):
        return [*notes, "the set holds one class alone"]
    if np.isnan(on.aurocs.covariance[runs[0], runs[0]]):
        notes.append("a class has one patient alone, so there is no variance")
    return [*notes, "one seed, so the interval holds patients alone"] if len(runs) == 1 else notes


def _adjusted(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """The rows of one family with p-values that hold for all of them together (Holm)."""
    p_values, p_noninferior = (
        [six_digits(value) for value in holm([math.nan if p is None else p for p in column])]
        for column in ([row.p for row in rows], [row.p_noninferior for row in rows])
    )
    return [
        row.model_copy(update={"p_holm": p, "p_noninferior_holm": worse})
        for row, p, worse in zip(rows, p_values, p_noninferior, strict=True)
    ]


@dataclass(frozen=True)
class Comparisons:
    """The tables of a study's comparisons: AUROCs, and decisions at fixed thresholds (none without
    a setting)."""

    aurocs: tuple[ComparisonRow, ...]
    thresholds: tuple[ThresholdRow, ...]


def compare_study(study: Path, rows: Sequence[ResultRow], plan: ComparePlan) -> Comparisons:
    """Compare the runs of a study; a released study, which has no predictions, as it was compared.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        plan: what is compared.

    Raises:
        InputError: when the tables of a released study can't be read.
    """
    if not has_evaluations(study):
        return read_comparisons(study)
    return Comparisons(
        tuple(comparison_rows(study, rows, plan)), tuple(threshold_rows(study, rows, plan))
    )


def refuse_unfit_plan(study: Path, rows: Sequence[ResultRow], plan: ComparePlan) -> None:
    """Refuse a comparison that a finished study has nothing for.

    Args:
        study: the study's folder.
        rows: of its `results.csv`.
        plan: what is to be compared anew.

    Raises:
        InputError: when it has no predictions, since it was released, no strategy of a name of
            `reference`, not what `primary` names, or no such split to fix thresholds on.
    """
    if not has_evaluations(study):
        raise InputError(
            "compare: the study has no evaluations beside it, so that nothing can be compared "
            "anew; report the study where it ran"
        )
    grid = compared_grid(chosen_cells(rows))
    problem = unknown_reference(plan.reference, grid.strategies)
    problem = problem or unfit_primary(plan.primary, grid)
    if problem:
        raise InputError(problem)
    fixed_on, sets = plan.threshold_on, sets_of(rows)
    if fixed_on is not None and (fixed_on.data_set, fixed_on.split) not in sets:
        raise InputError(
            f"compare.threshold_on: {fixed_on.data_set}, {fixed_on.split}: models were not scored "
            f"there, but on {'; '.join(', '.join(names) for names in sets)}"
        )


def read_comparisons(study: Path) -> Comparisons:
    """Read the tables that `write_comparisons` wrote; none where there are none.

    Raises:
        InputError: when a table is of another version or damaged.
    """
    aurocs, thresholds = study / COMPARISONS_FILE, study / THRESHOLDS_FILE
    remedy = "`synthdp report`"
    return Comparisons(
        tuple(read_rows(aurocs, ComparisonRow, older=(COLUMNS_OF_ONE_TARGET,), remedy=remedy))
        if aurocs.is_file()
        else (),
        tuple(read_rows(thresholds, ThresholdRow, older=(THRESHOLDS_OF_ONE_TARGET,), remedy=remedy))
        if thresholds.is_file()
        else (),
    )


def write_comparisons(study: Path, comparisons: Comparisons) -> None:
    """Write `comparisons.csv`, and `thresholds.csv` where there are thresholds, atomically."""
    write_atomic(study / COMPARISONS_FILE, comparisons_csv(comparisons.aurocs))
    if comparisons.thresholds:
        write_atomic(study / THRESHOLDS_FILE, thresholds_csv(comparisons.thresholds))
    else:
        (study / THRESHOLDS_FILE).unlink(missing_ok=True)
