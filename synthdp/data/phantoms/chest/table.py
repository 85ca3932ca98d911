"""Tables of labels that radiographs are drawn to: patients with their images, findings, age, sex.

A table says who has how many images and what they show; no pixel of anybody goes into a drawing.
"""

import csv
import gzip
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthdp.data.importing.tables.collection_table import read_collection
from synthdp.data.manifest.tables import MAX_TABLE_BYTES
from synthdp.data.people.ages import MOST_YEARS, years
from synthdp.data.phantoms.chest.names import FINDINGS, NO_FINDING
from synthdp.data.phantoms.chest.settings import TableColumns
from synthdp.errors import InputError, quoted

#: Problems that an error lists.
MAX_LISTED = 20
#: What `columns.called` says of a finding that is left out.
NOT_DRAWN = "none"
_SEXES = {"m": "M", "male": "M", "w": "F", "f": "F", "female": "F"}
_CELLS = {
    "1": 1.0,
    "1.0": 1.0,
    "0": 0.0,
    "0.0": 0.0,
    "": math.nan,
    "-1": math.nan,
    "-1.0": math.nan,
}


@dataclass(frozen=True)
class TableImage:
    """One row: view PA or AP, age in years (nan unknown), 14 findings (1, 0, nan unknown)."""

    view: str
    age_years: float
    findings: tuple[float, ...]


@dataclass(frozen=True)
class TablePatient:
    """A patient of a table.

    Attributes:
        number: place among the table's patients, from 1.
        sex: M, F, or empty where it is unknown.
        site, split: as the table has them, or empty.
        images: in the table's order.
    """

    number: int
    sex: str
    site: str
    split: str
    images: tuple[TableImage, ...]


@dataclass(frozen=True)
class LabelTable:
    """The patients of a table in the order of their first rows, and which findings it knows."""

    patients: tuple[TablePatient, ...]
    known: frozenset[str]


#: A row: its patient, sex, site and split, and the image.
_Row = tuple[str, str, str, str, TableImage]


def read_columns(path: Path, columns: TableColumns, views: Sequence[str]) -> LabelTable:
    """Read a CSV table, plain or gzipped, whose columns are named.

    Args:
        path: of the table.
        columns: what its columns are called.
        views: rows of other views are left out; a row that names none is of the first of these.

    Raises:
        InputError: when it can't be read, lacks a column, names a finding that is not drawn, or has
            a patient of two sexes, sites or splits.
    """
    records = _records(path)
    header = list(next(records, {}))
    _refuse_missing(path, columns, header)
    rows: list[_Row] = []
    problems: list[str] = []
    for number, record in enumerate(records, start=2):
        view = _cell(record, columns.view).upper() or views[0]
        if view not in views:
            continue
        findings, problem = _findings(record, columns)
        patient = record[columns.patient].strip()
        if problem or not patient:
            problems.append(f"row {number}: {problem or 'names no patient'}")
            if len(problems) == MAX_LISTED:
                break
            continue
        sex = _SEXES.get(_cell(record, columns.sex).lower(), "")
        site, split = _cell(record, columns.site), _cell(record, columns.split)
        image = TableImage(view, _age(_cell(record, columns.age)), findings)
        rows.append((patient, sex, site, split, image))
    if problems:
        raise InputError("\n  ".join([f"{path}:", *problems]))
    known = FINDINGS if columns.findings is not None else set(FINDINGS) & set(header)
    return LabelTable(_by_patient(str(path), rows, views), frozenset(known))


def read_known_collection(
    name: str, paths: Sequence[Path], columns: TableColumns, views: Sequence[str]
) -> LabelTable:
    """Read the tables of a collection by its mapping; arguments and errors as of `read_columns`."""
    read = read_collection(name, paths)
    meant = {one: columns.called.get(one, one) for one in read.targets}
    strange = sorted(set(meant.values()) - {*FINDINGS, NO_FINDING, NOT_DRAWN})
    if strange:
        raise InputError(
            f"{name}: {', '.join(strange)}: not drawn; say in columns.called which finding each "
            f"stands for, or none. Drawn are {', '.join(FINDINGS)}"
        )
    indices_of = {
        one: [read.targets.index(own) for own in meant if meant[own] == one] for one in FINDINGS
    }
    rows: list[_Row] = []
    for row in read.rows:
        view = row.attributes.get("view", "").upper() or views[0]
        if view not in views:
            continue
        findings = tuple(
            _any([row.targets[index] for index in indices_of[one]]) for one in FINDINGS
        )
        image = TableImage(view, _age(row.attributes.get("age", "")), findings)
        sex = _SEXES.get(row.attributes.get("sex", "").lower(), "")
        rows.append((row.patient_id, sex, row.attributes.get("site", ""), row.split or "", image))
    known = frozenset(one for one in FINDINGS if indices_of[one])
    return LabelTable(_by_patient(name, rows, views), known)


