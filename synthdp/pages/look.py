"""How drawings look: on a page, whose themes they follow, and on paper, at a journal's size.

One look has the colours and the sizes; whoever draws takes both from it, so that the same code
draws for the page and for a paper.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthdp.errors import InputError
from synthdp.pages.html import INK, MARK_COLOURS, MUTED, N_COLOURS, PAPER, RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Of a page's drawings; all lengths in points are given for it and follow the font.
PAGE_FONT_PT = 11
DEFAULT_FONT = "DejaVu Sans"  # comes with matplotlib
#: The light theme of the pages. The first seven hues after Okabe and Ito (Color Universal Design,
#: 2008), darkened until thin lines are read on white.
_PRINTED_MARKS = (
    "#0072b2", "#d55e00", "#00825f", "#a8498a", "#9c6a00", "#4b52b8", "#5f6873", "#b3263b",
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Colours and sizes of a drawing.

    `font_pt` is that of labels; `on_page`: the page around it has the legend, follows its own
    fonts, and turns these colours into those of its theme.
    """

    ink: str
    muted: str
    rule: str
    paper: str
    marks: tuple[str, ...]
    font_pt: float
    on_page: bool
    font: str = DEFAULT_FONT

    def pt(self, on_page: float) -> float:
        """A length or a font size, given in points for the page."""
        return on_page * self.font_pt / PAGE_FONT_PT

    @contextmanager
    def applied(self, salt: str) -> Iterator[None]:
        """Draw and save in this look; `salt` makes the ids of an SVG the same in every run.

        Raises:
            InputError: when there is no such font here.
        """
        import matplotlib as mpl  # noqa: PLC0415 (settings classes take this file in)

        settings: Any = {  # the stubs want each key as a literal
            "font.size": self.font_pt,
            "svg.hashsalt": salt,
            # On a page text stays text; on paper a reader needs no font: outlines, or embedded.
            "svg.fonttype": "none" if self.on_page else "path",
            "pdf.fonttype": 42,
        }
        if not self.on_page:
            settings |= {"font.family": self.font, "mathtext.fontset": "dejavusans"}
            _refuse_unknown_font(self.font)
        with mpl.rc_context(settings):
            yield

    def dress(self, axes: "Axes") -> None:
        """Give axes their rules, ticks and two spines."""
        axes.grid(axis="y", color=self.rule, linewidth=self.pt(0.8))
        axes.set_axisbelow(True)
        axes.tick_params(
            colors=self.ink, length=self.pt(4), width=self.pt(0.8), pad=self.pt(3.5),
            color=self.rule, labelsize=self.font_pt,
        )  # fmt: skip
        for edge, spine in axes.spines.items():
            spine.set_visible(edge in ("left", "bottom"))
            spine.set_color(self.rule)
            spine.set_linewidth(self.pt(0.8))


PAGE = Look(INK, MUTED, RULE, PAPER, MARK_COLOURS, font_pt=PAGE_FONT_PT, on_page=True)


def printed(font_pt: float, font: str | None = None) -> Look:
    """The look of figures for papers: on white, colours that colour-blind readers tell apart.

    Args:
        font_pt: size of the letters in points.
        font: of this machine; None: the one that comes with matplotlib.
    """
    marks = tuple(_PRINTED_MARKS[index % N_COLOURS] for index in range(len(MARK_COLOURS)))
    return Look(
        ink="#000000", muted="#59636e", rule="#c3cad2", paper="#ffffff", marks=marks,
        font_pt=font_pt, on_page=False, font=font or DEFAULT_FONT,
    )  # fmt: skip


def _refuse_unknown_font(font: str) -> None:
    from matplotlib.font_manager import findfont  # noqa: PLC0415 (as above)

    try:
        findfont(font, fallback_to_default=False)
    except ValueError as error:
        raise InputError(
            f"figures.font: there is no font {font!r} on this machine; {DEFAULT_FONT!r} comes with "
            "matplotlib"
        ) from error
