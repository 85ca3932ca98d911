"""Each evaluation set with its privacy-utility curve, over the attacker's odds.

One drawing serves the page, as inline SVG in two widths, and a paper, as a file.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthdp.pages.html import MARKS, inline_svg
from synthdp.pages.look import PAGE, PAGE_FONT_PT, Look
from synthdp.privacy.accounting.bounds import epsilon_text, percent
from synthdp.study.compare.cells import Cell, OverSeeds
from synthdp.study.report.summary import MembersFound, scope_words, strategy_words
from synthdp.study.report.tables import metric_words
from synthdp.study.sets import share_of

CHANCE = 0.5
CHANCE_FOUND = 0.01  # of members, at 1 % false alarms
WIDE_IN, NARROW_IN = 9.6, 4.6  # widths of curves on wide and on narrow pages
ODDS_IN = 1.1  # the height of the strip, in inches
_GAP_SHARE = 0.16  # of the axis: room for each of the columns "0" and "none"
_NARROWEST_TICKS = 0.055  # of the axis: labels closer than this would touch
_NARROWEST_ODDS_IN = 0.6  # between the middles of two labels of odds


@dataclass(frozen=True)
class EvaluationView:
    """One evaluation set, as `results.html.j2` shows it: its cells, and its curve in two widths.

    `drawn` are the cells on the curve: of tuned settings the chosen ones alone.
    """

    name: str
    scope: str
    cells: tuple[Cell, ...]
    drawn: tuple[Cell, ...]
    wide: Markup
    narrow: Markup

    @property
    def split(self) -> str:
        """The split that its models were scored on."""
        return self.cells[0].split

    @property
    def share(self) -> float | None:
        """The share of the patients whom its models learned from, where a study has several."""
        return share_of(self.cells[0].trained_on)


def evaluation_views(
    cells: Sequence[Cell],
    strategies: Sequence[str],
    chosen: Mapping[tuple[str, float | None], str],
    members_found: MembersFound,
) -> list[EvaluationView]:
    """Each set of a study, and each training set where it has several.

    Args:
        cells: by set.
        strategies: all of the study; their order decides marker and colour.
        chosen: of tuned settings the chosen one, by strategy and epsilon.
        members_found: the attacker's odds by the runs of a cell.
    """
    by_name: dict[str, list[Cell]] = {}
    for cell in cells:
        trained = f"; trained on {cell.trained_on}" if cell.trained_on else ""
        by_name.setdefault(f"{cell.data_set}, {cell.split}{trained}", []).append(cell)
    views = []
    for index, (name, here) in enumerate(by_name.items()):
        drawn = tuple(
            cell for cell in here if chosen.get((cell.strategy, cell.epsilon), "") == cell.tuned
        )
        wide, narrow = "", ""
        if any(cell.metrics["auroc"].mean is not None for cell in drawn):
            wide, narrow = (
                draw_curve(
                    drawn,
                    strategies,
                    prefix=f"{kind}{index}",
                    width_in=width,
                    members_found=members_found,
                )
                for kind, width in (("wide", WIDE_IN), ("narrow", NARROW_IN))
            )
        svgs = (Markup(wide), Markup(narrow))  # noqa: S704 (drawn here)
        views.append(EvaluationView(name, scope_words(here), tuple(here), drawn, *svgs))
    return views


@dataclass(frozen=True)
class Scale:
    """The axis: log10 of epsilon from `low` to `high`; 0 a `gap` to its left, none to its right."""

    low: float
    high: float
    gap: float

    @classmethod
    def over(cls, epsilons: Sequence[float]) -> "Scale":
        """A scale that holds all positive finite `epsilons`."""
        logs = [math.log10(value) for value in epsilons if 0 < value < math.inf] or [0.0]
        low, high = min(logs), max(logs)
        if high - low < 0.5:
            low, high = (low + high) / 2 - 0.25, (low + high) / 2 + 0.25
        return cls(low, high, _GAP_SHARE * (high - low))

    @property
    def width(self) -> float:
        """Of the whole axis, with the columns of 0 and none."""
        return self.high - self.low + 2 * self.gap

    def position(self, epsilon: float) -> float:
        """Where an epsilon from 0 to infinity stands on the axis."""
        if epsilon == 0:
            return self.low - self.gap
        return self.high + self.gap if math.isinf(epsilon) else math.log10(epsilon)


def shown_epsilon(cell: Cell) -> float:
    """The epsilon of a cell's mark: end to end, or, drawn hollow, what its last stage spent."""
    if cell.protected:
        return cell.epsilon_end_to_end or 0.0
    return math.inf if not cell.voided or cell.off_axis else cell.epsilon_stage or 0.0


