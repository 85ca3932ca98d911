"""The columns of a table that settings ask for, found once for all of its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from synthdp.data.importing.findings import Finding
from synthdp.data.importing.folders.folder import FilesBelow
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.tables.cells import (
    Cell,
    Column,
    column_problem,
    find_cell,
    find_column,
    has_wildcards,
    names_in,
    same_word,
)
from synthdp.data.importing.tables.reported import mentioning_cells, needed_columns
from synthdp.data.importing.tables.sheets import Sheet
from synthdp.data.manifest.contract import Split

#: Values of targets, whether a path disagrees, and what is wrong.
TargetsRead = tuple[tuple[float, ...], bool, list[Finding]]


class Files(Protocol):
    """Whether the files that a table names are safe and there; `NamedFiles` looks at the disk."""

    def problem(self, name: str) -> str | None:
        """What is wrong with the file that the table calls `name`."""

    def named(self, name: str, folder: str = "") -> tuple[str, str | None]:
        """The file's name relative to the folder of all, and what is wrong with it."""


@dataclass(frozen=True)
class Reader:
    """How the rows of one table are read: its columns, the words of settings as they are
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
    known_targets: dict[tuple[object, ...], TargetsRead]  # by the cells of these columns
    root: Path
    files: Files
    below: FilesBelow


def asked_columns(settings: ListingSettings) -> list[tuple[str, ...]]:
    """The synonyms of each column that settings ask for, by which a header is known."""
    return [names for _, column in _needed(settings) for names in names_in(column)]


def table_reader(
    settings: ListingSettings, sheet: Sheet, files: Files, below: FilesBelow
) -> Reader:
    """Find the columns of a table in which none that is needed is missing."""

    def cell(column: Column) -> Cell | None:
        return find_cell(column, sheet.columns)

    file = cell(settings.file_column)
    assert file is not None  # `missing_columns` saw it
    targets = {
        target: (column.shown, column)
        for target in settings.targets
        if (column := cell(settings.target_columns.get(target, target))) is not None
    }
    by_column = settings.shows_patients and settings.patient_pattern is None
    benign, rivals = cell(settings.benign_column), _rivals(settings, targets, sheet.columns)
    mentions = mentioning_cells(settings, sheet)
    deciding = [read for _, read in targets.values()]
    deciding += [*mentions, *(one for some in rivals.values() for one in some)]
    deciding += [] if benign is None else [benign]
    return Reader(
        file=file,
        many_files=has_wildcards(settings.file_column),
        patient=cell(settings.patient_column) if by_column else None,
        split=cell(settings.split_column),
        targets=targets,
        benign=benign,
        rivals=rivals,
        attributes=_attribute_cells(settings, sheet.columns),
        only={
            name: frozenset(map(same_word, words))
            for asked, words in settings.only.items()
            if (name := find_column([asked], sheet.columns)) is not None
        },
        header={
            fact: column
            for fact, asked in settings.match_header.items()
            if (column := cell(asked)) is not None
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
        known_targets={},
        root=settings.src.resolve(),
        files=files,
        below=below,
    )


def attribute_names(settings: ListingSettings) -> tuple[str, ...]:
    """The free columns that settings ask for, by their names in the set; a table may lack some."""
    kept = settings.attributes
    if kept is None:
        kept = tuple(settings.attribute_columns) or settings.default_attributes
    return tuple(name for name in kept if name not in settings.targets)


def _attribute_cells(settings: ListingSettings, columns: Sequence[str]) -> dict[str, Cell]:
    """The columns of free attributes that a table has, by their names in the set."""
    cells = {
        name: find_cell(settings.attribute_columns.get(name, name), columns)
        for name in attribute_names(settings)
    }
    return {name: cell for name, cell in cells.items() if cell is not None}


def missing_columns(settings: ListingSettings, sheet: Sheet) -> list[str]:
    """What is wrong with the columns that settings ask for: not there, or there twice."""
    if not sheet.columns:
        return []
    problems = (column_problem(key, column, sheet) for key, column in _needed(settings))
    return list(dict.fromkeys(problem for problem in problems if problem is not None))


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
