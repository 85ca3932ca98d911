"""Which files of a folder are images, and what class, patient and split each shows."""

import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from synthdp.config import Settings
from synthdp.data.dataset import FIXED_COLUMNS, MAX_SHOWN_CHARS, SPLITS, Split
from synthdp.data.images import path_problem
from synthdp.data.tables import Table, read_table
from synthdp.errors import InputError
from synthdp.files import folders_below, refuse_without_descriptors

# The settings that say where images stand and how to read what they show.

# Before a class's word there is no letter, so that no longer word is taken for it, and no denial.
# After `is_` a value decides.
_WORD = r"(?<![a-z])(?<!is_)(?<!non[ _-])(?<!not[ _-])"
MALIGNANT_PATTERN = (
    rf"(?i)is_benign_(?:false|0(?!\d))|is_malignant_(?:true|1(?!\d))|{_WORD}malignant(?![a-z])"
)
BENIGN_PATTERN = (
    rf"(?i)is_benign_(?:true|1(?!\d))|is_malignant_(?:false|0(?!\d))|{_WORD}benign(?![a-z])"
)


class ListingSettings(Settings):
    """Where the images stand and how to read what they show.

    `metadata` is a table with a row for each image (`src`/metadata.csv when there is one; `none`
    leaves it aside). Without one, the class comes from patterns on folder and file names, and
    `patient_pattern` finds the patient: one group, or the word `none` where each image counts as
    a patient of its own. `benign_column` holds 1 for benign, and is turned into `malignant` by
    the listing alone. `splits` chooses by the split that folders or table give; `split` overrides.
    """

    src: Path
    kind: Literal["real", "synthetic"] = "real"
    metadata: Literal["none"] | Path | None = None
    file_column: str = "file"
    patient_column: str = "patient_id"
    split_column: str = "split"
    targets: tuple[str, ...] = Field(default=("malignant",), min_length=1)
    benign_column: str = "is_benign"
    attributes: tuple[str, ...] | None = None
    malignant_pattern: str = MALIGNANT_PATTERN
    benign_pattern: str = BENIGN_PATTERN
    patient_pattern: str | None = None
    split: Split | None = None
    splits: tuple[Split, ...] = Field(default=SPLITS, min_length=1)

    @field_validator("malignant_pattern", "benign_pattern", "patient_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from error
        return pattern

    @model_validator(mode="after")
    def _columns_have_their_own_names(self) -> "ListingSettings":
        named = [*FIXED_COLUMNS, *self.targets, *(self.attributes or ())]
        if twice := sorted(name for name, count in Counter(named).items() if count > 1):
            raise ValueError(f"targets, attributes: {', '.join(twice)} would name two columns")
        return self

    @model_validator(mode="after")
    def _patient_pattern_has_one_group(self) -> "ListingSettings":
        pattern = self.patient_pattern
        if pattern not in (None, "none") and re.compile(str(pattern)).groups != 1:
            raise ValueError("patient_pattern: put the patient's id, and only it, into one (group)")
        return self

    @property
    def images_are_patients(self) -> bool:
        """Whether each image was declared to be a patient of its own."""
        return self.kind == "real" and self.patient_pattern == "none"


# What the path of an image tells: its class, its patient and its split.

SPLIT_FOLDERS: dict[str, str] = {
    **{name: name for name in SPLITS},
    **{"training": "train", "valid": "val", "validation": "val", "testing": "test"},
}


def folder_split(name: str) -> str | None:
    """The split that a folder of a relative path is named after, the outermost first."""
    folders = (part.lower() for part in PurePosixPath(name).parent.parts)
    return next((SPLIT_FOLDERS[part] for part in folders if part in SPLIT_FOLDERS), None)


def named_patient(settings: ListingSettings, name: str, number: int) -> str | None:
    """The patient that a file's name holds; None where a real one has none."""
    if settings.kind == "synthetic":
        return f"synthetic-{number:06d}"
    if settings.images_are_patients:
        return name  # not its number, which hangs on who else is there
    match = re.search(settings.patient_pattern, name) if settings.patient_pattern else None
    return match.group(1) or None if match else None


def name_label(settings: ListingSettings, name: str) -> tuple[float | None, bool]:
    """The class that a relative path names, and whether folder and file name disagree.

    The innermost folder that names a class is believed, then the file name, then the whole path.
    """
    *folders, file = PurePosixPath(name).parts or ("",)
    labels = [_pattern_label(settings, f"{part}/") for part in reversed(folders)]
    folder = next((label for label in labels if label is not None), None)
    own = _pattern_label(settings, file)
    if folder is None:
        return (own if own is not None else _pattern_label(settings, name)), False
    return folder, own is not None and own != folder


def _pattern_label(settings: ListingSettings, text: str) -> float | None:
    malignant = re.search(settings.malignant_pattern, text) is not None
    benign = re.search(settings.benign_pattern, text) is not None
    return float(malignant) if malignant != benign else None


# The listing: from the table where there is one, else from the names of the files.

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")
#: Others are not named in messages, since the end of a name may hold part of an id.
OTHER_SUFFIXES = (".jpg", ".jpeg", ".bmp", ".pgm", ".dcm", ".npy", ".csv", ".txt", ".json")
LINKED_FOLDERS = "linked folders"
#: Files that would be images under another name: hidden ones, and those without a known suffix.
UNNAMED_IMAGES = "images that are hidden, or whose names do not end as an image's"
UNREAD_FILES = "other files that cannot be read"
#: How PNG, TIFF and JPEG begin; DICOM has its mark behind a preamble.
_IMAGES_BEGIN = (b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"\xff\xd8\xff")
_DICOM_AT, _BEGINNING = 128, 132
#: What a cell of a target may hold, in lower case.
LABELS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0, "": math.nan}
#: Columns that are carried over where the settings name none.
ATTRIBUTES = (
    *("view", "laterality", "breast_density", "age", "sex", "site", "scanner"),
    *("subtlety", "birads_assessment", "mass_shape", "mass_margins", "follow_up"),
)


