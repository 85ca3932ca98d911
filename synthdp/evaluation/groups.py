"""Groups of images by a column of the manifest: by its values, or by bins of its numbers."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from synthdp.config import Settings
from synthdp.data.columns import UNKNOWN, cell_of, refuse_missing_column
from synthdp.data.dataset import Dataset, Row
from synthdp.errors import InputError

#: A column of more values is an id or a measurement, not a group.
MAX_GROUPS = 40

CutPoints: TypeAlias = tuple[float, ...] | None


def _as_mapping(value: Any) -> Any:
    """A list of columns, or one, stands for these columns without cut points."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple):
        if any(not isinstance(name, str) for name in value):
            raise ValueError("name columns of the manifest, as in [view, breast_density]")
        if len(set(value)) < len(value):
            raise ValueError("a column stands twice; keep one")
        return dict.fromkeys(value)
    return value


def _in_order(attributes: Mapping[str, CutPoints]) -> Mapping[str, CutPoints]:
    for name, cuts in attributes.items():
        if cuts is not None and (not cuts or list(cuts) != sorted(set(cuts))):
            raise ValueError(f"{name}: cut points are numbers in rising order, as in [50, 60, 70]")
    return attributes


#: Column of the manifest -> None for its values as they are, or the points that cut its numbers
#: into bins: `age: [50, 70]` makes `below 50`, `50 to below 70`, `70 and above`. A list of columns
#: is taken too.
Attributes = Annotated[
    dict[str, CutPoints],
    BeforeValidator(_as_mapping),
    Field(min_length=1),
    AfterValidator(_in_order),
]


class FairnessSettings(Settings):
    """By which columns models are judged; a plain list of columns is taken for `attributes` too.

    The patients are drawn `redraws` times from `seed`, alike for all groups and models.
    """

    attributes: Attributes
    redraws: int = Field(default=2000, ge=1, le=100_000)
    seed: int = Field(default=0, ge=0)


def _from_list(value: Any) -> Any:
    named = isinstance(value, Mapping) and value.keys() & FairnessSettings.model_fields.keys()
    return value if value is None or named or isinstance(value, Settings) else {"attributes": value}


Fairness = Annotated[FairnessSettings | None, BeforeValidator(_from_list)]


def bin_names(cuts: Sequence[float]) -> list[str]:
    """The names of the bins that rising points cut the numbers into, the lowest first."""
    ends = [f"{cut:.15g}" for cut in cuts]
    middle = [f"{low} to below {high}" for low, high in pairwise(ends)]
    return [f"below {ends[0]}", *middle, f"{ends[-1]} and above"]


def group_names(
    dataset: Dataset, rows: Sequence[Row], attribute: str, cuts: CutPoints = None
) -> list[str]:
    """The group of each row by one column of the manifest; `unknown` where its cell is empty.

    A group depends on the row alone.

    Raises:
        InputError: when the set has no such column, a cell that is to be binned is no number, or
            there are more than `MAX_GROUPS` groups. No cell is told, since it may be an id.
    """
    refuse_missing_column(dataset, attribute)
    cells = [cell_of(row, attribute) for row in rows]
    if cuts is not None:
        names = bin_names(cuts)
        numbers = [_number(cell) for cell in cells]
        wrong = sum(number is None for number in numbers)
        if wrong:
            raise InputError(
                f"{dataset.info.name}: {wrong} cell(s) of column {attribute} are no numbers, so "
                "they fall into no bin; name the column without cut points"
            )
        return [
            UNKNOWN if number is None or math.isnan(number) else names[bisect_right(cuts, number)]
            for number in numbers
        ]
    if len(set(cells)) > MAX_GROUPS:
        raise InputError(
            f"{dataset.info.name}: column {attribute} holds more than {MAX_GROUPS} different "
            "values, which make no groups; give cut points, as in age: [50, 70], or name another"
        )
    return cells


def _number(cell: str) -> float | None:
    """The cell as a number, nan when it is unknown, None when it is none."""
    if cell == UNKNOWN:
        return math.nan
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def refuse_no_groups(dataset: Dataset, rows: Sequence[Row], by: FairnessSettings) -> None:
    """Refuse columns that the set lacks, or that make no groups.

    Raises:
        InputError: as `group_names`.
    """
    for attribute, cuts in by.attributes.items():
        group_names(dataset, rows, attribute, cuts)


def sorted_groups(names: Sequence[str]) -> list[str]:
    """The different groups in an order for people: numbers by size, then words, unknown last."""

    def place(name: str) -> tuple[int, float, str]:
        if name == UNKNOWN:
            return 2, 0.0, ""
        number = _number(name.removeprefix("below ").split(" ")[0])
        if number is None:
            return 1, 0.0, name
        return 0, number - 0.5 * name.startswith("below "), name

    return sorted(set(names), key=place)
