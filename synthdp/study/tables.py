"""Typed rows as CSV files: the tables of a study."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from synthdp.config import Settings, validate_settings
from synthdp.errors import InputError

MAX_TABLE_BYTES = 64 * 2**20

Row = TypeVar("Row", bound=Settings)


def table_csv(row_class: type[Row], rows: Iterable[Row]) -> str:
    """The rows as CSV: `none` for no privacy, `inf` for no promise, empty for no value."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(row_class.model_fields), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = row.model_dump(mode="json")
        words = {"epsilon": "none"} if values.get("epsilon", 0) is None else {}
        writer.writerow({**values, **words})
    return stream.getvalue()


def read_table(
    path: Path, row_class: type[Row], *, older: Sequence[tuple[str, ...]] = (), remedy: str
) -> list[Row]:
    """Read a table that `table_csv` wrote.

    Args:
        path: the file.
        row_class: what its rows are.
        older: headers of older versions that are read too.
        remedy: the command that writes the table anew.

    Raises:
        InputError: when the file is too large, of another version, or a cell is wrong.
    """
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise InputError(f"{path}: larger than {MAX_TABLE_BYTES:,} bytes, so it was not read")
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        header, records = tuple(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not readable as UTF-8 CSV ({type(error).__name__})") from error
    columns = tuple(row_class.model_fields)
    if header not in (columns, *older):
        differing = sorted({*header} ^ {*columns}) or ["their order"]
        raise InputError(
            f"{path}: columns differ from this version's ({', '.join(differing)}); run {remedy} "
            "again to write the table anew"
        )
    return [
        _read_row(row_class, record, f"{path}, row {row}")
        for row, record in enumerate(records, start=2)
    ]


def _read_row(row_class: type[Row], record: Mapping[str | None, Any], where: str) -> Row:
    if None in record or None in record.values():
        raise InputError(f"{where}: has more or fewer cells than the header")
    values = {str(name): value for name, value in record.items() if value != ""}
    for name in ("data_set", "split", "run"):
        if name in row_class.model_fields:
            values.setdefault(name, "")
    return validate_settings(row_class, values, where=where)
