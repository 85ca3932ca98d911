"""The private note of an import: made, said in counts, and read again by whoever relies on it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from synthdp.config.settings import Settings, validate_settings
from synthdp.data.dataset import Dataset
from synthdp.data.decoding import is_jpeg
from synthdp.data.importing.findings import REASON_WORDS, Number, in_order
from synthdp.data.importing.folders.folder import left_out_words
from synthdp.data.manifest.classes import class_counts, missing_classes
from synthdp.data.manifest.contract import SPLITS
from synthdp.data.people.splits import duplicate_groups, label_conflicts
from synthdp.errors import InputError
from synthdp.privacy.units import Unit
from synthdp.storage.files import read_json, readable_name

if TYPE_CHECKING:
    from synthdp.data.importing.patients.assignment import AssignedImages

NOTE = "import.json"
#: A note has a number and at times an id for each image: bounds for two million of them.
MAX_BYTES, MAX_VALUES = 192 * 2**20, 5_000_000
#: How many rows a line on the terminal names.
MAX_NUMBERS = 12
#: How many files that no row names the note lists; all are counted.
MAX_UNLISTED = 10_000
#: What to do about ids that look alike.
_WHAT_TO_DO = (
    "Each id counts as a patient of its own. Look at the images of these rows. Where ids are "
    "one person, write a CSV file of columns patient_id and person, a row for each of the ids, "
    "and import into a new folder with links=FILE and key=the file `key` beside this note (of a "
    "cohort: cohort_key=the file `cohort.key`). Where they are different persons, leave them. "
    "Nobody else's id, split or cohort depends on what you do. What was released on this set "
    "still counts for its patients, so keep this folder. Images were compared as small grey "
    "pictures: mirrored, turned and cropped copies are not in this list."
)
#: What to do about a split that lacks a class.
_UNEVEN = (
    "for another split, import into a new folder with another val_fraction or another file for "
    "`key`, or give the splits in folders or table: a keyed hash of each id splits patients, so "
    "that nobody's place depends on the classes of others, and so it can't share them out"
)
#: Lists of the note whose lengths are logged, and in what words.
_LOGGED = {
    "duplicate_images": "group(s) of images with the same pixels",
    "near_duplicates": "group(s) of nearly the same images under different ids: if these "
    "are one person, say so in `links`",
    "linked_ids": "group(s) of ids that were made one unit",
    "rows_with_conflicting_sources": "image(s) whose folder, name and table tell different classes",
    "duplicates_with_other_labels": "group(s) of images with the same pixels and different labels",
    "jpeg_images": "image(s) from JPEG, which has lost detail that a classifier may live on: ask "
    "for the files that they were made from",
    "padded_images": "image(s) padded to a square",
    "resampled_images": "image(s) resampled",
    "moved_images": "image(s) moved to the split of the unit that their patient was made part of",
}


def import_note(images: "AssignedImages", *, size_px: int | None, with_ids: bool) -> dict[str, Any]:
    """What an import keeps for its owner alone; images go by their row or position in the source.

    Args:
        images: all that were written.
        size_px: the side that they were brought to; None of volumes, which are noted as they are
            kept: slices below each other.
        with_ids: whether patients are named by their own ids, beside those that were written.
    """
    listing, facts, assignment = images.listing, images.facts, images.assignment
    patches, digests = listing.patches, [entry.digest for entry in facts]

    def rows(indices: Sequence[int]) -> list[Number]:
        return in_order(patches[index].number for index in indices)

    near = assignment.look_alikes
    ids_of_unit: dict[str, set[str]] = {}
    for patch, unit in zip(patches, assignment.units, strict=True):
        ids_of_unit.setdefault(unit, set()).add(patch.patient)
    written_of_unit = dict(zip(assignment.units, assignment.ids, strict=True))
    sides = [(entry.height_px, entry.width_px) for entry in facts]
    flat = list(enumerate(sides)) if size_px is not None else []
    targets = [patch.targets for patch in patches]
    return {
        "counted_by": listing.counted_by,
        "left_out": dict(listing.left_out),
        "left_out_rows": {reason: list(of) for reason, of in listing.left_out_rows.items()},
        "unlisted": list(listing.unlisted[:MAX_UNLISTED]),
        "duplicate_images": [rows(group) for group in duplicate_groups(digests)],
        "near_duplicates": [rows(group) for group in near],
        "look_alikes": [
            {
                "ids": sorted(
                    {patches[i].patient if with_ids else assignment.ids[i] for i in group}
                ),
                "rows": rows(group),
                "splits": sorted({assignment.splits[i] for i in group}),
                "same_pixels": len({digests[i] for i in group}) == 1,
            }
            for group in near
        ],
        "what_to_do": _WHAT_TO_DO if near else "",
        "linked_ids": [
            sorted(ids) if with_ids else [written_of_unit[unit]]
            for unit, ids in ids_of_unit.items()
            if len(ids) > 1
        ],
        "rows_with_conflicting_sources": [patch.number for patch in patches if patch.conflict],
        "duplicates_with_other_labels": [rows(g) for g in label_conflicts(digests, targets)],
        "jpeg_images": [patch.number for patch in patches if is_jpeg(patch.path)],
        "padded_images": rows([i for i, (high, wide) in flat if high != wide]),
        "resampled_images": rows([i for i, side in flat if side != (size_px, size_px)]),
        "moved_images": rows(assignment.moved),
        "ids": {
            patch.patient: written
            for patch, written in zip(patches, assignment.ids, strict=True)
            if with_ids and patch.patient != written
        },
        "source_sizes": dict(Counter(f"{wide}x{high} px" for high, wide in sides).most_common(12)),
        "source_rows": [patch.number for patch in patches],
    }


def note_words(
    note: Mapping[str, Any], images: "AssignedImages", targets: Sequence[str], *, kind: str
) -> list[str]:
    """The import in lines for the terminal of who holds the images: counts, and numbers of rows.

    Args:
        note: of `import_note`.
        images: all that were written.
        targets: the names of their targets.
        kind: of the set.
    """
    assignment = images.assignment
    whose = f" of {len(set(assignment.ids))} patients" if kind != "synthetic" else ""
    lines = [f"imported {len(assignment.ids)} {kind} images{whose}"]
    for split in [one for one in SPLITS if one in assignment.splits]:
        at = [index for index, name in enumerate(assignment.splits) if name == split]
        of_split = [images.listing.patches[index].targets for index in at]
        whose = f" of {len({assignment.ids[index] for index in at})} patients" if whose else ""
        counts = class_counts(targets, of_split)
        lines.append(f"  {split}: {len(at)} images{whose}; {counts}")
    labels = [patch.targets for patch in images.listing.patches]
    missing = missing_classes(targets, labels, assignment.splits)
    lines += [f"  {words}" for words in missing] + ([f"  {_UNEVEN}"] if missing else [])
    from synthdp.data.importing.images.survey import range_words  # noqa: PLC0415 (reads images)

    if not_used := left_out_words(note["left_out"]):
        unlisted = named_numbers(note["unlisted"])
        where = f"; those are images {unlisted} in the order of paths" if unlisted else ""
        lines.append(f"  not used: {not_used}{where}")
    lines += [f"  {words}" for words in range_words(images.facts)]
    lines += [f"  left out: {words}" for words in left_out_row_words(note)]
    more = [f"  {len(note[key])} {words}" for key, words in _LOGGED.items() if note[key]]
    if alike := note["look_alikes"]:
        within = sum(len(group["splits"]) == 1 for group in alike)
        more.append(
            f"  of those under different ids, {within} stand within one split and "
            f"{len(alike) - within} across; look at them with `synthdp data show`"
        )
    return [*lines, *more, "  the rows are listed in private/import.json"] if more else lines


def left_out_row_words(note: Mapping[str, Any]) -> list[str]:
    """How many images or rows `leave_out` let go, by reason, with the first numbers of each."""
    counted = "row" if "row" in note.get("counted_by", "") else "image"
    rows_of = note.get("left_out_rows", {})
    return [
        f"{len(rows)} {counted}(s) {REASON_WORDS.get(reason, reason)} ({named_numbers(rows)})"
        for reason, rows in rows_of.items()
    ]


def named_numbers(numbers: Sequence[Number]) -> str:
    """Numbers of rows or images for the terminal, the first of them where there are many."""
    shown = ", ".join(str(number) for number in numbers[:MAX_NUMBERS])
    more = len(numbers) - MAX_NUMBERS
    return f"{shown} and {more} more" if more > 0 else shown


def noted_settings(settings: Settings) -> dict[str, Any]:
    """Settings as a note has them: as JSON, with bytes of paths that are no text as `\\xff`."""

    def readable(value: Any) -> Any:
        if isinstance(value, str):
            return readable_name(value)
        if isinstance(value, list):
            return [readable(one) for one in value]
        if isinstance(value, dict):
            return {readable(name): readable(one) for name, one in value.items()}
        return value

    noted: dict[str, Any] = readable(settings.model_dump(mode="json"))
    return noted


class ImportNote(Settings):
    """What is read of a note, in any version's form.

    `look_alikes` is None in those of versions that split patients or made ids one by who else was
    there; `linked_ids` are the groups of ids that are one unit; `links_sha256` is of the table of
    links, where one was named.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    settings: dict[str, Any]
    linked_ids: tuple[tuple[str, ...], ...] = ()
    look_alikes: tuple[Any, ...] | None = None
    links_sha256: str | None = None

    @property
    def moved_by_others(self) -> bool:
        """Whether somebody's split or unit depended on who else was there."""
        by_others = self.settings.get("val_fraction") is not None or bool(self.linked_ids)
        return self.look_alikes is None and self.settings.get("kind") == "real" and by_others


