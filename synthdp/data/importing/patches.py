"""Import patches that stand in class folders, with a metadata table or without, as a data set."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from synthdp.cards import dataset_card
from synthdp.data.cohorts import SHARED_KEY_FILE
from synthdp.data.dataset import (
    SAFE_ID,
    DatasetInfo,
    create_dataset,
    patients_in_two_splits,
    raise_problems,
)
from synthdp.data.images import decode_pixels, fit_square
from synthdp.data.importing.listing import Listing, ListingSettings, list_patches
from synthdp.data.importing.survey import ImageFacts, survey_images
from synthdp.data.splits import (
    NEAR_DUPLICATE_CORRELATION,
    connected,
    duplicate_groups,
    label_conflicts,
    link_ids,
    near_duplicate_pairs,
    one_split_a_unit,
    split_by_patient,
)
from synthdp.errors import InputError
from synthdp.files import read_json
from synthdp.privacy.lineage import Cohort, CohortPart, Lineage, Release, key_id, patient_tag
from synthdp.privacy.noise import keep_key, new_key
from synthdp.privacy.statement import Statement, make_statement, parse_statement
from synthdp.progress import progress

DEFAULT_SIZE_PX = 128
NOTE = "import.json"
#: Lists of the private note whose lengths are logged, and in what words.
REPORTED = {
    "duplicate_images": "group(s) of images with the same pixels",
    "near_duplicates": "group(s) of nearly the same images under different ids",
    "linked_ids": "group(s) of ids that were made one unit",
    "rows_with_conflicting_sources": "image(s) whose folder, name and table tell different classes",
    "duplicates_with_other_labels": "group(s) of images with the same pixels and different labels",
    "constant_images": "image(s) of one grey level",
    "padded_images": "image(s) padded to a square",
    "resampled_images": "image(s) resampled",
    "moved_images": "image(s) moved to the split of the unit that their patient was made part of",
}

logger = logging.getLogger(__name__)


class PatchesSettings(ListingSettings):
    """What to make of the listed images.

    `lineage` says what a synthetic set descends from: `unprotected` (a generator trained without
    a guarantee on the patients that `lineage_data` names), `none` (no patient was involved), or
    the path of the privacy.json of the run that made it. `size_px` is the common size of the
    images where they have one, else 128. `val_fraction` splits by patient where neither folders
    nor table do; `seed` moves that split. `cohort` imports a part of the patients, such as 1/2,
    by a keyed hash of their ids under the file `cohort_key` (made where there is none): sets that
    share the key and have different parts are disjoint, where an id names the same person in all of
    them, and the ledger counts them in parallel.
    """

    out: Path
    name: str = Field(pattern=r"^[A-Za-z0-9_. -]{1,64}$")
    licence: str = ""
    description: str = ""
    lineage: str = "unprotected"
    lineage_data: str = "patients of a data set that was not named"
    size_px: int | None = Field(default=None, ge=8, le=8192)
    val_fraction: float | None = Field(default=None, gt=0, lt=1)
    seed: int = 0
    near_duplicate_correlation: float = Field(default=NEAR_DUPLICATE_CORRELATION, gt=0.5, le=1)
    cohort: CohortPart = None
    cohort_key: Path | None = None

    @model_validator(mode="after")
    def _cohort_has_a_key(self) -> "PatchesSettings":
        if (self.cohort is None) != (self.cohort_key is None):
            raise ValueError("cohort and cohort_key go together: a part, and the key of all parts")
        return self


@dataclass(frozen=True)
class Assignment:
    """Each image's unit, the id it is written under, and its split.

    `moved` holds the indices of images whose unit took another split than theirs;
    `near_duplicates`, (M, 2) int64, the pairs of indices that were found under different ids.
    """

    units: Sequence[str]
    ids: Sequence[str]
    splits: Sequence[str]
    moved: Sequence[int]
    near_duplicates: NDArray[np.int64]

    def only(self, kept: Sequence[int]) -> "Assignment":
        """The same for some of the images, by their indices."""
        position = {index: number for number, index in enumerate(kept)}
        pairs = [
            (position[i], position[j])
            for i, j in self.near_duplicates.tolist()
            if i in position and j in position
        ]
        return Assignment(
            units=[self.units[index] for index in kept],
            ids=[self.ids[index] for index in kept],
            splits=[self.splits[index] for index in kept],
            moved=[position[index] for index in self.moved if index in position],
            near_duplicates=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        )


def run_patches(settings: PatchesSettings) -> Path:
    """Import the images below `src` to the data set `out`; returns `out`.

    Copies, near-copies of different patients and conflicting labels are reported (in full in
    `private/import.json`) and stop nothing; near-copies make one unit of their patients.

    Raises:
        InputError: with every problem at once, when an image is unreadable or unsafe, or it is
            not known what it shows or whose it is.
    """
    if _stands_already(settings):
        logger.info("%s stands already, from these settings", settings.out)
        return settings.out
    lineage, statement = imported_lineage(settings)
    listing = list_patches(settings)
    survey = survey_images([patch.path for patch in listing.patches])
    problems = [*listing.problems, *_split_problems(settings, listing)]
    for patch, entry in zip(listing.patches, survey, strict=True):
        if isinstance(entry, str):
            problems.append(f"{listing.counted_by} {patch.number}: {entry}")
    raise_problems(
        f"{settings.src}: nothing was imported (images are counted in the order of their paths, "
        "rows as in a spreadsheet)",
        problems,
    )
    seen = [entry for entry in survey if isinstance(entry, ImageFacts)]
    _write(settings, lineage, statement, listing, seen)
    return settings.out


def _stands_already(settings: PatchesSettings) -> bool:
    """Whether `out` was imported with the same settings; raises InputError if it is otherwise."""
    note = settings.out / "private" / NOTE
    if note.is_file() and read_json(note).get("settings") == settings.model_dump(mode="json"):
        return True
    if settings.out.exists() and (not settings.out.is_dir() or any(settings.out.iterdir())):
        raise InputError(
            f"{settings.out}: exists already, and not from these settings; name a new `out`, or "
            "remove it first"
        )
    return False


def imported_lineage(settings: PatchesSettings) -> tuple[Lineage, Statement | None]:
    """What the images descend from; for synthetic ones also the statement for their card.

    Raises:
        InputError: when the named statement is missing, damaged, or states less than it spent.
    """
    if settings.kind == "real":
        if settings.lineage != "unprotected":
            raise InputError("lineage: real images have none; leave it out, or set kind=synthetic")
        return Lineage(), None
    if settings.lineage == "none":
        return Lineage(), make_statement(Lineage(), subject="data set")
    if settings.lineage == "unprotected":
        note = "imported; its generator was trained without a guarantee"
        name = sha256(f"{settings.lineage_data}|{settings.name}".encode()).hexdigest()[:16]
        release = Release(
            id=name, stage="train-gan", data=settings.lineage_data, mu=np.inf, note=note
        )
        lineage = Lineage(releases=(release,))
        return lineage, make_statement(lineage, subject="data set", stage=release)
    return _stated_lineage(Path(settings.lineage))


def _stated_lineage(path: Path) -> tuple[Lineage, Statement]:
    if not path.is_file():
        raise InputError(
            f"lineage: {path} is not a file; give `unprotected`, `none`, or the path of the "
            "privacy.json of the run that made the images"
        )
    stated = parse_statement(read_json(path), where=f"lineage: {path}")
    statement = make_statement(
        stated.lineage,
        subject="data set",
        delta=stated.delta,
        unit=stated.unit,
        population=stated.population,
    )
    if statement.epsilon < stated.epsilon * (1 - 1e-6):
        raise InputError(f"lineage: {path} states more than its releases spent; restore the file")
    return stated.lineage, statement


def _split_problems(settings: PatchesSettings, listing: Listing) -> list[str]:
    """What is wrong with the splits that folders or table give."""
    given = [(patch.patient, patch.split) for patch in listing.patches if patch.split is not None]
    if settings.split is not None:
        return []
    without = len(listing.patches) - len(given)
    problems = patients_in_two_splits((patient, split) for patient, split in given if split)
    if given and without:
        problems.append(
            f"{without} image(s) have no split while others do; give all one, or `split`"
        )
    if given and settings.val_fraction is not None:
        problems.append("val_fraction: folders or table split these images already; leave it out")
    return problems


def _assign(
    settings: PatchesSettings, listing: Listing, seen: Sequence[ImageFacts], key: bytes
) -> Assignment:
    """Decide units, ids and splits.

    Near-copies under two ids may show one patient, so that they make one unit of both: a split must
    not part them, and a promise must count them once. Synthetic ids are made up, and stay.
    """
    patients = [patch.patient for patch in listing.patches]
    thumbnails = np.stack([entry.thumbnail for entry in seen])
    pairs = near_duplicate_pairs(thumbnails, settings.near_duplicate_correlation)
    names = np.array(patients)
    pairs = pairs[names[pairs[:, 0]] != names[pairs[:, 1]]]
    units = link_ids(pairs if settings.kind == "real" else (), patients)
    unit_of_each = [units[patient] for patient in patients]
    if settings.val_fraction is not None:
        labels = [patch.targets[0] for patch in listing.patches]
        fractions = {"train": 1 - settings.val_fraction, "val": settings.val_fraction}
        split_of = split_by_patient(unit_of_each, labels, fractions, seed=settings.seed)
        given = [split_of[unit] for unit in unit_of_each]
    else:
        given = [settings.split or patch.split or "train" for patch in listing.patches]
        split_of = one_split_a_unit(unit_of_each, given)
    written = _written_ids(settings, unit_of_each, key)
    splits = [split_of[unit] for unit in unit_of_each]
    return Assignment(
        units=unit_of_each,
        ids=[written[unit] for unit in unit_of_each],
        splits=splits,
        moved=[index for index, split in enumerate(splits) if split != given[index]],
        near_duplicates=pairs,
    )


def _written_ids(settings: PatchesSettings, units: Sequence[str], key: bytes) -> dict[str, str]:
    """The id that each unit is written under: its own where that is safe, else a keyed digest.

    Who else is there changes nobody's id, so that cohorts, which hang on it, stay what they are.
    """
    if settings.kind == "synthetic":
        return {unit: f"synthetic-{n:06d}" for n, unit in enumerate(dict.fromkeys(units), start=1)}
    return {
        unit: unit if SAFE_ID.fullmatch(unit) else f"patient-{patient_tag(key, unit).hex()[:24]}"
        for unit in set(units)
    }


def _common_size_px(seen: Sequence[ImageFacts]) -> int:
    """The side of all images where they are squares of one size, of 8 px or more; else 128."""
    sides = {side for entry in seen for side in (entry.height_px, entry.width_px)}
    common = next(iter(sides))
    return common if len(sides) == 1 and common >= 8 else DEFAULT_SIZE_PX


def _write(
    settings: PatchesSettings,
    lineage: Lineage,
    statement: Statement | None,
    listing: Listing,
    seen: Sequence[ImageFacts],
) -> None:
    size_px, cohort = settings.size_px or _common_size_px(seen), None
    key = new_key() if settings.cohort_key is None else keep_key(settings.cohort_key)
    assigned = _assign(settings, listing, seen, key)
    if settings.cohort is not None:
        cohort = Cohort(key_id=key_id(key), part=settings.cohort)
        tags = (patient_tag(key, patient_id) for patient_id in assigned.ids)
        kept = [index for index, tag in enumerate(tags) if cohort.holds(tag)]
        if not kept:
            raise InputError("cohort: no patient belongs to this part; import a larger one")
        listing = replace(listing, patches=tuple(listing.patches[index] for index in kept))
        seen, assigned = [seen[index] for index in kept], assigned.only(kept)
    info = DatasetInfo(
        name=settings.name,
        kind=settings.kind,
        size_px=size_px,
        targets=settings.targets,
        licence=settings.licence,
        description=settings.description,
        unit="image" if settings.images_are_patients else "patient",
        lineage=lineage,
        cohort=cohort,
    )
    summary = settings.description or f"Synthetic {size_px} x {size_px} px images, imported."
    card = ""
    if statement is not None:
        card = dataset_card(
            title=settings.name,
            summary=summary,
            licence=settings.licence,
            statement=statement,
            n_images=len(seen),
        )
    with create_dataset(settings.out, info, card=card) as writer:
        writer.keep_key("key" if cohort is None else SHARED_KEY_FILE, key)
        rows = zip(listing.patches, assigned.ids, assigned.splits, strict=True)
        for patch, patient_id, split in progress(rows, what="writing images", total=len(seen)):
            writer.add(
                fit_square(decode_pixels(patch.path), size_px),
                patient_id=patient_id,
                split=split,
                targets=patch.targets,
                attributes=patch.attributes,
            )
        note = import_note(listing, seen, assigned, size_px=size_px)
        writer.note(NOTE, {"settings": settings.model_dump(mode="json"), **note})
    if settings.images_are_patients:
        logger.info("each image counts as a patient of its own, so ask for privacy.unit=image")
    for line in note_words(note, assigned, kind=settings.kind):
        logger.info(line)


def import_note(
    listing: Listing, seen: Sequence[ImageFacts], assigned: Assignment, *, size_px: int
) -> dict[str, Any]:
    """The private note of an import; images go by their row or position in the source."""
    patches, digests = listing.patches, [entry.digest for entry in seen]

    def rows(indices: Sequence[int]) -> list[int]:
        return sorted(patches[index].number for index in indices)

    where = enumerate(seen)
    near = connected([(int(i), int(j)) for i, j in assigned.near_duplicates])
    ids_of_unit: dict[str, set[str]] = {}
    for patch, unit in zip(patches, assigned.units, strict=True):
        ids_of_unit.setdefault(unit, set()).add(patch.patient)
    sides = [(entry.height_px, entry.width_px) for entry in seen]
    targets = [patch.targets for patch in patches]
    return {
        "counted_by": listing.counted_by,
        "left_out": dict(listing.left_out),
        "duplicate_images": [rows(group) for group in duplicate_groups(digests)],
        "near_duplicates": [rows(sorted(group)) for group in near],
        "linked_ids": [sorted(ids) for ids in ids_of_unit.values() if len(ids) > 1],
        "rows_with_conflicting_sources": [patch.number for patch in patches if patch.conflict],
        "duplicates_with_other_labels": [rows(g) for g in label_conflicts(digests, targets)],
        "constant_images": rows([index for index, entry in where if entry.constant]),
        "padded_images": rows([i for i, (high, wide) in enumerate(sides) if high != wide]),
        "resampled_images": rows([i for i, side in enumerate(sides) if side != (size_px, size_px)]),
        "moved_images": rows(assigned.moved),
        "ids": {
            patch.patient: written
            for patch, written in zip(patches, assigned.ids, strict=True)
            if patch.patient != written
        },
        "source_rows": [patch.number for patch in patches],
    }


def note_words(note: Mapping[str, Any], assigned: Assignment, *, kind: str) -> list[str]:
    """The import in lines for the terminal: counts alone."""
    splits = Counter(assigned.splits)
    shares = ", ".join(f"{split} {count}" for split, count in sorted(splits.items()))
    whose = f" of {len(set(assigned.ids))} patients" if kind == "real" else ""
    lines = [f"imported {len(assigned.ids)} {kind} images{whose} ({shares})"]
    counts = [f"  {len(note[key])} {words}" for key, words in REPORTED.items() if note[key]]
    return [*lines, *counts, "  the rows are listed in private/import.json"] if counts else lines
