"""The results over seeds as tables for papers: CSV, Markdown, and LaTeX with booktabs."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from synthdp.data.manifest.tables import csv_text
from synthdp.evaluation.metrics import MACRO
from synthdp.privacy.accounting.bounds import epsilon_text
from synthdp.runs.cards import one_line
from synthdp.study.compare.cells import Cell, OverSeeds
from synthdp.study.compare.cited import interval_words
from synthdp.study.report.settings import TableFormat
from synthdp.study.report.summary import MembersFound, scope_words, strategy_words
from synthdp.study.sweep.tuning import tuned_words

METRIC_WORDS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}
_HOW = "mean ± standard deviation over seeds [95 % interval]"
NOTE = (
    f"{_HOW}, by the epsilon asked for; none: without "
    "privacy, or a recipe that is not repeated for each epsilon"
)
VOIDED_NOTE = (
    "no promise end to end, whatever is asked for: an earlier stage, such as the generator, "
    "met the same patients without privacy"
)
_OTHER_INTERVALS = "intervals hold patients alone (mean of the seeds' bootstrap intervals)"
_DASH = "\N{EN DASH}"
_VOIDED_MARK = {"markdown": " †", "latex": r"$^\dagger$"}
_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    _DASH: "--",
    "\N{MINUS SIGN}": "$-$",
}


@dataclass(frozen=True)
class CellGrid:
    """One evaluation set as strategy x epsilon: `cells` go by a row's name and what was asked."""

    title: str
    epsilons: tuple[float | None, ...]
    names: tuple[str, ...]
    cells: Mapping[tuple[str, float | None], Cell]

    def rows_of(self, name: str) -> list[Cell]:
        """The cells of one row, by rising epsilon."""
        return [self.cells[name, one] for one in self.epsilons if (name, one) in self.cells]

    @property
    def has_voided(self) -> bool:
        """Whether some cell promises nothing in spite of its last stage."""
        return any(cell.voided for cell in self.cells.values())


@dataclass(frozen=True)
class TargetsGrid:
    """One evaluation set of several targets: each of its cells with its figures by target.

    `targets` are the mean over them, then each; a row's figures are in their order.
    """

    title: str
    targets: tuple[str, ...]
    rows: tuple[tuple[Cell, tuple[Cell | None, ...]], ...]


def target_grids(cells: Sequence[Cell], by_target: Sequence[Cell]) -> list[TargetsGrid]:
    """The evaluation sets that have several targets.

    Args:
        cells: all results over seeds, of means over targets where there are several.
        by_target: those of each target where there are several.
    """
    sets: dict[tuple[str, str], dict[str, None]] = {}
    for cell in by_target:
        sets.setdefault((cell.data_set, cell.split), {})[cell.target] = None
    cell_of = {(cell.data_set, cell.split, cell.target, cell.key): cell for cell in by_target}
    return [
        TargetsGrid(
            title=f"{data_set}, {split}",
            targets=(MACRO, *targets),
            rows=tuple(
                (
                    cell,
                    (cell, *(cell_of.get((data_set, split, one, cell.key)) for one in targets)),
                )
                for cell in cells
                if (cell.data_set, cell.split) == (data_set, split)
            ),
        )
        for (data_set, split), targets in sets.items()
    ]


def results_table(
    cells: Sequence[Cell],
    kind: TableFormat,
    *,
    metric: str,
    title: str,
    members_found: MembersFound,
    by_target: Sequence[Cell] = (),
) -> str:
    """The table of one study as text.

    Args:
        cells: all results over seeds.
        kind: csv has every metric, one line a strategy, epsilon and set; the others show `metric`
            as strategy x epsilon, one table a set.
        metric: a key of `METRIC_WORDS`.
        title: of the study.
        members_found: the attacker's odds by the runs of a cell.
        by_target: results of each target, where there are several: one more table a set.
    """
    if kind == "csv":
        return _csv([*cells, *by_target], members_found)
    write: Callable[[CellGrid, str, str], str] = _markdown if kind == "markdown" else _latex
    write_targets = _targets_markdown if kind == "markdown" else _targets_latex
    tables = [write(grid, metric, title) for grid in _grids(cells)]
    tables += [write_targets(grid, metric, title) for grid in target_grids(cells, by_target)]
    return "\n".join(tables)


