"""The cells of a study: a strategy at an epsilon, with all of its seeds, as one row of a table."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from synthdp.evaluation.metrics import METRICS
from synthdp.evaluation.uncertainty.intervals import Interval
from synthdp.privacy.units import Unit
from synthdp.study.compare.defaults import choose
from synthdp.study.compare.results import NOT_RUN, CellKey, ResultRow, cell_key

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class OverSeeds:
    """A metric over seeds: mean, standard deviation (None for one seed), and its interval: the mean
    bounds of the seeds' own over patients, or the one to cite; None where no run has a value."""

    mean: float | None
    sd: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, eq=False)
class Cell:
    """All seeds of one strategy and tuned setting at one epsilon, trained on one set.

    rows: theirs in `results.csv`, at least one, by one target or by the mean over several; on one
    split of one data set (`cells_by_set`), or on all of them (`chosen_cells`). The epsilons are the
    worst over seeds. `cited_auroc` is the interval of the mean AUROC over patients and seeds, where
    one was made (`synthdp.study.compare.cited`).
    """

    rows: tuple[ResultRow, ...]
    cited_auroc: Interval | None = None

    @property
    def key(self) -> CellKey:
        """What all rows share."""
        return cell_key(self.rows[0])

    @property
    def strategy(self) -> str:
        """As the study names it."""
        return self.rows[0].strategy

    @property
    def epsilon(self) -> float | None:
        """The target asked for; None: without privacy."""
        return self.rows[0].epsilon

    @property
    def tuned(self) -> str:
        """As in `CellKey`."""
        return self.rows[0].tuned

    @property
    def trained_on(self) -> str:
        """As in `CellKey`."""
        return self.rows[0].trained_on

    @property
    def data_set(self) -> str:
        """The set that the first row was scored on."""
        return self.rows[0].data_set

    @property
    def split(self) -> str:
        """The split that the first row was scored on."""
        return self.rows[0].split

    @property
    def target(self) -> str:
        """As in `ResultRow`."""
        return self.rows[0].target

    @property
    def columns(self) -> dict[str, Any]:
        """What a `CellRow` about this cell on its split holds."""
        where = {"data_set": self.data_set, "split": self.split, "n_seeds": self.n_seeds}
        return {**self.key._asdict(), **where}

    @cached_property
    def finished(self) -> tuple[ResultRow, ...]:
        """The rows of runs that did not fail."""
        return tuple(row for row in self.rows if row.state == "finished")

    @cached_property
    def runs(self) -> tuple[str, ...]:
        """The folders of the runs that did not fail, each once."""
        return tuple(dict.fromkeys(row.run for row in self.finished))

    @property
    def n_asked(self) -> int:
        """How many runs the study asked for, those that failed too."""
        return len({row.seed for row in self.rows})

    @property
    def n_seeds(self) -> int:
        """How many rows have figures."""
        return len(self.finished)

    @property
    def n_failed(self) -> int:
        """How many rows have none, since their run failed."""
        return len(self.rows) - len(self.finished)

    @property
    def n_not_run(self) -> int:
        """How many of those that have no figures only wait for an interrupted study to go on."""
        return sum(row.state == "failed" and NOT_RUN in row.error for row in self.rows)

    @cached_property
    def metrics(self) -> Mapping[str, OverSeeds]:
        """Every metric over seeds."""
        return {name: self._over_seeds(name) for name in METRICS}

    def _over_seeds(self, metric: str) -> OverSeeds:
        values, lows, highs = (
            [value for row in self.finished if (value := getattr(row, metric + end)) is not None]
            for end in ("", "_ci_low", "_ci_high")
        )
        over_seeds = OverSeeds(
            mean=statistics.fmean(values) if values else None,
            sd=statistics.stdev(values) if len(values) > 1 else None,
            ci_low=statistics.fmean(lows) if lows else None,
            ci_high=statistics.fmean(highs) if highs else None,
        )
        if metric != "auroc" or self.cited_auroc is None:
            return over_seeds
        return replace(over_seeds, ci_low=self.cited_auroc.ci_low, ci_high=self.cited_auroc.ci_high)

    @property
    def epsilon_stage(self) -> float | None:
        """What the last stage spent."""
        return _worst(row.epsilon_stage for row in self.finished)

    @property
    def epsilon_end_to_end(self) -> float | None:
        """What the whole pipeline promises."""
        return _worst(row.epsilon_end_to_end for row in self.finished)

    @property
    def delta(self) -> float | None:
        """Of the promise."""
        return _worst(row.delta for row in self.finished)

    @property
    def unit(self) -> Unit | None:
        """Whom the promise is for."""
        return self.finished[0].unit if self.finished else None

    @property
    def n_images(self) -> int | None:
        """How many images were scored."""
        return _worst(row.n_images for row in self.finished)

    @property
    def n_patients(self) -> int | None:
        """How many patients these are of."""
        return _worst(row.n_patients for row in self.finished)

    @property
    def protected(self) -> bool:
        """Whether the whole pipeline keeps a promise to every patient."""
        return self.epsilon_end_to_end is not None and math.isfinite(self.epsilon_end_to_end)

    @property
    def voided(self) -> bool:
        """Whether a finite epsilon of the last stage holds for no patient.

        An earlier stage met the same patients without privacy.
        """
        return not self.protected and self.epsilon_stage not in (None, math.inf)

    @property
    def off_axis(self) -> bool:
        """Whether the last stage met no patient, and an earlier one met them without privacy.

        Its epsilon of 0 would say too much on an axis, and the cell is repeated at no other.
        """
        return self.voided and self.epsilon_stage == 0 and self.epsilon is None


def _worst(values: Iterable[Number | None]) -> Number | None:
    return max((value for value in values if value is not None), default=None)


def cells_by_set(rows: Iterable[ResultRow]) -> list[Cell]:
    """The cells on each split, by set, split, strategy (as they come) and epsilon (none last).

    Tuned settings, training sets and targets of one strategy and epsilon stand in the order in
    which they come.
    """
    groups: dict[tuple[str, str, str, CellKey], list[ResultRow]] = {}
    sets: dict[tuple[str, str], int] = {}
    strategies: dict[str, int] = {}
    for row in rows:
        groups.setdefault((row.data_set, row.split, row.target, cell_key(row)), []).append(row)
        sets.setdefault((row.data_set, row.split), len(sets))
        strategies.setdefault(row.strategy, len(strategies))
    cells = [Cell(tuple(group)) for group in groups.values()]
    return sorted(
        cells,
        key=lambda cell: (
            sets[cell.data_set, cell.split],
            strategies[cell.strategy],
            math.inf if cell.epsilon is None else cell.epsilon,
        ),
    )


def chosen_cells(rows: Sequence[ResultRow]) -> list[Cell]:
    """The cells over all sets, as they come; of tuned settings the chosen one."""
    chosen, groups = choose(rows), dict[CellKey, list[ResultRow]]()
    for row in rows:
        groups.setdefault(cell_key(row), []).append(row)
    cells: dict[CellKey, Cell] = {}
    for key, group in groups.items():
        if key.tuned == chosen.get((key.strategy, group[0].epsilon), key.tuned):
            cells.setdefault(key._replace(tuned=""), Cell(tuple(group)))
    return list(cells.values())


def sets_of(rows: Iterable[ResultRow]) -> list[tuple[str, str]]:
    """The evaluation sets: names and splits."""
    return list(dict.fromkeys((row.data_set, row.split) for row in rows))
