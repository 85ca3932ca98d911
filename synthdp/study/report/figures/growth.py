"""How results grow with the number of patients: AUROC over that number, a panel for each epsilon.

The number is public: what was declared, or the share of a declared whole. The exact number in a
share of a private set is nobody's to read.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthdp.config.yaml_core import read_yaml
from synthdp.errors import InputError
from synthdp.pages.html import MARKS, inline_svg
from synthdp.pages.look import PAGE, PAGE_FONT_PT, Look
from synthdp.privacy.units import CROSS_VALIDATED
from synthdp.study.compare.cells import Cell, OverSeeds
from synthdp.study.report.curve import CHANCE, add_legend
from synthdp.study.report.summary import strategy_words
from synthdp.study.report.tables import metric_words
from synthdp.study.sets import share_of, share_words

_WIDEST_PANEL_IN, _PANEL_HEIGHT_IN = 4.0, 2.5  # for letters of the page's size
_NARROWEST_TICKS_IN = 0.36  # between the middles of two labels
_ROOM = 0.14  # of the axis, on either side


# How many patients a share has, from public numbers alone.


@dataclass(frozen=True)
class Share:
    """A share of the patients, and a public number near what it holds; None where none is known.

    `at_most`: that number is the declared bound, which may be well above what the share holds.
    """

    share: float
    patients: int | None
    at_most: bool = False

    @property
    def position(self) -> float:
        """On the axis: the number of patients, or the share itself."""
        return self.share if self.patients is None else float(self.patients)

    @property
    def label(self) -> str:
        """As an axis or the head of a column has it."""
        return f"{100 * self.share:.3g} %" if self.patients is None else f"{self.patients}"

    @property
    def words(self) -> str:
        """In a sentence: `about 460 patients`."""
        if self.patients is None:
            return f"{self.label} of the patients"
        return f"{'at most' if self.at_most else 'about'} {self.patients} patients"


def public_shares(study: Path, cells: Sequence[Cell], patients: int | None = None) -> list[Share]:
    """The shares that a study's models were trained on, smallest first.

    Args:
        study: its folder, whose `config.yaml` has the numbers that were declared.
        cells: of its results.
        patients: a public number of all patients; None: `privacy.population`, as declared.
    """
    shares = {share_of(cell.trained_on) for cell in cells if cell.split == CROSS_VALIDATED}
    bounds, population = _declared(study)
    return [
        _public_share(share, bounds.get(share_words(share)), patients or population)
        for share in sorted(share for share in shares if share is not None)
    ]


def _public_share(share: float, bound: int | None, population: int | None) -> Share:
    """The share of a public whole, to two digits, and no more than the bound on it."""
    if population is None:
        return Share(share, bound, at_most=bound is not None)
    number = max(1, int(float(f"{share * population:.2g}")))
    return Share(share, number if bound is None else min(number, bound))


def _declared(study: Path) -> tuple[dict[str, int], int | None]:
    """The bounds on shares, by their words, and on all patients: as settings of any version say."""
    try:
        settings = read_yaml(study / "config.yaml")
    except InputError:  # of a study whose settings are lost its results can be shown
        return {}, None
    bounds = {
        share_words(share): bound
        for share, bound in _mapping(_mapping(settings, "cross_validation"), "shares").items()
        if isinstance(share, float | int) and isinstance(bound, int)
    }
    population = _mapping(settings, "privacy").get("population")
    return bounds, population if isinstance(population, int) else None


def _mapping(settings: Mapping[Any, Any], key: str) -> Mapping[Any, Any]:
    value = settings.get(key)
    return value if isinstance(value, Mapping) else {}


# What is drawn.


@dataclass(frozen=True)
class GrowthPoint:
    """The AUROC of models that were trained on one share."""

    share: Share
    auroc: OverSeeds


@dataclass(frozen=True)
class GrowthLine:
    """One recipe at one epsilon; `level` instead of points where it meets no patient."""

    strategy: str
    style: int
    points: tuple[GrowthPoint, ...]
    level: OverSeeds | None = None

    @property
    def known(self) -> list[tuple[GrowthPoint, float]]:
        """The points that have a mean, with it."""
        return [(one, one.auroc.mean) for one in self.points if one.auroc.mean is not None]


@dataclass(frozen=True)
class GrowthPanel:
    """All recipes at one epsilon asked for; None: without privacy."""

    epsilon: float | None
    lines: tuple[GrowthLine, ...]

    @property
    def title(self) -> str:
        """Above the panel."""
        return "without privacy" if self.epsilon is None else f"epsilon {self.epsilon:g}"


def growth_panels(
    cells: Sequence[Cell], shares: Sequence[Share], strategies: Sequence[str]
) -> list[GrowthPanel]:
    """The panels of a study, by rising epsilon; none where it has one share alone, or no AUROC.

    Args:
        cells: of its results; those of other splits are left out.
        shares: of its patients, as `public_shares` gives them.
        strategies: all of the study; their order decides marker and colour.
    """
    here = [cell for cell in cells if cell.split == CROSS_VALIDATED]
    of_shares = [cell for cell in here if share_of(cell.trained_on) is not None]
    if len(shares) < 2 or all(cell.metrics["auroc"].mean is None for cell in of_shares):
        return []
    by_share = {one.share: one for one in shares}
    levels = {
        cell.strategy: cell.metrics["auroc"]
        for cell in here
        if not cell.trained_on and cell.metrics["auroc"].mean is not None
    }
    asked = {cell.epsilon for cell in of_shares}
    panels = []
    for epsilon in sorted(asked, key=lambda one: math.inf if one is None else one):
        lines = []
        for style, name in enumerate(strategies):
            points = [
                GrowthPoint(by_share[share], cell.metrics["auroc"])
                for cell in of_shares
                if (cell.strategy, cell.epsilon) == (name, epsilon)
                and (share := share_of(cell.trained_on)) is not None
            ]
            points.sort(key=lambda one: one.share.share)
            if points or name in levels:
                lines.append(GrowthLine(name, style, tuple(points), levels.get(name)))
        panels.append(GrowthPanel(epsilon, tuple(lines)))
    return panels


def growth_figure(
    panels: Sequence[GrowthPanel], cells: Sequence[Cell], *, width_in: float, look: Look
) -> Figure:
    """AUROC over the number of patients, in panels of one scale; to be drawn and saved in `look`.

    Args:
        panels: at least one, of `growth_panels`.
        cells: of the study, by which the axis is called.
        width_in: the width for which the text has its proper size.
        look: of the page, or of a paper.
    """
    size = look.font_pt / PAGE_FONT_PT
    columns = max(1, min(len(panels), int(width_in / (_WIDEST_PANEL_IN * size))))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(
        figsize=(width_in, size * (_PANEL_HEIGHT_IN * rows + 0.6)), layout="constrained"
    )
    parts = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    shares = sorted({one.share for one in _points(panels)}, key=lambda one: one.position)
    least = _NARROWEST_TICKS_IN * size * columns / width_in
    for axes, panel in zip(parts, panels, strict=False):
        _draw_panel(axes, panel, shares, least=least, look=look)
    for index, axes in enumerate(parts[len(panels) :], start=len(panels)):
        axes.set_axis_off()
        parts[index - columns].tick_params(labelbottom=True)
    ends = [value for one in _points(panels) for value in _ends(one.auroc)]
    ends += [line.level.mean or CHANCE for panel in panels for line in panel.lines if line.level]
    low, high = min(ends), max(CHANCE + 0.1, *ends)
    low = low if low > CHANCE + 0.1 else min(low, CHANCE)  # chance, unless it is far below all
    parts[0].set_ylim(max(0, low - 0.02), min(1.005, high + 0.03))
    for axes in parts[: len(panels)]:
        axes.label_outer()
    words = {"color": look.ink, "fontsize": look.font_pt}
    figure.supxlabel(across_words(shares), **words)
    figure.supylabel(metric_words("auroc", cells), **words)
    if not look.on_page:
        styles = {line.strategy: line.style % len(MARKS) for p in panels for line in p.lines}
        add_legend(figure, styles, look)
    return figure


def across_words(shares: Sequence[Share]) -> str:
    """What the axis across is called."""
    if any(one.patients is None for one in shares):
        return "share of the patients (log scale)"
    if any(one.at_most for one in shares):
        return "patients to learn from, at most (log scale)"
    return "patients to learn from, about (log scale)"


def _points(panels: Sequence[GrowthPanel]) -> list[GrowthPoint]:
    return [point for panel in panels for line in panel.lines for point in line.points]


def _ends(auroc: OverSeeds) -> list[float]:
    ends = (auroc.mean, auroc.ci_low, auroc.ci_high)
    return [value for value in ends if value is not None]


def _draw_panel(
    axes: Axes, panel: GrowthPanel, shares: Sequence[Share], *, least: float, look: Look
) -> None:
    """Lines and intervals of one epsilon; labels stand at least a share `least` of it apart."""
    logs = [math.log10(one.position) for one in shares]
    width = max(logs[-1] - logs[0], 0.1)
    axes.set_title(panel.title, color=look.ink, fontsize=look.font_pt, loc="left")
    axes.set_xlim(logs[0] - _ROOM * width, logs[-1] + _ROOM * width)
    named = _apart(logs, least * (1 + 2 * _ROOM) * width)
    axes.set_xticks([logs[at] for at in named], [shares[at].label for at in named])
    axes.set_xticks([logs[at] for at in range(len(logs)) if at not in named], minor=True)
    axes.axhline(CHANCE, color=look.muted, linewidth=look.pt(1), linestyle=(0, (6, 4)), zorder=1)
    # marks that would hide each other stand side by side, and no nearer to another share's
    gaps = [high - low for low, high in pairwise(logs) if high > low]
    of_shares = [line for line in panel.lines if line.points]
    apart = min(0.03 * width, 0.9 * min(gaps, default=width) / max(len(of_shares), 1))
    for line in panel.lines:
        if not line.points and line.level is not None:
            axes.axhline(
                line.level.mean or 0.0, color=look.marks[line.style % len(MARKS)],
                linewidth=look.pt(1.4), linestyle=(0, (7, 2, 1.5, 2)),
            )  # fmt: skip
    for number, line in enumerate(of_shares):
        _draw_line(axes, line, (number - (len(of_shares) - 1) / 2) * apart, look)
    look.dress(axes)
    axes.tick_params(axis="x", which="minor", length=look.pt(2.5), color=look.rule)


def _apart(logs: Sequence[float], least: float) -> list[int]:
    """Which of rising positions are labelled: the last, and those far enough below the next."""
    kept: list[int] = []
    for at in reversed(range(len(logs))):
        if not kept or logs[kept[-1]] - logs[at] >= least:
            kept.append(at)
    return kept[::-1]


def _draw_line(axes: Axes, line: GrowthLine, shift: float, look: Look) -> None:
    style = line.style % len(MARKS)
    colour, known = look.marks[style], line.known
    positions = [math.log10(point.share.position) + shift for point, _ in known]
    means = [mean for _, mean in known]
    axes.plot(positions, means, color=colour, linewidth=look.pt(1.4), zorder=2)
    for position, (point, _) in zip(positions, known, strict=True):
        low, high = point.auroc.ci_low, point.auroc.ci_high
        if low is not None and high is not None:
            axes.vlines(position, low, high, color=colour, linewidth=look.pt(1.2), zorder=3)
    axes.plot(
        positions, means, marker=MARKS[style].marker, markersize=look.pt(6), color=colour,
        linestyle="none", zorder=4,
    )  # fmt: skip


def draw_growth(
    panels: Sequence[GrowthPanel], cells: Sequence[Cell], *, prefix: str, width_in: float
) -> str:
    """The figure as an SVG element for a page, which says what the marks mean.

    Args:
        panels: as in `growth_figure`.
        cells: as there.
        prefix: begins every id in the drawing, so that several stand in one page.
        width_in: the width for which the text has its proper size.
    """
    stream = io.StringIO()
    with PAGE.applied(prefix):
        figure = growth_figure(panels, cells, width_in=width_in, look=PAGE)
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    words = f"{growth_words(panels)} The table below holds the same figures."
    return inline_svg(stream.getvalue(), prefix, words)


def growth_words(panels: Sequence[GrowthPanel]) -> str:
    """What the drawing shows, for who cannot see it."""
    shares = sorted({one.share for one in _points(panels)}, key=lambda one: one.position)
    across = across_words(shares).removesuffix(" (log scale)")
    sentences = [
        f"AUROC over the number of patients, a panel for each epsilon. Across, on a log scale: "
        f"{across}. Up: AUROC, mean over seeds, with 95 % intervals"
    ]
    sentences += [f"{panel.title}: {'; '.join(_line_words(panel))}" for panel in panels]
    return ". ".join([*sentences, ""]).rstrip()


def _line_words(panel: GrowthPanel) -> Iterator[str]:
    for line in panel.lines:
        known, name = line.known, strategy_words(line.strategy)
        if known:
            (first, low), (last, high) = known[0], known[-1]
            parts = [f"{low:.2f} at {first.share.label}"]
            parts += [f"{high:.2f} at {last.share.label}"] * (len(known) > 1)
            yield f"{name} {', '.join(parts)}"
        elif line.points:
            yield f"{name} has no figure"
        elif line.level is not None:
            yield f"{name}, which meets no patient, {line.level.mean:.2f}"
