"""Numbers that depend on the privacy of a stage: one for all, or one for each of some epsilons."""

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field


def _auto_word(value: object) -> object:
    return None if value == "auto" else value


def _by_epsilon(value: object) -> object:
    """A mapping whose keys are epsilons, the word none for inf."""
    if not isinstance(value, dict):
        return value
    return {math.inf if key in ("none", "inf", None) else key: item for key, item in value.items()}


PositiveNumber = Annotated[float, Field(gt=0)]
_Epsilon = Annotated[float, Field(gt=0, allow_inf_nan=True)]
_NumberOrNumbers = PositiveNumber | Annotated[dict[_Epsilon, PositiveNumber], Field(min_length=1)]
#: One number for every epsilon, or a number for each of some epsilons (`none` for no privacy).
NumberByEpsilon = Annotated[_NumberOrNumbers, BeforeValidator(_by_epsilon)]
#: The same, or None, the word auto, for what synthdp has itself.
ByEpsilon = Annotated[
    PositiveNumber | dict[_Epsilon, PositiveNumber] | None,
    BeforeValidator(_by_epsilon),
    BeforeValidator(_auto_word),
]


def number_at(epsilon: float, rule: float | Mapping[float, float]) -> float:
    """The number for a stage's epsilon.

    Args:
        epsilon: of the stage; inf for none.
        rule: one number for all, or numbers by epsilon (log-linear between two, flat beyond; inf
            has its own or that of the largest).

    >>> round(number_at(4.0, {1.0: 10.0, 16.0: 1000.0}), 6)
    100.0
    """
    if isinstance(rule, int | float):
        return float(rule)
    known = dict(sorted(rule.items()))
    if math.isinf(epsilon):
        return float(list(known.values())[-1])
    import numpy as np  # noqa: PLC0415 (settings are read without it)

    finite = {point: value for point, value in known.items() if math.isfinite(point)} or known
    points, values = zip(*finite.items(), strict=True)
    if math.isinf(points[0]):
        return float(values[0])
    return float(np.exp(np.interp(np.log(epsilon), np.log(points), np.log(values))))
