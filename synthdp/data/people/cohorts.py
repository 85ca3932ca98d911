"""Parts of a data set's patients that are disjoint by construction (`synthdp.privacy.lineage`)."""

from collections.abc import Sequence

from synthdp.data.dataset import Dataset, Row, own_key
from synthdp.errors import InputError
from synthdp.privacy.lineage import Cohort, key_id, patient_tag
from synthdp.privacy.units import Part

#: The key that a set shares with others whose cohorts are disjoint from its own.
SHARED_KEY_FILE = "cohort.key"


def _key(dataset: Dataset) -> bytes:
    """The key that tags the set's patients: the shared one of a cohort, else the set's own.

    Raises:
        InputError: when the key of a cohort is not the one that it was cut by.
    """
    cohort = dataset.info.cohort
    if cohort is None:
        return own_key(dataset)
    path = dataset.private / SHARED_KEY_FILE
    if not path.is_file() or key_id(path.read_bytes(), dataset.info.linked) != cohort.key_id:
        raise InputError(
            f"{dataset.info.name}: private/{SHARED_KEY_FILE} is lost or another one, so nobody can "
            "tell who belongs to the cohort; restore it (it is the file that the import named as "
            "cohort_key)"
        )
    return path.read_bytes()


def cohort_of(dataset: Dataset, part: Part | None) -> Cohort | None:
    """The cohort that a setting names in a data set, which may be a cohort itself.

    None for all patients of a set that is none.
    """
    whole = dataset.info.cohort
    if part is None:
        return whole
    part = part if whole is None else part.within(whole.part)
    return Cohort(key_id=key_id(_key(dataset), dataset.info.linked), part=part)


def patient_tags(dataset: Dataset, patient_ids: Sequence[str]) -> list[bytes]:
    """A secret name for each patient, under the data set's key."""
    key = _key(dataset)
    return [patient_tag(key, patient_id) for patient_id in patient_ids]


def cohort_rows(
    dataset: Dataset, rows: Sequence[Row], part: Part | None, *, may_be_empty: bool = False
) -> tuple[Row, ...]:
    """Those of `rows` whose patients belong to a cohort; all of them for None.

    Guarantee: a patient's rows stay or go by the keyed hash of the patient's id in the
    set alone.

    Raises:
        InputError: when no row is left, unless it `may_be_empty` (`Dataset.split`).
    """
    cohort = cohort_of(dataset, part)
    if cohort is None:
        return tuple(rows)
    key = _key(dataset)
    members = tuple(row for row in rows if cohort.holds(patient_tag(key, row.patient_id)))
    if not members and not may_be_empty:
        raise InputError(
            f"{dataset.info.name}: no patient of the split belongs to cohort {cohort.part}; name "
            "a larger part"
        )
    return members
