"""What Gaussian steps cost one unit, and the noise that a target needs.

One Gaussian release stands in `gaussian`, one step on a Poisson sample in `sampled_step`. Read
from the top: many steps as a privacy loss distribution (PLD, `composed`), all of that as one number
(`PrivacyLoss`), and the way back from a target to noise (`noise_for`).

Steps in which every unit takes part compose exactly, in mu. Steps on Poisson samples are composed
as PLDs: a step's curve is put on a grid of losses ("connect the dots": Doroshenko et al., arXiv
2207.04380, algorithm 1), which lies above the true curve everywhere, and composed by Fourier
transform: first the steps of one kind, then all kinds, on a coarser grid (`composition`).

>>> sampled = PrivacyLoss(sampled=(SampledSteps(4.337, 1 / 9, 2700),))
>>> round(sampled.epsilon(1e-4), 2)
5.48
"""

from __future__ import annotations  # dp_accounting is imported at its first use

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy  # its parts are imported at their first use

from synthdp.errors import InputError
from synthdp.privacy.accounting.composition import composed_losses, losses_on_grid, on_coarser_grid
from synthdp.privacy.accounting.gaussian import (
    MAX_MU,
    Array,
    gaussian_delta,
    gaussian_epsilon,
    mu_between,
    refuse_delta,
)
from synthdp.privacy.accounting.sampled_step import GroupStep, SampledSteps, loss_range, step_delta

if TYPE_CHECKING:
    from dp_accounting.pld.pld_pmf import DensePLDPmf
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

#: As `MAX_MU`, for one sampled step: above this its losses, mu^2 / 2, fit no grid.
_MAX_STEP_MU = 1000.0
#: Relative rounding of a normal tail at an inverse tail, down to 1e-300, and of sums over a curve.
_TAILS_ROUNDING = 1e-11

#: Rounding of the Fourier transform, absolute in delta, a composed step (measured: under 1e-17).
_FOURIER = 1e-16
#: Grids are powers of this; a finer one cuts the error about by its square.
_LADDER = 3
#: Cells of a loss on the coarsest grid, and its width in deviations: that of a Gaussian step.
_FIRST_CELLS, _WIDTH = 150, 20.0
#: Relative move of a value between two grids at which it counts as settled.
_SETTLED = 2e-3
#: The most of the ladder's powers between the grids of a kind and of the whole: 64 bits hold it.
_MOST_FINER = 30
_STEP_CELLS, _ALL_CELLS = 1.5e5, 1.5e6
#: The coarsest grid: e to an interval must be a number.
_COARSEST = 500.0

_LARGEST_LOSS = 700.0

_LEAST_NOISE, _MOST_NOISE = 1e-2, 1e7
#: Calibration aims at this share of the target, and ends within `_CLOSE` of that share.
_AIM, _CLOSE = 0.9995, 4e-4


def _step_losses(part: SampledSteps, interval: float) -> Iterator[DensePLDPmf]:
    """The losses of one step, for a unit that is taken out and for one that is added."""
    least, largest = loss_range(part)
    low, high = math.floor(least / interval), math.ceil(largest / interval)
    # the losses of a unit that is added are those of one taken out with the sign turned
    for first, last, add in ((low, high, False), (-high, -low, True)):
        epsilons: Array = np.arange(first, last + 1, dtype=np.float64) * interval
        if part.group > 1:
            deltas = GroupStep.of(part).deltas(epsilons, add=add)
        else:
            deltas = step_delta(part.noise_multiplier, part.sampling_rate, epsilons, add=add)
        # rounding may let a curve rise that falls: the larger value on the right holds for both
        falling = np.clip(np.maximum.accumulate(deltas[::-1])[::-1], 0, 1)
        yield losses_on_grid(falling, first, interval)


@lru_cache(maxsize=2048)
def _of_kind(part: SampledSteps, interval: float, factor: int) -> tuple[DensePLDPmf, DensePLDPmf]:
    """All steps of one kind, taken out and added: composed on `interval`, then made coarser."""
    removed, added = (
        on_coarser_grid(composed_losses([losses], [part.steps]), factor)
        for losses in _step_losses(part, interval)
    )
    return removed, added


