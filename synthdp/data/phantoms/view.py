"""Draw one view of a phantom: a mass with its spicules in tissue, seen by the site's detector.

All is drawn in attenuation (0 is air, about 0.5 a fatty breast, 1 very dense) on a square canvas
whose half-width is 1; lengths are in half-widths unless a name says px. The constants were set by
eye beside the public CBIS-DDSM train patches (Lee et al. 2017), so they are public knowledge.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import expit

Array = NDArray[np.float64]

#: Fibres, vessels and ducts: width in px of a 128 px canvas, attenuation, mean number.
FIBRE_KINDS = ((0.7, 0.022, 22), (1.4, 0.028, 10), (2.8, 0.03, 4))

POINTS_PER_CURVE = 96  # close enough for a line without gaps


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a canvas in half-widths: x to the right, y down, (side_px, side_px)."""

    x: Array
    y: Array


@lru_cache(maxsize=8)
def make_grid(side_px: int) -> Grid:
    """Coordinates in (-1, 1) of the pixel centres of a square canvas."""
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


def bend_cut(torus: Array, side_px: int, strength: float, rng: np.random.Generator) -> Array:
    """Cut a canvas from a periodic field along bent coordinates, so that straight grain curves."""
    grid = make_grid(side_px)
    terms = np.stack([grid.x**2, grid.x * grid.y, grid.y**2])
    shift = np.tensordot(rng.normal(0, strength, (2, 3)), terms, 1)
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
        # each point's ink goes to the four pixels around it, more to the nearer
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
    side_px: int, angle: float, density: float, scale: float, rng: np.random.Generator
) -> Array:
    """Curved fibres that mostly follow `angle` (radians); a `density` of 1 is usual."""
    canvas = np.zeros((side_px, side_px))
    for relative_px, attenuation, mean_count in FIBRE_KINDS:
        width_px = max(relative_px * side_px / 128 / scale, 0.5)
        count = rng.poisson(mean_count * density * scale)
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
    weight = gland * np.sqrt(scale)
    trend = slope[0] * grid.x + slope[1] * grid.y
    tissue: Array = weight * texture + np.sqrt(weight) * fibres + trend
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


# The mass in the tissue, and what a detector makes of both.

#: Angular orders of a mass outline: 2 and 3 bend it, 4 to 6 lobulate it, the rest roughens it.
OUTLINE_ORDERS = np.arange(2, 16)

#: Spicules: width in px of a 128 px canvas, share of their number.
SPICULE_KINDS = ((0.8, 0.6), (1.5, 0.4))

#: A mass of less spiculation has none.
NO_SPICULES = 0.12

CORONA_SAMPLES = 1024  # of the streaks around a mass
#: The angle under which a view sees a mass.
PROJECTION_RAD = {"CC": 0.0, "MLO": 0.8}


@dataclass(frozen=True)
class Detector:
    """What a site does to attenuation: response, blur in px of a 128 px canvas, noise in grey.

    `power` is the response of a digital detector; `sharpening` how much of what is finer than
    `SHARPENED_PX` its processing adds once more.
    """

    film: bool
    blur_px: float
    noise: float
    line_noise: float
    power: float = 1.15
    sharpening: float = 0.0

    def shifted(self, shift: float) -> "Detector":
        """One that lies further from film: of higher contrast, noisier, and sharpened."""
        return replace(
            self,
            noise=self.noise * (1 + 3 * shift),
            power=self.power + 0.6 * shift,
            sharpening=1.5 * shift,
        )


#: Standard deviation of what unsharp masking takes away, in px of a 128 px canvas.
SHARPENED_PX = 2.0


DETECTORS = {
    "A": Detector(film=True, blur_px=0.5, noise=0.0036, line_noise=0.0015),
    "B": Detector(film=False, blur_px=0.35, noise=0.005, line_noise=0.0),
}


@dataclass(frozen=True)
class Breast:
    """What all views of a patient share.

    Attributes:
        site: a key of DETECTORS.
        site_shift: how far the site's detector is shifted; 0 leaves it as it is.
        density: 1 fatty to 4 dense, as reported.
        gland: weight of fibroglandular texture; 1 is usual.
        level: mean attenuation.
        exponent: b of the texture's power spectrum 1/f^b.
    """

    site: str
    density: int
    gland: float
    level: float
    exponent: float
    site_shift: float = 0.0


