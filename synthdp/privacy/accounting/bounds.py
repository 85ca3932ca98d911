"""Bounds as people read them: what holds at most is never printed below what it is.

>>> epsilon_text(5.481), percent(0.1931), at_most(0.0603, digits=2), at_least(3.1859, digits=4)
('5.49', '20 %', '0.061', '3.185')
"""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal


def at_most(value: float, *, digits: int) -> str:
    """A bound of so many digits, rounded up; `inf` where there is none.

    Guarantee: what is printed, read as a number, is never below `value`.
    """
    return _rounded(value, digits, ROUND_CEILING)


def at_least(value: float, *, digits: int) -> str:
    """A number that protects, such as a noise multiplier, of so many digits, rounded down."""
    return _rounded(value, digits, ROUND_FLOOR)


def at_most_times(count: int, share: float) -> str:
    """A count times a share, rounded up as in `at_most`, of two digits, or more where they say 1.

    The product is of the share as it is written: 600 x 0.0001 is 0.06, where floats give more. One
    below 1, which a delta must keep to, is not rounded up to 1.
    """
    product = count * Decimal(repr(share))
    digits = 2
    while _cut(product, digits, ROUND_CEILING) >= 1 > product:
        digits += 1
    bound = _cut(product, digits, ROUND_CEILING)
    return _plain(bound) if digits == 2 else format(bound, "f")  # which keeps them all


def percent(share: float) -> str:
    """A probability that holds at most, as a percentage of two digits, as in `20 %`.

    Guarantee: what is printed is never below `share`.
    """
    return f"{_percent(share, 2, ROUND_CEILING)} %"


def percent_interval(low: float, high: float) -> str:
    """An interval of probabilities as percentages of three digits, as in `2.01 to 20.4 %`.

    Guarantee: what is printed holds all of the interval.
    """
    return f"{_percent(low, 3, ROUND_FLOOR)} to {_percent(high, 3, ROUND_CEILING)} %"


def epsilon_text(epsilon: float) -> str:
    """An epsilon for people: three digits, rounded up, or `inf`.

    Guarantee: what is printed is never below `epsilon`.
    """
    return at_most(epsilon, digits=3)


def exactly(value: float) -> str:
    """A number that was chosen, such as a delta, in as many digits as it takes."""
    return repr(float(value)).removesuffix(".0")


def _rounded(value: float, digits: int, rounding: str) -> str:
    if math.isinf(value) or math.isnan(value):
        return "nan" if math.isnan(value) else "inf"
    # the shortest decimal that reads as the same number, so that 0.07 is not printed as 0.071
    return _plain(_cut(Decimal(repr(float(value))), digits, rounding))


def _percent(share: float, digits: int, rounding: str) -> str:
    # the shift is by the point alone: a product with 100 would round
    return _plain(_cut(Decimal(repr(float(share))).scaleb(2), digits, rounding))


def _cut(value: Decimal, digits: int, rounding: str) -> Decimal:
    if not value:
        return Decimal(0)
    exponent = value.adjusted() - digits + 1
    return (
        value.quantize(Decimal(1).scaleb(exponent), rounding=rounding)
        if exponent < 0
        else ((value.scaleb(-exponent)).quantize(Decimal(1), rounding=rounding).scaleb(exponent))
    )


def _plain(value: Decimal) -> str:
    """A decimal without needless zeros; with a power of ten where it is tiny."""
    text = format(value.normalize(), "f")
    return text if len(text) <= 9 else format(float(value), "g")
