"""Typed rows in CSV files: a study's tables beside its results."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from synthdp.config import EpsilonTarget, Settings, SettingsType, validate_settings
from synthdp.data.tables import read_table
from synthdp.errors import InputError
from synthdp.files import write_atomic

_DECIMALS = 6


class StudyCell(Settings):
    """Which models a row is about: all seeds of one strategy at one epsilon, scored on one split.

    `epsilon` is the target asked for (None, written `none`: without privacy), or `all` for a figure
    through all finite ones. `trained_on` names
    the site that they were trained at, empty for the whole set; `tuned` holds the values that the
    study tried, as in `results.csv`.
    """

    strategy: str
    epsilon: EpsilonTarget | Literal["all"]
    tuned: str = ""
    trained_on: str = ""
    data_set: str
    split: str
    n_seeds: int


def rows_csv(row_class: type[SettingsType], rows: Iterable[SettingsType]) -> str:
    """The rows as CSV: `none` for no privacy, empty for no value, six decimals."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(row_class.model_fields), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = {name: _cell(value) for name, value in row.model_dump(mode="json").items()}
        writer.writerow({**values, **_none_word(values)})
    return stream.getvalue()


def _cell(value: Any) -> Any:
    return round(value, _DECIMALS) if isinstance(value, float) else value


def _none_word(values: Mapping[str, Any]) -> dict[str, str]:
    return {"epsilon": "none"} if "epsilon" in values and values["epsilon"] is None else {}


def write_rows(path: Path, row_class: type[SettingsType], rows: Sequence[SettingsType]) -> None:
    """Write the table, atomically."""
    write_atomic(path, rows_csv(row_class, rows))


def read_rows(path: Path, row_class: type[SettingsType]) -> list[SettingsType]:
    """Read a table that `write_rows` wrote.

    Raises:
        InputError: when it is missing, of another version, or a cell is wrong.
    """
    table = read_table(path, required=tuple(row_class.model_fields))
    unknown = [name for name in table.columns if name not in row_class.model_fields]
    findings = [*table.findings, *(f"column {name!r} is not known" for name in unknown)]
    if findings:
        raise InputError(
            f"{path.name}: {'; '.join(findings[:5])}; delete it, and `synthdp report` writes it "
            "anew"
        )
    words = [name for name, field in row_class.model_fields.items() if field.annotation is str]
    return [
        validate_settings(
            row_class,
            {name: value for name, value in record.items() if value or name in words},
            where=f"{path.name}, row {number}",
        )
        for number, record in table.records.items()
    ]