@dataclass(frozen=True)
class Lesion:
    """One mass; its views share this and see it under other angles.

    Attributes:
        radius: mean radius in half-widths of the patch.
        axes: semi-axes relative to the radius, across, along and in depth.
        irregularity, softness, spiculation: how ragged, ill-defined, spiculated; 0 to 1.
        contrast: attenuation added at the centre.
        outline: (2, len(OUTLINE_ORDERS)) waves of the outline; a view mixes the two.
        scale: physical size of the patch relative to the usual one.
    """

    radius: float
    axes: tuple[float, float, float]
    irregularity: float
    softness: float
    spiculation: float
    contrast: float
    outline: NDArray[np.complex128]
    scale: float


@dataclass(frozen=True)
class _Margin:
    """Where a projected mass ends: its centre and the (361,) radius at each `angle`."""

    centre: Array
    angle: Array
    radius: Array


def _project(lesion: Lesion, view: str, rng: np.random.Generator) -> _Margin:
    """The margin of a mass in a view: an ellipse, made ragged by the waves of its outline.

    The angle of projection mixes width along with depth, and the two rows of waves, so that views
    of one mass resemble each other.
    """
    projection = PROJECTION_RAD[view] + rng.normal(0, 0.1)
    angle = np.linspace(-np.pi, np.pi, 361)
    theta = angle + rng.uniform(0, 2 * np.pi)
    a, b, c = lesion.axes
    depth = np.hypot(b * np.cos(projection), c * np.sin(projection))
    ellipse = 1 / np.hypot(np.cos(theta) / a, np.sin(theta) / depth)
    mixed = np.cos(projection) * lesion.outline[0] + np.sin(projection) * lesion.outline[1]
    waves = np.real(np.exp(1j * theta[:, None] * OUTLINE_ORDERS) @ mixed)
    radius = lesion.radius * ellipse * np.exp(np.clip(waves, -0.6, 0.6))
    return _Margin(rng.normal(0, 0.12, 2), angle, radius)


def draw_mass(lesion: Lesion, view: str, side_px: int, rng: np.random.Generator) -> Array:
    """Attenuation (side_px, side_px) that the mass and its spicules add in `view` (CC or MLO)."""
    grid, margin = make_grid(side_px), _project(lesion, view, rng)
    x, y = grid.x - margin.centre[0], grid.y - margin.centre[1]
    theta = np.arctan2(y, x)
    ragged = power_law_noise(side_px + side_px % 2, 3.0, rng)[:side_px, :side_px]
    rho = np.hypot(x, y) / np.interp(theta, margin.angle, margin.radius)
    rho *= np.exp((0.03 + 0.15 * lesion.irregularity) * ragged)
    obscured = np.exp(0.8 * rng.random() * np.sin(theta + rng.uniform(0, 2 * np.pi)))
    softness = (0.03 + 0.3 * lesion.softness**1.5) * obscured
    body = expit((1 - rho) / softness) * (1 - 0.45 * np.clip(rho, 0, 1) ** 2)
    body *= 1 + 0.12 * ragged
    # A sharp margin lies in a thin dark ring, the halo sign of a benign mass.
    body -= 0.12 * (1 - lesion.softness) ** 4 * np.exp(-(((rho - 1.12) / 0.08) ** 2))
    if lesion.spiculation > NO_SPICULES:
        sway = 0.25 * gaussian_filter(ragged, side_px / 24, truncate=2.5)
        body += 0.18 * lesion.spiculation * _corona(theta + sway, rho, lesion, rng)
        body += _draw_spicules(lesion, margin, side_px, rng)
    mass: Array = lesion.contrast * body
    return mass


