"""Runs and their evaluations as one results table, and the same over seeds."""

import csv
import io
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field, field_validator

from synthdp.config import EpsilonTarget, Settings, validate_settings
from synthdp.errors import InputError
from synthdp.evaluation.metrics import METRICS
from synthdp.files import write_atomic
from synthdp.privacy.lineage import Spent
from synthdp.privacy.mechanism import Unit
from synthdp.privacy.statement import Statement

MAX_RESULTS_BYTES = 64 * 2**20
_DECIMALS = 6
_QUOTED_PATH = re.compile(r"""(['"])(?:file://)?(?:/|~/|[A-Za-z]:[\\/])([^'"\n]*)\1""")
_BARE_PATH = re.compile(r"""(?<![\w./~-])(?:file://)?(?:/|~/|[A-Za-z]:[\\/])([^\s'"<>,;:()]+)""")


def without_paths(text: str) -> str:
    """The text with every absolute path cut to its last part, so that it names no machine."""

    def last_part(path: str) -> str:
        return re.split(r"[\\/]", path.rstrip("\\/"))[-1]

    quoted = _QUOTED_PATH.sub(lambda found: f"{found[1]}{last_part(found[2])}{found[1]}", text)
    return _BARE_PATH.sub(lambda found: last_part(found[1]), quoted)


