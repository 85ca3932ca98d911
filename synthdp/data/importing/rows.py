"""What the rows of a metadata table tell of images: file, class, patient, split, attributes."""

import math
from collections.abc import Mapping
from pathlib import Path

from synthdp.data.dataset import MAX_SHOWN_CHARS, SPLITS
from synthdp.data.images import path_problem
from synthdp.data.importing.names import SPLIT_FOLDERS, folder_split, name_label, named_patient
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.settings import ListingSettings
from synthdp.data.tables import Table

#: What a cell of a target may hold, in lower case.
LABELS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0, "": math.nan}
#: Columns that are carried over where the settings name none.
ATTRIBUTES = (
    *("view", "laterality", "breast_density", "age", "sex", "site", "scanner"),
    *("subtlety", "birads_assessment", "mass_shape", "mass_margins", "follow_up"),
)


def patches_by_row(settings: ListingSettings, table: Table) -> tuple[list[Patch], list[str]]:
    """The images that were asked for, by the rows of a table, and what is wrong with others."""
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
