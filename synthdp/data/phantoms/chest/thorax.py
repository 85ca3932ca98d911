"""The chest without findings, in attenuation: body, lungs, heart, diaphragm, bones and vessels.

Attenuation is 0 in air and about .8 behind heart and spine. All is drawn in the patient's own
coordinates (`anatomy`), with edges at least as soft as a pixel, so that no larger canvas is needed.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from synthdp.data.phantoms.chest.anatomy import Anatomy, Pose
from synthdp.data.phantoms.chest.names import FINDINGS
from synthdp.data.phantoms.edges import step

Array = NDArray[np.float32]

#: Where the lungs begin and end at the usual breath, and how far they reach from the spine.
APEX_Y, DOME_Y, LUNG_WIDTH = -0.78, 0.3, 0.7
#: Where a lung's apex and the top of its dome lie, from the spine.
APEX_X, DOME_X = 0.27, 0.34
MEDIAL_X = 0.11
#: Least thickness of the chest wall beside a lung.
WALL = 0.14
#: The hilum of a lung, from the spine and from the apex down (a share of the lung's height).
HILUM = (0.16, 0.5)
#: How much less a lung attenuates than the tissue around it.
AIR = 0.52


@dataclass(frozen=True)
class Field:
    """Pixel centres in the patient's coordinates, and the size of a pixel there."""

    u: Array
    v: Array
    pixel: float


@lru_cache(maxsize=4)
def _canvas(size_px: int) -> tuple[Array, Array]:
    axis = ((np.arange(size_px) + 0.5) * 2 / size_px - 1).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def field_of(pose: Pose, size_px: int) -> Field:
    """Where each pixel of an image lies in the patient."""
    x, y = _canvas(size_px)
    x, y = x - np.float32(pose.x), y - np.float32(pose.y)
    cosine, sine = np.float32(np.cos(pose.turn)), np.float32(np.sin(pose.turn))
    inverse = np.float32(1 / pose.scale)
    u, v = (cosine * x + sine * y) * inverse, (cosine * y - sine * x) * inverse
    return Field(u, v, 2 / size_px / pose.scale)


@dataclass(frozen=True)
class Shape:
    """What anatomy, pose and findings make of lungs and heart together.

    domes, bows, widths, apices: of the lung on the image's left, and on its right.
    heart: x, y, half-width, half-height. shift: of all between the lungs, to the right.
    """

    domes: tuple[float, float]
    bows: tuple[float, float]
    widths: tuple[float, float]
    apices: tuple[float, float]
    heart: tuple[float, float, float, float]
    shift: float
    spine: float


def shape_of(anatomy: Anatomy, pose: Pose, severities: Array) -> Shape:
    """Lay out lungs and heart: a large heart, lost or gained volume of a lung, a shift to one side.

    severities: (14,) as `anatomy.draw_severities` gives them.
    """
    of = dict(zip(FINDINGS, severities.tolist(), strict=True))
    collapse, effusion = of["atelectasis"], of["effusion"]
    air = of["emphysema"] - 0.5 * of["fibrosis"]
    side = anatomy.habits[FINDINGS.index("atelectasis")].side
    wet = anatomy.habits[FINDINGS.index("effusion")].side
    old = (pose.age_years - 50) / 10
    width, height = anatomy.lung
    dome = DOME_Y + 0.5 * (height - 1) + 0.7 * pose.breath + 0.09 * air - 0.006 * old
    raised = [dome - 0.5 * anatomy.domes[0], dome + 0.5 * anatomy.domes[0]]
    raised[side > 0] -= 0.17 * collapse
    bows = [anatomy.domes[1] * float(np.exp(-1.2 * of["emphysema"]))] * 2
    bows[side > 0] *= 1 + 0.4 * collapse
    wide = LUNG_WIDTH * width * (1 + 0.05 * air + 0.03 * pose.is_ap)
    wide = min(wide, anatomy.torso + anatomy.fat - WALL)  # of the slim, and of large lungs
    widths = [wide, wide]
    widths[side > 0] *= 1 - 0.05 * collapse
    shift = side * 0.05 * collapse - wet * 0.04 * effusion + pose.twist
    half = 0.285 * anatomy.heart * (1 + 0.02 * old) * (1.14 if pose.is_ap else 1.0)
    half *= (1 + 0.42 * of["cardiomegaly"]) * float(np.exp(-0.18 * of["emphysema"]))
    tall = half * (0.95 + 0.12 * of["emphysema"])
    x = anatomy.heart_x + 0.16 * (half - 0.285) + shift
    return Shape(
        domes=(raised[0], raised[1]),
        bows=(bows[0], bows[1]),
        widths=(widths[0], widths[1]),
        apices=(APEX_Y - 0.02 * air, APEX_Y - 0.02 * air),
        heart=(x, dome - 0.62 * tall + 0.1, half, tall),
        shift=shift,
        spine=0.6 * pose.twist,
    )


