"""Bounded reading of CSV tables, with every problem named at once."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from synthdp.files import refuse_without_descriptors

MAX_TABLE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Table:
    """A CSV table: its columns, its records by row number (the header is row 1), what is wrong.

    A record with more or fewer cells than the header is left out, and is among the problems.
    """

    columns: tuple[str, ...] = ()
    records: Mapping[int, dict[str, str]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_table(path: Path, *, required: tuple[str, ...] = ()) -> Table:
    """Read a CSV table whose header must name the `required` columns.

    Raises:
        RunError: when no file descriptor is left.
    """
    try:
        if not path.is_file():
            return Table(problems=("missing; restore it or make the data set again",))
        if path.stat().st_size > MAX_TABLE_BYTES:
            size = MAX_TABLE_BYTES // 2**20
            return Table(problems=(f"larger than {size} MiB, so it was not read",))
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        columns = tuple(reader.fieldnames or ())
        problems = [f"column {name!r} is missing" for name in required if name not in columns]
        problems += ["two columns have one name"] if len(set(columns)) < len(columns) else []
        if problems:
            return Table(columns, problems=tuple(problems))
        records = dict(enumerate(reader, start=2))
    except OSError as error:
        refuse_without_descriptors(error)
        return Table(problems=("cannot be read; give the user that runs this the right to",))
    except (UnicodeDecodeError, csv.Error) as error:
        return Table(problems=(f"not readable as UTF-8 CSV ({type(error).__name__})",))
    torn = {n for n, record in records.items() if None in record or None in record.values()}
    problems = [f"row {number}: has more or fewer cells than the header" for number in sorted(torn)]
    problems += [] if records else ["holds no rows"]
    whole = {number: record for number, record in records.items() if number not in torn}
    return Table(columns, whole, tuple(problems))
