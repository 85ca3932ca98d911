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
    read_info,
)
from synthdp.data.images import decode_pixels, fit_square
from synthdp.data.importing.links import read_links
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
from synthdp.privacy.lineage import (
    Cohort,
    CohortPart,
    Lineage,
    Release,
    UnitFrom,
    key_id,
    keyed_split,
    linked_digest,
    patient_tag,
)
from synthdp.privacy.noise import KEY_BYTES, keep_key, new_key
from synthdp.privacy.statement import Statement, make_statement, parse_statement
from synthdp.progress import progress

NOTE = "import.json"
#: For the private note of an import, beside the ids that look alike.
LOOK_ALIKES_WORDS = (
    "Each id counts as a patient of its own. Look at the images of these rows. Where ids are one "
    "person, write a CSV file of columns patient_id and person, a row for each of the ids, and "
    "import again with links=FILE and key=the file `key` of this folder. Where they are different "
    "persons, leave them. Nobody else's id, split or cohort depends on what you do."
)
#: Lists of the private note whose lengths are logged, and in what words.
REPORTED = {
    "duplicate_images": "group(s) of images with the same pixels",
    "near_duplicates": "group(s) of nearly the same images under different ids: if these are of one "
    "person, say so in `links`",
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
    the path of the privacy.json of the run that made it. `size_px` is the side that every image is
    brought to; it is never read from them. `val_fraction` is the chance of a patient to be in val
    where neither folders nor table split: a keyed hash of the id decides, so that nobody moves
    anybody, and the share comes out about so. `key` names the file of the key (made where there is
    none; by default each set gets its own): sets that share one give an id the same split and the
    same written name. Synthetic images are split evenly, by `seed`.

    Ids stand as they are declared. `links` is a table (patient_id, person) of ids that are one
    person. `unit_from: looks` also makes ids one where images look alike
    (`near_duplicate_correlation`), and every statement then says so first.

    `cohort` imports a part of the patients, such as 1/2, by a keyed hash of their ids under the
    file `cohort_key`, which is also the key of their split: sets that share it and have different
    parts are disjoint, where an id names the same person in all of them and `links` are the same,
    and the ledger counts them in parallel.
    """

    out: Path
    name: str = Field(pattern=r"^[A-Za-z0-9_. -]{1,64}$")
    licence: str = ""
    description: str = ""
    lineage: str = "unprotected"
    lineage_data: str = "patients of a data set that was not named"
    size_px: int = Field(default=128, ge=8, le=8192)
    val_fraction: float | None = Field(default=None, gt=0, lt=1)
    seed: int = 0
    key: Path | None = None
    links: Path | None = None
    unit_from: UnitFrom = "declared"
    near_duplicate_correlation: float = Field(default=NEAR_DUPLICATE_CORRELATION, gt=0.5, le=1)
    cohort: CohortPart = None
    cohort_key: Path | None = None

    @model_validator(mode="after")
    def _cohort_has_a_key(self) -> "PatchesSettings":
        if (self.cohort is None) != (self.cohort_key is None):
            raise ValueError("cohort and cohort_key go together: a part, and the key of all parts")
        if self.key is not None and self.cohort_key is not None:
            raise ValueError("key: cohort_key is the key of the split too; leave key out")
        return self

    @model_validator(mode="after")
    def _patients_alone_have_ids(self) -> "PatchesSettings":
        if self.kind == "real" and self.seed != 0:
            raise ValueError(
                "seed: a keyed hash of the id splits real patients, since a seed would make each "
                "one's split depend on who else is there; leave seed out (key keeps a split)"
            )
        if self.images_are_patients and self.unit_from == "looks":
            raise ValueError("unit_from: with patient_pattern none there are no ids to make one")
        if self.kind == "synthetic" and (self.key or self.links or self.unit_from == "looks"):
            raise ValueError("key, links, unit_from: synthetic images show no patients; leave out")
        return self


@dataclass(frozen=True)
class Assignment:
    """Each image's person and unit, the id it is written under, and its split.

    A person is what ids and links declare; a unit is one person, or several that look alike.
    `moved` holds the indices of images whose unit took another split than theirs;
    `near_duplicates`, (M, 2) int64, the pairs of indices that were found under different ids.
    """

    persons: Sequence[str]
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
            persons=[self.persons[index] for index in kept],
            units=[self.units[index] for index in kept],
            ids=[self.ids[index] for index in kept],
            splits=[self.splits[index] for index in kept],
            moved=[position[index] for index in self.moved if index in position],
            near_duplicates=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        )


def run_patches(settings: PatchesSettings) -> Path:
    """Import the images below `src` to the data set `out`; returns `out`.

    Copies, near-copies of different patients and conflicting labels are reported (in full in
    `private/import.json`) and stop nothing.

    Guarantee: without `unit_from: looks`, the written id, split, cohort, targets, attributes and
    pixels of a patient are functions of that patient's rows and files, of the key and of public
    settings, whoever else is there. Persons are what ids and `links` say: no image is compared with
    another to find out.

    Raises:
        InputError: with every problem at once, when an image is unreadable or unsafe, it is not
            known what it shows or whose it is, or a split or cohort stays empty.
    """
    if _stands_already(settings):
        logger.info("%s stands already, from these settings", settings.out)
        return settings.out
    lineage, statement = imported_lineage(settings)
    person_of = read_links(settings.links) if settings.links is not None else {}
    listing = list_patches(settings)
    survey = survey_images([patch.path for patch in listing.patches])
    problems = [*listing.problems, *_split_problems(settings, listing, person_of)]
    for patch, entry in zip(listing.patches, survey, strict=True):
        if isinstance(entry, str):
            problems.append(f"{listing.counted_by} {patch.number}: {entry}")
    raise_problems(
        f"{settings.src}: nothing was imported (images are counted in the order of their paths, "
        "rows as in a spreadsheet)",
        problems,
    )
    seen = [entry for entry in survey if isinstance(entry, ImageFacts)]
    _write(settings, lineage, statement, listing, seen, person_of)
    return settings.out


def _stands_already(settings: PatchesSettings) -> bool:
    """Whether `out` was imported with the same settings; raises InputError if it is otherwise."""
    note = settings.out / "private" / NOTE
    if note.is_file():
        made = read_json(note)
        if _settings_of(made, settings.out) == settings.model_dump(mode="json"):
            if "look_alikes" not in made and (settings.val_fraction or made["linked_ids"]):
                raise InputError(
                    f"{settings.out}: imported by an earlier version, which split patients or made "
                    "ids one by who else was there; remove it, and import again for a split by a "
                    "keyed hash of each id"
                )
            return True
    if settings.out.exists() and (not settings.out.is_dir() or any(settings.out.iterdir())):
        raise InputError(
            f"{settings.out}: exists already, and not from these settings; name a new `out`, or "
            "remove it first"
        )
    return False


def _settings_of(note: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The settings in a note; those of earlier versions, in today's words."""
    own: dict[str, Any] = note.get("settings", {})
    if "unit_from" in own:
        return own
    size_px = own.get("size_px") or read_info(out).size_px
    return {"key": None, "links": None, "unit_from": "declared", **own, "size_px": size_px}


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


def _split_problems(
    settings: PatchesSettings, listing: Listing, person_of: Mapping[str, str]
) -> list[str]:
    """What is wrong with the splits that folders or table give."""
    given = [
        (person_of.get(patch.patient, patch.patient), patch.split)
        for patch in listing.patches
        if patch.split is not None
    ]
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
    settings: PatchesSettings,
    listing: Listing,
    seen: Sequence[ImageFacts],
    key: bytes,
    person_of: Mapping[str, str],
) -> Assignment:
    """Decide units, ids and splits.

    Pairs of images that look alike under two persons are searched for the private note. They decide
    something with `unit_from: looks` alone: such persons are one unit, which stands in one split.
    """
    patients = [patch.patient for patch in listing.patches]
    persons = [person_of.get(patient, patient) for patient in patients]
    thumbnails = np.stack([entry.thumbnail for entry in seen])
    pairs = near_duplicate_pairs(thumbnails, settings.near_duplicate_correlation)
    names = np.array(persons)
    pairs = pairs[names[pairs[:, 0]] != names[pairs[:, 1]]]
    unit_of = link_ids(pairs if settings.unit_from == "looks" else (), persons)
    units = [unit_of[person] for person in persons]
    given = _given_splits(settings, listing, persons, key)
    split_of = one_split_a_unit(units, given)
    written = _written_ids(settings, units, key)
    splits = [split_of[unit] for unit in units]
    return Assignment(
        persons=persons,
        units=units,
        ids=[written[unit] for unit in units],
        splits=splits,
        moved=[index for index, split in enumerate(splits) if split != given[index]],
        near_duplicates=pairs,
    )