@dataclass(frozen=True)
class Lung:
    """One lung on the canvas.

    Attributes:
        side: -1 the image's left, 1 its right.
        out: distance from the spine, outwards. down: 0 at the apex, 1 at the dome.
        mask: 1 within, 0 without. wall: distance to the chest wall, positive within.
        floor: distance to the diaphragm, positive above it.
        air: attenuation that the lung takes away, at most 1.
    """

    side: int
    out: Array
    down: Array
    mask: Array
    wall: Array
    floor: Array
    air: Array


def draw_lung(shape: Shape, side: int, field: Field) -> Lung:
    """Outline one lung: apex, chest wall, mediastinum, and the dome below."""
    index = int(side > 0)
    apex, dome, width = shape.apices[index], shape.domes[index], shape.widths[index]
    out = np.float32(side) * (field.u - np.float32(shape.spine))
    down = (field.v - np.float32(apex)) * np.float32(1 / (dome - apex))
    edge = np.float32(1 / max(0.014, 0.5 * field.pixel))
    rise = np.clip(1 - down * np.float32(1.35), 0, 1)
    wall = APEX_X + (width - APEX_X) * np.sqrt(1 - rise * rise) - out
    inner = np.clip(1 - down * 3, 0, 1)
    medial = MEDIAL_X + (APEX_X - MEDIAL_X) * inner * inner
    bowed = (out - DOME_X) * np.float32(1 / 0.36)
    bow = np.float32(shape.bows[index]) * np.where(bowed > 0, np.float32(1), np.float32(0.35))
    floor = dome + bow * bowed * bowed - field.v
    inside = step(wall * edge) * step((out - medial) * edge) * step(floor * edge)
    mask = inside * step((field.v - np.float32(apex)) * edge)
    middle = (out - np.float32(0.5 * (MEDIAL_X + width))) * np.float32(2 / (width - MEDIAL_X))
    air = mask * (np.float32(0.62) + np.float32(0.38) * np.clip(1 - middle * middle, 0, 1))
    air *= np.float32(0.82) + np.float32(0.18) * np.clip(down * 2, 0, 1)
    return Lung(side, out, down, mask, wall, floor, air)


