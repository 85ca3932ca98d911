"""Comparisons as tables for papers: what each strategy gains, with intervals, by epsilon."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from synthdp.runs.cards import one_line
from synthdp.study.compare.aurocs import ComparisonRow, comparisons_csv
from synthdp.study.compare.cited import held_words
from synthdp.study.report.settings import TableFormat
from synthdp.study.report.summary import strategy_words
from synthdp.study.report.tables import asked_words, latex_table, latex_text
from synthdp.study.sweep.tuning import tuned_words

SIGNIFICANT = 0.05
NOTE = (
    "difference in mean AUROC over seeds [95 % interval]; models are compared on the same patients"
)
MARK_NOTE = f"*: p < {SIGNIFICANT:g} after Holm's adjustment for all differences of this table"
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class DifferenceGrid:
    """Differences on one evaluation set as strategy x epsilon; `cells` go by name and epsilon."""

    title: str
    epsilons: tuple[float | None, ...]
    names: tuple[str, ...]
    cells: Mapping[tuple[str, float | None], ComparisonRow]

    @property
    def note(self) -> str:
        """How the figures were made, and of how many seeds they are."""
        rows = [row for row in self.cells.values() if row.value is not None]
        seeds = sorted({row.n_seeds for row in rows})
        pairs = {max(row.n_seeds, row.n_seeds_against or 1) for row in rows}
        words = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        marked = f" {MARK_NOTE}." if any(map(_significant, rows)) else ""
        count = f"{words} seed{'' if words == '1' else 's'}"
        return f"{NOTE}; intervals {held_words(pairs)}; {count}.{marked}"


def comparison_table(
    rows: Sequence[ComparisonRow], kind: TableFormat, *, title: str, registered: bool = False
) -> str:
    """The differences of a study as text.

    Args:
        rows: of its comparisons.
        kind: csv is `comparisons.csv` itself; the others show each set, and each reference, as
            strategy x epsilon, and the primary differences together.
        title: of the study.
        registered: whether the study was started with its primary differences.
    """
    if kind == "csv":
        return comparisons_csv(rows)
    write: Callable[[DifferenceGrid, str], str] = _markdown if kind == "markdown" else _latex
    return "\n".join(write(grid, title) for grid in _grids(rows, registered=registered))


def _grids(rows: Sequence[ComparisonRow], *, registered: bool) -> Iterator[DifferenceGrid]:
    primary = "registered differences" if registered else "differences named after the study ran"
    groups: dict[tuple[str, str, str, str, str], list[ComparisonRow]] = {}
    for row in rows:
        # of primary differences those without a figure are told too: all that were named stand here
        if row.kind == "primary" or (row.kind != "mean" and row.value is not None):
            against = row.against if row.kind == "reference" else ""
            key = row.data_set, row.split, row.target, row.kind, against
            groups.setdefault(key, []).append(row)
    for (data_set, split, target, kind, against), group in groups.items():
        if all(row.value is None for row in group):
            continue
        what = {
            "primary": primary,
            "reference": f"less {strategy_words(against)} at the same epsilon",
        }.get(kind, "less the same strategy without privacy")
        asked = {row.epsilon for row in group}
        yield DifferenceGrid(
            title=f"AUROC{f' of {target}' if target else ''} on {data_set}, {split}, {what}",
            epsilons=tuple(sorted(asked, key=lambda one: math.inf if one is None else one)),
            names=tuple(dict.fromkeys(map(_name, group))),
            cells={(_name(row), row.epsilon): row for row in group},
        )


def _name(row: ComparisonRow) -> str:
    trained_on = f"trained on {row.trained_on}" if row.trained_on else ""
    notes = "; ".join(note for note in (trained_on, tuned_words(row.tuned)) if note)
    less = f" less {strategy_words(row.against)}" if row.kind == "primary" else ""
    return strategy_words(row.strategy) + less + (f" ({notes})" if notes else "")


def _significant(row: ComparisonRow) -> bool:
    return row.p_holm is not None and row.p_holm < SIGNIFICANT


def _figures(row: ComparisonRow) -> tuple[str, str]:
    """The difference with its sign, and its interval, which may be empty; or why there is none."""
    if row.value is None:
        return "no figure" if row.n_seeds and row.n_seeds_against else "no run", ""
    value = _signed(row.value) + ("*" if _significant(row) else "")
    if row.ci_low is None or row.ci_high is None:
        return value, ""
    return value, f"[{_signed(row.ci_low)}, {_signed(row.ci_high)}]"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", _MINUS)


def _markdown(grid: DifferenceGrid, title: str) -> str:
    heads = ["strategy", *map(asked_words, grid.epsilons)]
    lines = [heads, ["---"] * len(heads)]
    for name in grid.names:
        rows = [grid.cells.get((name, epsilon)) for epsilon in grid.epsilons]
        lines.append([name, *("" if row is None else " ".join(_figures(row)) for row in rows)])
    table = "\n".join(f"| {' | '.join(one_line(cell) for cell in line)} |" for line in lines)
    note = one_line(f"{grid.title}: {grid.note}")
    return f"**{one_line(title)}**\n\n{table}\n\n{note}\n"


def _latex(grid: DifferenceGrid, title: str) -> str:
    lines = []
    for name in grid.names:
        rows = [grid.cells.get((name, epsilon)) for epsilon in grid.epsilons]
        figures = [("", "") if row is None else _figures(row) for row in rows]
        above = [latex_text(name), *(latex_text(value) for value, _ in figures)]
        below = [
            "",
            *(rf"{{\footnotesize {latex_text(one)}}}" if one else "" for _, one in figures),
        ]
        lines += [above, below]
    return latex_table(
        caption=latex_text(f"{title}. {grid.title}: {grid.note}"),
        heads=["Strategy"],
        epsilons=grid.epsilons,
        lines=lines,
    )
