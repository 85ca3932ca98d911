"""The classes that a row of a table tells of its images."""

import math
from collections.abc import Mapping
from dataclasses import replace

from synthdp.data.dataset import MAX_SHOWN_CHARS
from synthdp.data.importing.findings import Finding, Number
from synthdp.data.importing.folders.names import name_label
from synthdp.data.importing.patients.ids import is_nothing
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.tables.cells import with_point
from synthdp.data.importing.tables.reader import Reader, TargetsRead

NO_COLUMN = "there is no such column, and the path tells no class"


def row_targets(
    settings: ListingSettings,
    reader: Reader,
    record: Mapping[str, str],
    name: str,
    number: Number,
) -> tuple[tuple[float, ...], bool, list[Finding]]:
    """The targets of one image, whether the file's path disagrees, and what is wrong.

    Rows of which all cells for classes are alike are read once: a collection has a few hundred.
    """
    of_path: tuple[float | None, bool] = (None, False)
    if reader.paths_count:
        of_path = name_label(settings, name)
    key = (*of_path, *(record[column] for column in reader.of_classes))
    if (read := reader.known_targets.get(key)) is None:
        read = reader.known_targets[key] = _read_targets(settings, reader, record, *of_path)
    values, conflict, findings = read
    return values, conflict, [replace(one, number=number) for one in findings]


def _read_targets(
    settings: ListingSettings,
    reader: Reader,
    record: Mapping[str, str],
    path_label: float | None,
    conflict: bool,
) -> TargetsRead:
    """What the cells of one record say of targets; findings have no number yet."""
    values: list[float] = []
    findings: list[Finding] = []
    says_something = any(not is_nothing(one.text(record)) for one in reader.mentions)
    for target in settings.targets:
        column, cell, label = target, "", path_label
        if target in reader.targets:
            column, read = reader.targets[target]
            cell = with_point(read.words(record), settings.decimal)
            label = settings.words_of(target).of_cell(cell)
        elif reader.benign is not None:
            column = reader.benign.shown
            cell = with_point(reader.benign.text(record), settings.decimal)
            label = settings.words.of_benign_cell(cell)
        if label is None:
            problem = NO_COLUMN
            if column != target or target in reader.targets:
                shown = f"{cell!r} " if len(cell) <= MAX_SHOWN_CHARS else ""
                problem = f"{shown}is no word for a class; say what it means in `labels`"
            findings.append(Finding(0, f"{column}: {problem}", "unknown_class"))
        else:
            unmentioned = math.isnan(label) and is_nothing(cell)
            if says_something and unmentioned and target not in settings.combined_targets:
                label = 0.0  # `unmentioned: negative`
            values.append(label)
            if (other := _contradiction(settings, reader, record, target, label)) is not None:
                text = f"{column}: column {other} tells another class; name the right one"
                mend = f"{text} in target_columns, as {{{target}: COLUMN}}"
                findings.append(Finding(0, mend, "contradiction"))
            conflict |= target == "malignant" and path_label is not None and label == 1 - path_label
    return tuple(values), conflict, findings


def _contradiction(
    settings: ListingSettings,
    reader: Reader,
    record: Mapping[str, str],
    target: str,
    label: float,
) -> str | None:
    """The column that tells another class than the one that was read, if there is one."""
    words = settings.words_of(target)
    for cell in reader.rivals.get(target, ()):
        label_there = words.of_cell(text := with_point(cell.words(record), settings.decimal))
        if label_there is not None and label_there == 1 - label and not words.is_answer(text):
            return cell.shown
    if reader.benign is not None and target == "malignant":
        label_there = words.of_benign_cell(with_point(reader.benign.text(record), settings.decimal))
        if label_there is not None and label_there == 1 - label:
            return reader.benign.shown
    return None
