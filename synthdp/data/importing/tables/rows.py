"""What the rows of a table tell of images: file, class, patient, split, attributes, lesion."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from synthdp.data.dataset import MAX_SHOWN_CHARS
from synthdp.data.decoding import IMAGE_SUFFIXES
from synthdp.data.images import MISSING_FILE
from synthdp.data.importing.findings import Finding, Number, Reason
from synthdp.data.importing.folders.folder import FilesBelow
from synthdp.data.importing.folders.names import (
    SPLIT_FOLDERS,
    file_reason,
    folder_split,
    name_label,
    patient_in_name,
)
from synthdp.data.importing.ids import id_problem, is_nothing, normalised_id
from synthdp.data.importing.lesions.region import Region, region_in
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.tables.cells import (
    Cell,
    Column,
    column_problem,
    find_cell,
    find_column,
    has_wildcards,
    names_in,
    number_text,
    same_word,
    says_target,
)
from synthdp.data.importing.tables.reported import needed_columns
from synthdp.data.importing.tables.sheets import Sheet, known_columns, same_name
from synthdp.data.manifest.contract import SPLITS, Split
from synthdp.data.manifest.named_files import NamedFiles
from synthdp.data.people.ages import AGE_COLUMNS, MOST_YEARS, age_in_years
from synthdp.errors import InputError

#: What all rows of one image must agree about.
_OF_THE_IMAGE = ("laterality", "view")
#: What tables call the left and the right side, in several languages.
_SIDES = {
    **dict.fromkeys(
        ("l", "left", "li", "links", "gauche", "izquierda", "sinistra", "esquerda"), "l"
    ),
    **dict.fromkeys(("r", "right", "re", "rechts", "droite", "derecha", "destra", "direita"), "r"),
    **dict.fromkeys(("b", "both", "bilateral", "beidseits"), "b"),
}
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_NO_COLUMN = "there is no such column, and the path tells no class"
_OUTSIDE = "the path leads outside the folder; name files as they are called from `src`"


class Files(Protocol):
    """Whether the files that a table names are safe and there; `NamedFiles` looks at the disk."""

    def problem(self, name: str) -> str | None:
        """What is wrong with the file that the table calls `name`."""

    def named(self, name: str, folder: str = "") -> tuple[str, str | None]:
        """The file's name relative to the folder of all, and what is wrong with it."""


@dataclass(frozen=True)
class SourceTable:
    """A table that was read: its sheet, the folder that its files are called from, its split.

    `name` is how errors call it. `folder` is relative to `src`, and ends in a slash or is empty.
    `number` makes of a row what findings and notes call it.
    """

    sheet: Sheet
    name: str
    folder: str = ""
    split: Split | None = None
    number: Callable[[int], Number] = int


@dataclass(frozen=True)
class RowsRead:
    """The images that rows ask for, what is wrong with others, and with the tables; how many rows
    `only` leaves aside, and `splits`, and every file that a row which was read names.

    `attributes` are those for which a table has a column, whether a row fills it or not.
    """

    patches: list[Patch]
    findings: list[Finding]
    problems: list[str]
    passed_over: int = 0
    other_splits: int = 0
    files: frozenset[Path] = frozenset()
    attributes: tuple[str, ...] = ()


#: Values of targets, whether a path disagrees, and what is wrong.
_Told = tuple[tuple[float, ...], bool, list[Finding]]


@dataclass(frozen=True)
class _Reader:
    """How the rows of one table are read: its columns found, the words of settings as they are
    compared, the resolved folder of the images, and the files that names lead to.
    """

    file: Cell
    many_files: bool
    patient: Cell | None
    split: Cell | None
    targets: Mapping[str, tuple[str, Cell]]  # of those that a column holds, with its name
    benign: Cell | None
    rivals: Mapping[str, tuple[Cell, ...]]  # further columns of a target's synonyms
    attributes: Mapping[str, Cell]
    only: Mapping[str, frozenset[str]]
    header: Mapping[str, Cell]
    region: Mapping[str, str]  # the columns of a lesion by the names that settings give them
    unknown: frozenset[str]
    split_words: Mapping[str, Split]
    attribute_words: Mapping[str, Mapping[str, str]]
    mentions: tuple[Cell, ...]  # columns of findings, by which a row says something or nothing
    of_classes: tuple[str, ...]  # every column that decides about targets
    paths_count: bool  # whether paths may tell classes, or disagree
    told: dict[tuple[object, ...], _Told]  # by the cells of these columns
    root: Path
    files: Files
    below: FilesBelow