def _grids(cells: Sequence[Cell]) -> Iterator[CellGrid]:
    for data_set, split in dict.fromkeys((cell.data_set, cell.split) for cell in cells):
        here = [cell for cell in cells if (cell.data_set, cell.split) == (data_set, split)]
        asked = {cell.epsilon for cell in here}
        yield CellGrid(
            title=f"{data_set}, {split}",
            epsilons=tuple(sorted(asked, key=lambda one: math.inf if one is None else one)),
            names=tuple(dict.fromkeys(_name(cell) for cell in here)),
            cells={(_name(cell), cell.epsilon): cell for cell in here},
        )


def _name(cell: Cell) -> str:
    trained_on = f"trained on {cell.trained_on}" if cell.trained_on else ""
    notes = "; ".join(note for note in (trained_on, tuned_words(cell.tuned)) if note)
    words = strategy_words(cell.strategy)
    return f"{words} ({notes})" if notes else words


def _end_to_end(cells: Sequence[Cell]) -> str:
    """What a row of the grid promises: as asked, or its epsilons where they differ."""
    stated = [cell for cell in cells if cell.epsilon_end_to_end is not None]
    spent = [cell.epsilon_end_to_end or 0.0 for cell in stated]
    asked = [math.inf if cell.epsilon is None else cell.epsilon for cell in stated]
    if not stated:
        return _DASH
    if all(
        one == other or (one < other and math.isclose(one, other, rel_tol=0.01))
        for one, other in zip(spent, asked, strict=True)
    ):
        return "as asked"
    return ", ".join(dict.fromkeys(epsilon_text(value).replace("inf", "∞") for value in spent))


def _note(grid: CellGrid, metric: str) -> str:
    """How the figures were made, and of how many images, patients and seeds they are."""
    cells = list(grid.cells.values())
    made = interval_words(cells) if metric == "auroc" else _OTHER_INTERVALS
    scope = scope_words(cells).rstrip(".")
    return f"{NOTE}; {made}" + (f"; {scope}" if scope else "")


def metric_words(metric: str, cells: Iterable[Cell]) -> str:
    """A metric of cells as people write it; of several targets it is their mean."""
    several = any(cell.target == MACRO for cell in cells)
    return f"Macro {METRIC_WORDS[metric]}" if several else METRIC_WORDS[metric]


def _figures(part: OverSeeds) -> tuple[str, str]:
    """Mean with deviation, and interval; both may be missing."""
    if part.mean is None:
        return _DASH, ""
    mean = f"{part.mean:.3f}" if part.sd is None else f"{part.mean:.3f} ± {part.sd:.3f}"
    if part.ci_low is None or part.ci_high is None:
        return mean, ""
    return mean, f"[{part.ci_low:.2f}, {part.ci_high:.2f}]"


def asked_words(epsilon: float | None) -> str:
    """An epsilon asked for, as tables head it."""
    return "none" if epsilon is None else f"{epsilon:g}"


def _markdown(grid: CellGrid, metric: str, title: str) -> str:
    heads = ["strategy", "end to end", *map(asked_words, grid.epsilons)]
    lines = [heads, ["---"] * len(heads)]
    for name in grid.names:
        cells = [name, _end_to_end(grid.rows_of(name))]
        for epsilon in grid.epsilons:
            row = grid.cells.get((name, epsilon))
            cells.append("" if row is None else " ".join(_figures(row.metrics[metric])).strip())
            if row is not None and row.voided:
                cells[-1] += _VOIDED_MARK["markdown"]
        lines.append(cells)
    table = "\n".join(f"| {' | '.join(map(one_line, line))} |" for line in lines)
    note = f"{metric_words(metric, grid.cells.values())} on {grid.title}: {_note(grid, metric)}."
    if grid.has_voided:
        note += f" †: {VOIDED_NOTE}."
    return f"**{one_line(title)}**\n\n{table}\n\n{one_line(note)}\n"


def _targets_note(grid: TargetsGrid, metric: str) -> str:
    return (
        f"{METRIC_WORDS[metric]} by target on {grid.title}: {_HOW}; {MACRO}: the mean over targets "
        f"of which both classes are there; {_DASH}: one class alone"
    )


def _targets_rows(grid: TargetsGrid, metric: str) -> Iterator[list[str]]:
    for cell, figures in grid.rows:
        parts = [
            _DASH if one is None else " ".join(_figures(one.metrics[metric])) for one in figures
        ]
        yield [_name(cell), asked_words(cell.epsilon), *(part.strip() for part in parts)]


def _targets_markdown(grid: TargetsGrid, metric: str, title: str) -> str:
    heads = ["strategy", "epsilon asked for", *grid.targets]
    lines = [heads, ["---"] * len(heads), *_targets_rows(grid, metric)]
    table = "\n".join(f"| {' | '.join(map(one_line, line))} |" for line in lines)
    note = f"{_targets_note(grid, metric)}."
    return f"**{one_line(title)}**\n\n{table}\n\n{one_line(note)}\n"