@dataclass(frozen=True)
class Patch:
    """One listed image; `number` is its row in the table, or its position in the order of paths."""

    number: int
    path: Path
    patient: str
    split: str | None
    targets: tuple[float, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)
    conflict: bool = False  # folder, file name and table disagree about its class


@dataclass(frozen=True)
class Listing:
    """Every image that was asked for, what is wrong, and how many other files stand there."""

    counted_by: str  # what a number counts: "metadata.csv, row" or "image"
    patches: tuple[Patch, ...]
    problems: tuple[str, ...]
    left_out: Mapping[str, int]


def list_patches(settings: ListingSettings) -> Listing:
    """List the images below `src` from the table, or from folder and file names.

    Raises:
        InputError: when `src` or the table is missing.
    """
    src = settings.src
    if not os.path.isdir(src):  # `Path.is_dir` fails where a folder above may not be entered
        raise InputError(f"src: there is no folder {src}, or none to be seen; correct the path")
    if not os.access(src, os.R_OK | os.X_OK):
        raise InputError(
            f"src: {src} may not be read and entered; give the user that runs this both rights"
        )
    names, left_out, problems = files_below(src)
    table_path = src / "metadata.csv" if settings.metadata is None else settings.metadata
    if isinstance(table_path, Path) and (table_path.is_file() or settings.metadata is not None):
        if not table_path.is_file():
            raise InputError(f"metadata: there is no file {table_path}; correct the path")
        patches, listed = _from_table(settings, read_table(table_path))
        counted_by = f"{table_path.name}, row"
        problems += [f"{table_path.name}, {line}" for line in listed]
        taken = {patch.path for patch in patches}
        left_out["images not listed"] = len(set(names) - taken)
        for kind, count in Counter(map(_other_kind, taken - set(names))).items():
            left_out[kind] = max(left_out.get(kind, 0) - count, 0)
    else:
        patches, listed = _from_names(settings, names)
        counted_by = "image"
        problems += listed
        problems += linked_folder_problems(left_out)
    if not patches and not problems:
        kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.items() if count)
        problems.append(f"no PNG or TIFF image to take was found ({kinds or 'an empty folder'})")
    return Listing(counted_by, tuple(patches), tuple(problems), left_out)


