"""What each finding does to the look of a lung: its air, its vessels, and what it adds.

Severities are those of `anatomy.draw_severities`: 0 draws nothing, 1 is plain to see. What changes
the outline of heart, lungs and diaphragm stands in `thorax.shape_of`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthdp.data.phantoms.chest.anatomy import Anatomy, Habit
from synthdp.data.phantoms.chest.names import FINDINGS
from synthdp.data.phantoms.chest.thorax import HILUM, Field, Lung, Shape
from synthdp.data.phantoms.edges import step

Array = NDArray[np.float32]

#: Above this place of the habit an atelectasis is a band, below a wedge at the heart.
BAND = 0.5


@dataclass
class LungSigns:
    """What is drawn into one lung, added up sign by sign.

    Attributes:
        filled: how much of the air is gone, 0 to 1.
        vessels: how much of the vessels is seen, 0 to 1.
        adds: attenuation beyond.
        air: factor of the air that is left.
    """

    filled: Array
    vessels: Array
    adds: Array
    air: Array

    def fill(self, share: NDArray[np.floating]) -> None:
        """Fill a share of the air that is left."""
        self.filled = 1 - (1 - self.filled) * (1 - np.clip(share, 0, 1))


@dataclass(frozen=True)
class Shown:
    """What an image shows, and of whom: severities by finding, the patient, texture fields.

    mottle, grain: (S, S) coarse and fine noise of mean 0 and sd 1.
    """

    severities: dict[str, float]
    anatomy: Anatomy
    shape: Shape
    field: Field
    is_ap: bool
    mottle: Array
    grain: Array

    def habit(self, finding: str) -> Habit:
        """Where the patient has a finding."""
        return self.anatomy.habits[FINDINGS.index(finding)]

    def on_side(self, finding: str, side: int) -> float:
        """The severity of a finding that stands in one lung, 0 in the other."""
        return self.severities[finding] if self.habit(finding).side == side else 0.0


def draw_signs(lung: Lung, shown: Shown) -> LungSigns:
    """All signs of one lung."""
    nothing = np.zeros_like(lung.air)
    signs = LungSigns(nothing, np.ones_like(nothing), nothing.copy(), np.ones_like(nothing))
    for draw in (
        *(_haze, _reticulation, _patches, _consolidation, _pneumonia, _collapse),
        *(_blobs, _rind, _free_air, _fluid),
    ):
        draw(lung, shown, signs)
    return signs


def _blob(lung: Lung, habit: Habit, radius: tuple[float, float], sharp: float) -> Array:
    """A spot at a habit's place, 1 in its middle; `sharp` 1 is a Gaussian, more has an edge."""
    x, y = 0.16 + 0.38 * habit.x, 0.2 + 0.65 * habit.y
    squared = ((lung.out - x) / radius[0]) ** 2 + ((lung.down - y) / radius[1]) ** 2
    return np.asarray(np.exp(-(squared**sharp)), dtype=np.float32)


def _mottled(spot: NDArray[np.floating], texture: Array, much: float) -> Array:
    return np.asarray(spot * np.clip(1 + much * texture, 0, 2), dtype=np.float32)


def _haze(lung: Lung, shown: Shown, signs: LungSigns) -> None:
    """Edema: haze about both hila, like the wings of a bat. Emphysema: darker, fewer vessels."""
    wet, air = shown.severities["edema"], shown.severities["emphysema"]
    if wet > 0:
        away = ((lung.out - HILUM[0]) / 0.3) ** 2 + ((lung.down - HILUM[1] - 0.08) / 0.42) ** 2
        wings = np.exp(-away)
        signs.fill(_mottled(0.6 * wet * wings + 0.12 * wet, shown.mottle, 0.25))
    if air > 0:
        signs.air *= np.float32(1 + 0.13 * air)
        signs.vessels *= np.float32(1 - 0.5 * min(air, 1.0))


