"""What the self-contained HTML pages share: templates, one script, drawings, patches."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from synthdp.data.dataset import Dataset, evenly_spaced, load_pictures
from synthdp.data.images import encode_png, to_uint8

SHOWN_PX = 128  # larger patches are shown at this side


def page_environment(package: str) -> Environment:
    """An environment that finds the templates of `package`, and those that all pages share.

    Values are escaped, and a name that a template lacks is an error.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("synthdp.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_script() -> Markup:
    """The script that sorts tables and opens details for printing, as the page holds it."""
    text = (files("synthdp.pages") / "templates" / "page.js").read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 (a file of this package)


def content_policy(script: str = "") -> str:
    """A policy by which a page fetches nothing and runs this script alone, by its hash; or none."""
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    runs = f"'sha256-{digest}'" if script else "'none'"
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        f"form-action 'none'; script-src {runs}"
    )


# Drawings by matplotlib as inline SVG that follows the colours and fonts of the page.


@dataclass(frozen=True)
class Mark:
    """How one of several things is drawn: by matplotlib, and as an SVG path in a 12 px box."""

    marker: str | tuple[int, int, float]
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
    Mark("X", "M3.5 1L6 3.5L8.5 1L11 3.5L8.5 6L11 8.5L8.5 11L6 8.5L3.5 11L1 8.5L3.5 6L1 3.5z"),
    Mark(">", "M10.5 6l-9-5v10z"),
    Mark("*", "M6 .6l1.3 3.8h4l-3.2 2.4l1.2 3.9l-3.3-2.3l-3.3 2.3l1.2-3.9l-3.2-2.4h4z"),
    Mark("d", "M6 .8l3 5.2l-3 5.2l-3-5.2z"),
    Mark("p", "M6 1l4.8 3.5l-1.8 5.6h-6l-1.8-5.6z"),
    Mark((4, 1, 0), "M6 .5L7.6 4.4L11.5 6L7.6 7.6L6 11.5L4.4 7.6L.5 6L4.4 4.4z"),
    Mark((3, 1, 0), "M6 .5L8 5L11.2 9L6 8.4L.8 9L4 5z"),
    Mark(
        (6, 1, 0),
        "M6 .5L7.3 3.7L10.8 3.2L8.6 6L10.8 8.8L7.3 8.3"
        "L6 11.5L4.7 8.3L1.2 8.8L3.4 6L1.2 3.2L4.7 3.7z",
    ),
)
N_COLOURS = 8  # that the page has: marks beyond these take a colour again, in another shape

# Colours of drawings. None is meant to be seen: each becomes a CSS variable in the page, so that
# drawings follow its light and its dark theme.
INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"
MARK_COLOURS = tuple(f"#0a0b{index % N_COLOURS:02x}" for index in range(len(MARKS)))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    **{colour: f"var(--mark-{index})" for index, colour in enumerate(MARK_COLOURS[:N_COLOURS])},
}


def inline_svg(svg: str, prefix: str, description: str) -> str:
    """A drawing as an element of the page: own ids, the page's colours and fonts, a name.

    Args:
        svg: what matplotlib wrote, in the colours above.
        prefix: begins every id in the drawing, so that several stand in one page.
        description: what it shows, for who cannot see it.
    """
    body = svg[svg.index("<svg") :]  # without the XML declaration
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{prefix}-", body)  # ids and their uses
    body = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    view_box = re.search(r'viewBox="([\d. ]+)"', body)
    assert view_box is not None  # matplotlib writes one
    head = (
        f'<svg class="curve" role="img" aria-labelledby="{prefix}-alt" '
        f'viewBox="{view_box[1]}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink"><desc id="{prefix}-alt">'
        f"{escape(description)}</desc>"
    )
    return head + body[body.index(">") + 1 :]


# A few patches of each class.


@dataclass(frozen=True)
class ClassPatches:
    """Patches of one class as data URIs of grey PNG files, which carry no text or metadata."""

    label: str
    images: tuple[str, ...]


def class_patches(dataset: Dataset, per_class: int = 8) -> list[ClassPatches]:
    """Up to `per_class` patches of each class, evenly spaced over the manifest.

    Raises:
        InputError: when an image is unreadable or unsafe.
    """
    patches = []
    for label, images in class_images(dataset, per_class, min(dataset.info.size_px, SHOWN_PX)):
        pngs = (base64.b64encode(encode_png(image)).decode() for image in images)
        patches.append(ClassPatches(label, tuple(f"data:image/png;base64,{png}" for png in pngs)))
    return patches


def class_images(
    dataset: Dataset, per_class: int, size_px: int
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Of each class that has images: its name, and up to `per_class`, (n, size_px, size_px).

    They are evenly spaced over the manifest.

    Raises:
        InputError: when an image is unreadable or unsafe.
    """
    shown = []
    for label, index, value in _classes(dataset.info.targets):
        rows = [row for row in dataset.rows if row.targets[index] == value]
        if rows:
            loaded = load_pictures(dataset, evenly_spaced(rows, per_class), size_px)
            shown.append((label, to_uint8(loaded[:, 0])))
    return shown


def _classes(targets: Sequence[str]) -> list[tuple[str, int, float]]:
    """Label, target index and target value of each class to show."""
    if len(targets) > 1:
        return [(name, index, 1.0) for index, name in enumerate(targets)]
    negative = "benign" if targets[0] == "malignant" else f"not {targets[0]}"
    return [(targets[0], 0, 1.0), (negative, 0, 0.0)]