class ResultRow(Settings):
    """One model scored on one split of one data set: a row of `results.csv`.

    `epsilon` is the target asked for (None: without privacy), `epsilon_end_to_end` what the whole
    pipeline promises, `epsilon_stage` what its last stage spent. A metric without a value (a
    failed run, one class missing) is None. `run` is the folder's name below the study.
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


COLUMNS = tuple(ResultRow.model_fields)


def evaluation_row(
    *,
    strategy: str,
    epsilon: float | None,
    seed: int,
    data_set: str,
    split: str,
    run: str,
    metrics: Mapping[str, Any],
    statement: Statement,
) -> ResultRow:
    """The row of a finished run from its evaluation's `metrics.json` and its statement.

    Of several targets the row holds the mean.
    """
    scores = metrics if "auroc" in metrics else metrics["mean"]
    parts = {"": "value", "_ci_low": "ci_low", "_ci_high": "ci_high"}
    cells: dict[str, Any] = {
        f"{name}{ending}": _rounded(scores[name][part])
        for name in METRICS
        for ending, part in parts.items()
    }
    return ResultRow(
        strategy=strategy,
        epsilon=epsilon,
        seed=seed,
        data_set=data_set,
        split=split,
        **cells,
        n_images=metrics["n_images"],
        n_patients=metrics["n_patients"],
        epsilon_stage=statement.epsilon_stage,
        epsilon_end_to_end=statement.epsilon,
        delta=statement.delta,
        unit=statement.unit,
        state="finished",
        run=run,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, _DECIMALS)


def failed_row(
    *,
    strategy: str,
    epsilon: float | None,
    seed: int,
    data_set: str,
    split: str,
    run: str,
    error: str,
) -> ResultRow:
    """The row of a run that failed, with its error on one line and free of absolute paths."""
    return ResultRow(
        strategy=strategy,
        epsilon=epsilon,
        seed=seed,
        data_set=data_set,
        split=split,
        state="failed",
        error=error,
        run=run,
    )


def results_csv(rows: Iterable[ResultRow]) -> str:
    """The rows as CSV: `none` for no privacy, `inf` for no promise, empty for no value."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = row.model_dump(mode="json")
        writer.writerow({**values, "epsilon": "none" if row.epsilon is None else row.epsilon})
    return stream.getvalue()


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
    if path.stat().st_size > MAX_RESULTS_BYTES:
        raise InputError(f"{path}: larger than {MAX_RESULTS_BYTES:,} bytes, so it was not read")
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        header, records = tuple(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not readable as UTF-8 CSV ({type(error).__name__})") from error
    if header != COLUMNS:
        differing = sorted({*header} ^ {*COLUMNS}) or ["their order"]
        raise InputError(
            f"{path}: columns differ from this version's ({', '.join(differing)}); "
            "run `synthdp study` again to write the table anew"
        )
    return [_read_row(record, f"{path}, row {row}") for row, record in enumerate(records, start=2)]


def _read_row(record: Mapping[str | None, Any], where: str) -> ResultRow:
    if None in record or None in record.values():
        raise InputError(f"{where}: has more or fewer cells than the header")
    values = {str(name): value for name, value in record.items() if value != ""}
    for name in ("data_set", "split", "run"):
        values.setdefault(name, "")
    return validate_settings(ResultRow, values, where=where)


@dataclass(frozen=True)
class OverSeeds:
    """A metric over seeds: mean, standard deviation (None for one seed), and the mean bounds of
    the interval over patients; None where no run has a value."""

    mean: float | None
    sd: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class Aggregate:
    """All seeds of one strategy at one epsilon on one split of one data set.

    The epsilons are the worst over seeds.
    """

    strategy: str
    epsilon: float | None
    data_set: str
    split: str
    n_seeds: int
    n_failed: int
    metrics: Mapping[str, OverSeeds]
    epsilon_stage: float | None
    epsilon_end_to_end: float | None
    delta: float | None
    unit: Unit | None
    n_images: int | None
    n_patients: int | None
    runs: tuple[str, ...]

    @property
    def protected(self) -> bool:
        """Whether the whole pipeline keeps a promise to every patient."""
        return self.epsilon_end_to_end is not None and math.isfinite(self.epsilon_end_to_end)

    @property
    def hollow(self) -> bool:
        """Whether the last stage spent a finite epsilon that an earlier stage made worthless."""
        return not self.protected and self.epsilon_stage not in (None, math.inf)

    @property
    def reference(self) -> bool:
        """Whether no stage met patients privately and the last met none: no place on the axis."""
        return self.hollow and self.epsilon_stage == 0 and self.epsilon is None


def aggregate(rows: Sequence[ResultRow]) -> list[Aggregate]:
    """The rows over seeds, by data set, split, strategy (as they come) and epsilon (none last)."""
    groups: dict[tuple[str, str, str, float | None], list[ResultRow]] = {}
    for row in rows:
        key = (row.data_set, row.split, row.strategy, row.epsilon)
        groups.setdefault(key, []).append(row)
    sets = list(dict.fromkeys(key[:2] for key in groups))
    strategies = list(dict.fromkeys(row.strategy for row in rows))
    ordered = sorted(
        groups,
        key=lambda key: (
            sets.index(key[:2]),
            strategies.index(key[2]),
            math.inf if key[3] is None else key[3],
        ),
    )
    return [_over_seeds(groups[key]) for key in ordered]


def _over_seeds(rows: Sequence[ResultRow]) -> Aggregate:
    finished = [row for row in rows if row.state == "finished"]
    return Aggregate(
        strategy=rows[0].strategy,
        epsilon=rows[0].epsilon,
        data_set=rows[0].data_set,
        split=rows[0].split,
        n_seeds=len(finished),
        n_failed=len(rows) - len(finished),
        metrics={name: _metric_over_seeds(name, finished) for name in METRICS},
        epsilon_stage=_worst(row.epsilon_stage for row in finished),
        epsilon_end_to_end=_worst(row.epsilon_end_to_end for row in finished),
        delta=_worst(row.delta for row in finished),
        unit=finished[0].unit if finished else None,
        n_images=_worst(row.n_images for row in finished),
        n_patients=_worst(row.n_patients for row in finished),
        runs=tuple(row.run for row in finished),
    )


def _metric_over_seeds(name: str, rows: Sequence[ResultRow]) -> OverSeeds:
    values = [value for row in rows if (value := getattr(row, name)) is not None]
    lows, highs = (
        [value for row in rows if (value := getattr(row, f"{name}_{end}")) is not None]
        for end in ("ci_low", "ci_high")
    )
    return OverSeeds(
        mean=statistics.fmean(values) if values else None,
        sd=statistics.stdev(values) if len(values) > 1 else None,
        ci_low=statistics.fmean(lows) if lows else None,
        ci_high=statistics.fmean(highs) if highs else None,
    )


def _worst(values: Iterable[Any]) -> Any:
    return max((value for value in values if value is not None), default=None)
