"""Saliency: which regions of an image a score depends on, by hiding them one after the other.

An aid for a person who looks, and no proof: hiding a region shows how the model scores an image
that it never saw, regions that matter only together stay unseen, and what moves a score need not be
what a radiologist means. Occlusion: Zeiler and Fergus, arXiv 1311.2901, section 4.2; here what
hides is the image's own blurred copy under a soft window, so that no edge is added to it. Models
that average eight views of an image are read in one, the image as it is, since each view takes as
many passes as there are regions.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from classify.features.extract import features_on_arrays
from classify.model.classifier import Classifier, logits, restore_backbone
from synthdp.data.images import resize_pixels
from synthdp.networks.alone import BATCH
from synthdp.networks.denoise import resampled_for
from synthdp.networks.settings import FeatureSettings

FloatImage = NDArray[np.float32]
#: Width of the window in grid steps, and of the blur in sides of the image (standard deviations).
_WINDOW, _BLUR = 0.75, 0.1
_DRAWN_PX = 256
_COLOURS = colormaps["RdBu_r"]
_MOST_OPAQUE = 0.65
#: A region is what reaches this share of the strongest change, be it a fall or a rise.
_REGION = 0.5


@dataclass(frozen=True, eq=False)
class OneView:
    """A classifier read in one view of an image.

    classifier: with one view in the settings of each network; networks: for each its settings, and
    what computes its features.
    """

    classifier: Classifier
    networks: tuple[
        tuple[FeatureSettings, Callable[[NDArray[np.float32]], NDArray[np.float32]]], ...
    ]


def one_view(classifier: Classifier) -> OneView:
    """The classifier, read in one view.

    Raises:
        InputError: when weights are missing.
    """
    feature_sources = tuple(
        replace(one, backbone=one.backbone.model_copy(update={"views": 1, "view_order": None}))
        for one in classifier.feature_sources
    )
    networks = tuple(
        (one.backbone, features_on_arrays(restore_backbone(one))) for one in feature_sources
    )
    return OneView(classifier.with_feature_sources(feature_sources), networks)


def occluded(image: FloatImage, grid: int) -> NDArray[np.float32]:
    """An image with each of grid x grid regions hidden in turn, row by row.

    Args:
        image: (S, S).
        grid: regions a side.

    Returns:
        (grid * grid, S, S), each a soft mixture of the image and its blurred copy.
    """
    side = len(image)
    blurred = gaussian_filter(image, _BLUR * side, mode="nearest")
    middles = (np.arange(grid) + 0.5) / grid
    pixels = (np.arange(side) + 0.5) / side
    window = np.exp(-(((pixels - middles[:, None]) * grid / _WINDOW) ** 2) / 2)
    windows = window[:, None, :, None] * window[None, :, None, :]
    mixed: NDArray[np.float32] = windows.reshape(-1, side, side) * (blurred - image) + image
    return mixed.astype(np.float32, copy=False)


def saliency_map(image: FloatImage, model: OneView, grid: int) -> NDArray[np.float32]:
    """How much each target's logit falls when a region is hidden.

    Args:
        image: (H, W) in [-1, 1].
        model: of `one_view`.
        grid: regions a side.

    Returns:
        (T, grid, grid): above 0 where the image speaks for the target.
    """
    raws = []
    for settings, compute in model.networks:
        whole = resampled_for(settings, image)
        shown = np.concatenate([whole[None], occluded(whole, grid)])[:, None]
        parts = [compute(shown[start : start + BATCH]) for start in range(0, len(shown), BATCH)]
        raws.append(torch.from_numpy(np.concatenate(parts)))
    whole_first = logits(model.classifier, raws)
    by_region = (whole_first[0] - whole_first[1:]).T.reshape(-1, grid, grid)
    falls: NDArray[np.float32] = by_region.numpy()
    return falls


def draw_saliency(
    image: FloatImage, falls: NDArray[np.float32], scores: Mapping[str, float]
) -> bytes:
    """A PNG for people: the untouched image, and beside it the map over the image.

    Colour tells sign and strength; without colour the outlines do: a full one and a plus where the
    image speaks most for the target, a broken one and a minus where it speaks against it.

    Args:
        image: (H, W) in [-1, 1].
        falls: (T, G, G) of `saliency_map`.
        scores: the T targets, each with its probability.
    """
    figure = Figure(figsize=(7.4, 3.4 * len(scores)), dpi=100, layout="constrained")
    axes = figure.subplots(len(scores), 2, squeeze=False)
    grey = (np.clip(image, -1, 1) + 1) / 2
    for (plain, covered), fall, (name, score) in zip(axes, falls, scores.items(), strict=True):
        for panel in (plain, covered):
            panel.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=(0, 1, 1, 0))
            panel.set_axis_off()
        plain.set_title(f"{name}: score {score:.3f}", fontsize=10)
        covered.set_title("an aid, not a proof", fontsize=10)
        _cover(figure, covered, fall)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _cover(figure: Figure, axes: Axes, fall: NDArray[np.float32]) -> None:
    """The map over an image, its outlines, and its scale."""
    top = max(float(np.abs(fall).max()), 1e-6)
    smooth = resize_pixels(fall, _DRAWN_PX)
    axes.imshow(
        smooth,
        cmap=_COLOURS,
        vmin=-top,
        vmax=top,
        alpha=_MOST_OPAQUE * np.clip(np.abs(smooth) / top, 0, 1),
        extent=(0, 1, 1, 0),
    )
    for sign, mark, style in ((1, "+", "solid"), (-1, "\N{MINUS SIGN}", "dashed")):
        if (sign * smooth).max() > _REGION * top:
            _outline(axes, sign * smooth, _REGION * top, mark, style)
    bar: Any = figure.colorbar(
        axes.images[-1], ax=axes, ticks=[-top, 0, top], fraction=0.05, alpha=1
    )
    bar.ax.set_yticklabels(
        [f"\N{MINUS SIGN}{top:.2g}\nagainst", "0", f"+{top:.2g}\nfor"], fontsize=8
    )
    bar.set_label("fall of the logit when hidden", fontsize=8)


def _outline(axes: Axes, smooth: NDArray[np.float32], level: float, mark: str, style: str) -> None:
    """A line around what lies above a level, and a mark on its highest point."""
    middles = (np.arange(_DRAWN_PX) + 0.5) / _DRAWN_PX
    for colour, width in (("white", 2.4), ("black", 1.2)):
        axes.contour(
            middles,
            middles,
            smooth,
            levels=[level],
            colors=colour,
            linewidths=width,
            linestyles=style,
        )
    row, column = np.unravel_index(int(smooth.argmax()), smooth.shape)
    box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black"}
    highest = (float(middles[column]), float(middles[row]))
    axes.annotate(mark, highest, ha="center", va="center", fontsize=9, bbox=box)