def asked_columns(settings: ListingSettings) -> list[tuple[str, ...]]:
    """The synonyms of each column that settings ask for, by which a header is told."""
    return [names for _, column in _needed(settings) for names in names_in(column)]


def patches_by_row(
    settings: ListingSettings, tables: Sequence[SourceTable], files: Files | None = None
) -> RowsRead:
    """The images that were asked for, by the rows of tables, and what is wrong with others.

    `files` says which of the named ones are there; those on the disk below `src` when None.
    """
    read = RowsRead([], [], [])
    passed_over, other_splits, first = 0, 0, _FirstRows({}, {})
    attributes: dict[str, None] = {}
    named = files or NamedFiles(settings.src.resolve(), settings.linked_folders)
    below = FilesBelow(settings.src)
    for table in tables:
        missing = [f"{table.name}, {one}" for one in _missing_columns(settings, table.sheet)]
        read.problems.extend([*table.sheet.problems, *missing])
        if missing or not table.sheet.records:
            continue
        reader = _reader(settings, table.sheet, named, below)
        of_table = list[Finding]()
        read.problems.extend(_twins(table, reader))
        attributes |= dict.fromkeys(reader.attributes)
        for row, cells in table.sheet.records.items():
            record = _known_cells(cells, reader.unknown)
            if not all(same_word(record[name]) in words for name, words in reader.only.items()):
                passed_over += 1
                continue
            patches, findings = _of_row(settings, table, reader, record, table.number(row))
            other_splits += not patches and not findings
            for patch in patches:
                findings += first.disagreements(patch, reader.file.shown)
            of_table += findings
            if not findings:
                read.patches.extend(patches)
        read.problems.extend(_unsaid_answers(settings, table, reader))
        read.problems.extend(_rival_patients(settings, table, reader))
        untold = _untold_targets(settings, table, of_table, reader)
        read.problems.extend(untold)
        read.findings.extend([one for one in of_table if not (untold and _NO_COLUMN in one.text)])
    return replace(
        read,
        passed_over=passed_over,
        other_splits=other_splits,
        files=frozenset(first.of_image),
        attributes=tuple(attributes),
    )


def _untold_targets(
    settings: ListingSettings, table: SourceTable, findings: Sequence[Finding], reader: _Reader
) -> list[str]:
    """Targets of which no column and no path tells anything: one problem for all rows."""
    rows = {finding.number for finding in findings if _NO_COLUMN in finding.text}
    if len(rows) < len(table.sheet.records):
        return []
    names = [name for name in settings.targets if name not in reader.targets]
    known = known_columns(table.sheet)
    return [
        f"{table.name}, targets: no column is called {' or '.join(names)} ({known}), and "
        "no path tells a class; name the column in target_columns, as {TARGET: COLUMN}, and its "
        "words in `labels`"
    ]


def _unsaid_answers(settings: ListingSettings, table: SourceTable, reader: _Reader) -> list[str]:
    """Columns that were found by a list of synonyms, and hold 0 and 1 for nobody knows what."""
    problems = []
    for target, (column, cell) in reader.targets.items():
        by_synonym = not isinstance(settings.target_columns.get(target, target), str)
        if not by_synonym or says_target(column, target):
            continue
        words = settings.words_of(target)
        if any(words.is_answer(cell.words(record)) for record in table.sheet.records.values()):
            problems.append(
                f"{table.name}, target_columns: {column!r} holds answers such as 0 and 1, and its "
                f"name does not say to what; set target_columns={{{target}: {column}}} where 1 is "
                f"{target}, else say it in `labels`"
            )
    return problems


def _twins(table: SourceTable, reader: _Reader) -> list[str]:
    """Columns that are read and of whose name there is another one, but for case and blanks."""
    cells = [reader.file, *(cell for _, cell in reader.targets.values())]
    cells += reader.attributes.values()
    cells += [one for one in (reader.patient, reader.split, reader.benign) if one is not None]
    spellings = Counter(map(same_name, table.sheet.columns))
    read = dict.fromkeys(name for cell in cells for name in cell.columns)
    return [
        f"{table.name}: several columns are called {name!r}, but for case and blanks; give them "
        "names of their own"
        for name in read
        if name in table.sheet.repeated or spellings[same_name(name)] > 1
    ]


