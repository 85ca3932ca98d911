"""Draw one view of a phantom lesion: mass and spicules in tissue, seen by the site's detector.

Units and the origin of the constants are those of `phantom_tissue`.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from synthdp.data.phantoms.tissue import (
    POINTS_PER_CURVE,
    Array,
    bent_paths,
    distance_to_edge,
    draw_curves,
    draw_specks,
    draw_tissue,
    make_grid,
    power_law_noise,
)

#: Angular orders of a mass outline: 2 and 3 bend it, 4 to 6 lobulate it, the rest roughens it.
OUTLINE_ORDERS = np.arange(2, 16)

#: Spicules: width in px of a 128 px canvas, share of their number.
SPICULE_KINDS = ((0.8, 0.6), (1.5, 0.4))

#: A mass of less spiculation has none.
NO_SPICULES = 0.12

CORONA_SAMPLES = 1024
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

    def shifted(self, amount: float) -> "Detector":
        """One that lies further from film: of higher contrast, noisier, and sharpened."""
        return replace(
            self,
            noise=self.noise * (1 + 3 * amount),
            power=self.power + 0.6 * amount,
            sharpening=1.5 * amount,
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
        gland: amount of fibroglandular texture; 1 is usual.
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
