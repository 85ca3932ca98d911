"""The privacy-utility curve as inline SVG that follows the page's colours."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthdp.pages.drawing import INK, MARK_COLOURS, MARKS, MUTED, PAPER, RULE, inline_svg
from synthdp.study.aggregate import Aggregate, OverSeeds

CHANCE = 0.5
_GAP_SHARE = 0.16  # of the axis: room for each of the columns "0" and "none"
_NARROWEST_TICKS = 0.055  # of the axis: labels closer than this would touch


@dataclass(frozen=True)
class Scale:
    """Where an epsilon stands: log10 between the least and the greatest, 0 and none beside."""

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

    def place(self, epsilon: float) -> float:
        """The place of an epsilon from 0 to infinity."""
        if epsilon == 0:
            return self.low - self.gap
        return self.high + self.gap if math.isinf(epsilon) else math.log10(epsilon)


def shown_epsilon(row: Aggregate) -> float:
    """Where a row stands on the axis: end to end, or hollow at what its last stage spent."""
    if row.protected:
        return row.epsilon_end_to_end or 0.0
    return math.inf if not row.hollow or row.reference else row.epsilon_stage or 0.0


def _ticks(rows: Sequence[Aggregate], scale: Scale) -> list[float]:
    """Epsilons to label: those asked for, thinned where labels would touch."""
    shown = {shown_epsilon(row) for row in rows}
    asked = {row.epsilon for row in rows if row.epsilon is not None}
    finite = sorted(asked or {value for value in shown if 0 < value < math.inf})
    least = _NARROWEST_TICKS * (scale.high - scale.low + 2 * scale.gap)
    kept: list[float] = []
    for value in finite:
        if not kept or scale.place(value) - scale.place(kept[-1]) >= least:
            kept.append(value)
    return [*([0.0] if 0.0 in shown else []), *kept, *([math.inf] if math.inf in shown else [])]


def draw_curve(
    rows: Sequence[Aggregate], strategies: Sequence[str], *, prefix: str, width_in: float
) -> str:
    """The AUROC of `rows` over epsilon as an SVG element, `width_in` inches wide.

    Args:
        rows: aggregates of one split of one data set; those without an AUROC are left out.
        strategies: all strategies of the study; their order decides marker and colour.
        prefix: begins every id in the drawing, so that several stand in one page.
        width_in: the width for which the text has its proper size.
    """
    drawn = [row for row in rows if row.metrics["auroc"].mean is not None]
    present = [name for name in strategies if any(row.strategy == name for row in drawn)]
    scale = Scale.over([*map(shown_epsilon, drawn), *(row.epsilon or 0 for row in drawn)])
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix, "font.size": 11}):
        columns = 3 if width_in > 6 else 1
        legend_rows = math.ceil((len(present) + 1) / columns)
        figure = Figure(figsize=(width_in, 4.0 + 0.22 * legend_rows), layout="constrained")
        axes = figure.subplots()
        _draw_frame(axes, drawn, scale)
        places = _places(drawn, present, scale)
        for name in present:
            chosen = [row for row in drawn if row.strategy == name]
            _draw_strategy(axes, chosen, places, strategies.index(name) % len(MARKS))
        _draw_legend(figure, drawn, strategies, columns=columns)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return inline_svg(stream.getvalue(), prefix, _description(drawn, present))


def _places(
    rows: Sequence[Aggregate], present: Sequence[str], scale: Scale
) -> dict[tuple[str, float | None], float]:
    """Where each row is drawn: rows that meet at one epsilon stand side by side."""
    apart = 0.016 * (scale.high - scale.low)
    groups: dict[float, list[Aggregate]] = {}
    for row in sorted(rows, key=lambda row: present.index(row.strategy)):
        groups.setdefault(round(scale.place(shown_epsilon(row)), 2), []).append(row)
    return {
        (row.strategy, row.epsilon): scale.place(shown_epsilon(row))
        + (index - (len(group) - 1) / 2) * apart
        for group in groups.values()
        for index, row in enumerate(group)
    }


def _draw_frame(axes: Axes, rows: Sequence[Aggregate], scale: Scale) -> None:
    ticks = _ticks(rows, scale)
    places = [scale.place(value) for value in ticks]
    labels = ["none" if math.isinf(value) else f"{value:g}" for value in ticks]
    axes.set_xticks(places, labels)
    axes.set_xlim(min(scale.low, *places) - scale.gap / 2, max(scale.high, *places) + scale.gap / 2)
    for value, side in ((0.0, scale.low - scale.gap / 2), (math.inf, scale.high + scale.gap / 2)):
        if value in ticks:
            axes.axvline(side, color=RULE, linewidth=1, linestyle=(0, (1, 3)))
    axes.axhline(CHANCE, color=MUTED, linewidth=1, linestyle=(0, (6, 4)), zorder=1)
    ends = [
        value
        for row in rows
        for part in [row.metrics["auroc"]]
        for value in (part.mean, part.ci_low, part.ci_high)
        if value is not None
    ]
    axes.set_ylim(
        max(0, min([CHANCE, *ends]) - 0.03), min(1.005, max([CHANCE + 0.1, *ends]) + 0.03)
    )
    axes.annotate(
        "chance", (0, CHANCE), xycoords=("axes fraction", "data"), xytext=(4, 3),
        textcoords="offset points", color=MUTED, fontsize=10,
    )  # fmt: skip
    unit = "image" if any(row.unit == "image" for row in rows) else "patient"
    axes.set_xlabel(f"epsilon for each {unit} (log scale), end to end", color=INK)
    axes.set_ylabel("AUROC", color=INK)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=4, color=RULE)
    for edge, spine in axes.spines.items():
        spine.set_visible(edge in ("left", "bottom"))
        spine.set_color(RULE)


def _draw_strategy(
    axes: Axes,
    rows: Sequence[Aggregate],
    places: Mapping[tuple[str, float | None], float],
    style: int,
) -> None:
    """Points with intervals, joined by a line: solid where the promise holds, else dashed."""
    colour, marker = MARK_COLOURS[style], MARKS[style].marker
    for hollow in (False, True):
        finite = [row for row in rows if row.hollow == hollow and math.isfinite(shown_epsilon(row))]
        finite.sort(key=shown_epsilon)
        axes.plot(
            [places[row.strategy, row.epsilon] for row in finite],
            [row.metrics["auroc"].mean or 0.0 for row in finite],
            color=colour, linewidth=1.6, linestyle=(0, (4, 3)) if hollow else "-", zorder=2,
        )  # fmt: skip
    for row in rows:
        auroc, place = row.metrics["auroc"], places[row.strategy, row.epsilon]
        if row.reference and auroc.mean is not None:
            axes.axhline(auroc.mean, color=colour, linewidth=1.4, linestyle=(0, (7, 2, 1.5, 2)))
        _draw_interval(axes, auroc, place, colour)
        face = PAPER if row.hollow else colour
        axes.plot(
            [place], [auroc.mean or 0.0], marker=marker, markersize=7.5, color=colour,
            markerfacecolor=face, markeredgewidth=1.6, linestyle="none", zorder=4,
        )  # fmt: skip


def _draw_interval(axes: Axes, auroc: OverSeeds, place: float, colour: str) -> None:
    """Thin: the interval over patients. Thick: one standard deviation over seeds."""
    if auroc.ci_low is not None and auroc.ci_high is not None:
        axes.vlines(place, auroc.ci_low, auroc.ci_high, color=colour, linewidth=1.2, zorder=3)
    if auroc.sd is not None and auroc.mean is not None:
        low, high = auroc.mean - auroc.sd, auroc.mean + auroc.sd
        axes.vlines(place, low, high, color=colour, linewidth=4.5, zorder=3)


def _draw_legend(
    figure: Figure, drawn: Sequence[Aggregate], strategies: Sequence[str], *, columns: int
) -> None:
    names = [name for name in strategies if any(row.strategy == name for row in drawn)]
    entries = [
        (name.replace("_", " "), MARKS[style].marker, MARK_COLOURS[style], MARK_COLOURS[style])
        for name in names
        for style in [strategies.index(name) % len(MARKS)]
    ]
    if any(row.hollow for row in drawn):
        entries.append(("hollow: no promise end to end", "o", MUTED, PAPER))
    handles = [
        Line2D([], [], marker=marker, linestyle="none", color=edge, markerfacecolor=face)
        for _, marker, edge, face in entries
    ]
    figure.legend(
        handles, [words for words, *_ in entries], loc="outside upper left",
        ncols=columns, frameon=False, labelcolor=INK, handletextpad=0.3, columnspacing=1.6,
        markerscale=1.15, borderaxespad=0.2,
    )  # fmt: skip


def _description(rows: Sequence[Aggregate], present: Sequence[str]) -> str:
    parts = []
    for name in present:
        means = [row.metrics["auroc"].mean or 0.0 for row in rows if row.strategy == name]
        hollow = any(row.hollow for row in rows if row.strategy == name)
        words = f"{name.replace('_', ' ')}: {min(means):.2f} to {max(means):.2f}"
        parts.append(f"{words}, drawn hollow" if hollow else words)
    return (
        "Privacy-utility curve. Across: end-to-end epsilon, from the strongest "
        "promise to none. Up: AUROC, mean over seeds, with intervals over patients. "
        + "; ".join(parts)
        + ". The table below holds the same figures."
    )