def odds_by_epsilon(
    cells: Sequence[Cell], members_found: MembersFound
) -> list[tuple[float, float]]:
    """Epsilon end to end and the share of members found, the worst over cells that stand there.

    Cells that promise nothing stand together at infinity; those without a statement are left out.
    """
    worst: dict[float, float] = {}
    for cell in cells:
        share = members_found.get(cell.runs)
        if share is not None:
            spent = cell.epsilon_end_to_end or 0.0
            epsilon = _to_three_digits(spent) if cell.protected else math.inf
            worst[epsilon] = max(worst.get(epsilon, 0.0), share)
    return sorted(worst.items())


def _to_three_digits(value: float) -> float:
    """An epsilon as it is printed: never below what it is."""
    return float(epsilon_text(value))


def _ticks(cells: Sequence[Cell], scale: Scale, odds: Sequence[tuple[float, float]]) -> list[float]:
    """Epsilons to label: those asked for, thinned where labels would touch."""
    shown = {*map(shown_epsilon, cells), *(epsilon for epsilon, _ in odds)}
    asked = {cell.epsilon for cell in cells if cell.epsilon is not None}
    finite = sorted(asked or {_to_three_digits(one) for one in shown if 0 < one < math.inf})
    kept = _apart(finite, scale, _NARROWEST_TICKS * scale.width)
    return [*([0.0] if 0.0 in shown else []), *kept, *([math.inf] if math.inf in shown else [])]


def _apart(epsilons: Sequence[float], scale: Scale, least: float) -> list[float]:
    """Those of rising `epsilons` that stand at least so far from the one kept before."""
    kept: list[float] = []
    for value in epsilons:
        if not kept or scale.position(value) - scale.position(kept[-1]) >= least:
            kept.append(value)
    return kept


def draw_curve(
    cells: Sequence[Cell],
    strategies: Sequence[str],
    *,
    prefix: str,
    width_in: float,
    members_found: MembersFound,
) -> str:
    """The curve of `curve_figure` as an SVG element for a page, which says what the marks mean.

    Args:
        cells: as there.
        strategies: as there.
        prefix: begins every id in the drawing, so that several stand in one page.
        width_in: the width for which the text has its proper size.
        members_found: as there.
    """
    stream = io.StringIO()
    with PAGE.applied(prefix):
        figure = curve_figure(
            cells, strategies, width_in=width_in, members_found=members_found, look=PAGE
        )
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    description = curve_words(cells, strategies, members_found)
    return inline_svg(
        stream.getvalue(), prefix, f"{description} The table below holds the same figures."
    )


def curve_figure(
    cells: Sequence[Cell],
    strategies: Sequence[str],
    *,
    width_in: float,
    members_found: MembersFound,
    look: Look,
) -> Figure:
    """The AUROC of `cells` over epsilon, `width_in` inches wide; to be drawn and saved in `look`.

    Below it, on the same axis, stand the attacker's odds, where any are stated. On paper a legend
    stands above.

    Args:
        cells: cells of one split of one data set; those without an AUROC are left out.
        strategies: all strategies of the study; their order decides marker and colour.
        width_in: the width for which the text has its proper size.
        members_found: the attacker's odds by the runs of a cell.
        look: of the page, or of a paper.
    """
    drawn = _drawn(cells)
    present = [name for name in strategies if any(cell.strategy == name for cell in drawn)]
    scale = Scale.over([*map(shown_epsilon, drawn), *(cell.epsilon or 0 for cell in drawn)])
    odds = odds_by_epsilon(drawn, members_found)
    size = look.font_pt / PAGE_FONT_PT  # all heights follow the font, as on the page
    heights = [size * 2.3 + width_in / 11, *([size * ODDS_IN] if odds else [])]
    figure = Figure(figsize=(width_in, sum(heights) + size * 0.3), layout="constrained")
    parts = figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False).ravel()
    _draw_frame(parts[0], drawn, scale, _ticks(drawn, scale, odds), look)
    positions = _positions(drawn, present, scale)
    for name in present:
        chosen = [cell for cell in drawn if cell.strategy == name]
        _draw_strategy(parts[0], chosen, positions, strategies.index(name) % len(MARKS), look)
    if odds:
        least = size * _NARROWEST_ODDS_IN / width_in * scale.width
        _draw_odds(parts[1], odds, scale, least=least, look=look)
    unit = "image" if any(cell.unit == "image" for cell in drawn) else "patient"
    figure.align_ylabels(parts)
    parts[-1].set_xlabel(f"epsilon for each {unit} (log scale), end to end", color=look.ink)
    if not look.on_page:
        styles = {name: strategies.index(name) % len(MARKS) for name in present}
        add_legend(figure, styles, look, hollow=any(cell.voided for cell in drawn))
    return figure


