"""Attributes that a generator is told beside the class: their levels, codes and frequencies."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from gan.network.latents import draw_codes
from synthdp.config import Settings
from synthdp.data.dataset import Row
from synthdp.errors import InputError

MAX_LEVELS = 16
UNKNOWN = 0


class Combination(Settings):
    """One combination of attributes by their codes, and how often it is drawn within a class."""

    codes: tuple[Annotated[int, Field(ge=0, le=MAX_LEVELS)], ...]
    share: float = Field(ge=0, le=1)


class Conditions(Settings):
    """What a generator knows beside the class; `model/settings.json` holds it.

    The code of an attribute is the place of its value in `levels`, from 1; an empty cell is 0.
    `prior` lists the combinations to draw, for benign and for malignant images.
    """

    names: tuple[str, ...] = ()
    levels: tuple[tuple[str, ...], ...] = ()
    prior: tuple[tuple[Combination, ...], tuple[Combination, ...]] = ((), ())


def read_conditions(
    rows: Sequence[Row],
    names: Sequence[str],
    public_prior: Mapping[str, Mapping[str, float]] | None = None,
) -> Conditions:
    """Read the levels of the named attributes, in sorted order, and how they are to be drawn.

    Without a public prior, that is how often each combination stands with a class in `rows`, a
    function of private data: for a generator whose promise is infinite anyway. With one, each
    attribute is drawn by itself with these weights, in either class.

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
    bare = Conditions(names=tuple(names), levels=levels)
    if public_prior is None:
        codes = encode(bare, rows).tolist()
        labels = [row.targets[0] for row in rows]
        prior = tuple(
            _shares([tuple(c) for c, label in zip(codes, labels, strict=True) if label == value])
            for value in (0, 1)
        )
    else:
        prior = 2 * (_independent(bare, public_prior),)
    return Conditions.model_validate({**bare.model_dump(), "prior": prior})


def _levels(rows: Sequence[Row], name: str) -> tuple[str, ...]:
    if name not in rows[0].attributes:
        known = ", ".join(sorted(rows[0].attributes)) or "none"
        raise InputError(f"conditions: the manifest has no column {name!r} (attributes: {known})")
    found = sorted({row.attributes[name] for row in rows} - {""})
    if not found:
        raise InputError(f"conditions: {name!r} is empty in every row; leave it out")
    if len(found) > MAX_LEVELS:
        raise InputError(
            f"conditions: {name!r} has more than {MAX_LEVELS} different values; a condition has "
            "few levels, so group them in a column of their own, or leave it out"
        )
    return tuple(found)


def encode(conditions: Conditions, rows: Sequence[Row]) -> Tensor:
    """The codes of the rows' attributes, (N, A) int64; 0 where a cell is empty."""
    places = [
        {"": UNKNOWN, **{level: place for place, level in enumerate(levels, start=1)}}
        for levels in conditions.levels
    ]
    columns = list(zip(conditions.names, places, strict=True))
    codes = [[place[row.attributes[name]] for name, place in columns] for row in rows]
    return torch.tensor(codes, dtype=torch.int64).reshape(len(rows), len(columns))


def _shares(codes: Sequence[tuple[int, ...]]) -> tuple[Combination, ...]:
    counted = Counter(codes)
    return tuple(
        Combination(codes=combination, share=counted[combination] / len(codes))
        for combination in sorted(counted)
    )


def _independent(
    bare: Conditions, weights: Mapping[str, Mapping[str, float]]
) -> tuple[Combination, ...]:
    marginals = []
    for name, levels in zip(bare.names, bare.levels, strict=True):
        strangers = sorted(set(weights[name]) - set(levels))
        if strangers or not weights[name]:
            raise InputError(
                f"condition_prior.{name}: {', '.join(strangers) or 'nothing'} is no level of it in "
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


def conditions_of(described: Mapping[str, Any]) -> Conditions:
    """The conditions in the description of a generator; none for an older one."""
    return Conditions.model_validate(described.get("conditions", {}))


def prior_of(conditions: Conditions) -> list[list[tuple[list[int], float]]]:
    """The prior as plain lists: for each class, combinations of codes with their shares."""
    return [[(list(one.codes), one.share) for one in table] for table in conditions.prior]


def draw_conditions(conditions: Conditions, labels: Tensor, seed: int) -> Tensor:
    """Draw attributes for each label from the prior that a generator was given.

    Each draw depends on the seed, its place and its label alone.

    Args:
        conditions: of the generator.
        labels: (N,) int64, 1 malignant, 0 benign.
        seed: names the set.

    Returns:
        Codes (N, A) int64; (N, 0) for a generator without conditions.
    """
    if not conditions.names:
        return torch.empty(len(labels), 0, dtype=torch.int64)
    return draw_codes(prior_of(conditions), labels.tolist(), seed)


def attribute_cells(conditions: Conditions, codes: Sequence[int]) -> dict[str, str]:
    """Codes (A,) of one image as cells of a manifest: column -> level, empty for unknown."""
    return {
        name: levels[code - 1] if code != UNKNOWN else ""
        for name, levels, code in zip(conditions.names, conditions.levels, codes, strict=True)
    }