@lru_cache(maxsize=16)
def composed(parts: tuple[SampledSteps, ...], interval: float) -> PrivacyLossDistribution:
    """The distribution of all steps together, on a grid of `interval`.

    Steps of one kind are composed first, on a grid that is finer than that of the whole as their
    own losses are smaller: what is kept of a kind then holds a few hundred cells, and serves each
    composition it is part of.
    """
    from dp_accounting.pld.privacy_loss_distribution import (  # noqa: PLC0415 (takes a second)
        PrivacyLossDistribution,
    )

    made = []
    for part, finer in zip(parts, _finer_by(parts), strict=True):
        # a grid as fine as the kind asks for, unless that is more than time and memory allow
        factor = _LADDER**finer
        while factor > 1 and _least_interval(part) > interval / factor:
            factor //= _LADDER
        made.append(_of_kind(part, interval / factor, factor))
    if len(made) == 1:
        return PrivacyLossDistribution(*made[0])
    removed, added = (composed_losses(pmfs, [1] * len(parts)) for pmfs in zip(*made, strict=True))
    return PrivacyLossDistribution(removed, added)


def _slack(parts: tuple[SampledSteps, ...]) -> float:
    """What rounding of the Fourier transforms may take off delta, at most."""
    return _FOURIER * (sum(part.steps for part in parts) + 10)


def _epsilon_at(
    distribution: PrivacyLossDistribution, parts: tuple[SampledSteps, ...], delta: float
) -> float:
    """The epsilon at `delta` less the `_slack`; infinite where that leaves nothing."""
    delta -= _slack(parts)
    if delta <= 0:
        return math.inf
    if distribution.get_delta_for_epsilon(0.0) <= delta:
        return 0.0
    return max(float(distribution.get_epsilon_for_delta(delta)), 0.0)


@lru_cache(maxsize=2048)
def _width(part: SampledSteps) -> float:
    """From the least to the largest loss of one step."""
    least, largest = loss_range(part)
    return largest - least


@lru_cache(maxsize=2048)
def _deviation(part: SampledSteps) -> float:
    """About the standard deviation of the loss of all steps together."""
    if part.group > 1:
        moment = GroupStep.of(part).second_moment()
    else:
        moment = part.sampling_rate**2 * math.expm1(min(part.noise_multiplier**-2, 500.0))
    return math.sqrt(part.steps * min(moment, _width(part) ** 2 / 4))


def _least_interval(part: SampledSteps) -> float:
    """The finest grid for a part that time and memory allow: 12 deviations and two steps wide."""
    width = _width(part)
    return max(width / _STEP_CELLS, (2 * width + 12 * _deviation(part)) / _ALL_CELLS)


def _first_power(interval: float) -> int:
    """Of `_LADDER`, so that a search over the noise meets the same grids again and again."""
    return math.floor(math.log(min(interval, _COARSEST), _LADDER))


@lru_cache(maxsize=16)
def _first_powers(parts: tuple[SampledSteps, ...]) -> tuple[int, tuple[int, ...]]:
    """The coarsest grids: of the whole, and of each part; as powers of `_LADDER`.

    What a grid adds to the variance of the whole is about the square of its interval for each loss
    that is put on it. So a part's grid goes by the width of one of its steps, and that of the whole
    by the root mean square of the widths of its parts.
    """
    own = tuple(
        _first_power(max(_width(part) / _FIRST_CELLS, _least_interval(part))) for part in parts
    )
    if len(parts) == 1:
        return own[0], own
    width = _WIDTH * math.sqrt(sum(_deviation(part) ** 2 for part in parts) / len(parts))
    return _first_power(max(width / _FIRST_CELLS, _least_of_all(parts))), own


def _least_of_all(parts: tuple[SampledSteps, ...]) -> float:
    """The finest grid of the whole: none of the parts' cells and all of them together too many."""
    width = max(_width(part) for part in parts)
    total = math.sqrt(sum(_deviation(part) ** 2 for part in parts))
    return max(*(_least_interval(part) for part in parts), (2 * width + 12 * total) / _ALL_CELLS)


