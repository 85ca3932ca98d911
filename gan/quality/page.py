"""An assessment as one self-contained HTML page: tables, spectra, and patches of the set."""

import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from gan.quality.sets import PIXELS, MeasuredSet, Sets
from synthdp import __version__
from synthdp.data.dataset import Dataset
from synthdp.data.spectrum import spectrum_bins
from synthdp.evaluation.assessment import AssessedSet, Assessment, Figure, Value
from synthdp.pages import (
    INK,
    MARK_COLOURS,
    MARKS,
    MUTED,
    PAPER,
    RULE,
    class_patches,
    inline_svg,
    page_environment,
)

LINES = ("radial", "vertical", "horizontal")


def assessment_page(found: Assessment, sets: Sets, synthetic: Dataset) -> str:
    """The page as HTML text; of the sets it shows mean spectra, of the synthetic one patches.

    Raises:
        InputError: when a synthetic image is unreadable.
    """
    by_section = {
        section: list(figures)
        for section, figures in groupby(found.figures, key=lambda figure: figure.section)
    }
    template = page_environment("gan.quality").get_template("quality.html.j2")
    return template.render(
        title=f"Assessment of {found.synthetic.name}",
        found=found,
        sections=by_section,
        sets=_named_sets(found),
        drawing=Markup(draw_spectra(sets, found.real.size_px)),  # noqa: S704 (drawn here)
        patches=class_patches(synthetic),
        marks=MARKS,
        synthdp_version=__version__,
    )


def _named_sets(found: Assessment) -> Mapping[str, AssessedSet]:
    parts = {
        "synthetic": found.synthetic,
        "baseline": found.baseline,
        "train": found.real,
        "val": found.held_out,
    }
    return {part: assessed for part, assessed in parts.items() if assessed is not None}


def draw_spectra(sets: Sets, size_px: int) -> str:
    """Mean power over frequency, radial and along either axis, as an SVG element."""
    shown = {"real train": (sets.train, INK, "-")}
    for number, (subject, made_up) in enumerate(sets.made_up.items()):
        shown[subject] = (made_up, MARK_COLOURS[number], "-" if number == 0 else "--")
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "spectra", "font.size": 11}):
        figure = Drawing(figsize=(9.6, 3.8), layout="constrained")
        panels = figure.subplots(1, len(LINES), sharey=True)
        for axes, line in zip(panels, LINES, strict=True):
            _draw_frame(axes, line)
            for label, (measured, colour, style) in shown.items():
                _draw_line(
                    axes, measured, line, size_px, color=colour, linestyle=style, label=label
                )
        panels[0].set_ylabel("mean power (log scale)", color=INK)
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3,
            frameon=False, labelcolor=INK,
        )  # fmt: skip
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    description = (
        "Mean power spectra, radial, vertical and horizontal, of real train images"
        + "".join(f" and of the {subject} set" for subject in sets.made_up)
        + ". The largest difference stands in the table of figures."
    )
    return inline_svg(stream.getvalue(), "spectra", description)


def _draw_line(axes: Axes, measured: MeasuredSet, line: str, size_px: int, **look: Any) -> None:
    bins = spectrum_bins(size_px)
    chosen = [number for number, (found, _, _) in enumerate(bins) if found == line]
    places = [float(np.sqrt(bins[number][1] * bins[number][2])) for number in chosen]
    powers = measured.powers.astype(np.float64).mean(axis=0)[chosen]
    axes.plot(places, powers, linewidth=1.8, marker="o", markersize=3.5, markeredgecolor=PAPER,
              markeredgewidth=0.4, **look)  # fmt: skip


def _draw_frame(axes: Axes, line: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(line, color=INK, fontsize=11)
    axes.set_xlabel("cycles an image side", color=INK)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, color=MUTED, length=3)
    for edge, spine in axes.spines.items():
        spine.set_visible(edge in ("left", "bottom"))
        spine.set_color(RULE)


# What an assessment found, in a few sentences that hold for its numbers.

CHANCE = 0.5


def findings(figures: Sequence[Figure]) -> tuple[str, ...]:
    """Distance, labels, copies and membership, one sentence each; the first feature space speaks.

    Args:
        figures: all figures of the assessment.
    """
    sentences = [
        _distance(figures),
        _labels(figures),
        _copies(figures),
        _membership(figures),
    ]
    return tuple(sentence for sentence in sentences if sentence)


def _distance(figures: Sequence[Figure]) -> str:
    halves = [
        f for f in figures if f.section == "Distance" and f.comparison.startswith("as many as half")
    ]
    if not halves or halves[0].synthetic.value is None or halves[0].real is None:
        return ""
    figure, real = halves[0], halves[0].real
    beside = f" ({_shown(figure, figure.baseline)} for the baseline)" if figure.baseline else ""
    return (
        f"{figure.measure} is {_shown(figure, figure.synthetic)}{beside} at n = "
        f"{figure.synthetic.n[0]}, where two halves of the real train patients give "
        f"{_shown(figure, real)}."
    )


def _labels(figures: Sequence[Figure]) -> str:
    found = [f for f in figures if f.section == "Labels"]
    if not found or found[0].synthetic.value is None or found[0].real is None:
        return ""
    figure, real = found[0], found[0].real
    return (
        f"A classifier trained on it has AUROC {_shown(figure, figure.synthetic)} on real val "
        f"patients ({_shown(figure, real)} when trained on real; {figure.features} features)."
    )


def _copies(figures: Sequence[Figure]) -> str:
    found = next(f for f in figures if f.section == "Memorisation")
    count = int(found.synthetic.value or 0)
    if not count:
        return (
            f"None of {found.synthetic.n[0]} images is a near copy of a train patient; the closest "
            "pairs stand in private/closest_pairs.png, to be looked at before a release."
        )
    return (
        f"{count} of {found.synthetic.n[0]} images are near copies of train patients by distance: "
        "private/nearest.csv names them and private/closest_pairs.png shows the closest. Don't "
        "release this set unless a look at each of them says otherwise."
    )


def _membership(figures: Sequence[Figure]) -> str:
    attacks = [
        f for f in figures if f.section == "Membership" and f.measure.endswith("AUC")
        if f.synthetic.value is not None
    ]  # fmt: skip
    if not attacks:
        return "The real set has no val split, so nothing is known of membership."
    shown = next((f for f in attacks if f.features != PIXELS), attacks[0])
    told = [f for f in attacks if (f.synthetic.ci_low or 0) > CHANCE]
    first = (
        f"The membership attack has AUC {_shown(shown, shown.synthetic)} "
        f"({_interval(shown.synthetic)}) in {shown.features} features"
    )
    if not told:
        return f"{first}; none of {len(attacks)} attacks tells members from others."
    where = ", ".join(dict.fromkeys(f"{f.features} ({f.comparison.split(';')[0]})" for f in told))
    return f"{first}; {len(told)} of {len(attacks)} attacks tell members from others: {where}."


def _shown(figure: Figure, value: Value | None) -> str:
    return "none" if value is None or value.value is None else f"{value.value:.{figure.digits}f}"


def _interval(value: Value) -> str:
    if value.ci_low is None or value.ci_high is None:
        return "no interval"
    return f"{value.ci_low:.2f} to {value.ci_high:.2f}"
