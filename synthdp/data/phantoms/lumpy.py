"""A second recipe for one view of a phantom, for patients whom the public phantoms do not resemble.

Where `view` draws fibres, film and ragged masses, this one draws lumps, a plain digital detector
with coarse noise, and masses with corners. Both read the same traits of a lesion, so that what a
network learns on one helps on the other, but not in full. The constants were set by eye, beside
`view` alone.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import expit

from synthdp.data.phantoms.view import (
    PROJECTION_RAD,
    Breast,
    Detector,
    Grid,
    Lesion,
    detect,
    distance_to_edge,
    make_grid,
)

Array = NDArray[np.float64]

#: Lumps: clusters on a canvas, lumps in a cluster, their spread and half-lengths in half-widths.
MEAN_CLUSTERS, MEAN_LUMPS, CLUSTER_SPREAD = 14, 9, 0.22
LUMP_LENGTH, LUMP_ATTENUATION = 0.11, 0.034
#: The canvas is drawn so much wider than it is shown, for what a mass pulls in from outside.
MARGIN = 1.3
#: A mass of less spiculation pulls nothing in.
NO_PULL = 0.12
MOST_CORNERS = 9
#: Grains of a mass at its most irregular: mean number, width in px of a 128 px canvas, attenuation.
MEAN_GRAINS, GRAIN_PX, GRAIN_ATTENUATION = 40, 0.8, 0.12

DETECTORS = {
    "A": Detector(film=False, blur_px=0.9, noise=0.016, line_noise=0.0, power=0.85),
    "B": Detector(film=False, blur_px=0.7, noise=0.022, line_noise=0.004, power=1.0),
}


def draw_lumps(side_px: int, gland: float, scale: float, rng: np.random.Generator) -> Array:
    """Attenuation of lumps in clusters, over a canvas `MARGIN` times as wide as the view.

    After the clustered lumpy background of Bochud, Abbey and Eckstein (Optics Express 4:33, 1999),
    with Gaussian lumps; those of a cluster lie in one direction.

    Args:
        side_px: side of the canvas.
        gland: how much fibroglandular tissue there is; 1 is usual.
        scale: physical size of the patch relative to the usual one; a larger patch holds more.
        rng: where all chance comes from.
    """
    grid = make_grid(side_px)
    x, y = grid.x * MARGIN, grid.y * MARGIN
    canvas = np.zeros((side_px, side_px))
    for _ in range(1 + rng.poisson(MEAN_CLUSTERS * scale)):
        centre, angle = rng.uniform(-MARGIN, MARGIN, 2), rng.uniform(0, np.pi)
        count = 1 + rng.poisson(MEAN_LUMPS)
        centres = centre[:, None] + rng.normal(0, CLUSTER_SPREAD / scale, (2, count))
        length = LUMP_LENGTH / scale * rng.lognormal(0, 0.35, count)
        width = length * rng.uniform(0.3, 0.8)
        turn = angle + rng.normal(0, 0.25, count)
        weight = LUMP_ATTENUATION * rng.lognormal(-0.1, 0.5, count)
        for lump in zip(*centres, length, width, turn, weight, strict=True):
            _add_lump(canvas, Grid(x, y), _Lump(*map(float, lump)))
    mean = LUMP_ATTENUATION * MEAN_LUMPS * 0.12
    return gland * (canvas - mean)


class _Lump(NamedTuple):
    """A Gaussian: its centre, standard deviations along and across `turn`, and height."""

    x: float
    y: float
    length: float
    width: float
    turn: float
    weight: float


def _add_lump(canvas: Array, grid: Grid, lump: _Lump) -> None:
    """Add one lump to the part of the canvas that it reaches."""
    reach = 3 * lump.length
    rows = np.flatnonzero(np.abs(grid.y[:, 0] - lump.y) < reach)
    columns = np.flatnonzero(np.abs(grid.x[0] - lump.x) < reach)
    if not rows.size or not columns.size:
        return
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    dx, dy = grid.x[part] - lump.x, grid.y[part] - lump.y
    along = dx * np.cos(lump.turn) + dy * np.sin(lump.turn)
    across = dy * np.cos(lump.turn) - dx * np.sin(lump.turn)
    squared = (along / lump.length) ** 2 + (across / lump.width) ** 2
    canvas[part] += lump.weight * np.exp(-squared / 2)


@dataclass(frozen=True)
class _Outline:
    """A mass as a view sees it: the grid about its centre, and rho, 1 on its outline."""

    radius: Array
    rho: Array
    theta: Array


def _outline(lesion: Lesion, view: str, grid: Grid, rng: np.random.Generator) -> _Outline:
    """Between a smooth ellipse and one with corners: a triangle wave over the angle."""
    projection = PROJECTION_RAD[view] + rng.normal(0, 0.1)
    x0, y0 = rng.normal(0, 0.12, 2)
    x, y = grid.x - x0, grid.y - y0
    radius, theta = np.hypot(x, y), np.arctan2(y, x)
    a, b, c = lesion.axes
    turned = theta + rng.uniform(0, 2 * np.pi)
    depth = np.hypot(b * np.cos(projection), c * np.sin(projection))
    edge = 0.85 * lesion.radius / np.hypot(np.cos(turned) / a, np.sin(turned) / depth)
    # the waves of the lesion itself decide how many corners, so that its views share them
    corners = 4 + int(abs(lesion.outline[0, 0]) * 1e3) % (MOST_CORNERS - 3)
    wave = 2 / np.pi * np.arcsin(np.sin(corners * turned + projection))
    edge = edge * (1 + 0.5 * lesion.irregularity**1.5 * (wave + 0.3 * np.sin(3 * turned)))
    return _Outline(radius, radius / edge, theta)


def draw_lumpy_view(
    breast: Breast, lesion: Lesion, view: str, side_px: int, rng: np.random.Generator
) -> Array:
    """Draw a lesion in its surroundings; arguments and result as of `view.draw_view`."""
    grid = make_grid(side_px)
    outline = _outline(lesion, view, grid, rng)
    tissue = _pulled(draw_lumps(side_px, breast.gland, lesion.scale, rng), outline, lesion, grid)
    attenuation = breast.level - 0.03 + rng.normal(0, 0.05) + tissue
    softness = 0.05 + 0.35 * lesion.softness**1.5
    body = expit((1 - outline.rho) / softness)
    # a smooth mass has a bright capsule
    capsule = 0.5 * (1 - lesion.softness) ** 2 * (1 - lesion.irregularity)
    body += capsule * np.exp(-(((outline.rho - 1) / 0.07) ** 2))
    attenuation += 0.8 * lesion.contrast * body
    attenuation += draw_grains(outline, lesion, side_px, rng)
    if rng.random() < 0.1:  # the skin line, and air beyond
        distance = distance_to_edge(side_px, rng.uniform(0.5, 1.2), rng.uniform(0.05, 0.35), rng)
        attenuation *= -np.expm1(-np.clip(distance, 0, None) / rng.uniform(0.1, 0.4))
    detector = DETECTORS[breast.site]
    if breast.site_shift:
        detector = detector.shifted(breast.site_shift)
    return detect(attenuation, detector, lesion.scale, rng)


def draw_grains(outline: _Outline, lesion: Lesion, side_px: int, rng: np.random.Generator) -> Array:
    """Attenuation of bright grains in a mass, the more the more irregular and spiculated it is."""
    count = rng.poisson(MEAN_GRAINS * lesion.irregularity * max(lesion.spiculation - NO_PULL, 0))
    inside = np.flatnonzero(outline.rho.ravel() < 1.1)
    canvas = np.zeros(side_px * side_px)
    if count and inside.size:
        canvas[rng.choice(inside, count)] = rng.uniform(0.3, 1, count)
    grains: Array = gaussian_filter(canvas.reshape(side_px, side_px), GRAIN_PX * side_px / 128)
    return GRAIN_ATTENUATION * grains * 2 * np.pi * (GRAIN_PX * side_px / 128) ** 2


def _pulled(lumps: Array, outline: _Outline, lesion: Lesion, grid: Grid) -> Array:
    """The tissue as a spiculated mass pulls it in: towards the mass, and into rays around it."""
    side_px = lumps.shape[0]
    pull = max(lesion.spiculation - NO_PULL, 0.0)
    reach = np.exp(-(((outline.rho - 1) / 0.9) ** 2))
    further = 1 + 0.25 * pull * reach
    rays = 0.12 * pull * reach * np.sin(11 * outline.theta)
    x = (grid.x * further - rays * grid.y) / MARGIN
    y = (grid.y * further + rays * grid.x) / MARGIN
    positions = [(y + 1) * (side_px / 2) - 0.5, (x + 1) * (side_px / 2) - 0.5]
    drawn: Array = map_coordinates(lumps, positions, order=1, mode="nearest")
    return drawn * (1 + 0.5 * pull * reach)
