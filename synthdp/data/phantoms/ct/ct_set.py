"""Write a set of phantom CT volumes, drawn by processes: the same bits for any number of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from synthdp.data.images import encode_png
from synthdp.data.importing.images.parallel import in_order
from synthdp.data.people.ages import capped_age
from synthdp.data.phantoms.ct.abdomen import PHASE_SHARES, draw_abdomen, draw_volume
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.data.writer import DatasetWriter
from synthdp.machine.progress import progress

TARGET = "lesion"
#: Patients that a process draws at a time.
PATIENTS_A_PART = 8
#: Share of the patients with a second volume.
SECOND_SHARE = 0.15
#: How much of the hidden severity all volumes of a patient share.
SHARED_SEVERITY = 0.7
MEAN_AGE_YEARS, AGE_SD_YEARS = 62.0, 12.0
#: What an older patient, ten years more, adds to the log-odds of a lesion.
DECADE = 0.25


@dataclass(frozen=True)
class DrawnVolume:
    """One volume, (depth, S, S) uint8, slices from top to bottom, and its phase."""

    voxels: NDArray[np.uint8]
    phase: str


@dataclass(frozen=True)
class CtPatient:
    """A made-up patient with one or two volumes; number: from 1."""

    number: int
    has_lesion: bool
    split: str
    age: str
    sex: str
    volumes: tuple[DrawnVolume, ...]


def draw_ct_patient(settings: PhantomSettings, number: int) -> CtPatient:
    """Draw one patient; it depends on the seed and its number, not on how many are drawn."""
    sequence = np.random.SeedSequence(settings.seed, spawn_key=(number,))
    rng = np.random.default_rng(sequence)
    along, lesion_draw, sex_draw = rng.random(3)
    split = "train"
    if along < settings.val_fraction + settings.test_fraction:
        split = "val" if along < settings.val_fraction else "test"
    age_years = float(np.clip(np.floor(rng.normal(MEAN_AGE_YEARS, AGE_SD_YEARS)), 18, 90))
    share = settings.lesion_fraction
    if 0 < share < 1:
        odds = share / (1 - share) * np.exp(DECADE * (age_years - MEAN_AGE_YEARS) / 10)
        share = odds / (1 + odds)
    has_lesion, is_male = bool(lesion_draw < share), bool(sex_draw < 0.55)
    abdomen = draw_abdomen(is_male=is_male, age_years=age_years, rng=rng)
    volumes = []
    for _ in range(1 + int(rng.random() < SECOND_SHARE)):
        phase = str(rng.choice(list(PHASE_SHARES), p=list(PHASE_SHARES.values())))
        hidden = np.sqrt(SHARED_SEVERITY) * abdomen.severity
        hidden += np.sqrt(1 - SHARED_SEVERITY) * rng.standard_normal()
        hidden += settings.separation * (has_lesion - 0.5)
        severity = float(np.clip(0.5 * hidden, 0, 1.6))
        shape = (settings.depth, settings.size_px)
        volumes.append(DrawnVolume(draw_volume(abdomen, severity, phase, shape, rng), phase))
    age, sex = capped_age(f"{age_years:g}"), "M" if is_male else "F"
    return CtPatient(number, has_lesion, split, age, sex, tuple(volumes))


def _draw_part(
    settings: PhantomSettings, numbers: Sequence[int]
) -> list[tuple[CtPatient, list[bytes]]]:
    """The patients of a part, and the PNG files of their volumes: slices one below the other."""
    patients = [draw_ct_patient(settings, number) for number in numbers]
    return [
        (one, [encode_png(each.voxels.reshape(-1, settings.size_px)) for each in one.volumes])
        for one in patients
    ]


def write_volumes(settings: PhantomSettings, writer: DatasetWriter) -> None:
    """Draw all patients and add them to a set."""
    numbers = range(1, settings.patients + 1)
    parts = [numbers[at : at + PATIENTS_A_PART] for at in range(0, len(numbers), PATIENTS_A_PART)]
    drawn = in_order(partial(_draw_part, settings), parts, workers=settings.workers)
    for part in progress(drawn, what="drawing volumes", total=len(parts)):
        for patient, files in part:
            for volume, png in zip(patient.volumes, files, strict=True):
                writer.add_png(
                    png,
                    patient_id=f"phantom-{patient.number:06d}",
                    split=patient.split,
                    targets=(float(patient.has_lesion),),
                    attributes={"phase": volume.phase, "age": patient.age, "sex": patient.sex},
                )
