"""What the rows of a table tell of images: file, class, patient, split, attributes, lesion."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from synthdp.data.importing.findings import Finding, Number, Reason
from synthdp.data.importing.folders.folder import FilesBelow
from synthdp.data.importing.folders.names import (
    SPLIT_FOLDERS,
    file_reason,
    folder_split,
    patient_in_name,
)
from synthdp.data.importing.lesions.region import Region, region_in
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.patients.ids import id_problem, normalised_id
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.tables.cells import (
    find_column,
    known_cells,
    same_word,
    says_target,
    with_point,
)
from synthdp.data.importing.tables.reader import Files, Reader, missing_columns, table_reader
from synthdp.data.importing.tables.row_files import file_names, slashed
from synthdp.data.importing.tables.row_targets import NO_COLUMN, row_targets
from synthdp.data.importing.tables.sheets import Sheet, known_columns, same_name
from synthdp.data.manifest.contract import SPLITS, Split
from synthdp.data.manifest.named_files import NamedFiles
from synthdp.data.people.ages import AGE_COLUMNS, MOST_YEARS, age_in_years

#: What all rows of one image must agree about.
_OF_THE_IMAGE = ("laterality", "view")


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
        missing = [f"{table.name}, {one}" for one in missing_columns(settings, table.sheet)]
        read.problems.extend([*table.sheet.problems, *missing])
        if missing or not table.sheet.records:
            continue
        reader = table_reader(settings, table.sheet, named, below)
        of_table = list[Finding]()
        read.problems.extend(_twins(table, reader))
        attributes |= dict.fromkeys(reader.attributes)
        for row, cells in table.sheet.records.items():
            record = known_cells(cells, reader.unknown)
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
        read.findings.extend([one for one in of_table if not (untold and NO_COLUMN in one.text)])
    return replace(
        read,
        passed_over=passed_over,
        other_splits=other_splits,
        files=frozenset(first.of_image),
        attributes=tuple(attributes),
    )


def _untold_targets(
    settings: ListingSettings, table: SourceTable, findings: Sequence[Finding], reader: Reader
) -> list[str]:
    """Targets of which no column and no path tells anything: one problem for all rows."""
    rows = {finding.number for finding in findings if NO_COLUMN in finding.text}
    if len(rows) < len(table.sheet.records):
        return []
    names = [name for name in settings.targets if name not in reader.targets]
    known = known_columns(table.sheet)
    return [
        f"{table.name}, targets: no column is called {' or '.join(names)} ({known}), and "
        "no path tells a class; name the column in target_columns, as {TARGET: COLUMN}, and its "
        "words in `labels`"
    ]


def _unsaid_answers(settings: ListingSettings, table: SourceTable, reader: Reader) -> list[str]:
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


def _twins(table: SourceTable, reader: Reader) -> list[str]:
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


def _rival_patients(settings: ListingSettings, table: SourceTable, reader: Reader) -> list[str]:
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


def _of_row(
    settings: ListingSettings,
    table: SourceTable,
    reader: Reader,
    record: Mapping[str, str],
    number: Number,
) -> tuple[list[Patch], list[Finding]]:
    """The images of a row, of which there are several where a pattern names them."""
    findings: list[Finding] = []
    names = file_names(settings, table.folder, reader, record)
    if isinstance(names, str):
        findings.append(Finding(number, f"{reader.file.shown}: {names}", file_reason(names)))
        names = [table.folder + slashed(reader, reader.file.text(record))]
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
        targets, conflict, of_targets = row_targets(settings, reader, record, name, number)
        findings += [one for one in (*of_patient, *of_targets) if one not in findings]
        path = settings.src / name
        patches.append(
            Patch(number, path, patient, split, targets, attributes, conflict, lesion=lesion)
        )
    return patches, findings


def _split(
    settings: ListingSettings,
    table: SourceTable,
    reader: Reader,
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
    reader: Reader,
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


def _attribute(settings: ListingSettings, reader: Reader, name: str, cell: str) -> str:
    text = with_point(cell, settings.decimal)
    if settings.shows_patients and name.lower() in AGE_COLUMNS:
        rule = settings.ages
        least, most = (0, MOST_YEARS) if rule is None else (rule.least_years, rule.most_years)
        text = age_in_years(text, least=least, most=most)
    return reader.attribute_words.get(name, {}).get(same_word(text), text)


def _lesion(
    settings: ListingSettings,
    table: SourceTable,
    reader: Reader,
    record: Mapping[str, str],
    number: Number,
) -> tuple[Region | Path | None, list[Finding]]:
    """Where the lesion of a row lies: a region, or the file of its mask."""
    columns = settings.region
    if columns is None:
        return None, []
    try:
        cells = {asked: record[column] for asked, column in reader.region.items()}
        lesion = region_in(cells, columns, settings.decimal)
    except ValueError as error:
        return None, [Finding(number, f"region: {error}")]
    if lesion is None:
        reason: Reason = "no_region"
        return None, [Finding(number, "region: the row says nowhere where a lesion lies", reason)]
    if isinstance(lesion, Region):
        return lesion, []
    name = slashed(reader, lesion)
    name, problem = reader.files.named(name, table.folder)
    if problem is not None:
        return None, [Finding(number, f"region: {problem}", file_reason(problem))]
    return settings.src / name, []