def draw_body(anatomy: Anatomy, pose: Pose, field: Field) -> Array:
    """Attenuation of the soft tissue around the lungs: neck, shoulders, chest and belly."""
    u, v = field.u, field.v
    edge = np.float32(1 / max(0.018, 0.5 * field.pixel))
    slope = step((v + np.float32(0.8 - 0.04 * pose.is_ap)) * np.float32(16))
    neck = 0.21 + 0.02 * anatomy.male
    shoulders = 1.04 + 0.06 * anatomy.male + 0.06 * pose.is_ap
    taper = np.clip((v + np.float32(0.5)) * np.float32(1.6), 0, 1)
    sides = shoulders + (anatomy.torso + anatomy.fat - shoulders) * taper
    half = neck + (sides - neck) * slope
    across = np.clip(np.abs(u) / half, 0, 1)
    thick = np.sqrt(1 - 0.9 * across * across)
    body = np.float32(0.66 + anatomy.fat + 0.04 * pose.is_ap) * thick
    body *= step((half - np.abs(u)) * edge)
    if pose.is_ap:  # arms along the body
        arm = (np.abs(u) - np.float32(anatomy.torso + anatomy.fat + 0.17)) * np.float32(1 / 0.13)
        low = step((v + np.float32(0.35)) * np.float32(14))
        body = np.maximum(body, 0.42 * low * np.sqrt(np.clip(1 - arm * arm, 0, 1)))
    weight, x = anatomy.breasts[3], anatomy.breasts[0]
    if weight:
        radius = anatomy.breasts[2]
        lowest = anatomy.breasts[1] + 0.002 * (pose.age_years - 50)
        sideways, below = (np.abs(u) - x) / radius, (v - lowest) / (radius * 0.85)
        inside = sideways * sideways + below * below
        fold = step((1 - inside) * np.float32(4.5)) * step((v - lowest + 0.2) * np.float32(6))
        body += np.float32(weight) * fold
    return np.asarray(body, dtype=np.float32)


def draw_middle(anatomy: Anatomy, pose: Pose, shape: Shape, field: Field) -> tuple[Array, Array]:
    """What lies between the lungs: where (0 to 1) it takes their air's place, and attenuation."""
    edge = np.float32(1 / max(0.016, 0.5 * field.pixel))
    u, v = field.u - np.float32(shape.shift), field.v
    x, y, half, tall = shape.heart
    turned = 0.62  # the apex points down and to the image's right
    along = np.cos(turned) * (field.u - x) + np.sin(turned) * (v - y)
    across = np.cos(turned) * (v - y) - np.sin(turned) * (field.u - x)
    ellipse = np.sqrt((along / (half * 1.18)) ** 2 + (across / (tall * 0.85)) ** 2)
    heart = step((1 - ellipse) * np.float32(0.25) * edge)
    old = (pose.age_years - 50) / 10
    wide = 0.135 + 0.008 * old + 0.03 * pose.is_ap
    band = step((wide - np.abs(u - 0.015)) * edge) * step((v + 0.95) * np.float32(10))
    knob = 0.085 * anatomy.knob * (1 + 0.1 * old)
    arch = np.sqrt((u - 0.115) ** 2 + (v + 0.33) ** 2) - knob
    aorta = step(-arch * edge)
    takes = 1 - (1 - heart) * (1 - band) * (1 - aorta)
    depth = np.sqrt(np.clip(1 - ellipse * ellipse, 0, 1))
    adds = 0.055 * depth * heart + 0.09 * band + np.float32(0.04 + 0.02 * max(old, 0)) * aorta
    return takes.astype(np.float32), adds.astype(np.float32)