def _reticulation(lung: Lung, shown: Shown, signs: LungSigns) -> None:
    """Fibrosis: a net of fine lines, at the base and the wall most."""
    strength = shown.severities["fibrosis"]
    if strength <= 0:
        return
    low = step((lung.down - 0.5) * np.float32(5))
    outer = np.exp(-lung.wall / np.float32(0.25))
    net = np.exp(-((shown.grain / 0.45) ** 2))
    where = np.clip(0.3 + 0.7 * np.maximum(low, outer), 0, 1) * lung.mask
    signs.adds += np.float32(0.1 * strength) * net * where
    signs.fill(0.16 * strength * where)


def _patches(lung: Lung, shown: Shown, signs: LungSigns) -> None:
    """Infiltration: several soft, faint patches."""
    strength = shown.severities["infiltration"]
    habit = shown.habit("infiltration")
    here = habit.side == lung.side or habit.size > 1.0  # of half the patients in both lungs
    if strength <= 0 or not here:
        return
    other = Habit(habit.side, 1 - habit.x, min(1.0, habit.y + 0.35), habit.size, 0.0)
    third = Habit(habit.side, habit.y, 0.5 * habit.x + 0.4, habit.size, 0.0)
    spots = np.zeros_like(lung.air)
    for one, radius in ((habit, 0.17), (other, 0.14), (third, 0.12)):
        spots += _blob(lung, one, (radius * habit.size, radius * 1.2 * habit.size), 1)
    signs.fill(_mottled(0.42 * strength * np.minimum(spots, 1.3), shown.mottle, 0.35))


def _consolidation(lung: Lung, shown: Shown, signs: LungSigns) -> None:
    """A dense part of a lobe with an edge, in which air-filled bronchi stay dark."""
    strength = shown.on_side("consolidation", lung.side)
    if strength <= 0:
        return
    habit = shown.habit("consolidation")
    spot = _blob(lung, habit, (0.2 * habit.size, 0.2 * habit.size), 2.2)
    bronchi = 1 - 0.35 * np.exp(-((shown.grain / 0.3) ** 2))
    signs.fill(_mottled(0.72 * strength * spot * bronchi, shown.mottle, 0.2))


def _pneumonia(lung: Lung, shown: Shown, signs: LungSigns) -> None:
    """One soft patch in a lower zone, with a fainter one beside it."""
    strength = shown.on_side("pneumonia", lung.side)
    if strength <= 0:
        return
    habit = shown.habit("pneumonia")
    low = Habit(habit.side, habit.x, 0.5 + 0.5 * habit.y, habit.size, 0.0)
    beside = Habit(habit.side, 1 - habit.x, 0.3 + 0.5 * habit.y, habit.size, 0.0)
    spot = _blob(lung, low, (0.21 * habit.size, 0.19 * habit.size), 1.3)
    spot += 0.4 * _blob(lung, beside, (0.14, 0.14), 1)
    signs.fill(_mottled(0.6 * strength * spot, shown.mottle, 0.3))


def _collapse(lung: Lung, shown: Shown, signs: LungSigns) -> None:
    """Atelectasis: a dense band above the diaphragm, or a wedge beside the heart."""
    strength = shown.on_side("atelectasis", lung.side)
    if strength <= 0:
        return
    habit = shown.habit("atelectasis")
    if habit.y < BAND:
        line = lung.floor - 0.07 - 0.12 * habit.y - (habit.x - 0.3) * 0.35 * (lung.out - 0.35)
        thick = max(0.022 * habit.size, 0.6 * shown.field.pixel)
        ends = step((lung.out - 0.12) * np.float32(30)) * step((0.62 - lung.out) * np.float32(20))
        signs.fill(0.75 * strength * np.exp(-((line / thick) ** 2)) * ends)
    else:
        reach = 0.13 + 0.16 * strength * habit.size
        wedge = reach - (lung.out - 0.1) - 0.45 * lung.floor
        signs.fill(0.8 * min(strength + 0.2, 1.0) * step(wedge * np.float32(28)))
    signs.vessels *= np.float32(1 - 0.2 * min(strength, 1.0))


