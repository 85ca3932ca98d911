"""Draw what surrounds a phantom mass: power-law texture, strands, fibres, specks, breast edge.

All is drawn in attenuation (0 is air, about 0.5 a fatty breast, 1 very dense) on a square canvas
whose half-width is 1; lengths are in half-widths unless a name says px. The constants were set by
eye beside the public CBIS-DDSM train patches (Lee et al. 2017), so they are public knowledge.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import expit

Array = NDArray[np.float64]

#: Fibres, vessels and ducts: width in px of a 128 px canvas, attenuation, mean number.
FIBRE_KINDS = ((0.7, 0.022, 22), (1.4, 0.028, 10), (2.8, 0.03, 4))

POINTS_PER_CURVE = 96


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a canvas in half-widths: x to the right, y down, (side_px, side_px)."""

    x: Array
    y: Array


@lru_cache(maxsize=8)
def make_grid(side_px: int) -> Grid:
    """Coordinates in [-1, 1] of the pixel centres of a square canvas."""
    axis = (np.arange(side_px) + 0.5) * 2 / side_px - 1
    return Grid(*np.meshgrid(axis, axis))


def power_law_noise(
    torus_px: int,
    exponent: float,
    rng: np.random.Generator,
    *,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Array:
    """Gaussian noise of mean 0 and sd 1 whose power spectrum falls as 1/f^exponent.

    Mammograms have an exponent of about 3 (Burgess, Jacobson and Judy, Med. Phys. 28:419, 2001).

    Args:
        torus_px: side of the field, even; it is periodic, so opposite edges match.
        exponent: b of 1/f^b.
        rng: where the noise comes from.
        stretch: how much longer than wide the structures are.
        angle: direction in radians in which they are stretched.

    Returns:
        (torus_px, torus_px) field.
    """
    fy, fx = np.fft.fftfreq(torus_px)[:, None], np.fft.rfftfreq(torus_px)[None, :]
    along = fx * np.cos(angle) + fy * np.sin(angle)
    across = fy * np.cos(angle) - fx * np.sin(angle)
    squared = along**2 * stretch + across**2 / stretch
    squared[0, 0] = np.inf
    gain: Array = squared ** (-exponent / 4)
    # Each column of the half-plane but the first and the last stands for two frequencies.
    power = 2 * np.sum(gain**2) - np.sum(gain[:, 0] ** 2) - np.sum(gain[:, -1] ** 2)
    white = rng.standard_normal((torus_px, torus_px))
    field: Array = np.fft.irfft2(np.fft.rfft2(white) * gain, s=white.shape)
    field *= torus_px / np.sqrt(power)
    return field


def bend_cut(torus: Array, side_px: int, amount: float, rng: np.random.Generator) -> Array:
    """Cut a canvas from a periodic field along bent coordinates, so that straight grain curves."""
    grid = make_grid(side_px)
    terms = np.stack([grid.x**2, grid.x * grid.y, grid.y**2])
    shift = np.tensordot(rng.normal(0, amount, (2, 3)), terms, 1)
    rows = (grid.y + shift[0] + 1) * (side_px / 2)
    columns = (grid.x + shift[1] + 1) * (side_px / 2)
    cut: Array = map_coordinates(torus, [rows, columns], order=1, mode="grid-wrap")
    return cut


def draw_curves(x: Array, y: Array, weight: Array, width_px: float, side_px: int) -> Array:
    """Draw soft lines.

    Args:
        x, y: (curves, points) coordinates of the points along each line.
        weight: (curves, points) attenuation on the middle of the line at each point.
        width_px: standard deviation of the line's cross-section.
        side_px: side of the canvas.

    Returns:
        (side_px, side_px) attenuation.
    """
    step_px = np.hypot(np.diff(x), np.diff(y)) * (side_px / 2)
    ink = (weight[:, 1:] * step_px * (np.sqrt(2 * np.pi) * width_px)).ravel()
    column = (x[:, 1:].ravel() + 1) * (side_px / 2) - 0.5
    row = (y[:, 1:].ravel() + 1) * (side_px / 2) - 0.5
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    framed_px = side_px + 2  # a frame of one pixel takes the ink of points outside
    canvas = np.zeros(framed_px**2)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - dx - (column - left)) * np.abs(1 - dy - (row - top))
        i = np.clip(top + dy, -1, side_px) + 1
        j = np.clip(left + dx, -1, side_px) + 1
        canvas += np.bincount(i * framed_px + j, ink * share, canvas.size)
    inside = canvas.reshape(framed_px, framed_px)[1:-1, 1:-1]
    lines: Array = gaussian_filter(inside, width_px, mode="constant", truncate=3.0)
    return lines


