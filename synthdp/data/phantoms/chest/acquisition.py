"""How a site takes and shows a radiograph: scatter, grey response, noise, collimation, markers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthdp.data.phantoms.chest.anatomy import Pose
from synthdp.data.phantoms.chest.thorax import Field
from synthdp.data.phantoms.edges import step

Array = NDArray[np.float32]

#: Attenuation that is shown white.
WHITE = 1.0
#: Grey from which on the response flattens.
SHOULDER = np.float32(0.72)


@dataclass(frozen=True)
class Look:
    """What a site's machines do to attenuation.

    Attributes:
        power: exponent of the response; below 1 lightens the lungs.
        contrast: slope about the middle of the scale.
        level: grey added to all.
        noise: standard deviation of the noise in grey, at 64 px.
        blur_px: blur in px of a 64 px image.
        sharpening: how much of what is finer than 2 px its processing adds once more.
        collimation: share of the images with a visible edge of the field.
        marker: what is burnt into a corner: none, a letter, or a line of text.
    """

    power: float = 0.9
    contrast: float = 1.0
    level: float = 0.0
    noise: float = 0.005
    blur_px: float = 0.35
    sharpening: float = 0.0
    collimation: float = 0.15
    marker: str = "letter"


def draw_devices(pose: Pose, field: Field, rng: np.random.Generator) -> Array:
    """Attenuation of leads, tubes and clips, most of them on AP views."""
    canvas = np.zeros_like(field.u)
    count = rng.poisson(2.2 if pose.is_ap else 0.25)
    for x, y in rng.uniform((-0.7, -0.7), (0.7, 0.5), (count, 2)):
        radius = max(0.022, 0.5 * field.pixel)
        canvas += 0.2 * np.exp(-(((field.u - x) ** 2 + (field.v - y) ** 2) / radius**2))
    if rng.random() < (0.55 if pose.is_ap else 0.05):  # a catheter from the neck or the arm
        side, end = rng.choice([-1, 1]), rng.uniform(-0.3, 0.1)
        path = side * (0.08 + 0.25 * np.clip(-0.5 - field.v, 0, 1)) + rng.uniform(-0.02, 0.02)
        thick = max(0.012, 0.45 * field.pixel)
        inside = step((end - field.v) * np.float32(60))
        canvas += 0.09 * np.exp(-(((field.u - path) / thick) ** 2)) * inside
    return np.asarray(canvas, dtype=np.float32)


def detect(attenuation: Array, pose: Pose, look: Look, rng: np.random.Generator) -> Array:
    """Grey levels in [0, 1] that a site makes of attenuation.

    Args:
        attenuation: (S, S).
        pose: an AP view scatters more and is of lower contrast.
        look: of the site.
        rng: where noise and edges come from.
    """
    side_px = attenuation.shape[0]
    unit = side_px / 64
    haze = float(np.clip(rng.normal(0.45 if pose.is_ap else 0.18, 0.16), 0, 0.75))
    wide = gaussian_filter(attenuation, 7 * unit, truncate=2.0, mode="nearest")
    seen = (1 - haze) * attenuation + haze * np.maximum(wide, 0.8 * attenuation)
    seen = gaussian_filter(seen, look.blur_px * unit * (1.5 if pose.is_ap else 1.0), truncate=3.0)
    grey = np.clip(seen * np.float32((1 + pose.exposure) / WHITE), 0, 1.25)
    power = look.power * float(np.exp(0.16 * rng.standard_normal()))
    grey = grey ** np.float32(power)
    bright = np.clip(grey - SHOULDER, 0, None)  # what is brighter comes ever closer to white
    grey = grey - bright + (1 - SHOULDER) * -np.expm1(bright / (SHOULDER - 1))
    middle = np.float32(0.55)
    contrast = look.contrast * float(np.exp(0.1 * rng.standard_normal()))
    grey = middle + np.float32(contrast) * (grey - middle) + np.float32(look.level)
    grey -= np.float32((1 - contrast) * middle) * step(-(seen - 0.1) * np.float32(40))
    if look.sharpening:
        grey += np.float32(look.sharpening) * (grey - gaussian_filter(grey, 2 * unit))
    noise = rng.standard_normal(grey.shape, dtype=np.float32) * np.float32(look.noise)
    grey = grey + noise * np.float32(0.4 + pose.is_ap * 0.4) * (0.6 + grey)
    lit = step((seen - 0.05) * np.float32(60))  # air is black, noise and all
    return np.asarray(np.clip(grey * lit + 0.03 * (1 - lit), 0, 0.98), dtype=np.float32)


def frame(grey: Array, look: Look, rng: np.random.Generator) -> Array:
    """Burn in what surrounds the picture: the collimator's edges, a marker."""
    side_px = grey.shape[0]
    framed = grey.copy()
    if rng.random() < look.collimation:
        tilt = rng.normal(0, 0.04)
        axis = np.arange(side_px) / side_px
        edge = int(rng.integers(4))
        depth = rng.uniform(0.03, 0.14) + tilt * (axis - 0.5)
        dark = axis[:, None] < depth[None, :]
        turned = np.rot90(dark, edge)
        framed[turned] = 0.02 if rng.random() < 0.7 else 0.95
    if look.marker != "none" and rng.random() < 0.8:
        _burn(framed, look.marker, rng)
    return framed


def _burn(framed: Array, marker: str, rng: np.random.Generator) -> None:
    """A letter (L or R) in an upper corner, or a line of text."""
    unit = max(1, round(framed.shape[0] / 64))
    height, width = (4 * unit, 2 * unit) if marker == "letter" else (2 * unit, 9 * unit)
    top = int(rng.integers(2 * unit, 9 * unit))
    left = int(rng.integers(unit, 8 * unit))
    if rng.random() < 0.7:
        left = framed.shape[0] - left - width
    letters = rng.random((height // unit, width // unit)) < (0.85 if marker == "letter" else 0.6)
    block = np.kron(letters, np.ones((unit, unit)))
    part = framed[top : top + height, left : left + width]
    part[...] = np.where(block > 0, np.float32(0.9), part)
