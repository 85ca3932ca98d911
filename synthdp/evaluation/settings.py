"""What is asked of an evaluation: redraws, a sensitivity, and groups of images to judge by."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from synthdp.config.settings import Seed, Settings
from synthdp.config.typed_values import InWords

REDRAWS = 2000
AT_SENSITIVITY = 0.9
#: A difference of AUROC below this counts as none, where nobody says otherwise.
MARGIN = 0.05
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


#: Cut points that papers judged by, by their names. What lies below the first or above the last
#: point, such as a mistyped age, is a group of its own.
NAMED_CUTS = {
    "paper-2302.01622": (0.0, 30.0, 60.0, 70.0, 80.0, 100.0),
    "paper-2306.06503": (0.0, 40.0, 70.0, 100.0),
}


def _named_cuts(value: Any) -> Any:
    """The points of a name; they stand in resolved settings in its place."""
    if not isinstance(value, str) or value == "none":
        return value
    if value not in NAMED_CUTS:
        raise ValueError(
            f"names no cut points; known: {', '.join(NAMED_CUTS)}; or give numbers, as in [50, 70]"
        )
    return NAMED_CUTS[value]


def _in_order(attributes: Mapping[str, CutPoints]) -> Mapping[str, CutPoints]:
    for name, cuts in attributes.items():
        if cuts is not None and (not cuts or list(cuts) != sorted(set(cuts))):
            raise ValueError(f"{name}: cut points are numbers in rising order, as in [50, 60, 70]")
    return attributes


#: Column of the manifest -> None for its values as they are, or the points that cut its numbers
#: into bins: `age: [50, 70]` makes `below 50`, `50 to below 70`, `70 and above`; or a name of
#: `NAMED_CUTS`. A list of columns is taken too.
Attributes = Annotated[
    dict[str, Annotated[CutPoints, BeforeValidator(_named_cuts)]],
    BeforeValidator(_as_mapping),
    Field(min_length=1),
    AfterValidator(_in_order),
    InWords("list of columns, or mapping of columns to cut points"),
]


class FairnessSettings(Settings):
    """By which columns models are judged; a plain list of columns is taken for `attributes` too.

    Redraws are alike for all groups and models.
    """

    stands_for: ClassVar[str] = "attributes"

    attributes: Attributes
    """Columns, and for numbers the points that cut them into bins, or the name of a paper's:
    `paper-2302.01622` (ages 0, 30, 60, 70, 80, 100), `paper-2306.06503` (0, 40, 70, 100).
    Example: {age: [50, 70]}
    """

    redraws: int = Field(default=2000, ge=1, le=100_000)
    """How often patients are drawn for the intervals."""

    seed: Seed = 0
    """Moves these redraws."""


def _from_list(value: Any) -> Any:
    named = isinstance(value, Mapping) and value.keys() & FairnessSettings.model_fields.keys()
    return value if value is None or named or isinstance(value, Settings) else {"attributes": value}


Fairness = Annotated[
    FairnessSettings | None,
    BeforeValidator(_from_list),
    InWords("list of columns, mapping of columns to cut points, or section"),
]
