"""The free columns of a manifest (site, view, age ...), and rows chosen by what stands in them."""

from __future__ import annotations  # of a set the types alone are named

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from synthdp.config.typed_values import InWords
from synthdp.errors import InputError

if TYPE_CHECKING:
    from synthdp.data.dataset import Dataset, Row

#: What an empty cell is called.
UNKNOWN = "unknown"


def _as_words(value: Any) -> Any:
    """`{site: A}` is short for `{site: [A]}`; numbers are taken as they are written."""
    if not isinstance(value, Mapping):
        return value
    many = {
        name: cell if isinstance(cell, list | tuple) else [cell] for name, cell in value.items()
    }
    return {
        name: [str(cell) if isinstance(cell, int | float) else cell for cell in cells]
        for name, cells in many.items()
    }


def _in_order(where: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    """One spelling for one choice, so that equal runs have equal settings."""
    return {name: tuple(sorted(set(where[name]))) for name in sorted(where)}


#: No slash: settings that leave the house have each path cut to its last part.
_Word = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[^/\\\s]([^/\\\n]*[^/\\\s])?$")
]
#: Column -> the values of which a row must have one, in every column that is named; the word
#: `unknown` stands for an empty cell.
Where = Annotated[
    dict[_Word, Annotated[tuple[_Word, ...], Field(min_length=1)]],
    BeforeValidator(_as_words),
    Field(min_length=1),
    AfterValidator(_in_order),
    InWords("mapping of columns to the values that count"),
]


def columns_of(dataset: Dataset) -> list[str]:
    """The free columns of a data set's manifest, in their order."""
    return list(dict.fromkeys(name for row in dataset.rows for name in row.attributes))


def refuse_missing_column(dataset: Dataset, column: str, *, setting: str = "") -> None:
    """Refuse a column that a data set does not have; `setting` is the one that asks for it.

    Raises:
        InputError: naming those that it has.
    """
    known = columns_of(dataset)
    if column not in known:
        raise InputError(
            f"{f'{setting}: ' if setting else ''}{dataset.info.name}: has no column {column}; its "
            "columns beside image, patient, "
            f"split and targets: {', '.join(known) or 'none'}"
        )


def cell_of(row: Row, column: str) -> str:
    """What stands in a free column of a row."""
    return row.attributes.get(column, "").strip() or UNKNOWN


def rows_where(
    dataset: Dataset,
    rows: Sequence[Row],
    where: Mapping[str, Sequence[str]] | None,
    *,
    may_be_empty: bool = False,
) -> tuple[Row, ...]:
    """Those of `rows` that have the wanted values; all of them for None.

    Guarantee: whether a row stays is a public function of that row alone, so the rows of a patient
    stay or go whatever else the set holds: neighbours stay neighbours, and a bound on all patients
    is one on those that are left.

    Raises:
        InputError: when the set lacks a column, or no row is left, unless it `may_be_empty`
            (`Dataset.split`).
    """
    if where is None:
        return tuple(rows)
    for column in where:
        refuse_missing_column(dataset, column, setting="where")
    chosen = tuple(
        row for row in rows if all(cell_of(row, name) in cells for name, cells in where.items())
    )
    if not chosen and not may_be_empty:
        raise InputError(
            f"{dataset.info.name}: no image of the split has {where_words(where)}; name a value "
            "that images of this split have, or another split"
        )
    return chosen


def where_words(where: Mapping[str, Sequence[str]]) -> str:
    """A choice of rows for people, as in `site A` or `site A or B, view CC`."""
    return ", ".join(f"{name} {' or '.join(cells)}" for name, cells in where.items())