def _corona(theta: Array, rho: Array, lesion: Lesion, rng: np.random.Generator) -> Array:
    """Fine radial streaks about the margin (rho 1) of a spiculated mass, sd near 1 there."""
    # Noise around the circle: waves of the lowest orders would bend the mass itself, those of the
    # highest are finer than a pixel.
    orders = np.arange(CORONA_SAMPLES // 2 + 1)
    gain = np.where((orders > 2) & (orders < 90), np.maximum(orders, 1) ** -1.2, 0)
    waves = rng.standard_normal((orders.size, 2)) @ np.array([1, 1j]) * gain
    streaks = np.fft.irfft(waves)
    turns = theta / (2 * np.pi) * CORONA_SAMPLES
    around = np.interp(turns, np.arange(CORONA_SAMPLES), streaks, period=CORONA_SAMPLES)
    reach = 0.25 + 0.5 * lesion.spiculation
    envelope = np.exp(-((rho - 0.9) ** 2) / np.where(rho < 0.9, 0.15, reach**2))
    return np.asarray(around / streaks.std() * envelope)


def _draw_spicules(
    lesion: Lesion, margin: _Margin, side_px: int, rng: np.random.Generator
) -> Array:
    """Lines that radiate from the mass, in units of its contrast."""
    canvas = np.zeros((side_px, side_px))
    for relative_px, share in SPICULE_KINDS:
        count = rng.poisson(90 * share * (lesion.spiculation - NO_SPICULES))
        if count == 0:
            continue
        direction = rng.uniform(-np.pi, np.pi, count)
        edge = np.interp(direction, margin.angle, margin.radius)
        inner = edge * rng.uniform(0.3, 0.9, count)
        x0 = margin.centre[0] + inner * np.cos(direction)
        y0 = margin.centre[1] + inner * np.sin(direction)
        length = edge * rng.gamma(3.0, 0.3, count) * (0.5 + lesion.spiculation)
        heading = direction + rng.normal(0, 0.3, count)
        x, y = bent_paths((x0, y0), heading, length, rng.normal(0, 0.5, count), rng)
        fade = np.linspace(1, 0, POINTS_PER_CURVE)[None, :]
        weight = 0.14 * rng.lognormal(-0.2, 0.6, count)[:, None] * fade
        canvas += draw_curves(x, y, weight, relative_px * side_px / 128, side_px)
    return canvas


def draw_view(
    breast: Breast, lesion: Lesion, view: str, side_px: int, rng: np.random.Generator
) -> Array:
    """Draw a lesion in its surroundings.

    Args:
        breast: whose it is.
        lesion: the mass in the middle of the patch.
        view: CC or MLO.
        side_px: side of the canvas.
        rng: where all chance of this view comes from.

    Returns:
        (side_px, side_px) grey levels in [0, 1], as in a mammogram scaled by its own extremes:
        a patch seldom reaches either end.
    """
    attenuation = draw_tissue(side_px, breast.gland, breast.exponent, lesion.scale, rng)
    attenuation += breast.level + rng.normal(0, 0.07)
    attenuation += draw_mass(lesion, view, side_px, rng)
    if view == "MLO" and rng.random() < 0.08:  # the pectoral muscle
        distance = distance_to_edge(side_px, rng.uniform(0.3, 0.9), rng.uniform(-0.1, 0.2), rng)
        attenuation += rng.uniform(0.1, 0.25) * expit(-distance / rng.uniform(0.06, 0.2))
    if rng.random() < 0.14:  # the skin line, and air beyond
        distance = distance_to_edge(side_px, rng.uniform(0.4, 1.2), rng.uniform(0.05, 0.35), rng)
        attenuation *= -np.expm1(-np.clip(distance, 0, None) / rng.uniform(0.15, 0.7))
    if rng.random() < 0.1:
        attenuation += draw_specks(side_px, rng)
    detector = DETECTORS[breast.site]
    if breast.site_shift:
        detector = detector.shifted(breast.site_shift)
    return detect(attenuation, detector, lesion.scale, rng)


def detect(attenuation: Array, detector: Detector, scale: float, rng: np.random.Generator) -> Array:
    """Grey levels in [0, 1] that a detector makes of attenuation.

    Film answers along a sigmoid (its characteristic curve), a digital detector along a mild power.
    A patch of larger `scale` was shrunk more, which lessens both blur and noise.
    """
    side_px = attenuation.shape[0]
    blurred = gaussian_filter(attenuation, detector.blur_px * side_px / 128 / scale, mode="nearest")
    if detector.film:
        toe = expit(-2.0)
        grey = (expit(4 * blurred - 2) - toe) / (1 - 2 * toe)
    else:
        grey = 1.1 * np.clip(blurred, 0, None) ** detector.power
    if detector.sharpening:
        coarse = gaussian_filter(grey, SHARPENED_PX * side_px / 128, mode="nearest")
        grey += detector.sharpening * (grey - coarse)
    noise = detector.noise * rng.standard_normal((side_px, side_px))
    noise += detector.line_noise * rng.standard_normal((side_px, 1))
    lit = np.clip(grey * 8, 0, 1)  # air is clipped to black, noise and all
    seen: Array = np.clip(grey + noise * lit / scale, 0, 1)
    return seen