def _blobs(lung: Lung, shown: Shown, signs: LungSigns) -> None:
    """A nodule: small, round, with an edge. A mass: larger and lobed."""
    small, large = shown.on_side("nodule", lung.side), shown.on_side("mass", lung.side)
    if small > 0:
        habit = shown.habit("nodule")
        radius = max(0.05 * habit.size, 0.9 * shown.field.pixel)
        signs.adds += np.float32(0.2 * small) * _blob(lung, habit, (radius, radius * 1.05), 1.6)
    if large > 0:
        habit = shown.habit("mass")
        radius = 0.115 * habit.size * (0.8 + 0.25 * large)
        lobed = _blob(lung, habit, (radius, radius * 1.1), 2.0)
        signs.adds += np.float32(0.24 * min(large, 1.2)) * _mottled(lobed, shown.mottle, 0.15)


def _rind(lung: Lung, shown: Shown, signs: LungSigns) -> None:
    """Pleural thickening: a bright rim along a stretch of the wall, or a cap on the apex."""
    strength = shown.on_side("pleural_thickening", lung.side)
    if strength <= 0:
        return
    habit = shown.habit("pleural_thickening")
    thick = max(0.045 * habit.size * (0.6 + 0.6 * strength), 0.8 * shown.field.pixel)
    rim = np.exp(-((lung.wall / thick) ** 2)) * step((lung.wall + 0.03) * np.float32(60))
    along = np.exp(-(((lung.down - 0.1 - 0.9 * habit.y) / 0.3) ** 2))
    signs.fill(0.75 * min(strength, 1.2) * rim * along)
    signs.adds += np.float32(0.07 * strength) * rim * along


def _free_air(lung: Lung, shown: Shown, signs: LungSigns) -> None:
    """Pneumothorax: a dark rim without vessels outside a thin line, widest at the apex."""
    strength = shown.on_side("pneumothorax", lung.side)
    if strength <= 0:
        return
    width = (0.06 + 0.13 * strength) * np.clip(1.25 - 0.9 * lung.down, 0, 1.2)
    width = width + 0.16 * strength * np.clip(0.22 - lung.down, 0, 0.3)
    edge = np.float32(1 / max(0.012, 0.4 * shown.field.pixel))
    rim = step((width - lung.wall) * edge) * lung.mask
    signs.air *= 1 + np.float32(0.25 * min(strength + 0.2, 1.2)) * rim
    signs.vessels *= 1 - rim
    thick = max(0.012, 0.45 * shown.field.pixel)
    line = np.exp(-(((lung.wall - width) / thick) ** 2)) * (lung.down < 0.95)
    signs.adds += np.float32(0.07) * line * lung.mask
    signs.fill(0.12 * strength * (1 - rim) * lung.mask)


def _fluid(lung: Lung, shown: Shown, signs: LungSigns) -> None:
    """Effusion: fluid in the costophrenic angle, whose surface climbs the wall; a veil lying down.

    A large one stands in the other lung too, lower.
    """
    strength = shown.severities["effusion"]
    habit = shown.habit("effusion")
    if habit.side != lung.side:
        strength = (strength - 0.35) * (0.8 if habit.size > 1 else 0.0)
    if strength <= 0:
        return
    climb = np.exp(-np.clip(lung.wall, 0, None) / np.float32(0.15 + 0.1 * strength))
    depth = strength * (0.02 + 0.1 * strength + 0.34 * climb)
    soft = np.float32(1 / (0.025 + 0.03 * shown.is_ap))
    level = step((depth - lung.floor) * soft)
    if shown.is_ap:
        veil = 0.42 * strength * np.clip(0.15 + lung.down, 0, 1.1)
        signs.fill(np.maximum(0.75 * level, veil))
    else:
        signs.fill(0.95 * level)
