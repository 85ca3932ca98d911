"""What the rows of a metadata table tell of images: file, class, patient, split, attributes."""

from collections.abc import Mapping
from pathlib import Path

from synthdp.data.dataset import MAX_SHOWN_CHARS, SPLITS
from synthdp.data.images import path_problem
from synthdp.data.importing.findings import Finding
from synthdp.data.importing.ids import id_problem, normalised_id
from synthdp.data.importing.names import (
    SPLIT_FOLDERS,
    file_reason,
    folder_split,
    name_label,
    patient_in_name,
)
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.settings import ListingSettings
from synthdp.data.tables import Table

#: Columns that are carried over where the settings name none.
ATTRIBUTES = (
    *("view", "laterality", "breast_density", "age", "sex", "site", "scanner"),
    *("subtlety", "birads_assessment", "mass_shape", "mass_margins", "follow_up"),
)


def patches_by_row(
    settings: ListingSettings, table: Table
) -> tuple[list[Patch], list[Finding], list[str]]:
    """The images that were asked for, by the rows of a table; what is wrong with others, and with
    the table.
    """
    missing = _missing_columns(settings, table.columns)
    if missing or not table.records:
        return [], [], [*table.problems, *missing]
    kept = ATTRIBUTES if settings.attributes is None else settings.attributes
    carried = [name for name in kept if name in table.columns and name not in settings.targets]
    root, linked = settings.src.resolve(), settings.linked_folders
    patches: list[Patch] = []
    findings: list[Finding] = []
    first_row: dict[Path, int] = {}
    for number, record in table.records.items():
        name = record[settings.file_column]
        split = _table_split(settings, record)
        if split in SPLITS and split not in settings.splits:
            continue
        path = settings.src / name
        patient, of_row = _table_patient(settings, record, number)
        targets, conflict, of_targets = _table_targets(settings, record, number)
        of_row += of_targets
        if (problem := path_problem(name, root, linked)) is not None:
            text = f"{settings.file_column}: {problem}"
            of_row.append(Finding(number, text, file_reason(problem)))
        if split is not None and split not in SPLITS:
            text = f"{settings.split_column}: is none of {', '.join(SPLITS)}"
            of_row.append(Finding(number, text))
        if first_row.setdefault(path, number) != number:
            text = f"{settings.file_column}: the same file as row {first_row[path]}"
            of_row.append(Finding(number, text))
        findings += of_row
        if not of_row:
            attributes = {column: record[column] for column in carried}
            patches.append(Patch(number, path, patient, split, targets, attributes, conflict))
    return patches, findings, list(table.problems)


def _table_split(settings: ListingSettings, record: Mapping[str, str]) -> str | None:
    text = record.get(settings.split_column, "").strip().lower()
    return SPLIT_FOLDERS.get(text, text) or folder_split(record[settings.file_column])


def _table_patient(
    settings: ListingSettings, record: Mapping[str, str], number: int
) -> tuple[str, list[Finding]]:
    """The patient of a row, in the id's one spelling, or what is wrong."""
    if settings.kind == "synthetic" or settings.patient_pattern is not None:
        return patient_in_name(settings, record[settings.file_column], number)
    text = record[settings.patient_column]
    if (problem := id_problem(text)) is not None:
        return "", [Finding(number, f"{settings.patient_column}: {problem}", "no_patient")]
    return normalised_id(text) or "", []


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
    settings: ListingSettings, record: Mapping[str, str], number: int
) -> tuple[tuple[float, ...], bool, list[Finding]]:
    """The targets of one row, whether the file's path disagrees, and what is wrong."""
    path_label, conflict = name_label(settings, record[settings.file_column])
    values: list[float] = []
    findings: list[Finding] = []
    for target in settings.targets:
        column, label = target, path_label
        if target in record:
            label = settings.words.of_cell(record[target])
        elif settings.benign_column in record:
            column = settings.benign_column
            label = settings.words.of_benign_cell(record[column])
        if label is None:
            problem = "there is no such column, and the path tells no class"
            if column in record:
                shown = f"{record[column]!r} " if len(record[column]) <= MAX_SHOWN_CHARS else ""
                problem = f"{shown}is no word for a class; say what it means in `labels`"
            findings.append(Finding(number, f"{column}: {problem}", "unknown_class"))
        else:
            values.append(label)
            conflict |= target == "malignant" and path_label is not None and label == 1 - path_label
    return tuple(values), conflict, findings
