"""Draw a CT volume of the upper abdomen: body, organs, noise, and a lesion of the pancreas.

All is in Hounsfield units (water 0, air -1000) on a box whose half-sides are 1: x to the image's
right (the patient's left), y to the back, z from the top slice down. Edges are as soft as a voxel,
as they are where a voxel holds some of both. What is known of a pancreatic tumour's look is drawn:
darker than the gland after contrast agent, a duct that is wide behind it, and spots in the liver.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthdp.data.phantoms.edges import step

Array = NDArray[np.float32]
Point = tuple[float, float, float]

#: What is shown black and white, in Hounsfield units: a window for soft tissue.
BLACK_HU, WHITE_HU = -120.0, 200.0
FAT_HU, MUSCLE_HU, LUNG_HU, AIR_HU = -100.0, 50.0, -850.0, -1000.0
#: Contrast agent in the organs, by phase, in Hounsfield units.
PHASES = {
    "none": {"liver": 55, "spleen": 48, "kidney": 32, "aorta": 42, "pancreas": 42},
    "arterial": {"liver": 72, "spleen": 125, "kidney": 150, "aorta": 290, "pancreas": 108},
    "venous": {"liver": 112, "spleen": 122, "kidney": 185, "aorta": 160, "pancreas": 92},
}
PHASE_SHARES = {"none": 0.2, "arterial": 0.3, "venous": 0.5}
#: Points along the pancreas from head to tail, by which it is drawn.
GLAND_POINTS = 9
#: Spots in the liver at most, and from which severity of the lesion on they come, one by one.
MOST_SPREAD, SPREAD_FROM = 8, 0.4
#: Standard deviation of the noise, and of the texture of organs, in Hounsfield units.
NOISE_HU, TEXTURE_HU = 7.0, 4.0


@dataclass(frozen=True)
class Abdomen:
    """What all volumes of a patient share.

    Attributes:
        size: (width, depth) of the body, half-sides. fat: thickness of its fat.
        organs: (5, 3) how liver, spleen, two kidneys and stomach are moved, in half-sides.
        scale: (5,) their sizes relative to the usual ones.
        path: (GLAND_POINTS, 3) the pancreas. thick: its radius. lobed: how much fat it holds.
        lesion: where along the pancreas, 0 head to 1 tail. lesion_size: its radius.
        cysts: (n, 4) round dark spots of liver and kidneys: organ, angle, height, radius.
        spread: (MOST_SPREAD, 4) where it spreads to: x, y, z within the liver, and the radius.
        bowel: (n, 4) loops of the bowel: x, y, z, radius.
        severity: the part of the hidden severity that all volumes share.
    """

    size: tuple[float, float]
    fat: float
    organs: Array
    scale: Array
    path: Array
    thick: float
    lobed: float
    lesion: float
    lesion_size: float
    cysts: Array
    spread: Array
    bowel: Array
    severity: float


def draw_abdomen(*, is_male: bool, age_years: float, rng: np.random.Generator) -> Abdomen:
    """Draw a patient: men larger with less fat beneath the skin, an older pancreas thinner."""
    normal = rng.standard_normal(8)
    along = np.linspace(0, 1, GLAND_POINTS)
    x = -0.2 + 0.66 * along
    y = -0.02 - 0.16 * np.sin(np.pi * along) + 0.16 * along
    z = 0.24 - 0.42 * along + 0.05 * np.sin(2 * np.pi * along)
    path = np.stack([x, y, z], axis=1) + 0.04 * rng.standard_normal(3)
    return Abdomen(
        size=(float(0.88 + 0.04 * normal[0] + 0.03 * is_male), float(0.69 + 0.04 * normal[1])),
        fat=float(np.clip(0.1 + 0.03 * normal[2] + 0.03 * (not is_male), 0.03, 0.22)),
        organs=(0.04 * rng.standard_normal((5, 3))).astype(np.float32),
        scale=np.exp(0.07 * rng.standard_normal(5)).astype(np.float32),
        path=path.astype(np.float32),
        thick=float(0.085 * np.exp(0.12 * normal[3]) * (1 - 0.004 * (age_years - 50))),
        lobed=float(np.clip(0.3 + 0.01 * (age_years - 50) + 0.15 * normal[4], 0, 1)),
        lesion=float(rng.beta(1.3, 2.0)),
        lesion_size=float(0.17 * np.exp(0.2 * normal[5])),
        cysts=rng.random((int(rng.poisson(0.6)), 4)).astype(np.float32),
        spread=_draw_spread(rng),
        bowel=_draw_bowel(rng),
        severity=float(normal[6]),
    )


def _draw_spread(rng: np.random.Generator) -> Array:
    """Places within a ball of radius 1, and radii in half-sides."""
    centres = rng.standard_normal((MOST_SPREAD, 3))
    centres *= rng.uniform(0.2, 0.8, (MOST_SPREAD, 1)) / np.linalg.norm(centres, axis=1)[:, None]
    radii = rng.uniform(0.05, 0.1, (MOST_SPREAD, 1))
    return np.concatenate([centres, radii], axis=1).astype(np.float32)


def _draw_bowel(rng: np.random.Generator) -> Array:
    """Loops below the stomach, in front of the kidneys."""
    count = int(rng.integers(10, 18))
    low, high = (-0.5, -0.35, 0.25, 0.05), (0.5, 0.15, 1.0, 0.11)
    return rng.uniform(low, high, (count, 4)).astype(np.float32)


@lru_cache(maxsize=2)
def _box(depth: int, side_px: int) -> tuple[Array, Array, Array]:
    """(depth, side_px, side_px) coordinates z, y, x of the voxels' middles."""
    axes = [((np.arange(n) + 0.5) * 2 / n - 1).astype(np.float32) for n in (depth, side_px)]
    z, y, x = np.meshgrid(axes[0], axes[1], axes[1], indexing="ij")
    return z, y, x


