"""The recipes of a study: a strategy at an epsilon, with all of its runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from synthdp.study.compare import ResultRow
from synthdp.study.defaults import choose


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