def latex_text(text: str) -> str:
    """Text in which every sign that LaTeX would read as a command is written out."""
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))


def _latex(grid: CellGrid, metric: str, title: str) -> str:
    """A table of two lines a strategy: mean and deviation above, interval below."""
    lines = []
    for name in grid.names:
        above, below = [latex_text(name), latex_text(_end_to_end(grid.rows_of(name)))], ["", ""]
        for epsilon in grid.epsilons:
            row = grid.cells.get((name, epsilon))
            mean, interval = ("", "") if row is None else _figures(row.metrics[metric])
            mark = _VOIDED_MARK["latex"] if row is not None and row.voided else ""
            above.append(latex_text(mean) + mark)
            below.append(rf"{{\footnotesize {interval}}}" if interval else "")
        lines += [above, below]
    note = f"{metric_words(metric, grid.cells.values())} on {grid.title}: {_note(grid, metric)}."
    caption = latex_text(f"{title}. {note}")
    if grid.has_voided:
        caption += rf" {_VOIDED_MARK['latex']}: {VOIDED_NOTE}."
    return latex_table(
        caption=caption, heads=["Strategy", "End to end"], epsilons=grid.epsilons, lines=lines
    )


def _targets_latex(grid: TargetsGrid, metric: str, title: str) -> str:
    """A table with a column for each cell and a line for each target."""
    rows = list(_targets_rows(grid, metric))
    heads = [f"{name}, {epsilon}" for name, epsilon, *_ in rows]
    columns = list(zip(*(figures for _, _, *figures in rows), strict=True))
    lines = [" & ".join(map(latex_text, ["Target", *heads]))]
    lines += [
        " & ".join(map(latex_text, [target, *figures]))
        for target, figures in zip(grid.targets, columns, strict=True)
    ]
    first, *others = (f"    {line} \\\\" for line in lines)
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{latex_text(f'{title}. {_targets_note(grid, metric)}.')}}}",
            rf"  \begin{{tabular}}{{@{{}}l{'c' * len(rows)}@{{}}}}",
            r"    \toprule",
            first,
            r"    \midrule",
            *others,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def latex_table(
    *,
    caption: str,
    heads: Sequence[str],
    epsilons: Sequence[float | None],
    lines: Sequence[Sequence[str]],
) -> str:
    """A LaTeX table with booktabs: columns of words, then one for each epsilon asked for.

    Args:
        caption: LaTeX.
        heads: of the columns of words.
        epsilons: asked for.
        lines: cells as LaTeX; a line whose cells are all empty is left out.
    """
    first, last = len(heads) + 1, len(heads) + len(epsilons)
    columns = "l" * len(heads) + "c" * len(epsilons)
    over = rf"\multicolumn{{{len(epsilons)}}}{{c}}{{$\varepsilon$ asked for}}"
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{caption}}}",
            rf"  \begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"    \toprule",
            rf"    {'& ' * len(heads)}{over} \\ \cmidrule(l){{{first}-{last}}}",
            f"    {' & '.join([*heads, *map(asked_words, epsilons)])} \\\\",
            r"    \midrule",
            *(f"    {' & '.join(line).rstrip()} \\\\" for line in lines if any(line)),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _csv(cells: Sequence[Cell], members_found: MembersFound) -> str:
    parts = ("mean", "sd", "ci_low", "ci_high")
    figures = [f"{name}_{part}" for name in METRIC_WORDS for part in parts]
    heads = ("strategy", "trained_on", "tuned", "epsilon", "data_set", "split", "seeds", "failed")
    privacy = ("epsilon_end_to_end", "epsilon_stage", "delta", "unit", "members_found_at_1_percent")
    by_target = any(cell.target for cell in cells)
    rows: list[list[object]] = []
    for cell in cells:
        values = [getattr(cell.metrics[name], part) for name in METRIC_WORDS for part in parts]
        rows.append(
            [
                *(cell.strategy, cell.trained_on, cell.tuned, asked_words(cell.epsilon)),
                *(cell.data_set, cell.split, cell.n_seeds, cell.n_failed),
                *("" if value is None else f"{value:.6g}" for value in values),
                *(cell.epsilon_end_to_end, cell.epsilon_stage, cell.delta, cell.unit),
                members_found.get(cell.runs),
                *([cell.target] * by_target),
            ]
        )
    return csv_text([*heads, *figures, *privacy, *(["target"] * by_target)], rows)