def _rival_patients(settings: ListingSettings, table: SourceTable, reader: _Reader) -> list[str]:
    """Columns that may be the patient's too, and give one id to what were several persons."""
    if reader.patient is None or isinstance(settings.patient_column, str):
        return []
    rows = table.sheet.records.values()
    problems = []
    for name in settings.patient_column:
        column = find_column([name], table.sheet.columns)
        if column is None or column in reader.patient.columns:
            continue
        persons: dict[str, str | None] = {}
        pairs = [
            (normalised_id(row[column]), normalised_id(reader.patient.text(row))) for row in rows
        ]
        if any(rival and persons.setdefault(rival, one) != one for rival, one in pairs if one):
            problems.append(
                f"{table.name}, patient_column: {column!r} has one id where "
                f"{reader.patient.shown!r} has several; set patient_column to the one that names "
                "persons"
            )
    return problems


@dataclass(frozen=True)
class _FirstRows:
    """Where each image, and each lesion of one, was met first."""

    of_lesion: dict[tuple[Path, Region | Path | None], Number]
    of_image: dict[Path, Patch]

    def disagreements(self, patch: Patch, column: str) -> list[Finding]:
        """What earlier rows say otherwise of the image of this one, or say already.

        `column` is where the file was named.
        """
        first = self.of_image.setdefault(patch.path, patch)
        findings = []
        met = self.of_lesion.setdefault((patch.path, patch.lesion), patch.number)
        if met != patch.number:
            what = "the same file" if patch.lesion is None else "the same lesion"
            findings.append(Finding(patch.number, f"{column}: {what} as row {met}"))
        if first.patient and patch.patient and first.patient != patch.patient:
            text = f"{column}: row {first.number} gives the same file to another patient"
            findings.append(Finding(patch.number, text))
        findings += [
            Finding(
                patch.number,
                f"{name}: row {first.number} gives the same file another one; an image has one",
            )
            for name in _OF_THE_IMAGE
            if patch.attributes.get(name) and first.attributes.get(name)
            if same_word(patch.attributes[name]) != same_word(first.attributes[name])
        ]
        return findings


def _known_cells(cells: Mapping[str, str], unknown: frozenset[str]) -> Mapping[str, str]:
    """A record in which words for nothing are empty cells."""
    if not unknown:
        return cells
    return {name: "" if same_word(cell) in unknown else cell for name, cell in cells.items()}


def _of_row(
    settings: ListingSettings,
    table: SourceTable,
    reader: _Reader,
    record: Mapping[str, str],
    number: Number,
) -> tuple[list[Patch], list[Finding]]:
    """The images of a row, of which there are several where a pattern names them."""
    findings: list[Finding] = []
    names = _file_names(settings, table, reader, record)
    if isinstance(names, str):
        findings.append(Finding(number, f"{reader.file.shown}: {names}", file_reason(names)))
        names = [table.folder + _slashed(reader, reader.file.text(record))]
    split = _split(settings, table, reader, record, names[0])
    if split in SPLITS and split not in settings.splits:
        return [], []
    if split is not None and split not in SPLITS:
        shown = settings.split_column if reader.split is None else reader.split.shown
        text = (
            f"{shown}: is none of {', '.join(SPLITS)}; say which in split_words, or set "
            "split_column=none where the column is no split"
        )
        findings.append(Finding(number, text))
    lesion, of_lesion = _lesion(settings, table, reader, record, number)
    findings += of_lesion
    attributes = {
        name: _attribute(settings, reader, name, cell.text(record))
        for name, cell in reader.attributes.items()
    }
    patches: list[Patch] = []
    for name in names:
        patient, of_patient = _patient(settings, reader, record, name, number)
        targets, conflict, of_targets = _targets(settings, reader, record, name, number)
        findings += [one for one in (*of_patient, *of_targets) if one not in findings]
        path = settings.src / name
        patches.append(
            Patch(number, path, patient, split, targets, attributes, conflict, lesion=lesion)
        )
    return patches, findings


def _slashed(reader: _Reader, text: str) -> str:
    """A file's name with the slashes of this system; below `src` where it is a whole path."""
    return text.replace("\\", "/").removeprefix(f"{reader.root}/")


