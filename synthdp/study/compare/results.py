"""`results.csv`: every model of a study on every set, and how all tables of a study are read.

A table is a CSV file of typed rows: the fields of their class are its columns.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from pydantic import Field, field_validator

from synthdp.config.settings import MAX_LISTED, Settings, validate_settings
from synthdp.data.manifest.tables import NO_ROWS, csv_text, read_table
from synthdp.errors import InputError
from synthdp.evaluation.metrics import MACRO, METRICS
from synthdp.evaluation.predictions import figures_by_target, read_metrics
from synthdp.privacy.lineage import Spent
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.settings import EpsilonTarget
from synthdp.privacy.units import Unit
from synthdp.storage.files import write_atomic
from synthdp.storage.paths import without_paths
from synthdp.study.sweep.grid import Evaluation
from synthdp.study.sweep.tuning import read_tuned

RESULTS_FILE = "results.csv"
#: The error, in a study that was interrupted, of models that are not made or not scored.
NOT_RUN = "not run yet: the study was interrupted, and the same command goes on"
MAX_STUDY_TABLE_BYTES = 16 * 2**20
_DECIMALS = 6
_PARTS = {"": "value", "_ci_low": "ci_low", "_ci_high": "ci_high"}

Row = TypeVar("Row", bound=Settings)


def table_csv(row_class: type[Row], rows: Iterable[Row], columns: Sequence[str] = ()) -> str:
    """The rows as CSV: `none` for no privacy, `inf` for no promise, empty for no value.

    Its columns are the fields of the class, or some of them.
    """
    columns = columns or list(row_class.model_fields)
    cells = []
    for row in rows:
        values = row.model_dump(mode="json")
        words = {"epsilon": "none"} if values.get("epsilon", 0) is None else {}
        cells.append([{**values, **words}[name] for name in columns])
    return csv_text(columns, cells)


def read_rows(
    path: Path, row_class: type[Row], *, older: Sequence[tuple[str, ...]] = (), remedy: str
) -> list[Row]:
    """Read a table that `table_csv` wrote.

    Args:
        path: the file.
        row_class: what its rows are.
        older: headers of older versions that are read too.
        remedy: the command that writes the table anew.

    Raises:
        InputError: when the file is missing, too large, of another version, or a cell is wrong.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such table; run {remedy} to write it")
    table = read_table(path, max_bytes=MAX_STUDY_TABLE_BYTES)
    columns = tuple(row_class.model_fields)
    if table.columns and table.columns not in (columns, *older):
        differing = sorted({*table.columns} ^ {*columns})[:MAX_LISTED] or ["their order"]
        raise InputError(
            f"{path}: columns differ from this version's ({', '.join(differing)}); run {remedy} "
            "again to write the table anew"
        )
    if problems := [one for one in table.problems if one != NO_ROWS]:
        raise InputError(f"{path}: {'; '.join(problems[:5])}; run {remedy} to write it anew")
    return [
        _read_row(row_class, record, f"{path}, row {row}") for row, record in table.records.items()
    ]


def _read_row(row_class: type[Row], record: Mapping[str, str], where: str) -> Row:
    values: dict[str, Any] = {name: value for name, value in record.items() if value != ""}
    for name, field in row_class.model_fields.items():
        if field.annotation is str:
            values.setdefault(name, "")
    return validate_settings(row_class, values, where=where)


