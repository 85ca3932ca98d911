"""Privacy losses on a grid: from a curve, many composed at once, and brought to a coarser grid.

A distribution is dp_accounting's `DensePLDPmf`: probabilities of losses that are whole multiples of
an interval, and of an infinite loss. dp_accounting composes two at a time, each time on the grid of
all so far; here all are composed in one product of Fourier transforms, and what has been composed
of many small losses goes on to a grid as coarse as its own width allows.
"""

from __future__ import annotations  # dp_accounting is imported at its first use

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy  # its parts are imported at their first use

from synthdp.privacy.accounting.gaussian import Array

if TYPE_CHECKING:
    from dp_accounting.pld.pld_pmf import DensePLDPmf

#: Probability that is cut off the two ends of a composition; counted as an infinite loss.
_CUT = 1e-15
#: Orders of the moments that bound the ends: as shares of that which is best for a Gaussian, and,
#: where wide losses are rare, of one over the widest.
_ORDERS = 2.0 ** np.array([-2.0, -1.0, -0.5, 0.0, 0.5])
_ORDERS_OF_RARE = np.array([1.0, 3.0, 8.0, 20.0])
#: A sum of exponentials below this may have lost its terms to underflow.
_LEAST_SUM = 1e-250
#: Relative rounding of a share, on top.
_ROUNDING = 1e-15


def _distribution(
    interval: float, first: int, probabilities: Array, infinite: float
) -> DensePLDPmf:
    """Probabilities of the losses `first`, `first` + 1, ... times `interval`, and of infinity."""
    from dp_accounting.pld.pld_pmf import DensePLDPmf  # noqa: PLC0415 (takes a second)

    return DensePLDPmf(interval, first, probabilities, infinite, pessimistic_estimate=True)


def losses_on_grid(deltas: Array, first: int, interval: float) -> DensePLDPmf:
    """The losses of a curve of epsilon and delta, from its dots on a grid connected.

    Args:
        deltas: (N,) at the epsilons `first`, `first` + 1, ... times `interval`; they don't rise.
        first: any whole number.
        interval: above 0.

    Formula: Doroshenko et al., arXiv 2207.04380, algorithm 1. Ours, since dp_accounting's goes
    through a dictionary of all cells, which took half of the time of composing many kinds; a test
    holds the two together.

    Guarantee: an upper bound: the curve is convex in e^epsilon, and the lines between its dots lie
    above it.
    """
    lines = -np.diff(deltas) / -math.expm1(-interval)
    rising = np.append(1 - deltas[0], lines)
    probabilities = np.maximum(rising - math.exp(-interval) * np.append(lines, 0.0), 0)
    return _distribution(interval, first, probabilities, float(deltas[-1]))


def composed_losses(losses: Sequence[DensePLDPmf], times: Sequence[int]) -> DensePLDPmf:
    """The distribution of the sum of all losses, each drawn as often as `times` says.

    Guarantee: an upper bound, up to the rounding of the Fourier transform: no probability is
    lost but what is counted as an infinite loss, and what the transform wraps around is on top.
    """
    low, high = _ends(losses, times)
    longest = max(loss.size for loss in losses)
    length = scipy.fft.next_fast_len(max(high - low + 1, longest), real=True)
    spectrum = np.ones(length // 2 + 1, dtype=np.complex128)
    for loss, number in zip(losses, times, strict=True):
        spectrum *= _power(scipy.fft.rfft(loss._probs, length), number)
    wrapped = scipy.fft.irfft(spectrum, length)
    infinite = math.fsum(
        number * math.log1p(-float(loss._infinity_mass))
        for loss, number in zip(losses, times, strict=True)
    )
    return _distribution(
        losses[0]._discretization,
        low + sum(n * loss._lower_loss for loss, n in zip(losses, times, strict=True)),
        np.maximum(np.roll(wrapped, -(low % length))[: high - low + 1], 0),
        _CUT - math.expm1(infinite),
    )


def _power(spectrum: Array, number: int) -> Array:
    """The spectrum to a whole power, by squaring."""
    result = spectrum if number % 2 else np.ones_like(spectrum)
    while number := number // 2:
        spectrum = spectrum * spectrum
        if number % 2:
            result = result * spectrum
    return result


def _ends(losses: Sequence[DensePLDPmf], times: Sequence[int]) -> tuple[int, int]:
    """Between which cells, from the least sum on, all but `_CUT` of the probability lies.

    By Chernoff's bound: P(sum >= b) <= E[e^(l sum)] e^(-l b) for every order l > 0, and so below
    with l < 0. Any order gives a bound; a Gaussian's best one is sqrt(2 log(2 / cut) / variance).
    """
    most = sum(number * (loss.size - 1) for loss, number in zip(losses, times, strict=True))
    probabilities = [np.asarray(loss._probs, dtype=np.float64) for loss in losses]
    cells = [np.arange(len(one), dtype=np.float64) for one in probabilities]
    means = [float(at @ one) for at, one in zip(cells, probabilities, strict=True)]
    variance = sum(
        number * float((at - mean) ** 2 @ one)
        for at, one, mean, number in zip(cells, probabilities, means, times, strict=True)
    )
    room = math.log(2 / _CUT)
    widest = max(loss.size for loss in losses)
    orders = np.append(
        _ORDERS * math.sqrt(2 * room / max(variance, 1e-6)), _ORDERS_OF_RARE / widest
    )

    def furthest(*, downwards: bool) -> float:
        logs: Array = np.zeros(len(orders))
        for at, one, mean, number in zip(cells, probabilities, means, times, strict=True):
            away = mean - at if downwards else at - mean
            last = float(away.max())
            sums = np.exp(np.multiply.outer(orders, away - last)) @ one
            safe = sums > _LEAST_SUM
            logs += number * np.where(safe, orders * last + np.log(np.where(safe, sums, 1)), np.inf)
        # two cells more than the bound: sums are rounded
        return float(np.min((logs + room) / orders)) + 2

    mean = math.fsum(number * one for number, one in zip(times, means, strict=True))
    low = max(math.floor(mean - min(furthest(downwards=True), most + 1)), 0)
    high = min(math.ceil(mean + min(furthest(downwards=False), most + 1)), most)
    return low, max(high, low)


def on_coarser_grid(losses: DensePLDPmf, factor: int) -> DensePLDPmf:
    """The losses on a grid whose interval is `factor` times as large.

    Formula: a loss x between neighbours a and b of the coarser grid is split between the two so
    that its probability and its probability times e^-x both stay: the share
    (1 - e^(a - x)) / (1 - e^(a - b)) goes to b. This is the curve of epsilon and delta with its
    dots on the coarser grid connected (Doroshenko et al., arXiv 2207.04380).

    Guarantee: an upper bound: what is lost by telling x apart as a or b could be put back by
    forgetting which of the two it was.
    """
    if factor == 1:
        return losses
    interval = losses._discretization
    cells = np.arange(losses.size) + losses._lower_loss
    rows = cells // factor
    first = int(rows[0])
    rest = interval * (cells - rows * factor)
    up = np.minimum(np.expm1(-rest) / math.expm1(-interval * factor) * (1 + _ROUNDING), 1)
    rows -= first
    number = int(rows[-1]) + 2
    coarse: Array = np.bincount(rows, losses._probs * (1 - up), number).astype(np.float64)
    coarse += np.bincount(rows + 1, losses._probs * up, number)
    return _distribution(interval * factor, first, coarse, losses._infinity_mass)
