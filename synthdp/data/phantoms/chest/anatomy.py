"""Whose chest it is, and how it lay before the detector: what is known before a pixel is drawn.

Lengths are in half-widths of the image at the usual pose: x to the right, y down, the middle of the
spine at x = 0. The patient's right lung is on the image's left, as it is shown.
"""

from dataclasses import dataclass
from math import isnan

import numpy as np
from numpy.typing import NDArray

from synthdp.data.phantoms.chest.names import FINDINGS
from synthdp.data.phantoms.chest.rates import MEAN_AGE_YEARS

Array = NDArray[np.float32]

#: Vessels that leave each hilum.
VESSELS = 11
#: How much of a finding's severity all images of a patient share.
SHARED_SEVERITY = 0.6


@dataclass(frozen=True)
class Habit:
    """Where a patient has a finding, wherever an image shows it.

    Attributes:
        side: -1 the image's left (the patient's right), 1 the other.
        x, y: where within the lung, 0 to 1 from the spine outwards and from the apex down.
        size: relative to the usual one.
        severity: the part of the hidden severity that all images share, standard normal.
    """

    side: int
    x: float
    y: float
    size: float
    severity: float


@dataclass(frozen=True)
class Anatomy:
    """What all images of a patient share.

    Attributes:
        male: 1 man, 0 woman, .5 unknown.
        torso: half-width of the chest.
        fat: attenuation beyond the usual one.
        lung: (width, height) of the lungs, relative to the usual ones.
        heart: half-width of the heart, relative to the usual one. heart_x: its place, to the right.
        ribs: phase, spacing, slope, weight.
        breasts: x, y, radius, weight; the weight is 0 of men.
        scoliosis: sideways bend of the spine.
        domes: how much higher the right dome of the diaphragm stands, and how it bows.
        vessels: (2, VESSELS, 3) angle, bend and weight, by lung.
        knob: aortic arch, relative to the usual one.
        gas: size of the bubble in the stomach.
        habits: one for each finding.
    """

    male: float
    torso: float
    fat: float
    lung: tuple[float, float]
    heart: float
    heart_x: float
    ribs: tuple[float, float, float, float]
    breasts: tuple[float, float, float, float]
    scoliosis: float
    domes: tuple[float, float]
    vessels: Array
    knob: float
    gas: float
    habits: tuple[Habit, ...]


@dataclass(frozen=True)
class Pose:
    """How the patient of one image stood or lay.

    Attributes:
        is_ap: taken lying or sitting, with the detector behind: a larger heart, flatter lungs.
        turn: rotation within the image, radians. scale, x, y: size and place of the chest.
        twist: rotation about the spine, which moves heart and spine against the ribs.
        breath: how deep the breath is; positive lowers the diaphragm.
        exposure: overall level of the grey scale.
        age_years: of the patient then.
    """

    is_ap: bool
    turn: float
    scale: float
    x: float
    y: float
    twist: float
    breath: float
    exposure: float
    age_years: float


def draw_anatomy(male: float, rng: np.random.Generator) -> Anatomy:
    """Draw a patient; `male` is 1, 0, or .5 where the sex is unknown."""
    is_male = rng.random() < male
    normal = rng.standard_normal(24)
    woman = 0.0 if is_male else 1.0
    return Anatomy(
        male=male,
        torso=float(0.86 + 0.06 * normal[0] + 0.02 * is_male),
        fat=float(np.clip(0.05 * normal[1] + 0.02 * woman, -0.08, 0.16)),
        lung=(float(1 + 0.05 * normal[2] + 0.04 * is_male), float(1 + 0.05 * normal[3])),
        heart=float(np.exp(0.08 * normal[4]) * (1.02 - 0.03 * is_male)),
        heart_x=float(0.1 + 0.02 * normal[5]),
        ribs=(
            float(rng.random()),
            float(0.165 + 0.01 * normal[6]),
            float(0.5 + 0.1 * normal[7]),
            float(0.075 * np.exp(0.25 * normal[8]) * (0.9 + 0.2 * is_male)),
        ),
        breasts=(
            float(0.43 + 0.04 * normal[9]),
            float(0.27 + 0.08 * normal[10]),
            float(0.33 * np.exp(0.15 * normal[11])),
            float(woman * 0.075 * np.exp(0.45 * normal[12])),
        ),
        scoliosis=float(0.025 * normal[13]),
        domes=(float(0.05 + 0.025 * normal[14]), float(0.13 * np.exp(0.25 * normal[15]))),
        vessels=_draw_vessels(rng),
        knob=float(np.exp(0.15 * normal[16])),
        gas=float(max(0.0, 0.6 + 0.7 * normal[17])),
        habits=tuple(_draw_habit(rng) for _ in FINDINGS),
    )


def _draw_vessels(rng: np.random.Generator) -> Array:
    spread = np.linspace(-1.35, 1.35, VESSELS)
    angle = spread + rng.normal(0, 0.12, (2, VESSELS))
    bend = rng.normal(0, 0.5, (2, VESSELS))
    weight = rng.lognormal(-0.1, 0.35, (2, VESSELS))
    return np.stack([angle, bend, weight], axis=-1).astype(np.float32)


def _draw_habit(rng: np.random.Generator) -> Habit:
    x, y = rng.beta(2, 2, 2)
    return Habit(
        side=1 if rng.random() < 0.5 else -1,
        x=float(x),
        y=float(y),
        size=float(rng.lognormal(0, 0.2)),
        severity=float(rng.standard_normal()),
    )


def draw_pose(*, is_ap: bool, age_years: float, rng: np.random.Generator) -> Pose:
    """Draw how one image was taken; an unknown age (nan) is the mean one."""
    normal = rng.standard_normal(8)
    lying = float(is_ap)
    return Pose(
        is_ap=is_ap,
        turn=float((0.025 + 0.035 * lying) * normal[0]),
        scale=float(np.exp(0.06 * normal[1]) * (1.02 if is_ap else 1.0)),
        x=float((0.04 + 0.05 * lying) * normal[2]),
        y=float(0.02 + (0.06 + 0.05 * lying) * normal[3]),
        twist=float((0.02 + 0.03 * lying) * normal[4]),
        breath=float(0.09 * normal[5] - 0.16 * lying),
        exposure=float(0.05 * normal[6]),
        age_years=MEAN_AGE_YEARS if isnan(age_years) else age_years,
    )


def draw_severities(
    anatomy: Anatomy, has: NDArray[np.bool_], separation: float, rng: np.random.Generator
) -> Array:
    """How strongly an image shows each finding, (14,), 0 not at all, about 1 plainly.

    A hidden severity, normal with means `separation` apart, decides: those without a finding show a
    little of it now and then, and some of those with it show none.
    """
    shared = np.array([habit.severity for habit in anatomy.habits])
    own = rng.standard_normal(len(FINDINGS))
    hidden = np.sqrt(SHARED_SEVERITY) * shared + np.sqrt(1 - SHARED_SEVERITY) * own
    hidden += separation * (has - 0.5)
    return np.asarray(np.clip(0.45 * hidden, 0, 1.6), dtype=np.float32)