def _finer_by(parts: tuple[SampledSteps, ...]) -> tuple[int, ...]:
    """By which powers of `_LADDER` the parts' own grids are finer than that of the whole."""
    whole, own = _first_powers(parts)
    return tuple(min(max(whole - power, 0), _MOST_FINER) for power in own)


def _intervals(parts: tuple[SampledSteps, ...]) -> Iterator[float]:
    """Grids of the whole from coarse to fine, as far as time and memory allow."""
    least = min(_least_of_all(parts) if len(parts) > 1 else _least_interval(parts[0]), _COARSEST)
    power, _ = _first_powers(parts)
    yield float(_LADDER) ** power
    while float(_LADDER) ** (power - 1) > least:
        power -= 1
        yield float(_LADDER) ** power


def _settled(
    parts: tuple[SampledSteps, ...], value: Callable[[PrivacyLossDistribution], float]
) -> tuple[float, float]:
    """The first interval at which `value` has moved by less than `_SETTLED`, and the value there.

    `value` falls as the grid gets finer, in the end with the square of the interval: a last move
    of 2e-3 leaves an excess of about 2.5e-4, and of 1e-3 at most where it falls in proportion.

    Ours, since dp_accounting's `PLDAccountant` keeps one interval for all: at its default of 1e-4 a
    calibration to epsilon 0.3 took longer than 10 s (ours 0.5 s), and at 1e-3 it was 2 % loose
    after 2700 steps (`python scripts/bench_calibration.py --dp-accounting --epsilon 0.3`).

    Guarantee: any grid's distribution is an upper bound; `_SETTLED` touches tightness alone.
    """
    coarser = math.inf
    for interval in _intervals(parts):
        finer = value(composed(parts, interval))
        if finer == 0 or coarser - finer <= _SETTLED * finer:
            break
        coarser = finer
    return interval, finer


