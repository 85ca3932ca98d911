"""Privacy loss distributions (PLD) of Gaussian steps on Poisson samples, rounded to the safe side.

One step's hockey-stick curve is in closed form (`step_delta`). dp_accounting turns it into a
distribution on a grid of losses ("connect the dots": Doroshenko et al., arXiv 2207.04380,
algorithm 1), which lies above the true curve everywhere, and composes it by Fourier transform.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from dp_accounting.pld import pld_pmf
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr, ndtri

Array = NDArray[np.float64]

#: Relative rounding of `gaussian_deltas` (measured against mpmath: under 5e-13), added on top.
_ROUNDING = 1e-12
#: Rounding of the Fourier transform, absolute in delta, a composed step (measured: under 1e-17).
_FOURIER = 1e-16
#: Probability of a step's losses beyond the grid; counted as an infinite loss.
_TAIL = 1e-22
_TAIL_SIGMAS = -float(ndtri(_TAIL))
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)

#: Grids are powers of this; a finer one cuts the error about by its square.
_LADDER = 3.0
_FIRST_CELLS = 150
#: Relative move of a value between two grids at which it counts as settled.
TIGHT = 2e-3
_STEP_CELLS, _ALL_CELLS = 1.5e5, 1.5e6


@dataclass(frozen=True, order=True)
class SampledSteps:
    """Gaussian steps on Poisson samples: each unit is in each step with `sampling_rate` <= 1."""

    noise_multiplier: float
    sampling_rate: float
    steps: int


def gaussian_deltas(mu: float, epsilons: Array) -> Array:
    """The delta of a mu-Gaussian release at each epsilon, without cancellation.

    Formula: Balle and Wang (arXiv 1805.06530), theorem 8. With t = epsilon / mu - mu / 2, density
    phi and Mills ratio M(t) = Phi(-t) / phi(t), its two terms are phi(t) (M(t) - M(t + mu)); for
    small mu this is phi(t) times the integral of 1 - s M(s) over s in (t, t + mu). Below zero by
    duality: delta(-e) = 1 - exp(-e) (1 - delta(e)).

    Guarantee: never below the exact value, and above it by at most 2e-12 of it (tested down to
    delta 1e-100); values that double precision can't hold are 0.
    """

    def mills(t: Array) -> Array:
        return np.asarray(math.sqrt(math.pi / 2) * erfcx(t / math.sqrt(2)))

    t = np.abs(epsilons) / mu - mu / 2
    density = np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    if mu < 1:
        inner = t[:, None] + mu * (_NODES + 1) / 2
        deltas = density * mu / 2 * ((1 - inner * mills(inner)) @ _WEIGHTS)
    else:
        over = density * (mills(np.maximum(t, 0)) - mills(t + mu))
        deltas = np.where(t < 0, ndtr(-t) - density * mills(t + mu), over)
    below = np.minimum(epsilons, 0)
    deltas = np.where(epsilons < 0, np.exp(below) * deltas - np.expm1(below), deltas)
    return np.clip(deltas * (1 + _ROUNDING), 0.0, 1.0)


def step_delta(sigma: float, rate: float, epsilons: Array, *, add: bool) -> Array:
    """One step's delta at each epsilon (any sign), for a unit that is taken out or added.

    Formula: taken out, delta(log(1 + q (e^z - 1))) = q delta_G(z), the amplification by sampling
    of Balle, Barthe and Gaboardi (arXiv 1807.01647, theorem 8), tight for this pair; added, it is
    the dual, delta'(e) = 1 - e^e + e^e delta(-e), which comes to (1 - (1 - q) e^e) delta_G(-z)
    with z taken at -e. delta_G is the Gaussian one with mu = 1 / sigma, its own dual.

    Guarantee: exact, rounded up as `gaussian_deltas` is.
    """
    deltas = np.where(epsilons < 0, -np.expm1(np.minimum(epsilons, 0)), 0.0)
    signed = -epsilons if add else epsilons
    # e^z - 1, which only those losses have that the sample can show at all
    grown = np.expm1(np.minimum(signed, 30.0)) / rate
    inside = np.full(grown.shape, True) if rate == 1 else grown > -1
    near = signed[inside] if rate == 1 else np.log1p(grown[inside])
    z = np.where(signed[inside] > 30.0, signed[inside] - math.log(rate), near)
    if add:
        weight = 1 - (1 - rate) * np.exp(np.minimum(epsilons[inside], 700.0))  # no inf times 0
        deltas[inside] = np.maximum(weight, 0) * gaussian_deltas(1 / sigma, -z)
    else:
        deltas[inside] = rate * gaussian_deltas(1 / sigma, z)
    return deltas


def _ends(part: SampledSteps) -> tuple[float, float]:
    """The least and largest loss of one step that the grid holds, for a unit taken out."""
    mu, rate = 1 / part.noise_multiplier, part.sampling_rate
    far = mu**2 / 2 + mu * _TAIL_SIGMAS
    return tuple(
        float(np.logaddexp(math.log1p(-rate) if rate < 1 else -math.inf, math.log(rate) + z))
        for z in (-far, far)
    )  # type: ignore[return-value]


def _of_step(part: SampledSteps, interval: float) -> PrivacyLossDistribution:
    """The distribution of one step, in both directions."""
    least, largest = _ends(part)
    low, high = math.floor(least / interval), math.ceil(largest / interval)

    def on_grid(first: int, last: int, *, add: bool) -> Any:
        epsilons: Array = np.arange(first, last + 1, dtype=np.float64) * interval
        deltas = step_delta(part.noise_multiplier, part.sampling_rate, epsilons, add=add)
        return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(
            interval, first, last, np.clip(np.maximum.accumulate(deltas[::-1])[::-1], 0, 1)
        )

    removed = on_grid(low, high, add=False)
    return PrivacyLossDistribution(removed, on_grid(-high, -low, add=True))


@lru_cache(maxsize=16)
def composed(parts: tuple[SampledSteps, ...], interval: float) -> PrivacyLossDistribution:
    """The distribution of all steps together, on a grid of `interval`."""
    total = _of_step(parts[0], interval).self_compose(parts[0].steps)
    for part in parts[1:]:
        total = total.compose(_of_step(part, interval).self_compose(part.steps))
    return total


def slack(parts: tuple[SampledSteps, ...]) -> float:
    """What rounding of the Fourier transforms may take off delta, at most."""
    return _FOURIER * (sum(part.steps for part in parts) + 10)


def epsilon_at(
    distribution: PrivacyLossDistribution, parts: tuple[SampledSteps, ...], delta: float
) -> float:
    """The epsilon at `delta` less the `slack`; infinite where that leaves nothing."""
    delta -= slack(parts)
    if delta <= 0:
        return math.inf
    if distribution.get_delta_for_epsilon(0.0) <= delta:
        return 0.0
    return max(float(distribution.get_epsilon_for_delta(delta)), 0.0)


def _spread(part: SampledSteps, width: float) -> float:
    """About the width of the composed grid: 2 * 6 standard deviations and two single steps."""
    moment = part.sampling_rate**2 * math.expm1(min(part.noise_multiplier**-2, 500.0))
    return 2 * width + 12 * math.sqrt(part.steps * min(moment, width**2 / 4))


def _intervals(parts: tuple[SampledSteps, ...], share: float = 1.0) -> Iterator[float]:
    """Grids from coarse to fine, as far as a share of the time and memory allows."""
    widths = [high - low for low, high in map(_ends, parts)]
    of_all = sum(_spread(part, width) for part, width in zip(parts, widths, strict=True))
    least = max(max(widths) / _STEP_CELLS, of_all / _ALL_CELLS) / share
    power = math.floor(math.log(max(min(widths) / _FIRST_CELLS, least), _LADDER))
    yield _LADDER**power
    while _LADDER ** (power - 1) > least:
        power -= 1
        yield _LADDER**power


def settled(
    parts: tuple[SampledSteps, ...],
    value: Callable[[PrivacyLossDistribution], float],
    *,
    tolerance: float = TIGHT,
) -> tuple[float, float]:
    """The first interval at which `value` has moved by less than `tolerance`, and the value there.

    `value` falls as the grid gets finer, in the end with the square of the interval: a last move
    of 2e-3 leaves an excess of about 2.5e-4, and of 1e-3 at most where it falls in proportion. A
    wide tolerance also gets a small share of the cells.

    Guarantee: any grid's distribution is an upper bound; `tolerance` touches tightness alone.
    """
    before = math.inf
    for interval in _intervals(parts, share=min(5 * TIGHT / tolerance, 1.0)):
        now = value(composed(parts, interval))
        if now == 0 or before - now <= tolerance * now:
            break
        before = now
    return interval, now