def draw_bones(anatomy: Anatomy, pose: Pose, shape: Shape, field: Field) -> Array:
    """Attenuation of ribs, clavicles and spine; thinner with age, of women more."""
    u, v = field.u - np.float32(shape.spine), field.v
    out = np.abs(u)
    loss = max(0.0, pose.age_years - 45) * (0.009 - 0.004 * anatomy.male)
    dense = 1 - min(loss, 0.5)
    phase, spacing, slope, weight = anatomy.ribs
    width = max(shape.widths) + 0.05
    cage = step((width - out) * np.float32(25)) * step((out - 0.1) * np.float32(30))
    low = max(shape.domes) + 0.12
    cage *= step((v + 0.72) * np.float32(14)) * (0.2 + 0.8 * step((low - v) * np.float32(20)))
    # behind: from the spine slightly up, then down; before: down towards the middle
    behind = v - slope * (1.5 * out * out - 0.35 * out)
    before = v + slope * 1.5 * out - 0.9 * slope * out * out
    bones = weight * cage * _bands(behind, spacing, phase, 0.3, field.pixel)
    outer = step((out - 0.27) * np.float32(18))
    bones += 0.55 * weight * cage * outer * _bands(before, spacing, phase + 0.4, 0.34, field.pixel)
    level = -0.6 - 0.1 * pose.breath - (0.1 if pose.is_ap else 0.0)
    collar = v - level + 0.14 * (out - 0.1) - 0.05 * np.sin(4.5 * out)
    thick = np.float32(1 / max(0.03, 0.6 * field.pixel))
    ends = step((0.72 - out) * np.float32(20)) * step((out - 0.07) * np.float32(40))
    bones += 1.1 * weight * np.exp(-((collar * thick) ** 2)) * ends
    if pose.is_ap:  # the shoulder blades lie over the lungs
        blade = (out - 0.62) / 0.16 + 0.5 * (v + 0.35)
        high = np.clip(1 - ((v + 0.4) / 0.36) ** 2, 0, 1)
        bones += 1.4 * weight * np.exp(-blade * blade) * high
    bent = u - anatomy.scoliosis * np.sin(3 * v)
    column = step((0.085 - np.abs(bent)) * np.float32(1 / max(0.012, 0.5 * field.pixel)))
    discs = 0.85 + 0.15 * np.cos(v * np.float32(2 * np.pi / 0.14))
    bones += 0.1 * column * discs * (1 if not pose.is_ap else 0.75)
    return np.asarray(dense * bones, dtype=np.float32)


def _bands(level: Array, spacing: float, phase: float, width: float, pixel: float) -> Array:
    """Parallel bands, `width` of the spacing each: the denser rim of a rib and its core."""
    turns = level * np.float32(1 / spacing) + np.float32(phase)
    distance = np.abs(turns - np.round(turns)) * np.float32(1 / width)
    soft = max(0.1, 0.5 * pixel / (spacing * width))
    band = step((1 - distance) * np.float32(1 / soft))
    rim = np.exp(-(((distance - 0.85) / max(0.22, soft)) ** 2))
    return np.asarray(band * 0.75 + 0.35 * rim, dtype=np.float32)


def draw_vessels(anatomy: Anatomy, lung: Lung, field: Field, crowding: float) -> Array:
    """Attenuation of the vessels of a lung, from its hilum out; `crowding` makes them wider."""
    vessels = anatomy.vessels[int(lung.side > 0)]
    right = lung.out - np.float32(HILUM[0])
    low = (lung.down - np.float32(HILUM[1])) * np.float32(1.05)
    radius = np.sqrt(right * right + low * low) + np.float32(1e-3)
    theta = np.arctan2(low, right)
    angle, bend, weight = (vessels[:, column, None, None] for column in range(3))
    off = theta - angle - bend * radius * np.float32(0.6)
    # each vessel forks: two of half the width beyond the fork
    fork = np.float32(0.28) * np.clip(radius - np.float32(0.28), 0, 1)
    away = np.abs(np.abs(off) - fork) * radius
    thick = np.maximum(
        np.float32(0.6 * field.pixel), 0.026 * (1 + 0.4 * crowding) * np.exp(-1.9 * radius)
    )
    lines = 1 - np.exp(-(weight * np.exp(-((away / thick) ** 2))).sum(axis=0))
    lines *= radius / (radius + np.float32(0.07))
    fade = np.exp(-((radius / np.float32(0.5)) ** 2)) * step((lung.wall - 0.03) * np.float32(30))
    root = np.exp(-((right / 0.075) ** 2) - (low / 0.13) ** 2)
    thin = np.minimum(1, 0.026 * np.exp(-1.9 * radius) / thick + 0.35)
    drawn = 0.085 * lines * fade * thin + (0.075 + 0.03 * crowding) * root
    return np.asarray(drawn * lung.mask, dtype=np.float32)