def _file_names(
    settings: ListingSettings, table: SourceTable, reader: _Reader, record: Mapping[str, str]
) -> list[str] | str:
    """The files that a row names, relative to `src`; else what is wrong. None is repeated."""
    text = reader.file.text(record)
    if not text:
        return "no file is named"
    if _DRIVE.match(text):
        return _OUTSIDE
    name = _slashed(reader, text)
    if reader.many_files:
        return _files_by_pattern(settings, table, reader, record, name)
    found, problem = reader.files.named(name, table.folder)
    if problem == MISSING_FILE:
        problem = _without_end(table, reader, name) or problem
    return [found] if problem is None else problem


def _without_end(table: SourceTable, reader: _Reader, name: str) -> str | None:
    """What to do where a table names a file without its end, as `image_id` columns do."""
    column = reader.file.shown
    template = column if reader.file.is_template else f"{{{column}}}"
    return next(
        (
            f"there is such a file with the end {end}; where it is the one that is meant, set "
            f"file_column={template}{end}, else name the column of files"
            for end in IMAGE_SUFFIXES
            if reader.files.problem(table.folder + name + end) is None
        ),
        None,
    )


def _files_by_pattern(
    settings: ListingSettings,
    table: SourceTable,
    reader: _Reader,
    record: Mapping[str, str],
    text: str,
) -> list[str] | str:
    """The files that a row's pattern finds, whose text is given too; else what is wrong."""
    if ".." in text.split("/") or text.startswith("/"):
        return _OUTSIDE
    pattern = table.folder + reader.file.pattern(record)
    names = reader.below.fitting(pattern)
    problems = map(reader.files.problem, names)
    problem = next((problem for problem in problems if problem is not None), None)
    if problem is not None or not names:
        return problem or MISSING_FILE
    return _of_the_header(settings, reader, record, names)


def _of_the_header(
    settings: ListingSettings, reader: _Reader, record: Mapping[str, str], names: list[str]
) -> list[str] | str:
    """Those of several files whose DICOM header says what the row does."""
    if not reader.header:
        return (
            names
            if len(names) == 1
            else (
                f"{len(names)} files fit; name the one in file_column, or tell them by match_header"
            )
        )
    from synthdp.data.dicom.header import read_header  # noqa: PLC0415 (an extra)

    kept = []
    for name in names:
        try:
            header = read_header(settings.src / name)
        except InputError as error:
            return f"one of {len(names)} files: {error}"
        said = {"laterality": header.laterality, "view": header.view}
        if unsaid := [fact for fact in reader.header if not said[fact]]:
            return f"one of {len(names)} files does not say its {unsaid[0]}"
        if all(
            same_side_or_view(said[fact], cell.text(record)) for fact, cell in reader.header.items()
        ):
            kept.append(name)
    return kept or f"{len(names)} files fit, none of them with the row's {', '.join(reader.header)}"


def same_side_or_view(one: str, other: str) -> bool:
    """Whether two words mean one side or view: `L`, `Left` and `links` do."""
    one, other = one.strip().casefold(), other.strip().casefold()
    return _SIDES.get(one, one) == _SIDES.get(other, other)


def is_side(word: str) -> bool:
    """Whether a word is known to mean a side."""
    return word.strip().casefold() in _SIDES


def _split(
    settings: ListingSettings,
    table: SourceTable,
    reader: _Reader,
    record: Mapping[str, str],
    name: str,
) -> str | None:
    if settings.given_splits == "left_aside":
        return None
    text = "" if reader.split is None else reader.split.text(record).lower()
    meant = reader.split_words.get(same_word(text)) or SPLIT_FOLDERS.get(text, text)
    return table.split or meant or folder_split(name)


