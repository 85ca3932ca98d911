"""Lines over epsilon in small panels side by side: groups, sites, and how well scores are
calibrated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthdp.pages.html import MARKS
from synthdp.pages.look import PAGE_FONT_PT, Look
from synthdp.privacy.accounting.bounds import epsilon_text
from synthdp.study.report.curve import Scale, add_legend

_WIDEST_PANEL_IN, _PANEL_HEIGHT_IN = 2.3, 1.75  # for letters of the page's size: times .73 at 8 pt
_GAP_SHARE = 0.3


@dataclass(frozen=True)
class Point:
    """A figure at an epsilon asked for (None: without privacy), with its interval if it has one."""

    epsilon: float | None
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Line:
    """What one mark shows: its name, its number among the marks, and its points."""

    name: str
    style: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """Lines under one title; `at_best` is drawn as a rule, such as a calibration slope of 1."""

    title: str
    up: str
    lines: tuple[Line, ...]
    at_best: float | None = None


def panels_figure(
    panels: Sequence[Panel], *, width_in: float, look: Look, share_up: bool
) -> Figure:
    """Draw panels in rows, `width_in` inches wide, with one legend.

    Args:
        panels: at least one, with at least one point in all.
        width_in: the width for which the text has its proper size.
        look: of the page, or of a paper.
        share_up: whether all panels have one scale upwards.
    """
    size = look.font_pt / PAGE_FONT_PT
    columns = max(1, min(len(panels), int(width_in / (_WIDEST_PANEL_IN * size))))
    rows = math.ceil(len(panels) / columns)
    points = [point for panel in panels for line in panel.lines for point in line.points]
    epsilons = {math.inf if point.epsilon is None else point.epsilon for point in points}
    scale = Scale.over(sorted(epsilons))
    scale = replace(scale, gap=_GAP_SHARE * (scale.high - scale.low))  # "none" in a narrow panel
    height_in = size * (_PANEL_HEIGHT_IN + 0.35) * rows + size * 0.6
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    parts = figure.subplots(
        rows, columns, sharex=True, sharey="all" if share_up else "none", squeeze=False
    ).ravel()
    for axes, panel in zip(parts, panels, strict=False):
        _draw_panel(axes, panel, scale, sorted(epsilons), look)
    for index, axes in enumerate(parts[len(panels) :], start=len(panels)):
        axes.set_axis_off()
        parts[index - columns].tick_params(labelbottom=True)
    if share_up:
        for axes in parts[: len(panels)]:
            axes.label_outer()
    figure.supxlabel(
        "epsilon asked for, for the whole pipeline (log scale)", color=look.ink,
        fontsize=look.font_pt,
    )  # fmt: skip
    styles = {line.name: line.style for panel in panels for line in panel.lines}
    add_legend(figure, styles, look)
    return figure


def _draw_panel(
    axes: Axes, panel: Panel, scale: Scale, epsilons: Sequence[float], look: Look
) -> None:
    labels = ["none" if math.isinf(one) else epsilon_text(one) for one in epsilons]
    axes.set_xticks([scale.position(one) for one in epsilons], labels)
    axes.set_xlim(scale.low - scale.gap, scale.high + 1.6 * scale.gap)
    axes.set_title(panel.title, color=look.ink, fontsize=look.font_pt, loc="left")
    axes.set_ylabel(panel.up, color=look.ink)
    if panel.at_best is not None:
        axes.axhline(
            panel.at_best, color=look.muted, linewidth=look.pt(1), linestyle=(0, (6, 4)), zorder=1
        )
    apart = min(0.03 * scale.width, 0.8 * scale.gap / max(len(panel.lines), 1))
    for number, line in enumerate(panel.lines):
        shift = (number - (len(panel.lines) - 1) / 2) * apart
        _draw_line(axes, line, scale, shift, look)
    look.dress(axes)


def _draw_line(axes: Axes, line: Line, scale: Scale, shift: float, look: Look) -> None:
    colour, marker = look.marks[line.style % len(MARKS)], MARKS[line.style % len(MARKS)].marker
    points = sorted(line.points, key=lambda one: math.inf if one.epsilon is None else one.epsilon)
    private = [one for one in points if one.epsilon is not None]
    axes.plot(
        [scale.position(one.epsilon or 0.0) + shift for one in private],
        [one.value for one in private],
        color=colour, linewidth=look.pt(1.4), zorder=2,
    )  # fmt: skip
    for one in points:
        position = scale.position(math.inf if one.epsilon is None else one.epsilon) + shift
        if one.low is not None and one.high is not None:
            axes.vlines(position, one.low, one.high, color=colour, linewidth=look.pt(1.2), zorder=3)
        axes.plot(
            [position], [one.value], marker=marker, markersize=look.pt(6), color=colour,
            linestyle="none", zorder=4,
        )  # fmt: skip