def _given_splits(
    settings: PatchesSettings, listing: Listing, persons: Sequence[str], key: bytes
) -> list[str]:
    """The split of each image by settings, folders or table, or the hash of its person."""
    if settings.val_fraction is None:
        return [settings.split or patch.split or "train" for patch in listing.patches]
    fractions = {"val": settings.val_fraction, "train": 1 - settings.val_fraction}
    if settings.kind == "real":
        return [keyed_split(key, person, fractions) for person in persons]
    labels = [patch.targets[0] for patch in listing.patches]
    in_line = {split: fractions[split] for split in ("train", "val")}
    split_of = split_by_patient(persons, labels, in_line, seed=settings.seed)
    return [split_of[person] for person in persons]


def _written_ids(settings: PatchesSettings, units: Sequence[str], key: bytes) -> dict[str, str]:
    """The id that each unit is written under: its own where that is safe, else a keyed digest.

    Who else is there changes nobody's id, so that cohorts, which hang on it, stay what they are.
    """
    if settings.kind == "synthetic":
        return {unit: f"synthetic-{n:06d}" for n, unit in enumerate(dict.fromkeys(units), start=1)}
    kind = "image" if settings.images_are_patients else "patient"
    return {
        unit: unit if SAFE_ID.fullmatch(unit) else f"{kind}-{patient_tag(key, unit).hex()[:24]}"
        for unit in set(units)
    }