def files_below(src: Path) -> tuple[list[Path], dict[str, int], list[str]]:
    """Images below `src` in the order of their paths, counts of what else stands there, problems.

    A folder that may not be read is a problem: what it holds would be left out unseen.

    Raises:
        RunError: when the system has no file descriptor left, so that nobody knows what is there.
    """
    names, other, links = [], Counter[str](), 0
    folders, unread = folders_below(src)
    for folder, subfolders, files in folders:
        links += sum((folder / name).is_symlink() for name in subfolders)
        for name in files:
            suffix = Path(name).suffix.lower()
            if suffix in IMAGE_SUFFIXES and not name.startswith("."):
                names.append(folder / name)
            elif _leads_nowhere(folder / name):
                links += 1
            else:
                other[_other_kind(folder / name)] += 1
    problems = []
    if unread:
        problems.append(
            f"{unread} folder(s) cannot be read, so what they hold would be left out; give the "
            "user that runs this the right to read them, or move them away"
        )
    return sorted(names), {**dict(sorted(other.items())), LINKED_FOLDERS: links}, problems


def _other_kind(path: Path) -> str:
    """What a file that is not taken is counted as: by its suffix, else by how it begins.

    Raises:
        RunError: when no file descriptor is left.
    """
    suffix = path.suffix.lower()
    if suffix in OTHER_SUFFIXES:
        return f"{suffix} files"
    try:
        with open(path, "rb") if path.is_file() else BytesIO() as stream:
            begins = stream.read(_BEGINNING)
    except OSError as error:
        refuse_without_descriptors(error)
        return UNREAD_FILES
    is_dicom = begins[_DICOM_AT:] == b"DICM"
    return UNNAMED_IMAGES if is_dicom or begins.startswith(_IMAGES_BEGIN) else "other files"


def _leads_nowhere(path: Path) -> bool:
    """Whether a file may be a link to a folder that can't be reached, as on a disk not mounted.

    Links of hidden names are locks of editors.
    """
    named_as_folder = not path.name.startswith(".") and path.suffix.lower() not in OTHER_SUFFIXES
    return named_as_folder and path.is_symlink() and not os.path.exists(path)


def linked_folder_problems(left_out: Mapping[str, int]) -> list[str]:
    """What to say of folders that are links, where nothing else names the images."""
    if not left_out[LINKED_FOLDERS]:
        return []
    return [
        f"{left_out[LINKED_FOLDERS]} folder(s) are links, which are not followed or lead "
        "nowhere; put the folders themselves there"
    ]


def _from_names(settings: ListingSettings, files: list[Path]) -> tuple[list[Patch], list[str]]:
    if settings.targets != ("malignant",):
        return [], ["targets: names tell only `malignant`; give a metadata table for others"]
    if settings.kind == "real" and settings.patient_pattern is None:
        return [], [
            "patient_pattern: real images need their patient, and there is no table; give a "
            r"pattern with one group, such as 'patient(\d+)', or the word none where each image "
            "counts as a patient of its own"
        ]
    root = settings.src.resolve()
    patches, problems = [], []
    for number, path in enumerate(files, start=1):
        name = path.relative_to(settings.src).as_posix()
        split = folder_split(name)
        if split is not None and split not in settings.splits:
            continue
        label, conflict = name_label(settings, name)
        patient = named_patient(settings, name, number)
        of_image = [
            path_problem(name, root),
            "neither pattern tells its class" if label is None else None,
            "patient_pattern finds no patient" if patient is None else None,
        ]
        problems += [f"image {number}: {problem}" for problem in of_image if problem]
        if not any(of_image):
            target = math.nan if label is None else label
            patches.append(Patch(number, path, patient or "", split, (target,), conflict=conflict))
    return patches, problems