def read_note(root: Path) -> ImportNote | None:
    """The note of the data set at `root`; None where it was not imported.

    Raises:
        InputError: when it is damaged.
    """
    note = read_whole_note(root)
    where = f"private/{NOTE}"
    return validate_settings(ImportNote, note, where=where) if note is not None else None


def read_whole_note(root: Path) -> Any:
    """All that the note of the data set at `root` holds; None where it was not imported.

    Raises:
        InputError: when it is damaged.
    """
    path = root / "private" / NOTE
    return read_json(path, MAX_BYTES, MAX_VALUES) if path.is_file() else None


def refuse_units_of_crops(dataset: Dataset, unit: Unit) -> None:
    """Refuse to promise something to each image of a set that holds several of one lesion.

    Raises:
        InputError: when `unit` is image, and the import added crops of each lesion.
    """
    note = read_note(dataset.root) if unit == "image" else None
    crop = note.settings.get("crop") if note is not None else None
    if isinstance(crop, dict) and crop.get("extra_crops"):
        raise InputError(
            f"privacy.unit is image, but {dataset.info.name} was imported with crop.extra_crops, "
            "so that one lesion is several images, and less would be promised to it than is said; "
            "ask for privacy.unit=patient, or import without extra crops"
        )


def refuse_moved_patients(dataset: Dataset) -> None:
    """Refuse to promise something to patients whose split or unit depended on who else was there.

    Raises:
        InputError: when the set was imported so, by an earlier version.
    """
    if "unit_from" in dataset.info.model_fields_set:  # every version since writes it
        return
    note = read_note(dataset.root)
    if note is not None and note.moved_by_others:
        raise InputError(
            f"{dataset.info.name}: imported by an earlier version, which split patients or made "
            "ids one by who else was there, so that one patient moves what others contribute and "
            "nothing can be promised; import it again"
        )
