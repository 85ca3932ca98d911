"""Attributes that a generator is given beside the class: their levels, codes and frequencies."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from synthdp.config.settings import Settings
from synthdp.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from synthdp.data.dataset import Row

MAX_LEVELS = 16
MAX_NAMES = 16
UNKNOWN = 0


class Combination(Settings):
    """One combination of attributes by their codes, and how often it is drawn within a class."""

    codes: tuple[Annotated[int, Field(ge=0, le=MAX_LEVELS)], ...]
    share: float = Field(ge=0, le=1)


class Conditions(Settings):
    """What a generator knows beside the class; `model/settings.json` holds it.

    The code of an attribute is the position of its value in `levels`, from 1; an empty cell is 0.
    `prior` lists the combinations to draw, for benign and for malignant images.
    """

    names: tuple[str, ...] = Field(default=(), max_length=MAX_NAMES)
    levels: tuple[Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_LEVELS)], ...] = (
        Field(default=(), max_length=MAX_NAMES)
    )
    prior: tuple[tuple[Combination, ...], tuple[Combination, ...]] = ((), ())

    @model_validator(mode="after")
    def _parts_fit(self) -> "Conditions":
        if len(self.names) != len(self.levels) or len(set(self.names)) != len(self.names):
            raise ValueError("each condition has one name and one list of levels")
        counts = self.level_counts
        for one in (*self.prior[0], *self.prior[1]):
            if len(one.codes) != len(counts) or any(
                code > count for code, count in zip(one.codes, counts, strict=False)
            ):
                raise ValueError("prior: a combination is not one of the levels")
        return self

    def refuse_undrawable(self, where: str) -> None:
        """Refuse conditions of which a file does not say how they are drawn; `where` names it.

        Raises:
            InputError: when the shares of a class don't add up to anything.
        """
        if self.names and any(sum(one.share for one in table) <= 0 for table in self.prior):
            raise InputError(f"{where}: conditions.prior: nothing can be drawn by it; restore it")

    @property
    def level_counts(self) -> list[int]:
        """How many known levels each attribute has."""
        return [len(levels) for levels in self.levels]

    @property
    def tables(self) -> list[list[tuple[list[int], float]]]:
        """The prior as `gan.network.sampling.draw_codes` takes it; empty without attributes."""
        if not self.names:
            return []
        return [[(list(one.codes), one.share) for one in table] for table in self.prior]


def read_conditions(
    rows: "Sequence[Row]",
    names: Sequence[str],
    public_prior: Mapping[str, Mapping[str, float]] | None = None,
) -> Conditions:
    """Read the levels of the named attributes, in sorted order, and how they are to be drawn.

    Without a public prior, combinations are drawn as often as they stand with each class in `rows`.
    That is a function of private data, for generators whose epsilon is infinite anyway. With one,
    each attribute is drawn by itself with these weights, in either class.

    Args:
        rows: train rows, every target known.
        names: columns of the manifest.
        public_prior: by attribute, a weight for some of its levels; needs every name.

    Raises:
        InputError: when a column is missing, empty, or has more than 16 levels, or the prior names
            a level that no row has.
    """
    if not names:
        return Conditions()
    levels = tuple(_levels(rows, name) for name in names)
    without_prior = Conditions(names=tuple(names), levels=levels)
    if public_prior is None:
        codes = _codes(without_prior, rows)
        labels = [row.targets[0] for row in rows]
        prior = tuple(
            _shares([c for c, label in zip(codes, labels, strict=True) if label == value])
            for value in (0, 1)
        )
    else:
        prior = 2 * (_independent(without_prior, public_prior),)
    return Conditions.model_validate({**without_prior.model_dump(), "prior": prior})


def _levels(rows: "Sequence[Row]", name: str) -> tuple[str, ...]:
    if name not in rows[0].attributes:
        known = ", ".join(sorted(rows[0].attributes)) or "none"
        raise InputError(f"conditions: the manifest has no column {name!r} (attributes: {known})")
    levels = sorted({row.attributes[name] for row in rows} - {""})
    if not levels:
        raise InputError(f"conditions: {name!r} is empty in every row; leave it out")
    if len(levels) > MAX_LEVELS:
        raise InputError(
            f"conditions: {name!r} has more than {MAX_LEVELS} different values; a condition has "
            "few levels, so group them in a column of their own, or leave it out"
        )
    return tuple(levels)


def encode(conditions: Conditions, rows: "Sequence[Row]") -> "Tensor":
    """The codes of the rows' attributes, (N, A) int64; 0 where a cell is empty."""
    import torch  # noqa: PLC0415 (commands start without it)

    codes = torch.tensor(_codes(conditions, rows), dtype=torch.int64)
    return codes.reshape(len(rows), len(conditions.names))


def _codes(conditions: Conditions, rows: "Sequence[Row]") -> list[tuple[int, ...]]:
    """The codes of each row's attributes; 0 where a cell is empty."""
    codes_of = [
        {"": UNKNOWN, **{level: code for code, level in enumerate(levels, start=1)}}
        for levels in conditions.levels
    ]
    columns = list(zip(conditions.names, codes_of, strict=True))
    return [tuple(code_of[row.attributes[name]] for name, code_of in columns) for row in rows]


def _shares(codes: Sequence[tuple[int, ...]]) -> tuple[Combination, ...]:
    counts = Counter(codes)
    return tuple(
        Combination(codes=combination, share=counts[combination] / len(codes))
        for combination in sorted(counts)
    )


def _independent(
    conditions: Conditions, weights: Mapping[str, Mapping[str, float]]
) -> tuple[Combination, ...]:
    """Every combination of the weighted levels; its share is the product of its levels' shares."""
    marginals = []
    for name, levels in zip(conditions.names, conditions.levels, strict=True):
        unknown = sorted(set(weights[name]) - set(levels))
        if unknown or not weights[name]:
            raise InputError(
                f"condition_prior.{name}: {', '.join(unknown) or 'nothing'} is no level of it in "
                "the train split; name some of its levels, each with a weight"
            )
        total = sum(weights[name].values())
        marginals.append(
            [(levels.index(level) + 1, weight / total) for level, weight in weights[name].items()]
        )
    return tuple(
        Combination(codes=tuple(code for code, _ in one), share=math.prod(part for _, part in one))
        for one in product(*marginals)
    )


def attribute_cells(conditions: Conditions, codes: Sequence[int]) -> dict[str, str]:
    """Codes (A,) of one image as cells of a manifest: column -> level, empty for unknown."""
    return {
        name: levels[code - 1] if code != UNKNOWN else ""
        for name, levels, code in zip(conditions.names, conditions.levels, codes, strict=True)
    }