def _from_table(settings: ListingSettings, table: Table) -> tuple[list[Patch], list[str]]:
    missing = _missing_columns(settings, table.columns)
    if missing or not table.records:
        return [], [*table.problems, *missing]
    kept = ATTRIBUTES if settings.attributes is None else settings.attributes
    carried = [name for name in kept if name in table.columns and name not in settings.targets]
    patches, problems, root = [], list(table.problems), settings.src.resolve()
    first_row: dict[Path, int] = {}
    for number, record in table.records.items():
        name = record[settings.file_column]
        split = _table_split(settings, record)
        if split in SPLITS and split not in settings.splits:
            continue
        path, patient = settings.src / name, _table_patient(settings, record, number)
        targets, conflict, of_row = _table_targets(settings, record)
        if (problem := path_problem(name, root)) is not None:
            of_row.append(f"{settings.file_column}: {problem}")
        if not patient:
            of_row.append(f"{settings.patient_column}: no patient is given")
        if split is not None and split not in SPLITS:
            of_row.append(f"{settings.split_column}: is none of {', '.join(SPLITS)}")
        if first_row.setdefault(path, number) != number:
            of_row.append(f"{settings.file_column}: the same file as row {first_row[path]}")
        problems += [f"row {number}: {problem}" for problem in of_row]
        if not of_row:
            attributes = {column: record[column] for column in carried}
            patches.append(Patch(number, path, patient, split, targets, attributes, conflict))
    return patches, problems


def _table_split(settings: ListingSettings, record: Mapping[str, str]) -> str | None:
    text = record.get(settings.split_column, "").strip().lower()
    return SPLIT_FOLDERS.get(text, text) or folder_split(record[settings.file_column])


def _table_patient(settings: ListingSettings, record: Mapping[str, str], number: int) -> str:
    if settings.kind == "real" and settings.patient_pattern is None:
        return record[settings.patient_column].strip()
    return named_patient(settings, record[settings.file_column], number) or ""


def _missing_columns(settings: ListingSettings, columns: tuple[str, ...]) -> list[str]:
    wanted = [("file_column", settings.file_column)]
    if settings.kind == "real" and settings.patient_pattern is None:
        wanted.append(("patient_column", settings.patient_column))
    wanted += [("attributes", name) for name in settings.attributes or ()]
    wanted += [("targets", name) for name in settings.targets if name != "malignant"]
    known = ", ".join(columns)
    return [
        f"{key}: the table has no column {name!r} (it has: {known}); set {key}"
        for key, name in wanted
        if name not in columns
    ]


def _table_targets(
    settings: ListingSettings, record: Mapping[str, str]
) -> tuple[tuple[float, ...], bool, list[str]]:
    """The targets of one row, whether the file's path disagrees, and what is wrong."""
    path_label, conflict = name_label(settings, record[settings.file_column])
    values, problems = [], []
    for target in settings.targets:
        column, label = target, path_label
        if target in record:
            label = LABELS.get(record[target].strip().lower())
        elif settings.benign_column in record:
            column = settings.benign_column
            benign = LABELS.get(record[column].strip().lower())
            label = None if benign is None else 1 - benign
        if label is None and column in record:
            shown = f"{record[column]!r} " if len(record[column]) <= MAX_SHOWN_CHARS else ""
            problems.append(f"{column}: {shown}is not 0, 1 or empty")
        elif label is None:
            problems.append(f"{column}: there is no such column, and the path tells no class")
        else:
            values.append(label)
            conflict |= target == "malignant" and path_label is not None and label == 1 - path_label
    return tuple(values), conflict, problems
