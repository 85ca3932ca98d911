"""Patches in rows, each row with its name, as a figure for a paper."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from synthdp.pages.look import Look

_GAP_SHARE = 0.05  # between two patches, of a patch's side


@dataclass(frozen=True)
class PatchRow:
    """A row: its name, of one or more lines, and (S, S) uint8 images, fewer than others' or as
    many."""

    name: str
    images: Sequence[NDArray[np.uint8]]


def grid_figure(rows: Sequence[PatchRow], *, width_in: float, look: Look) -> Figure:
    """Draw rows of patches, all of one side, names to their left; `width_in` inches wide.

    Raises:
        ValueError: when no row has an image.
    """
    columns = max((len(row.images) for row in rows), default=0)
    if not columns:
        raise ValueError("no row has an image")
    longest = max(len(line) for row in rows for line in row.name.splitlines())
    names_in = (0.58 * longest + 1) * look.font_pt / 72  # letters are some .58 em wide
    side_in = (width_in - names_in) / (columns + _GAP_SHARE * (columns - 1))
    step_in = side_in * (1 + _GAP_SHARE)
    height_in = side_in * len(rows) + side_in * _GAP_SHARE * (len(rows) - 1)
    figure = Figure(figsize=(width_in, height_in))
    for number, row in enumerate(rows):
        bottom_in = height_in - side_in - number * step_in
        figure.text(
            0, (bottom_in + side_in / 2) / height_in, row.name, va="center", ha="left",
            color=look.ink, fontsize=look.font_pt,
        )  # fmt: skip
        for column, image in enumerate(row.images):
            left_in = names_in + column * step_in
            axes = figure.add_axes(
                (left_in / width_in, bottom_in / height_in, side_in / width_in, side_in / height_in)
            )
            # drawn as it is: nothing is stretched to its own extremes
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="lanczos")
            axes.set_axis_off()
    return figure
