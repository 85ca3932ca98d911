"""Drawings by matplotlib as inline SVG that follows the colours and fonts of the page."""

import re
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Mark:
    """How one of several things is drawn: by matplotlib, and as an SVG path in a 12 px box."""

    marker: str
    path: str


MARKS = (
    Mark("o", "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9z"),
    Mark("s", "M2 2h8v8h-8z"),
    Mark("^", "M6 1.5l5 9h-10z"),
    Mark("D", "M6 1l5 5l-5 5l-5-5z"),
    Mark("v", "M6 10.5l5-9h-10z"),
    Mark("P", "M4.3 1.3h3.4v3h3v3.4h-3v3h-3.4v-3h-3v-3.4h3z"),
    Mark("h", "M6 1l4.4 2.5v5l-4.4 2.5l-4.4-2.5v-5z"),
    Mark("<", "M1.5 6l9-5v10z"),
)

# Stand-ins that no drawing uses otherwise; in the page each becomes a CSS variable.
INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"
MARK_COLOURS = tuple(f"#0a0b{index:02x}" for index in range(len(MARKS)))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    **{colour: f"var(--mark-{index})" for index, colour in enumerate(MARK_COLOURS)},
}


def inline_svg(svg: str, prefix: str, description: str) -> str:
    """A drawing as an element of the page: own ids, the page's colours and fonts, a name.

    Args:
        svg: what matplotlib wrote, in the colours above.
        prefix: begins every id in the drawing, so that several stand in one page.
        description: what it shows, for who cannot see it.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{prefix}-", body)
    body = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    head = (
        f'<svg class="curve" role="img" aria-labelledby="{prefix}-alt" '
        f'viewBox="{_view_box(body)}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink"><desc id="{prefix}-alt">'
        f"{escape(description)}</desc>"
    )
    return head + body[body.index(">") + 1 :]


def _view_box(svg: str) -> str:
    found = re.search(r'viewBox="([\d. ]+)"', svg)
    assert found is not None  # matplotlib writes one
    return found[1]