def bent_paths(
    start: tuple[Array, Array],
    heading: Array,
    length: Array,
    bend: Array,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Points of curves that leave `start` at `heading` and turn by `bend` radians on their way.

    Returns:
        x and y, each (curves, POINTS_PER_CURVE).
    """
    t = np.linspace(0, 1, POINTS_PER_CURVE)
    waves = rng.uniform(1, 3, heading.size)[:, None] * t + rng.random(heading.size)[:, None]
    wobble = rng.normal(0, 0.15, heading.size)[:, None] * np.sin(2 * np.pi * waves)
    angle = heading[:, None] + bend[:, None] * t + wobble
    step = (length / t.size)[:, None]
    x = start[0][:, None] + np.cumsum(np.cos(angle) * step, axis=1)
    y = start[1][:, None] + np.cumsum(np.sin(angle) * step, axis=1)
    return x, y


def draw_fibres(
    side_px: int, angle: float, amount: float, scale: float, rng: np.random.Generator
) -> Array:
    """Curved fibres that mostly follow `angle` (radians); `amount` 1 is usual."""
    canvas = np.zeros((side_px, side_px))
    for relative_px, attenuation, mean_count in FIBRE_KINDS:
        width_px = max(relative_px * side_px / 128 / scale, 0.5)
        count = rng.poisson(mean_count * amount * scale)
        if count == 0:
            continue
        start = (rng.uniform(-1.6, 1.2, count), rng.uniform(-1.4, 1.4, count))
        heading = angle + rng.normal(0, 0.5, count) + np.pi * rng.integers(0, 2, count)
        length = np.minimum(rng.gamma(3.0, 0.35, count), 2.2)
        x, y = bent_paths(start, heading, length, rng.normal(0, 0.7, count), rng)
        fade = np.sin(np.linspace(0, np.pi, POINTS_PER_CURVE))[None, :]
        weight = attenuation * rng.lognormal(-0.2, 0.5, count)[:, None] * fade
        canvas += draw_curves(x, y, weight, width_px, side_px)
    return canvas


def draw_tissue(
    side_px: int, gland: float, exponent: float, scale: float, rng: np.random.Generator
) -> Array:
    """Attenuation of breast tissue about its mean.

    Args:
        side_px: side of the canvas.
        gland: how much fibroglandular tissue there is; about 0.6 in a fatty breast, 1.4 in a dense.
        exponent: b of the texture's power spectrum 1/f^b.
        scale: physical size of the patch relative to the usual one; a larger patch holds more.
        rng: where all chance comes from.
    """
    angle = rng.uniform(0, np.pi)
    stretch = 1 + rng.gamma(2.0, 0.2)
    curl = abs(rng.normal(0, 0.2))
    torus_px = 2 * (side_px * 3 // 4)  # larger than the canvas: opposite edges must not match
    cloud = power_law_noise(torus_px, exponent, rng, stretch=stretch, angle=angle)
    cloud = bend_cut(cloud, side_px, curl, rng)
    strand = power_law_noise(torus_px, exponent - 0.4, rng, stretch=stretch * 1.3, angle=angle)
    strand = bend_cut(strand, side_px, curl, rng)
    lobes = expit(3 * cloud) - 0.5
    # A ridge stands where the noise crosses zero: a web of strands around lobules of fat.
    web = (0.8 - np.abs(strand)) * expit(1.5 * cloud)
    texture = 0.02 * cloud + 0.04 * lobes + 0.02 * web
    grid = make_grid(side_px)
    slope = rng.normal(0, 0.04, 2)
    fibres = draw_fibres(side_px, angle, rng.gamma(1.5, 0.67), scale, rng)
    amount = gland * np.sqrt(scale)
    trend = slope[0] * grid.x + slope[1] * grid.y
    tissue: Array = amount * texture + np.sqrt(amount) * fibres + trend
    return tissue


def draw_specks(side_px: int, rng: np.random.Generator) -> Array:
    """Attenuation of one to six bright specks (calcifications, dust) scattered about one point."""
    grid = make_grid(side_px)
    canvas = np.zeros((side_px, side_px))
    centre, spread = rng.uniform(-0.8, 0.8, 2), rng.uniform(0.05, 0.5)
    for _ in range(rng.integers(1, 7)):
        x, y = centre + rng.normal(0, spread, 2)
        width = rng.uniform(0.005, 0.018)
        squared = ((grid.x - x) ** 2 + (grid.y - y) ** 2) / width**2
        canvas += rng.uniform(0.03, 0.3) * np.exp(-squared / 2)
    return canvas


def distance_to_edge(side_px: int, offset: float, bend: float, rng: np.random.Generator) -> Array:
    """Distance to a bent line that passes `offset` from the centre, which has a positive one."""
    grid = make_grid(side_px)
    angle = rng.uniform(0, 2 * np.pi)
    along = grid.x * np.cos(angle) + grid.y * np.sin(angle)
    across = grid.y * np.cos(angle) - grid.x * np.sin(angle)
    distance: Array = offset - along - bend * across**2
    return distance