def rounded_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows as `fairness.csv` and `transfer.csv` hold them: to six decimals."""
    return [
        row.model_copy(
            update={
                name: round(value, _DECIMALS)
                for name in type(row).model_fields
                if isinstance(value := getattr(row, name), float)
            }
        )
        for row in rows
    ]


def six_digits(value: float) -> float | None:
    """A figure as `comparisons.csv` and `thresholds.csv` hold it; None where it is nan."""
    return None if math.isnan(value) else float(f"{value:.6g}")


# Which models a row is about.


class CellKey(NamedTuple):
    """Which models: all seeds of one strategy at one epsilon.

    `epsilon` is the target asked for (None, written `none`: without privacy), or `all` for a figure
    through all finite ones. `tuned` is compact JSON of the values that the study tried, empty where
    it tried none; `trained_on` names the site that they were trained at, empty where the study has
    one training set alone.
    """

    strategy: str
    epsilon: float | Literal["all"] | None
    tuned: str
    trained_on: str


class _OfACell(Protocol):
    @property
    def strategy(self) -> str: ...
    @property
    def epsilon(self) -> float | Literal["all"] | None: ...
    @property
    def tuned(self) -> str: ...
    @property
    def trained_on(self) -> str: ...


def cell_key(row: _OfACell) -> CellKey:
    """The cell that a row of any table, or of the grid, belongs to."""
    return CellKey(row.strategy, row.epsilon, row.tuned, row.trained_on)


class CellRow(Settings):
    """The columns of a row about a cell on one split: what `CellKey` says, where, and how many."""

    strategy: str
    epsilon: EpsilonTarget | Literal["all"]
    tuned: str = ""
    trained_on: str = ""
    data_set: str
    split: str
    n_seeds: int


class ResultRow(Settings):
    """One model scored on one split of one data set, by one target: a row of `results.csv`.

    `target` is empty where a set has one target; of several there is a row for each, and before
    them one of their mean, `macro`, over those of which both classes are there.
    `epsilon` is the target asked for (None: without privacy), `epsilon_end_to_end` what the whole
    pipeline promises, `epsilon_stage` what its last stage spent. A metric without a value (a
    failed run, one class missing, an evaluation of an older version) is None. `run` is the folder's
    name below the study. `tuned` and `trained_on` are those of `CellKey`. New columns are added at
    the end, so that an older table is a beginning.
    """

    strategy: str = Field(min_length=1)
    epsilon: EpsilonTarget
    seed: int
    data_set: str
    split: str
    auroc: float | None = None
    auroc_ci_low: float | None = None
    auroc_ci_high: float | None = None
    auprc: float | None = None
    auprc_ci_low: float | None = None
    auprc_ci_high: float | None = None
    sensitivity: float | None = None
    sensitivity_ci_low: float | None = None
    sensitivity_ci_high: float | None = None
    specificity: float | None = None
    specificity_ci_low: float | None = None
    specificity_ci_high: float | None = None
    n_images: int | None = None
    n_patients: int | None = None
    epsilon_stage: Spent | None = None
    epsilon_end_to_end: Spent | None = None
    delta: float | None = None
    unit: Unit | None = None
    state: Literal["finished", "failed"]
    error: str = ""
    run: str
    tuned: str = ""
    trained_on: str = ""
    auprc_benign: float | None = None
    auprc_benign_ci_low: float | None = None
    auprc_benign_ci_high: float | None = None
    specificity_at_sensitivity: float | None = None
    specificity_at_sensitivity_ci_low: float | None = None
    specificity_at_sensitivity_ci_high: float | None = None
    brier: float | None = None
    brier_ci_low: float | None = None
    brier_ci_high: float | None = None
    calibration_slope: float | None = None
    calibration_slope_ci_low: float | None = None
    calibration_slope_ci_high: float | None = None
    calibration_intercept: float | None = None
    calibration_intercept_ci_low: float | None = None
    calibration_intercept_ci_high: float | None = None
    target: str = ""

    @property
    def model(self) -> tuple[CellKey, int]:
        """The model's cell and seed; it is scored on each of the study's sets."""
        return cell_key(self), self.seed

    @field_validator("error")
    @classmethod
    def _error_names_no_path(cls, error: str) -> str:
        return without_paths(" ".join(error.split()))

    @field_validator("run")
    @classmethod
    def _run_stands_below_the_study(cls, run: str) -> str:
        if PurePosixPath(run).is_absolute() or ".." in PurePosixPath(run).parts or "\\" in run:
            raise ValueError("a run is named relative to its study")
        return run

    @field_validator("tuned")
    @classmethod
    def _tuned_values_can_be_read(cls, tuned: str) -> str:
        read_tuned(tuned)
        return tuned


COLUMNS = tuple(ResultRow.model_fields)
#: The columns of a table in which every set has one target, as all had in earlier versions.
COLUMNS_OF_ONE_TARGET = COLUMNS[: COLUMNS.index("target")]
#: Tables from before studies could train at several sites, and from before they could tune; they
#: are read as tables in which nothing of the kind was done.
COLUMNS_BEFORE_TUNING = COLUMNS[: COLUMNS.index("tuned")]
COLUMNS_BEFORE_TRANSFER = COLUMNS[: COLUMNS.index("trained_on")]


def evaluation_row(
    *, metrics: Mapping[str, Any], statement: Statement, **columns: Any
) -> ResultRow:
    """The row of a finished run, by one target or by the mean over several.

    Evaluations of older versions lack some metrics.

    Args:
        metrics: what its evaluation's `metrics.json` holds of one target, or of the mean.
        statement: of the run.
        columns: those that say which model it is, on what it was scored, and by which target.
    """
    figures: dict[str, Any] = {
        f"{name}{ending}": _six_decimals(metrics[name][part])
        for name in METRICS
        if name in metrics
        for ending, part in _PARTS.items()
    }
    return ResultRow(
        **columns,
        **figures,
        n_images=metrics["n_images"],
        n_patients=metrics["n_patients"],
        epsilon_stage=statement.epsilon_stage,
        epsilon_end_to_end=statement.epsilon,
        delta=statement.delta,
        unit=statement.unit,
        state="finished",
    )


def headline_rows(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """One row for each model and split: of its only target, or of the mean over several."""
    return [row for row in rows if row.target in ("", MACRO)]


def rows_by_target(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The other rows: those of each target where there are several."""
    return [row for row in rows if row.target not in ("", MACRO)]


