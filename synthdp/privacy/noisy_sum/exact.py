"""Sums and products that come out the same in whatever order they are taken.

A sum in floating point is rounded after each addition, in an order that a library chooses by how
many rows there are. So the sum over all patients but one is not the sum over all less that one's
vector: every other patient's part is rounded differently. Here rows are whole numbers of a step
each, few enough bits that products and sums of them are exact, and what is computed of a row is a
function of that row alone, whoever stands beside it, whichever kernel and however many threads.

What each operation of this file may use, so that this holds: elementwise sums, products, quotients
and roots (IEEE 754 rounds each of them alone, wherever it stands in a tensor); maxima; sums and
products of whole numbers below 2^53. No other function of a library: the last elements of a tensor
may be taken by other code than the first.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

#: Bits of a row's entries, counted from its largest; they fit float32, which keeps rows small.
ROW_BITS = 20
#: Bits of weights, counted from the sum of their magnitudes: with a row's they make 53.
_WEIGHT_BITS = 53 - ROW_BITS
#: Rows whose products are summed in float64, before whole numbers of 64 bits take over.
_SUMMED = 512
#: Rows that are worked on at a time where each is by itself.
_CHUNK = 256
#: Numbers in float64 that are worked on at a time: more don't stay in the processor's cache.
_AT_ONCE = 2**19
#: From so many targets on, products are computed for a multiple of 8 of them, the rest zeros:
#: what fills a processor's registers is faster than what doesn't.
_FILLED_FROM, _FILLED = 4, 8
#: A logistic function's argument beyond which it is 0 or 1 to within 1e-13.
_FLAT = 30
_KNOTS_PER_UNIT = 128
#: Least exponent of a power of two that is used, far above the least of float64.
_LEAST_EXPONENT = -900


def powers_of_two(exponents: Tensor) -> Tensor:
    """2^e in float64 for whole exponents from -1022 to 1023, from its bits."""
    return ((exponents.long() + 1023) << 52).view(torch.float64)


def row_norms(rows: Tensor) -> Tensor:
    """Euclidean norms of rows (N, D), (N,) float64; each a function of its own row alone.

    Halves are added up elementwise, so that no reduction's order is chosen by a library. The
    relative error is below 2^-52 (log2(D) + 2); not finite where a row isn't.
    """
    squares = rows.double().square()
    while squares.shape[1] > 1:
        half = (squares.shape[1] + 1) // 2
        rest = squares.shape[1] - half
        squares[:, :rest] += squares[:, half:]
        squares = squares[:, :half]
    return squares[:, 0].sqrt() if squares.shape[1] else squares.new_zeros(len(rows))


def row_sums(rows: Tensor) -> Tensor:
    """Sums of rows (N, D), (N,), by halves as in `row_norms`: each a function of its own row."""
    while rows.shape[1] > 1:
        half = (rows.shape[1] + 1) // 2
        rest = rows.shape[1] - half
        halves = rows[:, :half].clone()
        halves[:, :rest] += rows[:, half:]
        rows = halves
    return rows[:, 0] if rows.shape[1] else rows.new_zeros(len(rows))


def logistic(values: Tensor) -> Tensor:
    """1 / (1 + exp(-values)) within 2e-9, elementwise and in float64; nan stays nan.

    From a table of values at 1/128 apart and two terms of Taylor's series (s' = s (1 - s), s'' =
    s' (1 - 2 s)). `torch.sigmoid` takes the last elements of a tensor by other code than the rest,
    so that a patient's value would depend on how many others there are.
    """
    values = values.double()
    known = torch.nan_to_num(values).clamp(-_FLAT, _FLAT)
    nearest = (known * _KNOTS_PER_UNIT).round()
    step = known - nearest / _KNOTS_PER_UNIT
    at = _logistic_table()[nearest.long() + _FLAT * _KNOTS_PER_UNIT]
    result = at + step * (at * (1 - at)) * (1 + step * (0.5 - at))
    return torch.where(torch.isnan(values), values, result)


@lru_cache(maxsize=1)
def _logistic_table() -> Tensor:
    knots = torch.arange(-_FLAT * _KNOTS_PER_UNIT, _FLAT * _KNOTS_PER_UNIT + 1)
    return torch.sigmoid(knots.double() / _KNOTS_PER_UNIT)


@dataclass(frozen=True, eq=False)
class ExactRows:
    """Rows of numbers, each a power of two times whole numbers below 2^20 in magnitude.

    whole: (N, D) float32, whole numbers; scales: (N,) float64, powers of two; both zero for a row
    that is not finite. `whole * scales` is the row, rounded towards zero at a millionth of its
    largest entry.
    """

    whole: Tensor
    scales: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "ExactRows":
        """The nearest such rows to any (N, D), from below; each is a function of its own row."""
        rows = rows.detach()
        largest = rows.new_zeros(len(rows))
        for start in range(0, len(rows) if rows.shape[1] else 0, _CHUNK):
            part = slice(start, start + _CHUNK)
            largest[part] = rows[part].abs().amax(dim=1)
        finite = torch.isfinite(largest)  # a NaN is the largest of its row
        _, exponents = torch.frexp(torch.where(finite, largest, torch.zeros_like(largest)))
        exponents = exponents.clamp(min=_LEAST_EXPONENT) - ROW_BITS
        up, zero = powers_of_two(-exponents), torch.zeros((), dtype=torch.float64)
        whole = torch.empty(rows.shape, dtype=torch.float32)
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            scaled = rows[part].double() * up[part].unsqueeze(1)
            whole[part] = torch.where(finite[part].unsqueeze(1), scaled, zero).trunc()
        return cls(whole, torch.where(finite, powers_of_two(exponents), zero))

    def __len__(self) -> int:
        return len(self.whole)

    def some(self, kept: Tensor) -> "ExactRows":
        """The rows of `kept`: (N,) bool, or their numbers."""
        rows = ExactRows(self.whole[kept], self.scales[kept])
        if "norms" in self.__dict__:
            rows.__dict__["norms"] = self.norms[kept]
        return rows

    @cached_property
    def norms(self) -> Tensor:
        """Euclidean norms, (N,) float64."""
        pieces = [row_norms(part) for part in self.whole.split(_CHUNK)]
        return torch.cat(pieces) * self.scales if pieces else self.scales

    def times(self, weights: Tensor) -> Tensor:
        """Rows times weights (T, D): (N, T) float64, each a function of row and weights alone.

        The weights are rounded towards zero at 2^-32 of the sum of their magnitudes. The product
        of whole numbers, |sum| <= 2^20 * 2^33 = 2^53, is then exact in any order. Not finite
        where weights aren't.
        """
        whole, units = _whole_weights(weights)
        products = torch.empty(len(self), len(weights), dtype=torch.float64)
        for part, rows in self._chunks():
            products[part] = _products(rows, whole)[:, : len(weights)]
            products[part] *= self.scales[part].unsqueeze(1)
            products[part] *= units
        return products

    def products(self, weights: Tensor) -> Tensor:
        """As `times`; nan for a row that is not finite, which `times` takes for zeros."""
        values = self.times(weights)
        return values.masked_fill_((self.scales == 0).unsqueeze(1), math.nan)

    def weighted_sum(self, weights: Tensor, step: float) -> Tensor:
        """The sum over rows of weights (N, E) times row: (E, D) int64, in units of step * 2^-20.

        A weight with its row's scale is rounded towards zero to a whole number of steps. These
        have to be below 2^24 in magnitude; the sum over all rows, in units, below 2^63.
        """
        total = torch.zeros(weights.shape[1], self.whole.shape[1], dtype=torch.int64)
        for part, rows in self._chunks():
            self._add(total, part, rows, weights[part], step)
        return total

    def sum_weighted_by(
        self, weights: Tensor, weigh: Callable[[slice, Tensor], Tensor], step: float
    ) -> Tensor:
        """`weighted_sum` with weights that come from `times`, in one pass over the rows.

        Args:
            weights: (T, D), as `times`.
            weigh: given where some rows stand and their products with the weights, (n, T), what
                each is to be weighted by, (n, T).
            step: as `weighted_sum`.
        """
        whole, units = _whole_weights(weights)
        total = torch.zeros(weights.shape, dtype=torch.int64)
        for part, rows in self._chunks():
            products = _products(rows, whole)[:, : len(weights)]
            products = products * self.scales[part].unsqueeze(1) * units
            self._add(total, part, rows, weigh(part, products), step)
        return total

    def _add(self, total: Tensor, part: slice, rows: Tensor, weights: Tensor, step: float) -> None:
        """Add weights (n, E) times row onto (E, D) int64, in units of step * 2^-20."""
        counts = (weights * self.scales[part].unsqueeze(1) * (2.0**ROW_BITS / step)).trunc()
        filled = _filled(counts.T)
        for few, of_few in zip(filled.split(_SUMMED, dim=1), rows.split(_SUMMED), strict=True):
            # 2^9 rows of products below 2^24 * 2^20: at most 2^53, exact in any order
            total += (few @ of_few)[: len(total)].to(torch.int64)

    def _chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Rows as float64, so many at a time that they stay in the processor's cache."""
        for start in range(0, len(self), max(len(self._buffer), 1)):
            part = slice(start, min(start + len(self._buffer), len(self)))
            yield part, self._buffer[: part.stop - start].copy_(self.whole[part])

    @cached_property
    def _buffer(self) -> Tensor:
        """Memory that each step uses again: new pages take time."""
        width = self.whole.shape[1]
        rows = max(_AT_ONCE // max(width, 1), _CHUNK)
        return torch.empty(min(rows, len(self)), width, dtype=torch.float64)


def _products(rows: Tensor, whole: Tensor) -> Tensor:
    """Rows (n, D) times whole weights (T, D): (n, T); exact, so that any order of both will do."""
    return (whole @ rows.T).T  # several times as fast as rows @ whole.T, where T is small


def _filled(values: Tensor) -> Tensor:
    """Values (T, n) with so many rows of zeros behind them as make a product fast."""
    more = -len(values) % _FILLED if len(values) >= _FILLED_FROM else 0
    return torch.cat([values, values.new_zeros(more, values.shape[1])])


def _whole_weights(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (T, D) as whole numbers float64, `_filled`, times units (T,), powers of two.

    The magnitudes of the whole numbers for a target sum to at most 2^33; a target's unit is nan
    where one of its weights is not finite. Both are functions of a target's own weights, so that
    several heads may be laid below each other.
    """
    weights = weights.detach().double()
    sums = row_sums(weights.abs())
    finite = torch.isfinite(sums)
    _, exponents = torch.frexp(torch.where(finite, sums, torch.zeros_like(sums)))
    # one bit is held back for the rounding of the sum of magnitudes
    units = powers_of_two(exponents.clamp(min=_LEAST_EXPONENT) + 1 - _WEIGHT_BITS)
    whole = torch.where(finite.unsqueeze(1), weights / units.unsqueeze(1), 0.0).trunc()
    return _filled(whole), torch.where(finite, units, math.nan)