def _any(values: Sequence[float]) -> float:
    """1 where one of several labels is, 0 where all known ones are 0, nan where none is known."""
    known = [value for value in values if not math.isnan(value)]
    return max(known) if known else math.nan


def _by_patient(where: str, rows: Sequence[_Row], views: Sequence[str]) -> tuple[TablePatient, ...]:
    patients: dict[str, list[_Row]] = {}
    for row in rows:
        patients.setdefault(row[0], []).append(row)
    if not patients:
        raise InputError(
            f"{where}: has no row of a view {' or '.join(views)}; name others in views"
        )
    return tuple(
        _patient(where, number, of_one) for number, of_one in enumerate(patients.values(), start=1)
    )


def _records(path: Path) -> Iterator[Mapping[str, str]]:
    """The header as a mapping of its names, then each row by its columns.

    Raises:
        InputError: when the file can't be read as a table.
    """
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            content = stream.read(MAX_TABLE_BYTES + 1)
        if len(content) > MAX_TABLE_BYTES:
            raise InputError(f"{path}: larger than {MAX_TABLE_BYTES // 2**20} MiB; cut it in parts")
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        header = [name.strip() for name in next(reader, [])]
        yield dict.fromkeys(header, "")
        for number, cells in enumerate(reader, start=2):
            if not cells:
                continue
            # a comma within the names of NIH's last columns makes one more cell than names
            if len(cells) < len(header):
                raise InputError(f"{path}: row {number} has fewer cells than the header")
            yield dict(zip(header, cells, strict=False))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: can't be read as a CSV table, plain or gzipped") from error


def _refuse_missing(path: Path, columns: TableColumns, header: Sequence[str]) -> None:
    named = [name for name in columns.named() if name]
    if columns.findings is None and not set(FINDINGS) & set(header):
        raise InputError(
            f"{path}: has none of the columns {', '.join(FINDINGS)}; name the column that lists "
            "the findings of an image in columns.findings"
        )
    missing = [name for name in named if name not in header]
    if missing:
        raise InputError(
            f"{path}: lacks the column(s) {', '.join(map(quoted, missing))}; say in columns what "
            f"they are called, or none. It has: {', '.join(map(quoted, header[:40]))}"
        )


def _findings(
    row: Mapping[str, str], columns: TableColumns
) -> tuple[tuple[float, ...], str | None]:
    """The 14 findings of a row, and what is wrong with it."""
    if columns.findings is None:
        cells = {name: row.get(name, "").strip() for name in FINDINGS}
        bad = next((name for name, cell in cells.items() if cell not in _CELLS), None)
        if bad is not None:
            return (), f"{bad} is none of 1, 0, -1 or empty"
        return tuple(_CELLS[cell] for cell in cells.values()), None
    listed = [name.strip() for name in row[columns.findings].split("|")]
    if listed == [""]:
        return (math.nan,) * len(FINDINGS), None
    names = {columns.called.get(name, name.lower().replace(" ", "_")) for name in listed}
    if names - {*FINDINGS, NO_FINDING, NOT_DRAWN}:
        return (), (
            "names a finding that is not drawn; say in columns.called which one stands for it, or "
            "none"
        )
    return tuple(float(name in names) for name in FINDINGS), None


def _cell(record: Mapping[str, str], column: str | None) -> str:
    return "" if column is None else record[column].strip()


def _age(cell: str) -> float:
    """An age in years, as a number or as DICOM has it; nan where it is none of a living person."""
    age = years(cell) if cell else None
    return math.nan if age is None or not 0 <= age <= MOST_YEARS else float(age)


def _patient(where: str, number: int, rows: Sequence[_Row]) -> TablePatient:
    """A patient of these rows.

    Raises:
        InputError: when they are of two sexes, sites or splits; it names no patient.
    """
    own = []
    for index, what in ((1, "sex"), (2, "site"), (3, "split")):
        values = {str(row[index]) for row in rows} - {""}
        if len(values) > 1:
            raise InputError(
                f"{where}: a patient has more than one {what}; an id must name one person, in one "
                "site and split"
            )
        own.append(next(iter(values), ""))
    return TablePatient(number, own[0], own[1], own[2], tuple(row[4] for row in rows))