@dataclass(frozen=True)
class PrivacyLoss:
    """All that was computed on one unit: an adaptive composition, in any order.

    mu: Gaussian signal-to-noise of the steps in which every unit takes part, infinite where
    nothing protects; sampled: the steps of Poisson samples.
    """

    mu: float = 0.0
    sampled: tuple[SampledSteps, ...] = ()

    def with_loss(self, other: PrivacyLoss) -> PrivacyLoss:
        """This composed with `other`: mu adds in squares, steps of one kind in number."""
        steps: dict[SampledSteps, int] = {}
        for part in self.sampled + other.sampled:
            kind = replace(part, steps=0)
            steps[kind] = steps.get(kind, 0) + part.steps
        sampled = tuple(replace(kind, steps=number) for kind, number in sorted(steps.items()))
        return PrivacyLoss(math.hypot(self.mu, other.mu), sampled)

    def of_group(self, size: int) -> PrivacyLoss:
        """What the same steps cost `size` units together, such as all images of a patient.

        Formula: mu grows to size times mu, as sums do (Dong, Roth and Su, arXiv 1905.02383,
        theorem 2.14); a sampled step becomes a mixture of Gaussians (`GroupStep`).

        Guarantee: exact where the units' vectors may all point one way, and an upper bound for
        every group of at most `size` units.
        """
        sampled = tuple(replace(part, group=size * part.group) for part in self.sampled)
        return PrivacyLoss(size * self.mu, sampled)

    @property
    def unbounded(self) -> bool:
        """Whether nothing protects the unit, or too little for a number to be given."""
        return self.mu > MAX_MU or any(
            part.group > _MAX_STEP_MU * part.noise_multiplier for part in self.sampled
        )

    def epsilon(self, delta: float) -> float:
        """The epsilon at `delta`, for add/remove neighbours; infinite where nothing protects.

        Guarantee: exact for steps of all units (`gaussian_epsilon`), an upper bound with samples.

        Raises:
            InputError: when delta is not between 0 and 1.
        """
        if not self.sampled or self.unbounded:
            return gaussian_epsilon(math.inf if self.unbounded else self.mu, delta)
        refuse_delta(delta)
        return _sampled_epsilon(self, delta)

    def delta(self, epsilon: float) -> float:
        """The delta at `epsilon`, with the guarantee of `epsilon`."""
        if not self.sampled or self.unbounded:
            return gaussian_delta(math.inf if self.unbounded else self.mu, epsilon)
        parts = _parts_of(self)
        on_grid = _settled(parts, lambda d: float(d.get_delta_for_epsilon(epsilon)))[1]
        return min(on_grid + _slack(parts), 1.0)

    def true_positive_rate(self, false_positive_rate: float) -> float:
        """The share of members that the best attack finds, in [0, 1].

        Args:
            false_positive_rate: share of strangers taken for members, in [0, 1].

        Formula: Phi(Phi^-1(a) + mu) for Gaussian steps (Dong, Roth and Su, arXiv 1905.02383); with
        samples, the least of e^eps a + delta over the curve of (eps, delta) (proposition 2.12
        there).

        Guarantee: an upper bound for every attacker who knows all other units, rounded up.
        """
        a = false_positive_rate
        if self.unbounded:
            return 1.0
        if self.mu == 0 and not self.sampled:
            return a
        rate = (
            _sampled_rate(self, a)
            if self.sampled
            else float(scipy.special.ndtr(scipy.special.ndtri(a) + self.mu))
        )
        return min(max(rate, a) * (1 + _TAILS_ROUNDING), 1.0)

    def success(self, blind: float) -> float:
        """How often a guess about one unit comes right at most, that blind comes right at `blind`.

        The guess may be who somebody is, what an attribute of theirs is, or what their image shows,
        up to any error that counts as right; `blind` is the best guess's chance without the result.

        Formula: 1 - f(blind), with f the trade-off curve (*Unifying Re-Identification, Attribute
        Inference, and Data Reconstruction Risks in Differential Privacy*, arXiv 2507.06969). Why:
        had the unit not been there, no guess would come right more often than `blind`; as a test of
        whether it was there, "the guess came right" has that rate of false alarms, averaged over
        what the unit may be, and 1 - f is concave.

        Guarantee: an upper bound for every attacker who knows all other units and the unit's prior.
        """
        return self.true_positive_rate(blind)

    @property
    def best_accuracy(self) -> float:
        """The best attack's accuracy on a fair coin flip, in or out: (1 + delta(0)) / 2."""
        return min(math.nextafter((1 + self.gain) / 2, 1.0), 1.0) if self.gain > 0 else 0.5

    @property
    def gain(self) -> float:
        """How much more often any guess about one unit comes right than blind, at most.

        Formula: the most of 1 - f(a) - a over all a, which is delta(0) (Dong, Roth and Su,
        arXiv 1905.02383, proposition 2.4); holds whatever the chance of the blind guess.

        Guarantee: as `success`.
        """
        return max(0.0, self.delta(0.0))


#: What nothing costs.
NO_LOSS = PrivacyLoss()


def _parts_of(loss: PrivacyLoss) -> tuple[SampledSteps, ...]:
    """The composition as sampled steps: the Gaussian part is one step at rate 1."""
    return loss.sampled + ((SampledSteps(1 / loss.mu, 1.0, 1),) if loss.mu > 0 else ())


@lru_cache(maxsize=256)
def _sampled_epsilon(loss: PrivacyLoss, delta: float) -> float:
    """The epsilon at `delta` of a composition with samples, on the first grid that settles it."""
    parts = _parts_of(loss)
    return _settled(parts, lambda d: _epsilon_at(d, parts, delta))[1]


