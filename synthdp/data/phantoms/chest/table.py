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

from synthdp.data.manifest.tables import MAX_TABLE_BYTES
from synthdp.data.people.ages import years
from synthdp.data.phantoms.chest.names import FINDINGS, NO_FINDING
from synthdp.data.phantoms.chest.settings import TableColumns
from synthdp.errors import InputError, quoted

#: An age beyond it is a slip of the pen (NIH's first table has 412), and counts as unknown.
OLDEST_YEARS = 120
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


def read_patients(
    path: Path, columns: TableColumns, views: Sequence[str]
) -> tuple[TablePatient, ...]:
    """The patients of a CSV table, plain or gzipped, in the order of their first rows.

    Args:
        path: of the table.
        columns: what its columns are called.
        views: rows of other views are left out; a row that names none is of the first of these.

    Raises:
        InputError: when it can't be read, lacks a column, names a finding that is not drawn, or has
            a patient of two sexes, sites or splits.
    """
    rows = _rows(path)
    header = next(rows, {})
    _refuse_missing(path, columns, list(header))
    patients: dict[str, list[tuple[str, str, str, TableImage]]] = {}
    problems: list[str] = []
    for number, row in enumerate(rows, start=2):
        view = row[columns.view].strip().upper() if columns.view else ""
        if view and view not in views:
            continue
        findings, problem = _findings(row, columns)
        patient = row[columns.patient].strip()
        if problem or not patient:
            problems.append(f"row {number}: {problem or 'names no patient'}")
            if len(problems) == MAX_LISTED:
                break
            continue
        image = TableImage(view or views[0], _age(row, columns), findings)
        site = row[columns.site].strip() if columns.site else ""
        split = row[columns.split].strip() if columns.split else ""
        patients.setdefault(patient, []).append((_sex(row, columns), site, split, image))
    if problems:
        raise InputError("\n  ".join([f"{path}:", *problems]))
    if not patients:
        raise InputError(f"{path}: has no row of a view {' or '.join(views)}; name others in views")
    return tuple(
        _patient(path, number, rows_of) for number, rows_of in enumerate(patients.values(), start=1)
    )


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
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
            # NIH's own table has a comma within the names of its last columns
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
    unknown = sorted(names - {*FINDINGS, NO_FINDING, NOT_DRAWN})
    if unknown:
        return (), (
            f"{quoted(unknown[0])} is no finding that is drawn; say in columns.called which one "
            "stands for it, or none"
        )
    return tuple(float(name in names) for name in FINDINGS), None


def _age(row: Mapping[str, str], columns: TableColumns) -> float:
    """An age in years, as a number or as DICOM has it; nan where it is none of a living person."""
    age = years(row[columns.age]) if columns.age and row[columns.age].strip() else None
    return math.nan if age is None or not 0 <= age <= OLDEST_YEARS else float(age)


def _sex(row: Mapping[str, str], columns: TableColumns) -> str:
    return _SEXES.get(row[columns.sex].strip().lower(), "") if columns.sex else ""


def _patient(
    path: Path, number: int, rows: Sequence[tuple[str, str, str, TableImage]]
) -> TablePatient:
    """A patient of these rows.

    Raises:
        InputError: when they are of two sexes, sites or splits; it names no patient.
    """
    sexes, sites, splits = ({row[index] for row in rows} - {""} for index in range(3))
    for what, values in (("sex", sexes), ("site", sites), ("split", splits)):
        if len(values) > 1:
            raise InputError(
                f"{path}: a patient has more than one {what}; an id must name one person, in one "
                "site and split"
            )
    one = [next(iter(values), "") for values in (sexes, sites, splits)]
    return TablePatient(number, one[0], one[1], one[2], tuple(row[3] for row in rows))
