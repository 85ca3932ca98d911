"""Further tables put beside the one that names images: labels, splits and persons stand apart.

Each row is given what the further table says under its own key, so that nobody's row depends on
another person's; a key with two answers is a finding of the rows that ask for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from synthdp.data.importing.findings import Finding
from synthdp.data.importing.settings.reports import JoinedTable
from synthdp.data.importing.tables.cells import find_column, same_word
from synthdp.data.importing.tables.sheets import Sheet, SheetForm, known_columns, read_sheet


@dataclass(frozen=True)
class FurtherTable:
    """A table beside that of the images: its file, how its rows belong to those, what it is called.

    The name is for errors: of a file that a pattern found it is the pattern.
    """

    path: Path
    how: JoinedTable
    name: str


@dataclass(frozen=True)
class SheetMade:
    """A sheet of which rows were changed, and what is wrong with those that were taken out."""

    sheet: Sheet
    findings: tuple[Finding, ...] = ()


def joined_sheet(sheet: Sheet, further: Sequence[FurtherTable]) -> SheetMade:
    """A table with the columns of further tables beside its own, in their order.

    A column that the table has already keeps what it holds, and takes the further cell where it is
    empty. A row whose key the further table lacks has empty cells.
    """
    made = SheetMade(sheet)
    for table in further:
        beside = _joined(made.sheet, table)
        made = SheetMade(beside.sheet, (*made.findings, *beside.findings))
    return made


def _joined(sheet: Sheet, table: FurtherTable) -> SheetMade:
    how, name = table.how, table.name
    wanted = [(column,) for column in how.on.values()]
    other = read_sheet(table.path, SheetForm(header=how.header), wanted=wanted)
    keys = {one: find_column([one], sheet.columns) for one in how.on}
    further_keys = {one: find_column([one], other.columns) for one in how.on.values()}
    problems = [f"{name}, {problem}" for problem in other.problems]
    problems += [
        f"joined, {name}: the images' table has no column {one!r} ({known_columns(sheet)})"
        for one, column in keys.items()
        if column is None and sheet.columns
    ]
    problems += [
        f"joined, {name}: it has no column {one!r} ({known_columns(other)}); correct `on`"
        for one, column in further_keys.items()
        if column is None and other.columns
    ]
    if problems or not other.columns:
        return SheetMade(replace(sheet, problems=(*sheet.problems, *problems)))
    own_key = [column for column in keys.values() if column is not None]
    other_key = [column for column in further_keys.values() if column is not None]
    said, twice = _by_key(other, other_key, how.fill)
    added = [one for one in (*other.columns, *how.fill) if one not in other_key]
    columns = tuple(dict.fromkeys((*sheet.columns, *added)))
    records: dict[int, dict[str, str]] = {}
    findings = []
    for row, record in sheet.records.items():
        key = _key(record, own_key)
        if key in twice:
            text = f"{', '.join(own_key)}: rows of {name} say different things of it; name one"
            findings.append(Finding(row, text, "contradiction"))
            continue
        beside = said.get(key, {})
        records[row] = {one: record.get(one) or beside.get(one, "") for one in columns}
    return SheetMade(replace(sheet, columns=columns, records=records), tuple(findings))


def _key(record: Mapping[str, str], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(same_word(record[column]) for column in columns)


def _by_key(
    sheet: Sheet, columns: Sequence[str], fill: Mapping[str, str]
) -> tuple[dict[tuple[str, ...], dict[str, str]], set[tuple[str, ...]]]:
    """What a table says under each key, and the keys under which it says two things."""
    said: dict[tuple[str, ...], dict[str, str]] = {}
    twice = set()
    for record in sheet.records.values():
        key = _key(record, columns)
        if not all(key):
            continue  # nobody's row
        of_key = {**record, **fill}
        if said.setdefault(key, of_key) != of_key:
            twice.add(key)
    return said, twice