def _patient(
    settings: ListingSettings,
    reader: _Reader,
    record: Mapping[str, str],
    name: str,
    number: Number,
) -> tuple[str, list[Finding]]:
    """The patient of an image, in the id's one spelling, or what is wrong."""
    if reader.patient is None:
        patient, findings = patient_in_name(settings, name, number)
        if settings.films_per_patient is None or findings:
            return patient, findings
        if not patient.isdecimal() or not int(patient):
            text = (
                "patient_pattern: finds no number of a film, from 1, which films_per_patient needs"
            )
            return "", [Finding(number, text, "no_patient")]
        return str((int(patient) - 1) // settings.films_per_patient + 1), []
    text = reader.patient.text(record)
    if (problem := id_problem(text)) is not None:
        shown = f"{reader.patient.shown}: {problem}"
        return "", [Finding(number, shown, "no_patient" if normalised_id(text) is None else None)]
    return normalised_id(text) or "", []


def _targets(
    settings: ListingSettings,
    reader: _Reader,
    record: Mapping[str, str],
    name: str,
    number: Number,
) -> tuple[tuple[float, ...], bool, list[Finding]]:
    """The targets of one image, whether the file's path disagrees, and what is wrong.

    Rows of which all cells for classes are alike are told once: a collection has a few hundred.
    """
    of_path: tuple[float | None, bool] = (None, False)
    if reader.paths_count:
        of_path = name_label(settings, name)
    key = (*of_path, *(record[column] for column in reader.of_classes))
    if (told := reader.told.get(key)) is None:
        told = reader.told[key] = _told(settings, reader, record, *of_path)
    values, conflict, findings = told
    return values, conflict, [replace(one, number=number) for one in findings]


def _told(
    settings: ListingSettings,
    reader: _Reader,
    record: Mapping[str, str],
    path_label: float | None,
    conflict: bool,
) -> _Told:
    """What the cells of one record say of targets; findings have no number yet."""
    values: list[float] = []
    findings: list[Finding] = []
    says_something = any(not is_nothing(one.text(record)) for one in reader.mentions)
    for target in settings.targets:
        column, cell, label = target, "", path_label
        if target in reader.targets:
            column, read = reader.targets[target]
            cell = _with_point(settings, read.words(record))
            label = settings.words_of(target).of_cell(cell)
        elif reader.benign is not None:
            column = reader.benign.shown
            cell = _with_point(settings, reader.benign.text(record))
            label = settings.words.of_benign_cell(cell)
        if label is None:
            problem = _NO_COLUMN
            if column != target or target in reader.targets:
                shown = f"{cell!r} " if len(cell) <= MAX_SHOWN_CHARS else ""
                problem = f"{shown}is no word for a class; say what it means in `labels`"
            findings.append(Finding(0, f"{column}: {problem}", "unknown_class"))
        else:
            if says_something and math.isnan(label) and is_nothing(cell):
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
    reader: _Reader,
    record: Mapping[str, str],
    target: str,
    label: float,
) -> str | None:
    """The column that tells another class than the one that was read, if there is one."""
    words = settings.words_of(target)
    for cell in reader.rivals.get(target, ()):
        told = words.of_cell(text := _with_point(settings, cell.words(record)))
        if told is not None and told == 1 - label and not words.is_answer(text):
            return cell.shown
    if reader.benign is not None and target == "malignant":
        told = words.of_benign_cell(_with_point(settings, reader.benign.text(record)))
        if told is not None and told == 1 - label:
            return reader.benign.shown
    return None


def _with_point(settings: ListingSettings, cell: str) -> str:
    """A cell with a decimal point, if it is a number; a comma of which nobody knows stays."""
    try:
        return number_text(cell, settings.decimal)
    except ValueError:
        return cell


def _attribute(settings: ListingSettings, reader: _Reader, name: str, cell: str) -> str:
    text = _with_point(settings, cell)
    if settings.shows_patients and name.lower() in AGE_COLUMNS:
        rule = settings.ages
        least, most = (0, MOST_YEARS) if rule is None else (rule.least_years, rule.most_years)
        text = age_in_years(text, least=least, most=most)
    return reader.attribute_words.get(name, {}).get(same_word(text), text)


def _lesion(
    settings: ListingSettings,
    table: SourceTable,
    reader: _Reader,
    record: Mapping[str, str],
    number: Number,
) -> tuple[Region | Path | None, list[Finding]]:
    """Where the lesion of a row lies: a region, or the file of its mask."""
    columns = settings.region
    if columns is None:
        return None, []
    try:
        cells = {asked: record[found] for asked, found in reader.region.items()}
        found = region_in(cells, columns, settings.decimal)
    except ValueError as error:
        return None, [Finding(number, f"region: {error}")]
    if found is None:
        reason: Reason = "no_region"
        return None, [Finding(number, "region: the row says nowhere where a lesion lies", reason)]
    if isinstance(found, Region):
        return found, []
    name = _slashed(reader, found)
    name, problem = reader.files.named(name, table.folder)
    if problem is not None:
        return None, [Finding(number, f"region: {problem}", file_reason(problem))]
    return settings.src / name, []


