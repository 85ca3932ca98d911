"""What a training asks of a data set's units before it promises them something.

Nothing here counts patients for others to see: refusals depend on declared numbers alone, and what
is counted stays with the owner.
"""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from synthdp.data.dataset import Row, units_of
from synthdp.data.description import DatasetInfo
from synthdp.errors import InputError
from synthdp.privacy.settings import PrivacySettings
from synthdp.privacy.units import Unit
from synthdp.storage.files import write_json


def refuse_unknown_patients(info: DatasetInfo, unit: Unit) -> None:
    """Refuse to promise something to each patient of a set that doesn't know its patients.

    Raises:
        InputError: when `unit` is patient, and the set's is image.
    """
    if info.protects_patients and unit == "patient" and info.unit == "image":
        raise InputError(
            f"privacy.unit is patient, but {info.name} was imported without patient ids, so that "
            "nothing can be promised to a patient with several images; import it with "
            "patient_pattern or a patient column, or ask for privacy.unit=image"
        )


def refuse_unknown_image_counts(info: DatasetInfo, images_per_patient: int | None) -> None:
    """Refuse a bound on images a patient in a set that doesn't know its patients.

    Raises:
        InputError: when there is such a bound, and the set's unit is image.
    """
    if images_per_patient is not None and info.protects_patients and info.unit == "image":
        raise InputError(
            f"privacy.images_per_patient: {info.name} was imported without patient ids, so that "
            "nobody can tell which images are one patient's; import it with patient_pattern or a "
            "patient column, or leave the bound out"
        )


def refuse_fewer_than_imported(
    info: DatasetInfo, population: int | None, unit: Unit, *, of_a_part: bool = False
) -> None:
    """Refuse to declare fewer units for a training than the set's own import declared.

    Both numbers are public: nobody is counted. A training on a part of them, which its settings
    choose (`where`, `leave_out`, `share`), declares how many there are in it.

    Raises:
        InputError: when it is fewer.
    """
    declared = info.population
    if declared is None or population is None or unit != info.unit or of_a_part:
        return
    if population < declared:
        raise InputError(
            f"privacy.population is {population}, but {info.name} was imported with a population "
            f"of {declared}; declare {declared} or more"
        )


def bounded_rows(rows: Sequence[Row], images_per_patient: int | None) -> tuple[Row, ...]:
    """Of each patient's rows the first so many, in the manifest's order; all of them for None.

    Guarantee: which rows of a patient stay depends on that patient's rows alone. An image more may
    put another one out where the patient has more than the bound.
    """
    if images_per_patient is None:
        return tuple(rows)
    kept, taken = [], Counter[str]()
    for row in rows:
        taken[row.patient_id] += 1
        if taken[row.patient_id] <= images_per_patient:
            kept.append(row)
    return tuple(kept)


def note_unrefused(private: Path, rows: Sequence[Row], privacy: PrivacySettings) -> None:
    """Write down, for the owner alone, what a training with a promise takes as it comes.

    `unrefused.json` in the private folder of the run counts images without any known target and
    units beyond the declared population, so that a mistake is found although nothing was refused.
    """
    n_units = len(set(units_of(rows, privacy.unit)))
    counts = {
        "images_without_label": sum(all(map(math.isnan, row.targets)) for row in rows),
        "units_beyond_population": max(0, n_units - (privacy.population or n_units)),
    }
    write_json(private / "unrefused.json", counts)
