"""Draw one radiograph: anatomy, pose and findings, as a site shows them."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from synthdp.data.phantoms.chest.acquisition import Look, detect, draw_devices, frame
from synthdp.data.phantoms.chest.anatomy import Anatomy, Pose
from synthdp.data.phantoms.chest.names import FINDINGS
from synthdp.data.phantoms.chest.signs import Shown, draw_signs
from synthdp.data.phantoms.chest.thorax import (
    AIR,
    Field,
    Lung,
    Shape,
    draw_body,
    draw_bones,
    draw_lung,
    draw_middle,
    draw_vessels,
    field_of,
    shape_of,
)
from synthdp.data.phantoms.edges import step

Array = NDArray[np.float32]

#: A smaller image is drawn at a multiple of its side, at least this, and averaged down.
DRAWN_SIDE_PX = 64
#: Attenuation of the belly beyond that of the chest around the lungs.
BELLY = 0.16
#: Textures: exponents of their spectra, and cycles a side from which on they are.
MOTTLE, GRAIN = (3.4, 3.0), (2.0, 9.0)


@lru_cache(maxsize=8)
def _gain(side_px: int, exponent: float, lowest: float) -> Array:
    """Gain by frequency of noise whose power falls as 1/f^exponent above `lowest` cycles."""
    rows = np.fft.fftfreq(side_px)[:, None] * side_px
    columns = np.fft.rfftfreq(side_px)[None, :] * side_px
    cycles = np.hypot(rows, columns)
    gain = np.where(cycles < 31, np.maximum(cycles, lowest) ** (-exponent / 2), 0)
    gain[0, 0] = 0
    return np.asarray(gain, dtype=np.float32)


def draw_texture(side_px: int, kind: tuple[float, float], rng: np.random.Generator) -> Array:
    """A field of noise (side_px, side_px) of mean 0 and sd 1, whatever the size in pixels."""
    white = rng.standard_normal((side_px, side_px), dtype=np.float32)
    field = np.fft.irfft2(np.fft.rfft2(white) * _gain(side_px, *kind), s=(side_px, side_px))
    return np.asarray(field / field.std(), dtype=np.float32)


def draw_attenuation(
    anatomy: Anatomy, pose: Pose, severities: Array, side_px: int, rng: np.random.Generator
) -> Array:
    """Attenuation (side_px, side_px) of a patient in a pose, with findings of these severities."""
    field, shape = field_of(pose, side_px), shape_of(anatomy, pose, severities)
    mottle, grain = (draw_texture(side_px, kind, rng) for kind in (MOTTLE, GRAIN))
    of = dict(zip(FINDINGS, severities.tolist(), strict=True))
    shown = Shown(of, anatomy, shape, field, pose.is_ap, mottle, grain)
    lungs = [draw_lung(shape, side, field) for side in (-1, 1)]
    takes, adds = draw_middle(anatomy, pose, shape, field)
    body = draw_body(anatomy, pose, field)
    chest = body + adds * np.clip(body * 4, 0, 1)
    chest += _belly(anatomy, lungs, field, body, mottle)
    crowding = of["edema"] - 0.6 * of["emphysema"]
    for lung in lungs:
        signs = draw_signs(lung, shown)
        open_air = lung.air * (1 - takes) * signs.air
        chest -= np.float32(AIR) * open_air * (1 - signs.filled)
        vessels = draw_vessels(anatomy, lung, field, crowding)
        chest += (vessels * signs.vessels * (1 - signs.filled) + signs.adds) * (1 - 0.8 * takes)
        chest += 0.012 * grain * lung.mask * (1 - takes)
    chest += draw_bones(anatomy, pose, shape, field) * np.clip(body * 5, 0, 1)
    chest += _hernia(of["hernia"], shape, field)
    return np.asarray(chest + draw_devices(pose, field, rng), dtype=np.float32)


def _belly(anatomy: Anatomy, lungs: list[Lung], field: Field, body: Array, mottle: Array) -> Array:
    """What lies below the diaphragm, with the bubble of gas in the stomach."""
    right = step(field.u * np.float32(25))
    below = (right - 1) * lungs[0].floor - right * lungs[1].floor
    deep = step(below * np.float32(1 / max(0.016, 0.5 * field.pixel)))
    deep *= np.clip(body * 2.2, 0, 1)
    drawn = np.float32(BELLY) * deep * (1 + 0.06 * mottle)
    if anatomy.gas > 0.5:
        x, y = 0.36, 0.11
        wide, high = 0.1 * anatomy.gas, 0.05 * anatomy.gas
        bubble = ((field.u - x) / wide) ** 2 + ((below - y) / high) ** 2
        drawn -= 0.2 * deep * step((1 - bubble) * np.float32(3))
    return np.asarray(drawn, dtype=np.float32)


def _hernia(strength: float, shape: Shape, field: Field) -> Array | float:
    """Part of the stomach behind the heart: a round shadow with gas in it."""
    if strength <= 0:
        return 0.0
    dome = 0.5 * sum(shape.domes)
    radius = 0.15 + 0.08 * strength
    away = np.hypot(field.u - 0.03, field.v - (dome - 0.5 * radius)) / radius
    wall = np.exp(-(((away - 0.9) / 0.14) ** 2))
    gas = step((0.75 - away) * np.float32(14)) * step((dome - 0.6 * radius - field.v) * 30)
    return np.asarray(strength * (0.1 * wall - 0.22 * gas), dtype=np.float32)


def draw_radiograph(
    anatomy: Anatomy,
    pose: Pose,
    severities: Array,
    look: Look,
    *,
    size_px: int,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """One radiograph, (size_px, size_px) uint8.

    Args:
        anatomy: of the patient.
        pose: of the image.
        severities: (14,) of `names.FINDINGS`, 0 none, about 1 plain.
        look: of the site.
        size_px: side of the image.
        rng: where all chance of this image comes from.
    """
    block = -(-DRAWN_SIDE_PX // size_px)  # rounded up
    side_px = size_px * block
    attenuation = draw_attenuation(anatomy, pose, severities, side_px, rng)
    grey = frame(detect(attenuation, pose, look, rng), look, rng)
    if block > 1:
        grey = grey.reshape(size_px, block, size_px, block).mean((1, 3))
    return np.asarray(np.rint(grey * 255), dtype=np.uint8)