def _set_key(settings: PatchesSettings) -> bytes:
    """The key that a setting names, made there where there is none; else a new one.

    Raises:
        InputError: when the file holds something else.
    """
    path = settings.key or settings.cohort_key
    if path is None:
        return new_key()
    if path.exists() and (not path.is_file() or path.stat().st_size != KEY_BYTES):
        raise InputError(
            f"{'cohort_key' if settings.key is None else 'key'}: {path.name} is no key of synthdp "
            f"({KEY_BYTES} random bytes); name another file, or one that is not there yet"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return keep_key(path)


def _in_cohort(
    settings: PatchesSettings, cohort: Cohort, assigned: Assignment, key: bytes
) -> list[int]:
    """The indices of the images whose units belong to a cohort.

    Raises:
        InputError: when there is none, or ids that look alike belong to different cohorts.
    """
    written = _written_ids(settings, assigned.persons, key)
    parts: dict[str, set[int]] = {}
    for person, unit in zip(assigned.persons, assigned.units, strict=True):
        parts.setdefault(unit, set()).add(cohort.part_of(patient_tag(key, written[person])))
    if apart := sum(len(of_unit) > 1 for of_unit in parts.values()):
        raise InputError(
            f"cohort: {apart} unit(s) that were found by looking have ids in different cohorts; "
            "declare in `links` which ids are one person, and leave unit_from out"
        )
    tags = (patient_tag(key, patient_id) for patient_id in assigned.ids)
    kept = [index for index, tag in enumerate(tags) if cohort.holds(tag)]
    if not kept:
        raise InputError("cohort: no patient belongs to this part; import a larger one")
    return kept


def _refuse_empty_split(splits: Sequence[str]) -> None:
    """Refuse a split by chance that left train or val empty.

    Nobody's split depends on another's, so that a small set may come out so. The refusal tells of
    the patients, and is made here, before any release, and never by a stage that releases.
    """
    if empty := {"train", "val"} - set(splits):
        raise InputError(
            f"val_fraction: the keyed hash of their ids put no patient into {' or '.join(empty)}; "
            "ask for another share, or give the split yourself, in folders or table"
        )


def _write(
    settings: PatchesSettings,
    lineage: Lineage,
    statement: Statement | None,
    listing: Listing,
    seen: Sequence[ImageFacts],
    person_of: Mapping[str, str],
) -> None:
    size_px, cohort, key = settings.size_px, None, _set_key(settings)
    assigned = _assign(settings, listing, seen, key, person_of)
    units = dict(zip(assigned.persons, assigned.units, strict=True))
    linked = linked_digest(key, {**units, **{i: units.get(p, p) for i, p in person_of.items()}})
    if settings.cohort is not None:
        cohort = Cohort(key_id=key_id(key, linked), part=settings.cohort)
        kept = _in_cohort(settings, cohort, assigned, key)
        listing = replace(listing, patches=tuple(listing.patches[index] for index in kept))
        seen, assigned = [seen[index] for index in kept], assigned.only(kept)
    if settings.val_fraction is not None and settings.kind == "real":
        _refuse_empty_split(assigned.splits)
    info = DatasetInfo(
        name=settings.name,
        kind=settings.kind,
        size_px=size_px,
        targets=settings.targets,
        licence=settings.licence,
        description=settings.description,
        unit="image" if settings.images_are_patients else "patient",
        unit_from=settings.unit_from,
        linked=linked if settings.kind == "real" else "",
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
        "look_alikes": [
            {"ids": sorted({patches[i].patient for i in group}), "rows": rows(sorted(group))}
            for group in near
        ],
        "what_to_do": LOOK_ALIKES_WORDS if near else "",
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
