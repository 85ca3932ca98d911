"""Write a set of phantom radiographs, drawn by processes: the same bits for any number of them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dataset import evenly_spaced
from synthdp.data.images import encode_png
from synthdp.data.importing.images.parallel import in_order
from synthdp.data.manifest.contract import SPLITS
from synthdp.data.people.ages import capped_age
from synthdp.data.phantoms.chest.acquisition import Look
from synthdp.data.phantoms.chest.anatomy import draw_anatomy, draw_pose, draw_severities
from synthdp.data.phantoms.chest.names import NO_FINDING
from synthdp.data.phantoms.chest.people import DRAW, Plan, PlannedPatient
from synthdp.data.phantoms.chest.radiograph import draw_radiograph
from synthdp.data.phantoms.chest.settings import SiteSettings
from synthdp.data.phantoms.chest.table import TablePatient, read_columns, read_known_collection
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.data.writer import DatasetWriter
from synthdp.errors import InputError
from synthdp.machine.progress import progress
from synthdp.storage.files import sha256_file

#: Patients that a process draws at a time.
PATIENTS_A_PART = 100
#: Small images of much noise: a higher level saves nothing.
PNG_LEVEL = 1


@dataclass(frozen=True)
class DrawnRadiograph:
    """One image of a patient: its PNG file, and what is known of it."""

    png: bytes
    targets: tuple[float, ...]
    view: str
    age: str


def look_of(site: SiteSettings) -> Look:
    """What a site's machines do, of its settings."""
    return Look(
        power=site.power,
        contrast=site.contrast,
        level=site.level,
        noise=site.noise,
        blur_px=site.blur_px,
        sharpening=site.sharpening,
        collimation=site.collimation,
        marker=site.marker,
    )


def draw_images(
    plan: Plan, patient: PlannedPatient, separation: float, size_px: int
) -> list[NDArray[np.uint8]]:
    """All radiographs of a patient, each (size_px, size_px) uint8."""
    rng = plan.stream(patient.number, DRAW)
    anatomy = draw_anatomy({"M": 1.0, "F": 0.0}.get(patient.sex, 0.5), rng)
    look = look_of(patient.site)
    drawn = []
    for image in patient.images:
        pose = draw_pose(is_ap=image.view == "AP", age_years=image.age_years, rng=rng)
        severities = draw_severities(anatomy, image.has, separation, rng)
        drawn.append(draw_radiograph(anatomy, pose, severities, look, size_px=size_px, rng=rng))
    return drawn


def _draw_part(
    plan: Plan, separation: float, size_px: int, part: Sequence[TablePatient | int]
) -> list[tuple[PlannedPatient, list[DrawnRadiograph]]]:
    """The planned and drawn patients of a part."""
    patients = []
    for known in part:
        patient = plan.patient(known)
        pixels = draw_images(plan, patient, separation, size_px)
        images = [
            DrawnRadiograph(
                png=encode_png(grey, PNG_LEVEL),
                targets=image.targets,
                view=image.view,
                age="" if math.isnan(image.age_years) else capped_age(f"{image.age_years:g}"),
            )
            for grey, image in zip(pixels, patient.images, strict=True)
        ]
        patients.append((patient, images))
    return patients


def plan_of(settings: PhantomSettings) -> Plan:
    """What all patients of these settings share."""
    return Plan(
        seed=settings.seed,
        sites=settings.sites or (SiteSettings(name="A"),),
        targets=settings.targets,
        val=settings.val_fraction,
        test=settings.test_fraction,
    )


def known_patients(settings: PhantomSettings) -> Sequence[TablePatient | int]:
    """Who is drawn: a public choice of the table's patients, or numbers of made-up ones.

    Raises:
        InputError: when the table can't be read, has fewer patients than are asked for, or names a
            site or split that there isn't.
    """
    if not settings.table:
        return range(1, settings.patients + 1)
    columns, views = settings.columns, settings.views
    if settings.collection is not None:
        table = read_known_collection(settings.collection, settings.table, columns, views)
    else:
        table = read_columns(settings.table[0], columns, views)
    untold = sorted(set(settings.targets) - table.known - {NO_FINDING})
    if untold:
        raise InputError(f"targets: the table says nothing of {', '.join(untold)}; leave it out")
    everybody = table.patients
    if len(everybody) < settings.patients:
        raise InputError(
            f"patients: {settings.patients:,} are asked for, and the table has "
            f"{len(everybody):,}; lower it"
        )
    chosen = everybody[: settings.patients]
    if settings.choice == "even":
        chosen = tuple(evenly_spaced(everybody, settings.patients))
    names = {site.name for site in settings.sites}
    sites = sorted({one.site for one in chosen} - names - {""})
    splits = sorted({one.split for one in chosen} - {*SPLITS, ""})
    for column, unknown in (("site", sites), ("split", splits)):
        if unknown:
            raise InputError(
                f"the table's column of the {column} holds a word that is none of "
                f"{', '.join(sorted(names) if column == 'site' else SPLITS)}"
            )
    return chosen


def described_table(settings: PhantomSettings) -> str:
    """The table of a set, and which file it was; of a table of patients neither is told.

    Raises:
        InputError: when it can't be read.
    """
    if not settings.table:
        return "public rates"
    if not settings.table_is_public:
        return "a table of patients"
    names = " + ".join(path.name for path in settings.table)
    try:
        digests = " ".join(sha256_file(path) for path in settings.table)
    except OSError as error:
        raise InputError(f"table: {names} can't be read; correct the path") from error
    return f"table {names} (sha256 {sha256(digests.encode()).hexdigest()[:16]})"


def write_radiographs(settings: PhantomSettings, writer: DatasetWriter) -> None:
    """Draw all patients and add them to a set.

    Raises:
        InputError: as `known_patients`.
    """
    for patient, images in draw_radiographs(settings):
        for image in images:
            writer.add_png(
                image.png,
                patient_id=f"phantom-{patient.number:06d}",
                split=patient.split,
                targets=image.targets,
                attributes={
                    "view": image.view,
                    "age": image.age,
                    "sex": patient.sex,
                    "site": patient.site.name,
                },
            )


def draw_radiographs(
    settings: PhantomSettings,
) -> Iterator[tuple[PlannedPatient, list[DrawnRadiograph]]]:
    """The patients one after another, as they are drawn by `workers` processes.

    Raises:
        InputError: as `known_patients`.
    """
    known = known_patients(settings)
    parts = [known[at : at + PATIENTS_A_PART] for at in range(0, len(known), PATIENTS_A_PART)]
    draw = partial(_draw_part, plan_of(settings), settings.separation, settings.size_px)
    drawn = in_order(draw, parts, workers=settings.workers)
    for part in progress(drawn, what="drawing radiographs", total=len(parts)):
        yield from part
