"""A third recipe for one view of a phantom: wider in every trait, with what digitised film shows.

It is made for pools from which a private generator selects (`gan.private.selection`): what a pool
lacks no weight can bring, and what it has too much of costs a weight alone. Beside the public
CBIS-DDSM train patches (Lee et al. 2017) `view` lacks long, nearly straight strands that run
together, masses that stand out, edges of the breast that fade over half a patch, broad shades, and
opaque marks: skin markers, coarse calcifications, calcified vessels, the film's own edge. The
constants were set by eye beside those patches, so they are public knowledge.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from synthdp.data.phantoms.view import (
    DETECTORS,
    POINTS_PER_CURVE,
    Breast,
    Detector,
    Lesion,
    bend_cut,
    bent_paths,
    detect,
    distance_to_edge,
    draw_curves,
    draw_mass,
    make_grid,
    power_law_noise,
)

Array = NDArray[np.float64]

#: Strands: width in px of a 128 px canvas, attenuation, mean number.
STRAND_KINDS = ((0.7, 0.024, 18), (1.4, 0.03, 10), (2.8, 0.03, 5))
#: Share of the views with a broad shade, with the breast's edge, and with an opaque mark.
SHADE_SHARE, EDGE_SHARE, MARK_SHARE = 0.3, 0.2, 0.12
#: How soft the edge of an opaque mark is, in half-widths.
_MARK_EDGE = 0.006


def draw_varied_view(
    breast: Breast, lesion: Lesion, view: str, side_px: int, rng: np.random.Generator
) -> Array:
    """Draw a lesion in its surroundings; arguments and result as of `view.draw_view`."""
    lesion = replace(
        lesion,
        contrast=lesion.contrast * float(np.exp(rng.normal(0.1, 0.4))),
        radius=float(np.clip(lesion.radius * np.exp(rng.normal(0, 0.15)), 0.2, 1.0)),
    )
    gland = breast.gland * float(np.exp(rng.normal(-0.2, 0.4)))
    exponent = breast.exponent + rng.normal(0.2, 0.3)
    attenuation = draw_soft_tissue(side_px, gland, exponent, lesion.scale, rng)
    attenuation += breast.level + rng.normal(0, 0.06)
    attenuation += draw_mass(lesion, view, side_px, rng)
    if rng.random() < SHADE_SHARE:  # a fold, a muscle, a denser part
        distance = distance_to_edge(side_px, rng.uniform(-0.6, 0.9), rng.uniform(-0.2, 0.4), rng)
        attenuation += rng.normal(0, 0.12) * expit(-distance / rng.uniform(0.05, 0.4))
    if rng.random() < EDGE_SHARE:  # the breast thins towards its edge
        distance = distance_to_edge(side_px, rng.uniform(0.6, 1.5), rng.uniform(0, 0.3), rng)
        attenuation *= -np.expm1(-np.clip(distance, 0, None) / rng.uniform(0.15, 1.2))
        attenuation += rng.choice([0, 0.05])  # fogged film
    grey = detect(attenuation, _varied_detector(breast, rng), lesion.scale, rng)
    stretch = np.exp(rng.normal(0, 0.15))
    grey += np.clip(6 * grey, 0, 1) * (stretch - 1) * (grey - grey.mean())
    if rng.random() < MARK_SHARE:
        grey = _DRAW_MARK[rng.choice(len(_DRAW_MARK), p=_MARK_SHARES)](grey, rng)
    seen: Array = np.clip(grey, 0, 1)
    return seen


def _varied_detector(breast: Breast, rng: np.random.Generator) -> Detector:
    detector = DETECTORS[breast.site]
    if breast.site_shift:
        detector = detector.shifted(breast.site_shift)
    return replace(
        detector,
        blur_px=detector.blur_px * rng.choice([1, rng.uniform(1, 3)]),
        noise=detector.noise * np.exp(rng.normal(0, 0.5)),
        line_noise=detector.line_noise * np.exp(rng.normal(0, 0.5)),
    )


def draw_soft_tissue(
    side_px: int, gland: float, exponent: float, scale: float, rng: np.random.Generator
) -> Array:
    """Attenuation of tissue about its mean, smoother than `view.draw_tissue` and with strands.

    Args:
        side_px: side of the canvas.
        gland: how much fibroglandular tissue there is; 1 is usual.
        exponent: b of the texture's power spectrum 1/f^b.
        scale: physical size of the patch relative to the usual one; a larger patch holds more.
        rng: where all chance comes from.
    """
    angle, stretch = rng.uniform(0, np.pi), 1 + rng.gamma(2.0, 0.3)
    curl, lobed = abs(rng.normal(0, 0.1)), rng.uniform(0.3, 1.7)
    torus_px = 2 * (side_px * 3 // 4)
    cloud = power_law_noise(torus_px, exponent, rng, stretch=stretch, angle=angle)
    cloud = bend_cut(cloud, side_px, curl, rng)
    net = power_law_noise(torus_px, exponent - 0.4, rng, stretch=1.6 * stretch, angle=angle)
    net = bend_cut(net, side_px, curl, rng)
    web = (0.8 - np.abs(net)) * expit(1.5 * cloud)
    texture = 0.02 * cloud + 0.04 * lobed * (expit(3 * cloud) - 0.5) + 0.02 * (2 - lobed) * web
    grid, slope = make_grid(side_px), rng.normal(0, 0.06, 2)
    strands = draw_strands(side_px, angle, rng.gamma(1.5, 0.67), scale, rng)
    weight = gland * np.sqrt(scale)
    trend = slope[0] * grid.x + slope[1] * grid.y
    tissue: Array = weight * texture + np.sqrt(weight) * strands + trend
    return tissue


def draw_strands(
    side_px: int, angle: float, density: float, scale: float, rng: np.random.Generator
) -> Array:
    """Strands that follow `angle` (radians), or run to one point; a `density` of 1 is usual."""
    canvas, straight = np.zeros((side_px, side_px)), rng.random()
    towards = rng.normal(0, 2.5, 2) if rng.random() < 0.5 else None
    for relative_px, attenuation, mean_count in STRAND_KINDS:
        width_px = max(relative_px * side_px / 128 / scale, 0.5)
        count = rng.poisson(mean_count * density * scale)
        if count == 0:
            continue
        x, y = rng.uniform(-1.6, 1.2, count), rng.uniform(-1.4, 1.4, count)
        scatter = rng.normal(0, 0.5 * (1 - 0.6 * straight), count)
        if towards is None:
            heading = angle + scatter + np.pi * rng.integers(0, 2, count)
        else:
            heading = np.arctan2(y - towards[1], x - towards[0]) + scatter
        length = np.minimum(rng.gamma(3.0, 0.35 * (1 + straight), count), 2.6)
        bend = rng.normal(0, 0.7 * (1 - 0.75 * straight), count)
        paths = bent_paths((x, y), heading, length, bend, rng)
        fade = np.sin(np.linspace(0, np.pi, POINTS_PER_CURVE))[None, :]
        weight = attenuation * rng.lognormal(-0.2, 0.6, count)[:, None] * fade
        canvas += draw_curves(*paths, weight, width_px, side_px)
    return canvas


# Opaque marks: grey levels in [0, 1] go in and out.


def _disc(
    side_px: int, centre: Array, axes: tuple[float, float], angle: float, opacity: float
) -> Array:
    """What an ellipse with a sharp edge covers, 0 to 1; lengths in half-widths."""
    grid = make_grid(side_px)
    x, y = grid.x - centre[0], grid.y - centre[1]
    along = (x * np.cos(angle) + y * np.sin(angle)) / axes[0]
    across = (y * np.cos(angle) - x * np.sin(angle)) / axes[1]
    covered: Array = opacity * expit((1 - np.hypot(along, across)) * min(axes) / _MARK_EDGE)
    return covered


def _covered(grey: Array, cover: Array, rng: np.random.Generator) -> Array:
    return grey + cover * (rng.uniform(0.85, 1) - grey)


def _skin_marker(grey: Array, rng: np.random.Generator) -> Array:
    radius = rng.uniform(0.03, 0.09)
    centre = rng.uniform(-0.95, 0.95, 2)
    cover = _disc(len(grey), centre, (radius, radius), 0.0, rng.uniform(0.7, 1))
    return _covered(grey, cover, rng)


def _calcifications(grey: Array, rng: np.random.Generator) -> Array:
    centre, spread = rng.uniform(-0.7, 0.7, 2), rng.uniform(0.02, 0.12)
    cover = np.zeros_like(grey)
    for _ in range(rng.integers(1, 14)):
        radius = 0.02 * rng.lognormal(0, 0.7)
        axes = (radius, radius * rng.uniform(0.5, 1))
        place = centre + rng.normal(0, spread, 2)
        one = _disc(len(grey), place, axes, rng.uniform(0, np.pi), rng.uniform(0.3, 1))
        cover = np.maximum(cover, one)
    return _covered(grey, cover, rng)


def _calcified_vessel(grey: Array, rng: np.random.Generator) -> Array:
    """A bent double line with gaps."""
    start = rng.uniform(-1, 0, 1), rng.uniform(-1, 1, 1)
    x, y = bent_paths(start, rng.uniform(-1, 1, 1), np.array([2.2]), rng.normal(0, 1, 1), rng)
    chalk = np.repeat(rng.random(POINTS_PER_CURVE // 4) < 0.6, 4)[None, :].astype(float)
    wall = draw_curves(x, y, chalk * rng.uniform(0.2, 0.5), rng.uniform(0.8, 1.6), len(grey))
    wall += draw_curves(x + 0.06, y + 0.03, 0.3 * chalk, 1.0, len(grey))
    return _covered(grey, np.clip(wall, 0, 1), rng)


def _film_edge(grey: Array, rng: np.random.Generator) -> Array:
    """A strip along one side where the film ends, white or black."""
    grid, width, side = make_grid(len(grey)), rng.uniform(0.01, 0.08), int(rng.integers(4))
    outwards = (grid.x, -grid.x, grid.y, -grid.y)[side]
    sideways = grid.y if side < 2 else grid.x
    level = outwards + rng.normal(0, 0.01) * sideways - (1 - 2 * width)
    shade = 0.0 if rng.random() < 0.3 else rng.uniform(0.85, 1)
    shaded: Array = grey + expit(level / 0.008) * (shade - grey)
    return shaded


_DRAW_MARK: tuple[Callable[[Array, np.random.Generator], Array], ...] = (
    _skin_marker,
    _calcifications,
    _calcified_vessel,
    _film_edge,
)
_MARK_SHARES = (0.25, 0.35, 0.15, 0.25)
