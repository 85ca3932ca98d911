"""Whose each listed image is, under what id it is written, and in which split and cohort it stands.

Persons are what ids and the hospital's links declare. Split and cohort of a person are keyed hashes
of that name alone, so that nobody's place depends on who else is there.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from synthdp.data.dataset import SAFE_ID, patients_in_two_splits
from synthdp.data.importing.findings import Number
from synthdp.data.importing.images.survey import ImageFacts
from synthdp.data.importing.images.thumbnails import Thumbnails
from synthdp.data.importing.listing import Listing
from synthdp.data.importing.patients.ids import alike_ids, misspelled_links
from synthdp.data.importing.settings.assignment import AssignmentSettings
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.looks.likeness import look_alikes
from synthdp.data.people.splits import link_ids, one_split_a_unit, split_by_patient
from synthdp.errors import InputError
from synthdp.privacy.keys import KEY_BYTES, keep_key, new_key
from synthdp.privacy.lineage import Cohort, keyed_split, linked_digest, patient_tag


@dataclass(frozen=True)
class Assignment:
    """Each image's person and unit, the id it is written under, and its split.

    A person is what ids and links declare; a unit is one person, or several that look alike.
    `moved` holds the indices of images whose unit took another split than theirs;
    `look_alikes` the groups of indices that look alike under different persons;
    `linked`, a keyed digest of which ids are which unit, and of whether they name images.
    """

    persons: Sequence[str]
    units: Sequence[str]
    ids: Sequence[str]
    splits: Sequence[str]
    moved: Sequence[int]
    look_alikes: Sequence[tuple[int, ...]]
    linked: str

    def only(self, kept: Sequence[int]) -> "Assignment":
        """The same for some of the images, by their indices."""
        position = {index: number for number, index in enumerate(kept)}
        groups = [
            tuple(position[index] for index in group if index in position)
            for group in self.look_alikes
        ]
        return Assignment(
            persons=[self.persons[index] for index in kept],
            units=[self.units[index] for index in kept],
            ids=[self.ids[index] for index in kept],
            splits=[self.splits[index] for index in kept],
            moved=[position[index] for index in self.moved if index in position],
            look_alikes=[
                group for group in groups if len({self.persons[kept[index]] for index in group}) > 1
            ],
            linked=self.linked,
        )


@dataclass(frozen=True)
class AssignedImages:
    """N listed images, what the pixels of each say, and whose it is."""

    listing: Listing
    facts: Sequence[ImageFacts]
    assignment: Assignment

    def only(self, kept: Sequence[int]) -> "AssignedImages":
        """The same for some of the images, by their indices."""
        patches = self.listing.patches
        return AssignedImages(
            replace(self.listing, patches=tuple(patches[index] for index in kept)),
            [self.facts[index] for index in kept],
            self.assignment.only(kept),
        )


def link_problems(listing: Listing, person_of: Mapping[str, str]) -> list[str]:
    """Persons whom links call by the id of a patient whom they do not name: who is meant?"""
    ids = {patch.patient for patch in listing.patches}
    taken = sum(person in ids and person not in person_of for person in set(person_of.values()))
    if not taken:
        return []
    return [
        f"links: {taken} person(s) are called by the id of a patient who has no row there; give "
        "the id a row of its own with the same person where it is the same one, else call the "
        "person otherwise"
    ]


def id_problems(
    settings: AssignmentSettings, listing: Listing, person_of: Mapping[str, str]
) -> list[str]:
    """Ids that differ only as spellings of one do, and of which links do not say who they are."""
    if settings.kind == "synthetic" or settings.images_are_patients:
        return []
    if settings.alike_ids == "distinct":
        return []
    first_number: dict[str, Number] = {}
    for patch in listing.patches:
        first_number.setdefault(patch.patient, patch.number)
    problems = [
        f"{listing.counted_by} {problem}" for problem in alike_ids(first_number, settled=person_of)
    ]
    if misspelled := misspelled_links(first_number, person_of):
        problems.append(
            f"links: {misspelled} id(s) are spelled otherwise than those of the images (in case, "
            "blanks, leading zeros, or as 1001 and 1001.0 are), so that their rows would link "
            "nobody; write them as the images' are"
        )
    return problems


def unit_problems(settings: ListingSettings, listing: Listing) -> list[str]:
    """Images, each a patient of its own, of which several were cut: each would count as one."""
    if not settings.images_are_patients:
        return []
    crops = Counter(patch.patient for patch in listing.patches)
    if not (torn := sum(count > 1 for count in crops.values())):
        return []
    return [
        f"patient_pattern: none makes each image a patient of its own, but of {torn} image(s) "
        "several were cut (lesions, or crop.extra_crops), each of which would count as one, so "
        "that less would be promised to an image than is said; leave patient_pattern out, and name "
        "the column of files as patient_column"
    ]


def split_problems(
    settings: AssignmentSettings, listing: Listing, person_of: Mapping[str, str]
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
    cannot_cut = not settings.shows_patients or any(split == "val" for _, split in given)
    if given and settings.val_fraction is not None and cannot_cut:
        problems.append("val_fraction: folders or table split these images already; leave it out")
    return problems


def set_key(settings: AssignmentSettings) -> bytes:
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


def assign(
    settings: AssignmentSettings,
    listing: Listing,
    facts: Sequence[ImageFacts],
    thumbnails: Thumbnails,
    *,
    key: bytes,
    person_of: Mapping[str, str],
) -> Assignment:
    """Decide units, ids and splits.

    Images that look alike under several persons are searched for the private note. They decide
    something with `unit_from: looks` alone: such persons are one unit, which stands in one split.

    Args:
        settings: of the import.
        listing: of N images.
        facts: what the pixels of each of them say.
        thumbnails: how each of them looks.
        key: under which ids are hashed.
        person_of: what links declare; an id that they lack is its own person.
    """
    patients = [patch.patient for patch in listing.patches]
    persons = [person_of.get(patient, patient) for patient in patients]
    alike = look_alikes(
        thumbnails, persons, settings.near_duplicate_correlation, [one.digest for one in facts]
    )
    unit_of = link_ids(alike if settings.unit_from == "looks" else (), persons)
    unit_of_id = {one: unit_of.get(person, person) for one, person in person_of.items()}
    units = [unit_of[person] for person in persons]
    given = _given_splits(settings, listing, persons, key)
    split_of = one_split_a_unit(units, given)
    written = _written_ids(settings, units, key)
    splits = [split_of[unit] for unit in units]
    linked = ""
    if settings.shows_patients:
        of_images = settings.images_are_patients
        # Cohorts depend on written ids: those of hashed ids are others than those of kept ones.
        how_written = {} if settings.ids == "kept" else {"\0ids": settings.ids}
        linked = linked_digest(key, unit_of | unit_of_id | how_written, of_images=of_images)
    return Assignment(
        persons=persons,
        units=units,
        ids=[written[unit] for unit in units],
        splits=splits,
        moved=[index for index, split in enumerate(splits) if split != given[index]],
        look_alikes=alike,
        linked=linked,
    )


def _given_splits(
    settings: AssignmentSettings, listing: Listing, persons: Sequence[str], key: bytes
) -> list[str]:
    """The split of each image by settings, folders or table, or the hash of its person."""
    if settings.val_fraction is None:
        return [settings.split or patch.split or "train" for patch in listing.patches]
    fractions = {"val": settings.val_fraction, "train": 1 - settings.val_fraction}
    if settings.shows_patients:
        declared = [patch.split or "train" for patch in listing.patches]
        return [
            keyed_split(key, person, fractions) if given == "train" else given
            for given, person in zip(declared, persons, strict=True)
        ]
    labels = [patch.targets[0] for patch in listing.patches]
    in_line = {split: fractions[split] for split in ("train", "val")}
    split_of = split_by_patient(persons, labels, in_line, seed=settings.seed)
    return [split_of[person] for person in persons]


def _written_ids(settings: AssignmentSettings, units: Sequence[str], key: bytes) -> dict[str, str]:
    """The id that each unit is written under: its own where that is safe, else a keyed digest.

    Who else is there changes nobody's id, so that cohorts, which depend on it, stay what they are.
    """
    if settings.kind == "synthetic":
        return {unit: f"synthetic-{n:06d}" for n, unit in enumerate(dict.fromkeys(units), start=1)}
    kind = "image" if settings.images_are_patients else "patient"
    kept = settings.ids == "kept"
    return {
        unit: unit
        if kept and SAFE_ID.fullmatch(unit)
        else f"{kind}-{patient_tag(key, unit).hex()[:24]}"
        for unit in set(units)
    }


def in_cohort(
    settings: AssignmentSettings, cohort: Cohort, assigned: Assignment, key: bytes
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


def refuse_empty_split(splits: Sequence[str]) -> None:
    """Refuse a split by chance that left train or val empty.

    Nobody's split depends on another's, so that a small set may come out so. The refusal tells of
    the patients: so it is made at import, before any release, and by no stage that releases.

    Raises:
        InputError: when either is.
    """
    if empty := {"train", "val"} - set(splits):
        raise InputError(
            f"val_fraction: the keyed hash of their ids put no patient into {' or '.join(empty)}; "
            "ask for another share, or give the split yourself, in folders or table"
        )
