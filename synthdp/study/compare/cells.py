"""The results table over seeds: one row a strategy, epsilon and tuned setting."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthdp.evaluation.metrics import METRICS
from synthdp.privacy.mechanism import Unit
from synthdp.study.compare.defaults import choose
from synthdp.study.compare.results import ResultRow


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
    """All seeds of one strategy and tuned setting at one epsilon on one split of one data set.

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
    tuned: str = ""
    trained_on: str = ""

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
    """The rows over seeds, by data set, split, strategy (as they come) and epsilon (none last).

    Tuned settings and training sets of one cell stand in the order in which they come.
    """
    groups: dict[tuple[str, str, str, float | None, str, str], list[ResultRow]] = {}
    for row in rows:
        place = (row.data_set, row.split)
        key = (*place, row.strategy, row.epsilon, row.tuned, row.trained_on)
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
        tuned=rows[0].tuned,
        trained_on=rows[0].trained_on,
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


# The recipes of a study: a strategy at an epsilon, with all of its runs.


@dataclass(frozen=True)
class Recipe:
    """All runs of a strategy at an epsilon; `asked` counts those that failed too."""

    strategy: str
    epsilon: float | None
    tuned: str
    trained_on: str
    asked: int
    runs: tuple[str, ...]
    epsilon_end_to_end: float | None


def recipes_of(rows: Sequence[ResultRow]) -> list[Recipe]:
    """The strategies at their epsilons, as they come; of tuned settings the chosen one."""
    chosen, groups = choose(rows), dict[tuple[str, float | None, str, str], list[ResultRow]]()
    for row in rows:
        key = (row.strategy, row.epsilon, row.tuned, row.trained_on)
        groups.setdefault(key, []).append(row)
    found: dict[tuple[str, float | None, str], Recipe] = {}
    for (strategy, epsilon, tuned, trained_on), group in groups.items():
        if tuned == chosen.get((strategy, epsilon), tuned):
            finished = [row for row in group if row.state == "finished"]
            spent = [
                row.epsilon_end_to_end for row in finished if row.epsilon_end_to_end is not None
            ]
            recipe = Recipe(
                strategy,
                epsilon,
                tuned,
                trained_on,
                len({row.cell for row in group}),
                tuple(dict.fromkeys(row.run for row in finished)),
                max(spent, default=None),
            )
            found.setdefault((strategy, epsilon, trained_on), recipe)
    return list(found.values())


def sets_of(rows: Iterable[ResultRow]) -> list[tuple[str, str]]:
    """The evaluation sets: names and splits."""
    return list(dict.fromkeys((row.data_set, row.split) for row in rows))
