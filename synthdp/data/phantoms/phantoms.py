"""Procedural mammography mass patches: the built-in data, free of privacy cost.

No image went into them. Their constants were set beside the public CBIS-DDSM train patches and
their labels (Lee et al., Scientific Data 4:170177, 2017), so they are public knowledge; statements
name that choice among what they don't cover.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.special import expit

from synthdp import __version__
from synthdp.data.description import DatasetInfo, charged_set_of, protected_set_of
from synthdp.data.phantoms.chest.chest_set import described_table, write_radiographs
from synthdp.data.phantoms.ct.ct_set import TARGET, write_volumes
from synthdp.data.phantoms.lumpy import draw_lumpy_view
from synthdp.data.phantoms.settings import OF_SUBJECT, PhantomSettings
from synthdp.data.phantoms.varied import draw_varied_view
from synthdp.data.phantoms.view import OUTLINE_ORDERS, Breast, Lesion, draw_view
from synthdp.data.writer import DatasetWriter, create_dataset, holds_dataset
from synthdp.errors import InputError
from synthdp.machine.memory import keep_freed_memory
from synthdp.machine.progress import progress
from synthdp.privacy.lineage import Lineage

LICENCE = "CC0-1.0"
#: A smaller patch is drawn at a multiple of its side, at least this, and averaged down.
DRAWN_SIDE_PX = 128
#: Shares of the patients by breast density, 1 fatty to 4 dense, and by number of views, 1 to 6.
DENSITY_SHARES = (0.22, 0.44, 0.26, 0.08)
VIEW_COUNT_SHARES = (0.28, 0.65, 0.02, 0.025, 0.01, 0.015)
#: By density: weight of the fibroglandular texture, and mean attenuation (`Breast`).
GLAND_OF_DENSITY = (0.7, 0.9, 1.1, 1.3)
LEVEL_OF_DENSITY = (0.485, 0.5, 0.515, 0.53)
#: How likely a further lesion of a patient has the class of the first.
SAME_LABEL_AGAIN = 0.8
#: How a view is drawn, by style.
_DRAW_VIEW = {"fibrous": draw_view, "lumpy": draw_lumpy_view, "varied": draw_varied_view}
#: Styles of a mixed set, in turn within each class, so that none tells the class.
_MIXED = ("fibrous", "varied")
#: Steps of the sequences that give out splits and sites: multiples of these fill [0, 1) evenly.
SPLIT_STEP, SITE_STEP = (5**0.5 - 1) / 2, 2**0.5 - 1


@dataclass(frozen=True)
class DrawnPatch:
    """One view of one lesion: (size_px, size_px) uint8 pixels and what is known of them."""

    pixels: NDArray[np.uint8]
    malignant: bool
    lesion: int
    view: str
    laterality: str


@dataclass(frozen=True)
class Patient:
    """A made-up patient: one to six patches, all in one split."""

    patient_id: str
    split: str
    site: str
    density: int
    patches: tuple[DrawnPatch, ...]


@dataclass(frozen=True)
class _Stratum:
    """What a patient is before a pixel is drawn."""

    malignant: bool
    split: str
    site: str
    mixed_style: str


def _stratum_of(settings: PhantomSettings, index: int) -> _Stratum:
    """Spread class, split, site and the style of a mixed set evenly over any number of patients.

    The class takes its share by rounding; within each class, split and site follow Weyl sequences
    of irrational steps. So the shares hold among the first patients of a set as in all of them, and
    a patient does not depend on how many follow.
    """
    # Where the sequences begin: of the class, of the splits by class (two), and of the sites.
    start = np.random.default_rng(np.random.SeedSequence(settings.seed)).random(4)
    # The malignant patients up to this one: it is malignant where it raises their number.
    before = floor(start[0] + index * settings.malignant_fraction)
    malignant = floor(start[0] + (index + 1) * settings.malignant_fraction) > before
    rank = before if malignant else index - before
    along = (start[1 + malignant] + rank * SPLIT_STEP) % 1
    held_out = settings.val_fraction + settings.test_fraction
    split = "val" if along < settings.val_fraction else "test" if along < held_out else "train"
    site = "B" if (start[3] + rank * SITE_STEP) % 1 < settings.site_b_fraction else "A"
    return _Stratum(malignant, split, site, _MIXED[rank % len(_MIXED)])


def _draw_breast(site: str, site_shift: float, rng: np.random.Generator) -> Breast:
    density = int(rng.choice(4, p=DENSITY_SHARES))
    return Breast(
        site=site,
        density=density + 1,
        gland=GLAND_OF_DENSITY[density] * float(rng.lognormal(0, 0.3)),
        level=LEVEL_OF_DENSITY[density] + float(rng.normal(0, 0.075)),
        exponent=float(rng.normal(3.1, 0.2)),
        site_shift=site_shift if site == "B" else 0.0,
    )


def draw_lesion(malignant: bool, separation: float, rng: np.random.Generator) -> Lesion:
    """Draw the traits of a mass.

    A hidden suspicion, normal with means `separation` apart, moves every trait, and each trait has
    its own spread besides: so there are round carcinomas and spiculated scars.
    """
    suspicion = rng.normal(separation * (0.5 if malignant else -0.5), 1)

    def trait(slope: float, offset: float, spread: float) -> float:
        return float(expit(slope * suspicion + offset + rng.normal(0, spread)))

    irregularity = trait(1.3, -0.4, 0.7)
    roughness = (OUTLINE_ORDERS / 2.0) ** (1.1 * irregularity - 2.2)
    waves = rng.standard_normal((2, OUTLINE_ORDERS.size, 2)) @ np.array([1, 1j]) / np.sqrt(2)
    long, deep = np.sqrt(rng.uniform(0.65, 1.0, 2))
    return Lesion(
        radius=float(np.clip(rng.normal(0.6, 0.13), 0.25, 0.9)),
        axes=(float(1 / long), float(long), float(long * deep)),
        irregularity=irregularity,
        softness=trait(1.0, -0.3, 1.0),
        spiculation=trait(1.6, -2.2, 1.0),
        contrast=float(np.clip(0.088 * np.exp(0.3 * suspicion + rng.normal(0, 0.4)), 0, 0.28)),
        outline=waves * (0.06 + 0.18 * irregularity) * roughness,
        scale=float(rng.lognormal(0, 0.3)),
    )


def _shrink(grey: NDArray[np.float64], size_px: int) -> NDArray[np.uint8]:
    """Average square blocks down to size_px and round to 8 bits."""
    block = grey.shape[0] // size_px
    means = grey.reshape(size_px, block, size_px, block).mean((1, 3))
    pixels: NDArray[np.uint8] = np.rint(means * 255).astype(np.uint8)
    return pixels


def draw_patient(settings: PhantomSettings, index: int, *, patches: int | None = None) -> Patient:
    """Draw one patient; the same settings and index give the same pixels on every run.

    Two views show the same lesion from two sides; a third and fourth show a second lesion, which
    has another class in one patient of five. Nothing depends on `settings.patients`. Packaged
    generators name phantoms by settings, index and patch (`gan.package.kept_phantoms`), so that a
    change of what is drawn changes them.

    Args:
        settings: of the set.
        index: of the patient, from 0.
        patches: draws the first ones alone, where no others are wanted.
    """
    # One stream for each patient: a draw that is added, left out or moved changes all pixels after.
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(index,)))
    stratum = _stratum_of(settings, index)
    breast = _draw_breast(stratum.site, settings.site_shift, rng)
    count = 1 + int(rng.choice(len(VIEW_COUNT_SHARES), p=VIEW_COUNT_SHARES))
    first_view, laterality = int(rng.integers(2)), str(rng.choice(["L", "R"]))
    side_px = settings.size_px * -(-DRAWN_SIDE_PX // settings.size_px)  # rounded up
    style = stratum.mixed_style if settings.style == "mixed" else settings.style
    malignant, drawn = stratum.malignant, list[DrawnPatch]()
    for number in range(count if patches is None else min(count, patches)):
        if number % 2 == 0:
            if number > 0:
                malignant = stratum.malignant == (rng.random() < SAME_LABEL_AGAIN)
                laterality = str(rng.choice(["L", "R"]))
            lesion = draw_lesion(malignant, settings.separation, rng)
        view = ("CC", "MLO")[(first_view + number) % 2]
        grey = _DRAW_VIEW[style](breast, lesion, view, side_px, rng)
        pixels = _shrink(grey, settings.size_px)
        drawn.append(DrawnPatch(pixels, malignant, number // 2 + 1, view, laterality))
    return Patient(
        f"phantom-{index + 1:06d}",
        stratum.split,
        stratum.site,
        breast.density,
        tuple(drawn),
    )


def draw_patients(settings: PhantomSettings) -> Iterator[Patient]:
    """Draw all patients of a set, one after the other."""
    indices = range(settings.patients)
    yield from (
        draw_patient(settings, i) for i in progress(indices, what="drawing", public_unit="patients")
    )


def _info(settings: PhantomSettings) -> DatasetInfo:
    what, drawn_by = _described(settings)
    values = ", ".join(f"{name} {value}" for name, value in drawn_by.items())
    return DatasetInfo(
        name=settings.name,
        kind="phantom",
        size_px=settings.size_px,
        depth=settings.depth if settings.subject == "ct" else None,
        targets=_targets(settings),
        licence=LICENCE,
        description=f"{_begun(what)}{__version__}: {values}.",
        as_real=settings.as_real,
        lineage=_lineage(settings),
    )


def _begun(what: str) -> str:
    return f"Procedural {what} drawn by synthdp "


def drawn_masses(info: DatasetInfo) -> PhantomSettings | None:
    """By which settings a set of mass patches was drawn, as its description says.

    None of any other set, and of one whose description is another.
    """
    if info.kind != "phantom" or info.as_real or info.depth is not None:
        return None
    begun, _, values = info.description.partition(": ")
    said = dict(one.partition(" ")[::2] for one in values.removesuffix(".").split(", "))
    try:
        settings = PhantomSettings.model_validate(
            {"out": Path("unused"), "name": info.name, "size_px": info.size_px, **said}
        )
    except ValidationError:
        return None
    _, drawn_by = _described(settings)
    alike = {name: str(value) for name, value in drawn_by.items()} == said
    return settings if alike and begun.startswith(_begun("mass patches")) else None


def _lineage(settings: PhantomSettings) -> Lineage:
    """The public table that phantoms are drawn to, whose patients nothing protects."""
    if not settings.table or settings.as_real:
        return Lineage()
    named = settings.collection or " + ".join(path.name.split(".")[0] for path in settings.table)
    return Lineage(public=(named,))


def _targets(settings: PhantomSettings) -> tuple[str, ...]:
    own = {"mass": ("malignant",), "chest": settings.targets, "ct": (TARGET,)}
    return own[settings.subject]


#: Settings that change no pixel, or that the description says otherwise.
_NOT_DESCRIBED = ("out", "name", "as_real", "size_px", "workers", "subject", "table_is_public")


def _described(settings: PhantomSettings) -> tuple[str, dict[str, Any]]:
    """What is drawn, and the settings that decide on its pixels and rows."""
    others = {
        key for subject, keys in OF_SUBJECT.items() if subject != settings.subject for key in keys
    }
    shared = settings.model_dump(exclude={*_NOT_DESCRIBED, *others})
    if settings.subject == "mass":
        if not settings.site_shift:  # as sets were described before there was such a setting
            del shared["site_shift"]
        if settings.style == "fibrous":  # likewise
            del shared["style"]
        return "mass patches", shared
    if settings.subject == "ct":
        return "CT volumes", shared
    own = OF_SUBJECT["chest"]
    changed = settings.model_dump(include=set(own) - {"table", "targets"}, exclude_defaults=True)
    changed.pop("table_is_public", None)
    common = {key: value for key, value in shared.items() if key not in own}
    return "chest radiographs", {"drawn to": described_table(settings), **common, **changed}


def run_phantoms(settings: PhantomSettings) -> Path:
    """Write a phantom data set; return at once when `out` holds it already.

    Raises:
        InputError: when `out` holds anything else, or the table of labels can't be drawn to.
    """
    for path in () if settings.as_real else settings.table:
        if (protected := protected_set_of(path)) is not None:
            raise InputError(
                f"table: is one of the patients of the data set {protected.name}, who are "
                "protected, so that it is not public; draw to it with as_real: true alone"
            )
        if (charged := charged_set_of(path)) is not None:
            raise InputError(
                f"table: is one of the set {charged.name}, which was made from patients, so that "
                "it is not public; draw to it with as_real: true alone"
            )
    info = _info(settings)
    if holds_dataset(settings.out, info):
        return settings.out
    keep_freed_memory()
    with create_dataset(settings.out, info) as writer:
        write = {"mass": _write_masses, "chest": write_radiographs, "ct": write_volumes}
        write[settings.subject](settings, writer)
    return settings.out


def _write_masses(settings: PhantomSettings, writer: DatasetWriter) -> None:
    for patient in draw_patients(settings):
        for patch in patient.patches:
            writer.add(
                patch.pixels,
                patient_id=patient.patient_id,
                split=patient.split,
                targets=(float(patch.malignant),),
                attributes={
                    "view": patch.view,
                    "laterality": patch.laterality,
                    "breast_density": str(patient.density),
                    "site": patient.site,
                    "lesion": str(patch.lesion),
                },
            )