def _rate_at(pmf: Any, false_alarms: float) -> float:
    """The share of members that the likelihood-ratio test finds at a rate of `false_alarms`.

    Largest losses are called members first, and the loss at which the false alarms are used up by
    lot; on a coarse grid that may come to more than 1. It is the least of e^eps a + delta(eps) over
    the grid's epsilons, each of which is a bound, so that rounding in the choice of the loss makes
    it no less of one.
    """
    dense = pmf.to_dense_pmf()
    members = dense._probs[::-1]
    losses = (np.arange(dense.size)[::-1] + dense._lower_loss) * dense._discretization
    strangers = np.cumsum(members * np.exp(np.minimum(-losses, _LARGEST_LOSS)))
    # rounding at the least losses, times e^-loss, may bring the sum down again: the first crossing
    rising = np.maximum.accumulate(strangers)
    called = int(np.searchsorted(rising, false_alarms, side="right"))
    rate = float(dense._infinity_mass + members[:called].sum())
    if called == len(members):
        return rate
    left = false_alarms - (float(strangers[called - 1]) if called else 0.0)
    return rate + left * math.exp(min(losses[called], _LARGEST_LOSS))


@lru_cache(maxsize=256)
def _sampled_rate(loss: PrivacyLoss, false_alarms: float) -> float:
    """The share of members found of a composition with samples, on the first grid that settles it.

    The larger of both directions, as the curve of add/remove neighbours has it.
    """
    parts = _parts_of(loss)

    def rate(distribution: PrivacyLossDistribution) -> float:
        pmfs = (distribution._pmf_remove, distribution._pmf_add)
        return max(_rate_at(pmf, false_alarms) for pmf in pmfs) + _slack(parts)

    def mu(distribution: PrivacyLossDistribution) -> float:
        """Falls with the rate, beyond 1 too, where a coarse grid says nothing yet."""
        share = rate(distribution)
        return min(mu_between(false_alarms, share), MAX_MU) + max(math.log(share), 0.0)

    return rate(composed(parts, _settled(parts, mu)[0]))


def noise_for(
    target: float, spent_at: Callable[[float], float], *, guess: float, asked: str = "the target"
) -> float:
    """The smallest noise multiplier with which a composition stays within a target.

    Brent's method (scipy) on the logarithms of noise and what is spent, between which the line is
    nearly straight. dp_accounting's `calibrate_dp_mechanism` runs it on noise and epsilon as they
    are: on the same epsilons it took up to twice as long, and its tolerance of 1e-3 in the noise
    left 0.9 % of epsilon 60 unused
    (`python scripts/bench_calibration.py --dp-accounting --epsilon 60`).

    Args:
        target: what may be spent, above 0: an epsilon, or another number that noise brings down.
        spent_at: what the whole composition spends at a noise multiplier; falls with the noise.
        guess: a noise multiplier to start from.
        asked: the target in words, for an error.

    Guarantee: what the result spends never exceeds `target`; it is within 0.1 % of it.

    Raises:
        InputError: when no noise reaches the target, or none is needed.
    """

    def excess(log_noise: float) -> float:
        spent = spent_at(math.exp(log_noise))
        too_much = math.log(min(max(spent / (_AIM * target), 1e-3), 1e3))  # finite, for Brent
        return 0.0 if abs(too_much) <= _CLOSE else too_much  # Brent's method ends at a zero

    low = high = math.log(max(guess, 0.1))
    step = 0.2
    while excess(high) > 0:
        if high >= math.log(_MOST_NOISE):
            raise InputError(
                f"{asked} can't be reached by any noise; raise it, or start from something that "
                "spent less"
            )
        low, high, step = high, min(high + step, math.log(_MOST_NOISE)), 2 * step
    while excess(low) < 0:
        if low <= math.log(_LEAST_NOISE):
            raise InputError(
                f"{asked} is more than any noise needs; write `none` to train without privacy"
            )
        low, high, step = max(low - step, math.log(_LEAST_NOISE)), low, 2 * step
    log_noise = (
        low if low == high else float(scipy.optimize.brentq(excess, low, high, xtol=_CLOSE / 4))
    )
    # where epsilon jumps from one grid to another no point may be close enough: step over to the
    # side that keeps the target. `high` keeps it, so that this ends there at the latest
    step = _CLOSE / 4
    while excess(log_noise) > 0:
        log_noise, step = min(log_noise + step, high), 2 * step
    return math.exp(log_noise)
