"""Typed rows as CSV files: the tables of a study."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from synthdp.config import EpsilonTarget, Settings, validate_settings
from synthdp.errors import InputError

MAX_TABLE_BYTES = 64 * 2**20

Row = TypeVar("Row", bound=Settings)


class StudyCell(Settings):
    """Which models a row is about: all seeds of one strategy at one epsilon, scored on one split.

    `epsilon` is the target asked for (None, written `none`: without privacy), or `all` for a figure
    through all finite ones. `trained_on` names the site that they were trained at, empty for the
    whole set; `tuned` holds the values that the study tried, as in `results.csv`.
    """

    strategy: str
    epsilon: EpsilonTarget | Literal["all"]
    tuned: str = ""
    trained_on: str = ""
    data_set: str
    split: str
    n_seeds: int


def table_csv(row_class: type[Row], rows: Iterable[Row], *, decimals: int | None = None) -> str:
    """The rows as CSV: `none` for no privacy, `inf` for no promise, empty for no value.

    Floats are rounded to `decimals`; None: as they are.
    """
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(row_class.model_fields), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = {
            name: round(value, decimals)
            if isinstance(value, float) and decimals is not None
            else value
            for name, value in row.model_dump(mode="json").items()
        }
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
        InputError: when the file is missing, too large, of another version, or a cell is wrong.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such table; run {remedy} to write it")
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
    for name, field in row_class.model_fields.items():
        if field.annotation is str:
            values.setdefault(name, "")
    return validate_settings(row_class, values, where=where)