def _drawn(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.metrics["auroc"].mean is not None]


def add_legend(
    figure: Figure, styles: Mapping[str, int], look: Look, *, hollow: bool = False
) -> None:
    """A legend above the drawing, in as many columns as its width holds.

    Args:
        figure: what is drawn.
        styles: the mark of each thing by its name.
        look: of the drawing.
        hollow: whether to say what hollow marks are.
    """
    marks: list[tuple[str, Any, str, str]] = [
        (strategy_words(name), MARKS[style].marker, look.marks[style], look.marks[style])
        for name, style in styles.items()
    ]
    if hollow:
        marks.append(("hollow: no promise end to end", "o", look.muted, look.paper))
    handles = [
        Line2D(
            [], [], marker=marker, color=colour, markerfacecolor=face, linestyle="none",
            markersize=look.pt(7), markeredgewidth=look.pt(1.6), label=label,
        )
        for label, marker, colour, face in marks
    ]  # fmt: skip
    columns = _legend_columns([label for label, *_ in marks], figure.get_figwidth(), look)
    figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, frameon=False,
        labelcolor=look.ink, handletextpad=0.4, columnspacing=1.2, borderpad=0,
    )  # fmt: skip


def _legend_columns(labels: Sequence[str], width_in: float, look: Look) -> int:
    """In how many columns labels fit, which fill one column after the other."""
    for columns in range(len(labels), 1, -1):
        rows = math.ceil(len(labels) / columns)
        longest = [max(map(len, labels[at : at + rows])) for at in range(0, len(labels), rows)]
        letters = sum(longest) + 6 * len(longest)  # with mark and space
        if 0.56 * letters * look.font_pt / 72 <= width_in:  # a letter is some .56 em wide
            return columns
    return 1


def _positions(
    cells: Sequence[Cell], present: Sequence[str], scale: Scale
) -> dict[tuple[str, float | None], float]:
    """Where each cell is drawn on the axis, by strategy and epsilon asked for.

    Marks that would hide each other, at one epsilon to two decimals of its log10, are moved apart.
    """
    groups: dict[float, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: present.index(cell.strategy)):
        groups.setdefault(round(scale.position(shown_epsilon(cell)), 2), []).append(cell)
    most = max(map(len, groups.values()), default=1)
    apart = min(0.016 * (scale.high - scale.low), 0.75 * scale.gap / most)
    return {
        (cell.strategy, cell.epsilon): scale.position(shown_epsilon(cell))
        + (index - (len(group) - 1) / 2) * apart
        for group in groups.values()
        for index, cell in enumerate(group)
    }


def _draw_frame(
    axes: Axes, cells: Sequence[Cell], scale: Scale, ticks: Sequence[float], look: Look
) -> None:
    positions = [scale.position(value) for value in ticks]
    labels = ["none" if math.isinf(value) else epsilon_text(value) for value in ticks]
    axes.set_xticks(positions, labels)
    left, right = min(scale.low, *positions), max(scale.high, *positions)
    axes.set_xlim(left - scale.gap / 2, right + scale.gap / 2)
    for value, side in ((0.0, scale.low - scale.gap / 2), (math.inf, scale.high + scale.gap / 2)):
        if value in ticks:
            axes.axvline(side, color=look.rule, linewidth=look.pt(1), linestyle=(0, (1, 3)))
    axes.axhline(CHANCE, color=look.muted, linewidth=look.pt(1), linestyle=(0, (6, 4)), zorder=1)
    ends = [
        value
        for cell in cells
        for part in [cell.metrics["auroc"]]
        for value in (part.mean, part.ci_low, part.ci_high)
        if value is not None
    ]
    axes.set_ylim(
        max(0, min([CHANCE, *ends]) - 0.03), min(1.005, max([CHANCE + 0.1, *ends]) + 0.03)
    )
    axes.annotate(
        "chance", (1, CHANCE), xycoords=("axes fraction", "data"), xytext=(look.pt(4), 0),
        textcoords="offset points", va="center", color=look.muted, fontsize=look.pt(10),
    )  # beside the drawing, where no mark can hide it  # fmt: skip
    axes.set_ylabel(metric_words("auroc", cells), color=look.ink)
    look.dress(axes)