def _six_decimals(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, _DECIMALS)


def result_rows(evaluations: Iterable[Evaluation], failures: Mapping[str, str]) -> list[ResultRow]:
    """The rows of `results.csv`, read from runs and evaluations.

    Args:
        evaluations: of every model on every split.
        failures: errors by the folder of the model's run, in place of scores.
    """
    rows = []
    for one in evaluations:
        row, run = one.row, one.row.model
        columns: dict[str, Any] = {
            "strategy": row.strategy,
            "epsilon": row.epsilon,
            "seed": row.seed,
            "tuned": row.tuned,
            "trained_on": row.trained_on,
            "data_set": one.data_set,
            "split": one.split,
            "run": run.name,
        }
        error = failures.get(run.name)
        if error is None:
            try:
                metrics, statement = read_metrics(one.folder), read_statement(run)
            except InputError as problem:  # deleted since it was finished
                error = f"{run.name}: deleted or cut while the study was at work ({problem})"
            else:
                rows += [
                    evaluation_row(**columns, target=target, metrics=figures, statement=statement)
                    for target, figures in figures_by_target(metrics).items()
                ]
                continue
        rows.append(ResultRow(**columns, state="failed", error=error))
    several = {(row.data_set, row.split) for row in rows if row.target == MACRO}
    return [
        row.model_copy(update={"target": MACRO})
        if row.state == "failed" and (row.data_set, row.split) in several
        else row
        for row in rows
    ]


def results_csv(rows: Sequence[ResultRow]) -> str:
    """`results.csv`: without a column of targets where no set has several."""
    several = any(row.target for row in rows)
    return table_csv(ResultRow, rows, COLUMNS if several else COLUMNS_OF_ONE_TARGET)


def write_results(path: Path, rows: Sequence[ResultRow]) -> None:
    """Write `results.csv`, atomically."""
    write_atomic(path, results_csv(rows))


def read_results(path: Path) -> list[ResultRow]:
    """Read `results.csv`.

    Raises:
        InputError: when the file is missing, too large, of another version, or a cell is wrong.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no results table; run `synthdp study` first")
    older = (COLUMNS_OF_ONE_TARGET, COLUMNS_BEFORE_TRANSFER, COLUMNS_BEFORE_TUNING)
    return read_rows(path, ResultRow, older=older, remedy="`synthdp study`")
