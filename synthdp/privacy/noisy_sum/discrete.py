"""Whole numbers from a discrete Gaussian, exactly: no chance is rounded.

The discrete Gaussian gives a whole number x with a chance in proportion to exp(-x^2 / (2 s^2)).
Canonne, Kamath and Steinke (arXiv 2004.00010, algorithm 3) draw it from fair bits: a discrete
Laplace number, kept with the chance of a Gaussian over a Laplacian. Here t, the Laplacian's scale,
is a power of two, so that a uniform number below t is a string of bits; their two acceptances are
one; and all numbers of an array are drawn at once.

Each chance is exp(-g) for a rational g. It is met by comparing a uniform number with it: the first
64 bits decide in float64, with room for float64's error, and where they do not (once in 2^35
comparisons) further bits are drawn and the chance is computed to as many digits as it takes.
"""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: Gives so many uniform words, other ones at each call.
Words = Callable[[int], NDArray[np.uint64]]

_WORD = 64
#: Relative error of a chance computed in float64, with room: the exponent is below 2^12.
_FLOAT_ERROR = 2.0**-36
_DIGITS_A_WORD = 20
#: A candidate in 2.1 is kept; the most that are tried at a time, for memory.
_CANDIDATES_A_DRAW, _MOST_CANDIDATES = 2.3, 2**18
#: Powers of 1/e that a word can be below.
_POWERS = 44


def discrete_gaussian(count: int, scale: float, words: Words) -> NDArray[np.int64]:
    """`count` independent whole numbers of the discrete Gaussian with parameter `scale`.

    Args:
        count: at least 0.
        scale: s, from 0 (which gives zeros) to 2^47; its float64 value is taken as it is.
        words: independent uniform 64-bit words.

    Guarantee: the distribution is exact, as far as the words are uniform. How many words are
    taken, and so how long it takes, depends on the words alone.
    """
    drawn = np.zeros(0 if scale else count, dtype=np.int64)
    while len(drawn) < count:
        candidates = min(int((count - len(drawn)) * _CANDIDATES_A_DRAW) + 64, _MOST_CANDIDATES)
        more = _accepted(candidates, scale, words)
        drawn = np.concatenate([drawn, more])
    return drawn[:count]


def _accepted(candidates: int, scale: float, words: Words) -> NDArray[np.int64]:
    """Those of so many candidates that are kept."""
    bits = max(round(math.log2(scale)), 0)
    first, second, third = words(3 * candidates).reshape(3, candidates)
    # a discrete Laplace number of scale t = 2^bits: its sign, what is beyond whole t's, and how
    # many t's there are
    negative = (first >> np.uint64(_WORD - 1)).astype(bool)
    rest = (first & np.uint64((1 << bits) - 1)).astype(np.int64)
    size = rest + (_geometric(second, words) << bits)
    t, variance = float(1 << bits), scale * scale
    # kept with the chance of a Gaussian over that Laplacian, and of `rest`, uniform so far
    exponents = rest / t + (size - variance / t) ** 2 / (2 * variance)
    chance, uniform = np.exp(-exponents), third * 2.0**-_WORD
    kept = uniform < chance * (1 - _FLOAT_ERROR) - 2.0**-62
    # between both bounds float64 can't tell, nor in the last two bits of 64
    unclear = ~kept & (uniform < chance * (1 + _FLOAT_ERROR) + 2.0**-62)
    for index in np.flatnonzero(unclear):
        exact = _exponent(int(rest[index]), int(size[index]), 1 << bits, Fraction(scale))
        kept[index] = _Uniform(int(third[index]), words).below_exp(exact)
    kept &= ~(negative & (size == 0))  # zero has one sign
    return np.where(negative, -size, size)[kept]


def _exponent(rest: int, size: int, t: int, scale: Fraction) -> Fraction:
    return Fraction(rest, t) + (size - scale**2 / t) ** 2 / (2 * scale**2)


def _geometric(uniform: NDArray[np.uint64], words: Words) -> NDArray[np.int64]:
    """From each word a number of at least v with the chance exp(-v)."""
    powers = _powers()
    reached = np.searchsorted(powers, uniform, side="right").astype(np.int64)
    numbers = _POWERS - reached
    # A word equal to the first bits of a power, or below all of them, does not tell.
    for index in np.flatnonzero((powers[reached - 1] == uniform) | (reached == 0)):
        number = _Uniform(int(uniform[index]), words)
        value = int(numbers[index])
        while number.below_exp(Fraction(value + 1)):
            value += 1
        numbers[index] = value
    return numbers


@lru_cache(maxsize=1)
def _powers() -> NDArray[np.uint64]:
    """The first 64 bits of exp(-v) for v from 44 down to 1."""
    with localcontext(prec=80):
        values = [int(Decimal(-v).exp() * 2**_WORD) for v in range(_POWERS, 0, -1)]
    return np.array(values, dtype=np.uint64)


class _Uniform:
    """A uniform number in [0, 1) whose bits are drawn as they are needed."""

    def __init__(self, word: int, words: Words) -> None:
        self._value, self._bits, self._words = word, _WORD, words

    def below_exp(self, exponent: Fraction) -> bool:
        """Whether it is below exp(-exponent)."""
        while True:
            digits = _DIGITS_A_WORD * (self._bits // _WORD) + 20
            with localcontext(prec=digits):
                power = (-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp()
                # exponent below 1e5, rounded at `digits`; `exp` rounds correctly
                error = Decimal(10) ** (8 - digits)
                low, high = ((power * (1 + sign * error)) for sign in (-1, 1))
            if Fraction(self._value + 1, 1 << self._bits) <= Fraction(low):
                return True
            if Fraction(self._value, 1 << self._bits) >= Fraction(high):
                return False
            self._value = (self._value << _WORD) | int(self._words(1)[0])
            self._bits += _WORD