def _draw_odds(
    axes: Axes, odds: Sequence[tuple[float, float]], scale: Scale, *, least: float, look: Look
) -> None:
    """The strip of the attacker's odds: a bar to each share, with its number."""
    for epsilon, share in odds:
        position = scale.position(epsilon)
        axes.vlines(position, CHANCE_FOUND, share, color=look.muted, linewidth=look.pt(3))
        axes.plot(
            [position], [share], marker="o", markersize=look.pt(5), color=look.ink, linestyle="none"
        )
    named = set(_apart([epsilon for epsilon, _ in odds], scale, least))
    for epsilon, share in odds:
        if epsilon in named:
            axes.annotate(
                percent(share), (scale.position(epsilon), share), xytext=(0, look.pt(5)),
                textcoords="offset points", color=look.ink, fontsize=look.pt(10), ha="center",
            )  # fmt: skip
    axes.axhline(
        CHANCE_FOUND, color=look.muted, linewidth=look.pt(1), linestyle=(0, (6, 4)), zorder=1
    )
    axes.set_ylim(0, 1.42)
    axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.set_ylabel("members\nfound", color=look.ink)
    look.dress(axes)


def _draw_strategy(
    axes: Axes,
    cells: Sequence[Cell],
    positions: Mapping[tuple[str, float | None], float],
    style: int,
    look: Look,
) -> None:
    """Points with intervals, joined by a line: solid where the promise holds, else dashed."""
    colour, marker = look.marks[style], MARKS[style].marker
    for voided in (False, True):
        finite = [
            cell for cell in cells if cell.voided == voided and math.isfinite(shown_epsilon(cell))
        ]
        finite.sort(key=shown_epsilon)
        axes.plot(
            [positions[cell.strategy, cell.epsilon] for cell in finite],
            [cell.metrics["auroc"].mean or 0.0 for cell in finite],
            color=colour, linewidth=look.pt(1.6), linestyle=(0, (4, 3)) if voided else "-",
            zorder=2,
        )  # fmt: skip
    for cell in cells:
        auroc, position = cell.metrics["auroc"], positions[cell.strategy, cell.epsilon]
        if cell.off_axis and auroc.mean is not None:
            axes.axhline(
                auroc.mean, color=colour, linewidth=look.pt(1.4), linestyle=(0, (7, 2, 1.5, 2))
            )
        _draw_interval(axes, auroc, position, colour, look)
        face = look.paper if cell.voided else colour  # a hollow mark
        axes.plot(
            [position], [auroc.mean or 0.0], marker=marker, markersize=look.pt(7.5), color=colour,
            markerfacecolor=face, markeredgewidth=look.pt(1.6), linestyle="none", zorder=4,
        )  # fmt: skip


def _draw_interval(axes: Axes, auroc: OverSeeds, position: float, colour: str, look: Look) -> None:
    """Thin: the interval over patients. Thick: one standard deviation over seeds."""
    if auroc.ci_low is not None and auroc.ci_high is not None:
        axes.vlines(
            position, auroc.ci_low, auroc.ci_high, color=colour, linewidth=look.pt(1.2), zorder=3
        )
    if auroc.sd is not None and auroc.mean is not None:
        low, high = auroc.mean - auroc.sd, auroc.mean + auroc.sd
        axes.vlines(position, low, high, color=colour, linewidth=look.pt(4.5), zorder=3)


def curve_words(
    cells: Sequence[Cell], strategies: Sequence[str], members_found: MembersFound
) -> str:
    """What the curve shows, for who cannot see it."""
    drawn = _drawn(cells)
    present = [name for name in strategies if any(cell.strategy == name for cell in drawn)]
    odds = odds_by_epsilon(drawn, members_found)
    sentences = [
        "Privacy-utility curve. Across: end-to-end epsilon, from the strongest promise to none. "
        "Up: AUROC, mean over seeds, with 95 % intervals",
        "; ".join(_words_of(drawn, present)),
    ]
    if odds:
        shares = (
            f"{percent(share)} at {'no promise' if math.isinf(epsilon) else epsilon_text(epsilon)}"
            for epsilon, share in odds
        )
        sentences.append(f"Below: members found at 1 % false alarms, {', '.join(shares)}")
    return ". ".join([*sentences, ""]).rstrip()


def _words_of(cells: Sequence[Cell], present: Sequence[str]) -> Iterator[str]:
    for name in present:
        means = [cell.metrics["auroc"].mean or 0.0 for cell in cells if cell.strategy == name]
        voided = any(cell.voided for cell in cells if cell.strategy == name)
        words = f"{strategy_words(name)}: {min(means):.2f} to {max(means):.2f}"
        yield f"{words}, drawn hollow" if voided else words
