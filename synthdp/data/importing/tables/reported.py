"""What the rows of a table tell in other forms than a column each: brought into columns and rows.

Lists of words, filled cells and dates become columns; several rows of one image become one. What
becomes of a row depends on the rows of its image alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from synthdp.data.importing.findings import Finding
from synthdp.data.importing.labels import Labels
from synthdp.data.importing.patients.ids import is_nothing
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.settings.reports import (
    AgeRule,
    CombinedTarget,
    Gathering,
    WordList,
)
from synthdp.data.importing.tables.cells import (
    Cell,
    Column,
    find_cell,
    find_column,
    has_wildcards,
    known_cells,
    names_in,
    same_word,
)
from synthdp.data.importing.tables.joined import SheetMade
from synthdp.data.importing.tables.sheets import Sheet
from synthdp.data.people.ages import years_between

#: What stands around lists and words in cells: those of Python, as PadChest has them.
_BRACKETS, _QUOTES = "[]()", "'\" "
#: Attributes are compared among the rows of one image; places of boxes differ, and are not read.
_AGE = "age"


def reported_sheet(sheet: Sheet, settings: ListingSettings) -> SheetMade:
    """A table with a column for each target and a row for each image, as far as settings ask."""
    if not sheet.columns:
        return SheetMade(sheet)
    findings: list[Finding] = []
    if settings.word_list is not None:
        made = _with_listed(sheet, settings.word_list, settings)
        sheet, findings = made.sheet, [*made.findings]
    for target, column in settings.filled_columns.items():
        cell = find_cell(column, sheet.columns)
        if cell is not None:
            sheet = _with_column(sheet, target, partial(_filled, cell=cell))
    if settings.ages is not None and settings.ages.born is not None:
        sheet = _with_ages(sheet, settings.ages)
    if settings.gather is not None:
        made = _gathered(sheet, settings, settings.gather)
        sheet, findings = made.sheet, [*findings, *made.findings]
    for target, how in _combined(settings).items():
        made = _with_combined(sheet, target, how, settings)
        sheet, findings = made.sheet, [*findings, *made.findings]
    return SheetMade(sheet, tuple(findings))


def needed_columns(settings: ListingSettings) -> list[tuple[str, Column]]:
    """Each column that is made into others, under the setting that asks for it."""
    needed: list[tuple[str, Column]] = []
    if settings.word_list is not None:
        needed.append(("word_list.column", settings.word_list.column))
    needed += [("filled_columns", column) for column in settings.filled_columns.values()]
    needed += [
        ("combined_targets", settings.target_columns.get(name, name))
        for how in _combined(settings).values()
        for name in how.findings
    ]
    ages = settings.ages
    if ages is not None and ages.born is not None and ages.taken is not None:
        needed += [("ages.born", ages.born), ("ages.taken", ages.taken)]
    return needed


def listed_words(text: str, separator: str) -> list[str]:
    """The words of a list in a cell, without brackets, quotes and what is empty."""
    return [
        word
        for part in text.strip().strip(_BRACKETS).split(separator)
        if (word := part.strip(_QUOTES)) and not is_nothing(word)
    ]


def _with_column(sheet: Sheet, name: str, value_of: Callable[[Mapping[str, str]], str]) -> Sheet:
    """The sheet with a column more, or another one in its place."""
    records = {row: {**record, name: value_of(record)} for row, record in sheet.records.items()}
    columns = tuple(dict.fromkeys((*sheet.columns, name)))
    return replace(sheet, columns=columns, records=records)


def _filled(record: Mapping[str, str], *, cell: Cell) -> str:
    return "0" if is_nothing(cell.text(record)) else "1"


def _with_listed(sheet: Sheet, how: WordList, settings: ListingSettings) -> SheetMade:
    """A column for each target of a list of words: 1, 0, or nothing."""
    cell = find_cell(how.column, sheet.columns)
    if cell is None:
        return SheetMade(sheet)
    meant: dict[str, set[str]] = {}
    for target, words in how.words.items():
        for word in words:
            meant.setdefault(same_word(word), set()).add(target)
    leave_open = frozenset(map(same_word, how.leave_open))
    combined = _combined(settings).values()
    wanted = {
        *settings.targets,
        *(one for some in combined for one in (*some.any_of, *some.against)),
    }
    targets = [one for one in how.words if one in wanted]
    known: dict[str, dict[str, str] | None] = {}  # of each list that occurs, for there are few

    def of_list(text: str) -> dict[str, str] | None:
        words = [same_word(word) for word in listed_words(text, how.separator)]
        strange = [one for one in words if one not in meant and one not in leave_open]
        if strange and how.others == "refuse":
            return None
        is_open = not words or not leave_open.isdisjoint(words)
        named = {target for word in words for target in meant.get(word, ())}
        return {one: "1" if one in named else "" if is_open else "0" for one in targets}

    records: dict[int, dict[str, str]] = {}
    findings = []
    for row, record in sheet.records.items():
        text = cell.text(record)
        if text not in known:
            known[text] = of_list(text)
        of_row = known[text]
        if of_row is None:
            problem = "a listed word is none that is known; say what it means in word_list.words"
            mend = f"{problem}, or set word_list.others=pass_over"
            findings.append(Finding(row, f"{cell.shown}: {mend}", "unknown_class"))
            continue
        records[row] = {**record, **of_row}
    columns = tuple(dict.fromkeys((*sheet.columns, *targets)))
    return SheetMade(replace(sheet, columns=columns, records=records), tuple(findings))


def _combined(settings: ListingSettings) -> dict[str, CombinedTarget]:
    """Those of the combined targets that are asked for."""
    return {
        target: how
        for target, how in settings.combined_targets.items()
        if target in settings.targets
    }


def _with_combined(
    sheet: Sheet, target: str, how: CombinedTarget, settings: ListingSettings
) -> SheetMade:
    """A column of one target, made of those of several findings: 1, 0, or nothing.

    Cells are read as those of targets are. A row of which one is no word for a class is taken out,
    and told.
    """
    names = how.findings
    cells = [find_cell(settings.target_columns.get(name, name), sheet.columns) for name in names]
    cell_of = {name: cell for name, cell in zip(names, cells, strict=True) if cell is not None}
    if len(cell_of) < len(names):
        return SheetMade(sheet)  # `needed_columns` tells which are missing
    unknown = frozenset(map(same_word, settings.unknown))
    mentions = mentioning_cells(settings, sheet)
    records: dict[int, dict[str, str]] = {}
    findings = []
    for row, record in sheet.records.items():
        cells_known = known_cells(record, unknown)
        says_something = any(not is_nothing(one.text(cells_known)) for one in mentions)
        labels: list[float] = []
        for name, cell in cell_of.items():
            text = cell.words(cells_known)
            label = settings.words_of(name).of_cell(text)
            if label is None:
                problem = "is no word for a class; say what it means in `labels`"
                findings.append(Finding(row, f"{cell.shown}: {problem}", "unknown_class"))
                break
            labels.append(0.0 if says_something and is_nothing(text) else label)
        else:
            records[row] = {**record, target: _combination(labels, len(how.any_of))}
    columns = tuple(dict.fromkeys((*sheet.columns, target)))
    return SheetMade(replace(sheet, columns=columns, records=records), tuple(findings))


def mentioning_cells(settings: ListingSettings, sheet: Sheet) -> tuple[Cell, ...]:
    """The cells by which a row says something or nothing, where `unmentioned` is negative."""
    if settings.unmentioned != "negative":
        return ()
    cells = (find_cell(column, sheet.columns) for column in settings.target_columns.values())
    return tuple(cell for cell in cells if cell is not None)


def _combination(labels: Sequence[float], n_any_of: int) -> str:
    """A cell of 1, 0 or nothing, by the labels of `any_of` and then `against`; nan is unknown."""
    any_of, against = labels[:n_any_of], labels[n_any_of:]
    if 1.0 in any_of:
        return "1"
    return "0" if 1.0 in against or (not against and set(any_of) == {0.0}) else ""


def _with_ages(sheet: Sheet, rule: AgeRule) -> Sheet:
    """A column of ages, of the years of birth and of the image."""
    born = None if rule.born is None else find_cell(rule.born, sheet.columns)
    taken = None if rule.taken is None else find_cell(rule.taken, sheet.columns)
    if born is None or taken is None:
        return sheet

    def age(record: Mapping[str, str]) -> str:
        years = years_between(born.text(record), taken.text(record))
        return "" if years is None else str(years)

    return _with_column(sheet, _AGE, age)


def _gathered(sheet: Sheet, settings: ListingSettings, how: Gathering) -> SheetMade:
    """One row for each file that rows name, the first of them, with what its readers agree on."""
    file = find_cell(settings.file_column, sheet.columns)
    if file is None:
        return SheetMade(sheet)
    rows_of: dict[str, list[int]] = {}
    for row, record in sheet.records.items():
        name = file.pattern(record) if has_wildcards(settings.file_column) else file.text(record)
        rows_of.setdefault(name or f"\0{row}", []).append(row)  # a row of no file is its own
    targets = {
        target: cell.columns[0]
        for target in dict.fromkeys((*settings.targets, *settings.target_columns))
        if (cell := find_cell(settings.target_columns.get(target, target), sheet.columns))
        is not None
        and not cell.is_template
    }
    reader = None
    if how.reader_column is not None:
        reader = find_cell(how.reader_column, sheet.columns)
    alike = _of_the_image(settings, sheet)
    records: dict[int, dict[str, str]] = {}
    findings = []
    for rows in rows_of.values():
        some = [sheet.records[row] for row in rows]
        differ = [one for one in alike if len({same_word(record[one]) for record in some}) > 1]
        if differ:
            text = f"{', '.join(differ)}: rows of one image say different things; an image has one"
            findings += [Finding(row, text, "contradiction") for row in rows]
            continue
        merged = dict(some[0])
        for target, column in targets.items():
            said = [("" if reader is None else reader.text(one), one[column]) for one in some]
            merged[column] = _agreed(settings.words_of(target), said, how)
        records[rows[0]] = merged
    return SheetMade(replace(sheet, records=records), tuple(findings))


def _of_the_image(settings: ListingSettings, sheet: Sheet) -> list[str]:
    """The columns that are read of an image and are the same in all of its rows."""
    asked: list[Column] = [*settings.attribute_columns.values(), settings.split_column]
    if settings.patient_pattern is None:
        asked.append(settings.patient_column)
    columns = (find_column(names, sheet.columns) for one in asked for names in names_in(one))
    return list(dict.fromkeys(one for one in columns if one is not None))


def _agreed(words: Labels, said: Sequence[tuple[str, str]], how: Gathering) -> str:
    """The cell on which the readers of an image agree, as one of them wrote it; empty for none.

    A word that is none for a class stays, to be refused where it is read.

    Args:
        words: for the classes.
        said: the reader and the cell of each row of the image.
        how: they agree.
    """
    of_reader: dict[str, tuple[float, str]] = {}
    for reader, cell in said:
        label = words.of_cell(cell)
        if label is None:
            return cell
        # What a reader marks in one row isn't taken back by the next, of another finding.
        first, _ = of_reader.get(reader, (math.nan, ""))
        if math.isnan(first) or label > first:
            of_reader[reader] = (label, cell)
    known = [vote for vote in of_reader.values() if not math.isnan(vote[0])]
    agreed = _verdict([label for label, _ in known], how)
    return next((cell for label, cell in known if label == agreed), "")


def _verdict(votes: Sequence[float], how: Gathering) -> float:
    """1, 0 or nan of what the readers who know say, 1 or 0 each."""
    if not votes:
        return math.nan
    if how.agree == "any":
        return max(votes)
    if how.agree == "all":
        return min(votes)
    share = sum(votes) / len(votes)
    return math.nan if share == 0.5 else float(share > 0.5)