def _needed(settings: ListingSettings) -> list[tuple[str, Column]]:
    """Each column without which the rows can't be read, under the setting that asks for it."""
    needed: list[tuple[str, Column]] = [("file_column", settings.file_column)]
    if settings.shows_patients and settings.patient_pattern is None:
        needed.append(("patient_column", settings.patient_column))
    needed += [
        ("attributes", settings.attribute_columns.get(name, name))
        for name in settings.attributes or ()
    ]
    needed += [
        ("attribute_columns", column)
        for column in settings.attribute_columns.values()
        if isinstance(column, str) and settings.attributes is None
    ]
    needed += [
        ("targets", settings.target_columns.get(name, name))
        for name in settings.targets
        if name != "malignant"
    ]
    malignant = settings.target_columns.get("malignant")
    if isinstance(malignant, str) and "malignant" in settings.targets:
        needed.append(("target_columns", malignant))
    needed += needed_columns(settings)
    needed += [("only", name) for name in settings.only]
    needed += [("match_header", column) for column in settings.match_header.values()]
    needed += [("region", name) for name in settings.region.names] if settings.region else []
    return needed


def _missing_columns(settings: ListingSettings, sheet: Sheet) -> list[str]:
    if not sheet.columns:
        return []
    problems = (column_problem(key, column, sheet) for key, column in _needed(settings))
    return list(dict.fromkeys(problem for problem in problems if problem is not None))


def _rivals(
    settings: ListingSettings, targets: Mapping[str, tuple[str, Cell]], columns: Sequence[str]
) -> dict[str, tuple[Cell, ...]]:
    """The other columns that the synonyms of a target name too, by targets that have several."""
    return {
        target: tuple(
            Cell(((column, True),))
            for name in synonyms
            if (column := find_column([name], columns)) is not None and column != targets[target][0]
        )
        for target, synonyms in settings.target_columns.items()
        if target in targets and not isinstance(synonyms, str)
    }


def _reader(settings: ListingSettings, sheet: Sheet, files: Files, below: FilesBelow) -> _Reader:
    """Find the columns of a table in which none that is needed is missing."""

    def cell(column: Column) -> Cell | None:
        return find_cell(column, sheet.columns)

    file = cell(settings.file_column)
    assert file is not None  # `_missing_columns` saw it
    targets = {
        target: (found.shown, found)
        for target in settings.targets
        if (found := cell(settings.target_columns.get(target, target))) is not None
    }
    kept = settings.attributes
    if kept is None:
        kept = tuple(settings.attribute_columns) or settings.default_attributes
    attributes = {
        name: found
        for name in kept
        if name not in settings.targets
        if (found := cell(settings.attribute_columns.get(name, name))) is not None
    }
    by_column = settings.shows_patients and settings.patient_pattern is None
    benign, rivals = cell(settings.benign_column), _rivals(settings, targets, sheet.columns)
    mentions = tuple(
        found
        for column in settings.target_columns.values()
        if settings.unmentioned == "negative" and (found := cell(column)) is not None
    )
    deciding = [read for _, read in targets.values()]
    deciding += [*mentions, *(one for some in rivals.values() for one in some)]
    deciding += [] if benign is None else [benign]
    return _Reader(
        file=file,
        many_files=has_wildcards(settings.file_column),
        patient=cell(settings.patient_column) if by_column else None,
        split=cell(settings.split_column),
        targets=targets,
        benign=benign,
        rivals=rivals,
        attributes=attributes,
        only={
            name: frozenset(map(same_word, words))
            for asked, words in settings.only.items()
            if (name := find_column([asked], sheet.columns)) is not None
        },
        header={
            fact: found
            for fact, column in settings.match_header.items()
            if (found := cell(column)) is not None
        },
        region={
            asked: name
            for asked in (settings.region.names if settings.region else ())
            if (name := find_column([asked], sheet.columns)) is not None
        },
        unknown=frozenset(map(same_word, settings.unknown)),
        split_words={same_word(word): split for word, split in settings.split_words.items()},
        attribute_words={
            name: {same_word(word): meaning for word, meaning in words.items()}
            for name, words in settings.attribute_words.items()
        },
        mentions=mentions,
        of_classes=tuple(dict.fromkeys(name for one in deciding for name in one.columns)),
        paths_count=settings.labels is not None
        or "malignant" in settings.targets
        or len(targets) < len(settings.targets),
        told={},
        root=settings.src.resolve(),
        files=files,
        below=below,
    )
