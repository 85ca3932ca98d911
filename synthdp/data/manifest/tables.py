"""CSV tables: bounded reading with every problem named at once, and text that is no formula."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from synthdp.errors import quoted
from synthdp.storage.files import refuse_without_descriptors

MAX_TABLE_BYTES = 256 * 2**20
MAX_COLUMNS = 1000
#: The problem of a table with a header alone.
NO_ROWS = "holds no rows"
#: How many rows of a wrong length are named; a table with more is read no further.
MAX_TORN_ROWS = 50
#: Where a spreadsheet takes a text for a formula, and runs it: where a cell begins, and where one
#: would that is cut at a semicolon, a tab or a line, as is done in much of Europe. There its own
#: mark of text is written, ', and taken away when the table is read again.
_CUT = r"(?<![^;\t\n])"
_WIDE = (
    "\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
    "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)
_FORMULA = rf"'*(?:[^\S\t\n]*[=+\-@{_WIDE}]|\t)"
_BARE, _MARKED = re.compile(rf"{_CUT}(?={_FORMULA})"), re.compile(rf"{_CUT}'(?={_FORMULA})")
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf|nan)")


@dataclass(frozen=True)
class Table:
    """A CSV table: its columns, its records by row number (the header is row 1), what is wrong.

    A record with more or fewer cells than the header is left out, and is among the problems.
    """

    columns: tuple[str, ...] = ()
    records: Mapping[int, dict[str, str]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_table(
    path: Path,
    *,
    required: tuple[str, ...] = (),
    max_bytes: int = MAX_TABLE_BYTES,
    semicolons: bool = False,
) -> Table:
    """Read a CSV table whose header must name the `required` columns.

    Args:
        path: the file.
        required: columns.
        max_bytes: of a file that is read.
        semicolons: take a table whose header has semicolons and no comma, as spreadsheets of much
            of Europe save one.

    Raises:
        RunError: when no file descriptor is left.
    """
    number = 0
    try:
        if not path.is_file():
            return Table(problems=("missing; restore it or make the data set again",))
        if path.stat().st_size > max_bytes:
            return Table(problems=(f"larger than {max_bytes // 2**20} MiB, so it was not read",))
        text = path.read_text(encoding="utf-8-sig")
        header = text.partition("\n")[0]
        between = ";" if semicolons and ";" in header and "," not in header else ","
        rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=between)
        columns = tuple(plain_text(cell) for cell in islice(next(rows, []), MAX_COLUMNS + 1))
        problems = [f"column {quoted(name)} is missing" for name in required if name not in columns]
        problems += ["two columns have one name"] if len(set(columns)) < len(columns) else []
        problems += [f"more than {MAX_COLUMNS} columns"] if len(columns) > MAX_COLUMNS else []
        if problems:
            return Table(columns, problems=tuple(problems))
        records: dict[int, dict[str, str]] = {}
        number = 1
        for number, row in enumerate(rows, start=2):
            if len(row) == len(columns):
                records[number] = dict(zip(columns, map(plain_text, row), strict=True))
                continue
            if not row:  # an empty line counts, as in a spreadsheet, and says nothing
                continue
            problems.append(f"row {number}: has more or fewer cells than the header")
            if len(problems) == MAX_TORN_ROWS:
                problems.append("so many rows are torn that the rest was not read")
                break
    except OSError as error:
        refuse_without_descriptors(error)
        return Table(problems=("cannot be read; give the user that runs this the right to",))
    except (UnicodeDecodeError, csv.Error) as error:
        torn = csv_problem(error, number + 1) if isinstance(error, csv.Error) else None
        return Table(problems=(torn or "not readable as UTF-8 CSV; save it as such",))
    problems += [] if records or problems else [NO_ROWS]
    return Table(columns, records, tuple(problems))


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV table of these rows, no text of which a spreadsheet takes for a formula.

    `read_table` gives back the very texts, a carriage return apart. None is an empty cell.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    for row in chain([columns], rows):
        writer.writerow([_as_text(cell) if isinstance(cell, str) else cell for cell in row])
    return stream.getvalue()


def _as_text(cell: str) -> str:
    cell = cell.replace("\r", " ")  # csv leaves it bare, and readers begin a row after it
    return cell if _NUMBER.fullmatch(cell) else _BARE.sub("'", cell)


def csv_problem(error: csv.Error, number: int) -> str:
    """What is wrong with the row that begins as the row of that number, where csv gave up."""
    if "field limit" in str(error):
        return (
            f"row {number}: a cell of more than {csv.field_size_limit():,} characters, or a quote "
            "that is not closed"
        )
    return f"row {number}: a quote is not closed, or text stands behind a closing one"


def plain_text(cell: str) -> str:
    """A cell without a spreadsheet's mark of text, which `csv_text` writes."""
    return _MARKED.sub("", cell) if "'" in cell else cell
