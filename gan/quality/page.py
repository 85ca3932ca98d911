"""An assessment as one self-contained HTML page: tables, spectra, and patches of the set."""

import io
from itertools import groupby
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from gan.quality.scorecard import answered_criteria
from gan.quality.sets import MeasuredSet, Sets
from gan.quality.subgroups import group_rows
from synthdp import __version__
from synthdp.data.looks.spectrum import spectrum_bins
from synthdp.evaluation.assessment import Assessment
from synthdp.pages.html import (
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


def assessment_page(assessment: Assessment, sets: Sets) -> str:
    """The page as HTML text; of the sets it shows mean spectra, of the synthetic one patches.

    Raises:
        InputError: when a synthetic image is unreadable.
    """
    sections = {
        section: list(figures)
        for section, figures in groupby(assessment.figures, key=lambda figure: figure.section)
    }
    parts = {
        "synthetic": assessment.synthetic,
        "baseline": assessment.baseline,
        "train": assessment.real,
        "val": assessment.held_out,
    }
    groups = group_rows(assessment.figures)
    template = page_environment("gan.quality").get_template("quality.html.j2")
    return template.render(
        title=f"Assessment of {assessment.synthetic.name}",
        assessment=assessment,
        sections=sections,
        sets={part: assessed for part, assessed in parts.items() if assessed is not None},
        spectra=Markup(_draw_spectra(sets)),  # noqa: S704 (drawn here)
        patches=class_patches(sets.synthetic.dataset),
        criteria=[
            (source, list(of_source))
            for source, of_source in groupby(
                answered_criteria(assessment), key=lambda one: one.criterion.source
            )
        ],
        groups=groups,
        attributes=any(row.utility is not None for row in groups),
        marks=MARKS,
        synthdp_version=__version__,
    )


def _draw_spectra(sets: Sets) -> str:
    """Mean power over frequency, radial and along either axis, as an SVG element."""
    shown = {"real train": (sets.train, INK, "-")}
    for number, (subject, made_up) in enumerate(sets.made_up.items()):
        shown[subject] = (made_up, MARK_COLOURS[number], "-" if number == 0 else "--")
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "spectra", "font.size": 11}):
        figure = Figure(figsize=(9.6, 3.8), layout="constrained")
        panels = figure.subplots(1, len(LINES), sharey=True)
        for axes, line in zip(panels, LINES, strict=True):
            _draw_frame(axes, line)
            for label, (measured, colour, style) in shown.items():
                _draw_line(
                    axes, measured, line, sets.size_px, color=colour, linestyle=style, label=label
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
    chosen = [number for number, (of_line, _, _) in enumerate(bins) if of_line == line]
    frequencies = [float(np.sqrt(bins[number][1] * bins[number][2])) for number in chosen]
    powers = measured.powers.astype(np.float64).mean(axis=0)[chosen]
    axes.plot(frequencies, powers, linewidth=1.8, marker="o", markersize=3.5, markeredgecolor=PAPER,
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