@dataclass(frozen=True)
class Part:
    """Some of a volume: the box around it, and how much of each voxel of the box it takes."""

    box: tuple[slice, slice, slice]
    mask: Array


class _Volume:
    """A volume that organs are put into, one over the other."""

    def __init__(self, depth: int, side_px: int, rng: np.random.Generator) -> None:
        self.z, self.y, self.x = _box(depth, side_px)
        self.hu = np.full((depth, side_px, side_px), AIR_HU, dtype=np.float32)
        self._sharp = side_px / 2
        white = rng.standard_normal((depth, side_px, side_px), dtype=np.float32)
        waves = gaussian_filter(
            white, (depth / 16, side_px / 16, side_px / 16), mode="wrap", truncate=2
        )
        #: Noise of mean 0 and sd 1 by which outlines and densities waver.
        self.waves: Array = waves / waves.std()

    def ellipsoid(self, centre: Point, half: Point, turn: float = 0.0, wobble: float = 0.0) -> Part:
        """How much of each voxel lies in an ellipsoid: (x, y, z) middle and half-axes."""
        wide = max(half[0], half[1]) if turn else half[0]
        deep = max(half[0], half[1]) if turn else half[1]
        box = self._around(centre, (wide, deep, half[2]))
        x, y = self.x[box] - np.float32(centre[0]), self.y[box] - np.float32(centre[1])
        if turn:
            cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
            x, y = cosine * x + sine * y, cosine * y - sine * x
        squared = (x * np.float32(1 / half[0])) ** 2 + (y * np.float32(1 / half[1])) ** 2
        squared += ((self.z[box] - np.float32(centre[2])) * np.float32(1 / half[2])) ** 2
        radius = np.sqrt(squared)
        if wobble:
            radius += np.float32(wobble) * self.waves[box]
        sharp = 2 * self._sharp * min(half[0], half[1])
        return Part(box, step((1 - radius) * np.float32(sharp)))

    def tube(self, path: Array, radii: NDArray[np.floating]) -> Part:
        """How much of each voxel lies within `radii` of the points of a path (x, y, z)."""
        middle = path.mean(axis=0)
        reach = np.abs(path - middle).max(axis=0) + radii.max()
        box = self._around(tuple(middle.tolist()), tuple(reach.tolist()))
        x, y, z = self.x[box], self.y[box], self.z[box]
        nearest = np.full_like(x, -np.inf)
        for (px, py, pz), radius in zip(path, radii, strict=True):
            away = np.sqrt((x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2)
            np.maximum(nearest, np.float32(radius) - away, out=nearest)
        return Part(box, step(nearest * np.float32(2 * self._sharp)))

    def _around(self, centre: Point, half: Point) -> tuple[slice, slice, slice]:
        """The part of the box, slices first, that what is drawn there reaches."""
        slices = []
        for axis, n in zip((2, 1, 0), self.hu.shape, strict=True):
            reach = 1.3 * half[axis] + 6 / n
            first = int(np.floor((centre[axis] - reach + 1) * n / 2))
            last = int(np.ceil((centre[axis] + reach + 1) * n / 2))
            slices.append(slice(min(max(first, 0), n), max(min(last, n), 0)))
        return slices[0], slices[1], slices[2]

    def put(self, part: Part, hu: float | Array) -> None:
        """Put tissue of a density where the part is, over what was there."""
        there = self.hu[part.box]
        there += part.mask * (np.asarray(hu, dtype=np.float32) - there)


def draw_volume(
    abdomen: Abdomen,
    severity: float,
    phase: str,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """One volume, (depth, side_px, side_px) uint8, slices from top to bottom.

    Args:
        abdomen: of the patient.
        severity: of the lesion: 0 none, about 1 plain.
        phase: of the contrast agent, a key of `PHASES`.
        shape: depth and side_px.
        rng: where all chance of this volume comes from.
    """
    volume, of = _Volume(*shape, rng), PHASES[phase]
    _put_body(volume, abdomen, rng)
    for x, y, z, radius in abdomen.bowel.tolist():
        loop = volume.ellipsoid((x, y, z), (radius * 1.3, radius, radius * 1.5), 0.4, wobble=0.1)
        volume.put(loop, 35)
        gas = volume.ellipsoid((x, y - 0.3 * radius, z), (radius * 0.6, radius * 0.3, radius * 0.8))
        volume.put(gas, -600 if radius > 0.08 else 20)
    _put_organs(volume, abdomen, of)
    _put_spread(volume, abdomen, of, severity)
    _put_gland(volume, abdomen, of, severity)
    volume.put(volume.ellipsoid((0.06, 0.17, 0), (0.075, 0.075, 9)), of["aorta"])
    volume.put(volume.ellipsoid((-0.09, 0.15, 0), (0.085, 0.06, 9)), 0.75 * of["aorta"])
    hu = volume.hu + TEXTURE_HU * volume.waves * (volume.hu > FAT_HU / 2)
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    noise = gaussian_filter(noise, (0, 0.6, 0.6))
    hu += np.float32(NOISE_HU * rng.lognormal(0, 0.2)) * noise / noise.std()
    grey = np.clip((hu - BLACK_HU) / (WHITE_HU - BLACK_HU), 0, 1)
    return np.asarray(np.rint(255 * grey), dtype=np.uint8)


def _put_body(volume: _Volume, abdomen: Abdomen, rng: np.random.Generator) -> None:
    """Skin, fat, muscle, ribs, spine, and the lungs above the diaphragm."""
    wide, deep = abdomen.size
    x, y = (float(one) for one in rng.normal(0, 0.03, 2))
    body = volume.ellipsoid((x, y, 0), (wide, deep, 9))
    volume.put(body, 20)
    volume.put(volume.ellipsoid((x, y, 0), (wide - 0.025, deep - 0.025, 9)), FAT_HU)
    within = (wide - abdomen.fat, deep - abdomen.fat)
    volume.put(volume.ellipsoid((x, y, 0), (*within, 9)), MUSCLE_HU)
    inner = volume.ellipsoid((x, y - 0.03, 0), (within[0] - 0.07, within[1] - 0.1, 9))
    volume.put(inner, FAT_HU + 10)
    right, back = volume.x[0] - np.float32(x), volume.y[0] - np.float32(y)  # one slice
    angle = np.arctan2(back / within[1], right / within[0])
    ring = np.hypot(right / (within[0] - 0.04), back / (within[1] - 0.04))
    cage = np.exp(-(((ring - 1) / 0.045) ** 2))
    ribs = step((np.sin(7 * angle + 5 * volume.z) - np.float32(0.55)) * 12) * cage
    volume.put(Part(body.box, ribs[body.box]), 300)
    dome = -0.62 + 0.5 * (right**2 + back**2)
    air = step((dome - volume.z) * np.float32(volume.hu.shape[0] / 2))
    volume.put(Part(inner.box, inner.mask * air[inner.box]), LUNG_HU)
    spine = y + 0.6 * deep
    for side in (-1, 1):
        volume.put(volume.ellipsoid((x + side * 0.2, spine + 0.08, 0), (0.14, 0.08, 9)), MUSCLE_HU)
    volume.put(volume.ellipsoid((x, spine, 0), (0.15, 0.12, 9)), 190)
    volume.put(volume.ellipsoid((x, spine + 0.09, 0), (0.06, 0.045, 9)), 25)


#: Liver, spleen, kidneys, stomach: middle, half-axes, turn in the slice.
_ORGANS: tuple[tuple[str, Point, Point, float], ...] = (
    ("liver", (-0.38, -0.08, -0.25), (0.4, 0.42, 0.75), 0.35),
    ("spleen", (0.6, 0.2, -0.35), (0.14, 0.26, 0.45), -0.3),
    ("kidney", (-0.36, 0.34, 0.55), (0.13, 0.15, 0.5), 0.4),
    ("kidney", (0.4, 0.34, 0.45), (0.13, 0.15, 0.5), -0.4),
    ("stomach", (0.34, -0.26, -0.2), (0.22, 0.16, 0.5), 0.5),
)


def _put_organs(volume: _Volume, abdomen: Abdomen, of: dict[str, int]) -> None:
    for index, (name, middle, half, turn) in enumerate(_ORGANS):
        moved = abdomen.organs[index]
        centre = (middle[0] + moved[0], middle[1] + moved[1], middle[2] + moved[2])
        scale = float(abdomen.scale[index])
        axes = (half[0] * scale, half[1] * scale, half[2] * scale)
        volume.put(volume.ellipsoid(centre, axes, turn, wobble=0.06), of.get(name, 30))
        if name == "stomach":  # gas lies in front
            gas = (centre[0], centre[1] - 0.06, centre[2])
            volume.put(volume.ellipsoid(gas, (axes[0] * 0.6, 0.05, axes[2] * 0.7)), -700)
        if name == "kidney":
            pelvis = (axes[0] * 0.4, axes[1] * 0.4, axes[2] * 0.5)
            volume.put(volume.ellipsoid(centre, pelvis, turn), 0)
    for kind, angle, height, radius in abdomen.cysts:
        _, middle, half, _ = _ORGANS[(0, 0, 2, 3)[int(kind * 4)]]
        turn = 2 * np.pi * angle
        x, y = middle[0] + 0.6 * half[0] * np.cos(turn), middle[1] + 0.6 * half[1] * np.sin(turn)
        size = float(0.03 + 0.05 * radius)
        spot = volume.ellipsoid(
            (float(x), float(y), middle[2] + half[2] * float(height - 0.5)), (size, size, size)
        )
        volume.put(spot, 8)


def _put_spread(volume: _Volume, abdomen: Abdomen, of: dict[str, int], severity: float) -> None:
    """Round dark spots in the liver, the more the stronger the lesion is."""
    _, middle, half, _ = _ORGANS[0]
    spots = int(np.clip(10 * (severity - SPREAD_FROM), 0, MOST_SPREAD))
    for x, y, z, radius in abdomen.spread[:spots].tolist():
        moved = abdomen.organs[0]
        centre = (
            float(middle[0] + moved[0] + x * half[0]),
            float(middle[1] + moved[1] + y * half[1]),
            float(middle[2] + moved[2] + z * half[2]),
        )
        spot = volume.ellipsoid(centre, (radius, radius, 1.6 * radius), wobble=0.1)
        volume.put(Part(spot.box, spot.mask * np.float32(0.8)), of["liver"] - 60)


def _put_gland(volume: _Volume, abdomen: Abdomen, of: dict[str, int], severity: float) -> None:
    """The pancreas, and its lesion: darker than the gland, with a wide duct up to the tail."""
    taper = np.linspace(1.25, 0.8, GLAND_POINTS)
    gland = volume.tube(abdomen.path, abdomen.thick * taper)
    lobed = np.clip(volume.waves[gland.box], 0, 1.5) * abdomen.lobed
    volume.put(gland, of["pancreas"] - 45 * lobed)
    if severity <= 0:
        return
    at = abdomen.lesion * (GLAND_POINTS - 1)
    centre = [float(np.interp(at, range(GLAND_POINTS), abdomen.path[:, axis])) for axis in range(3)]
    behind = abdomen.path[int(np.ceil(at)) :]
    if len(behind):
        duct = volume.tube(behind, np.full(len(behind), 0.016 + 0.03 * severity))
        volume.put(Part(duct.box, duct.mask * np.float32(min(severity, 1.0))), 12)
    size = abdomen.lesion_size * (0.7 + 0.4 * severity)
    spot = volume.ellipsoid(
        (centre[0], centre[1], centre[2]), (size, size * 0.9, size * 1.1), wobble=0.12
    )
    darker = (30 + 0.45 * of["pancreas"]) * min(severity, 1.3)
    volume.put(spot, of["pancreas"] - darker)
