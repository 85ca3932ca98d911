"""What Gaussian steps cost one unit, and the noise that a target needs.

Read from the top: one Gaussian release (`gaussian_epsilon` and its neighbours), one step on a
Poisson sample (`step_delta`), many steps as a privacy loss distribution (PLD, `composed`), all of
that as one number (`PrivacyLoss`), and the way back from epsilon to noise (`noise_for`).

Steps in which every unit takes part compose exactly, in mu. Steps on Poisson samples are composed
as PLDs: dp_accounting puts a step's curve on a grid of losses ("connect the dots": Doroshenko et
al., arXiv 2207.04380, algorithm 1), which lies above the true curve everywhere, and composes it by
Fourier transform.

>>> round(gaussian_mu(6.0, 1e-4), 3)
1.46
>>> sampled = PrivacyLoss(sampled=(SampledSteps(4.337, 1 / 9, 2700),))
>>> round(sampled.epsilon(1e-4), 2)
5.48
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from dp_accounting import get_sigma_gaussian
from dp_accounting.pld import pld_pmf
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import erfcx, logsumexp, ndtr, ndtri
from scipy.stats import binom, norm

from synthdp.errors import InputError

Array = NDArray[np.float64]

#: Above this, a Gaussian release tells members from strangers with certainty to double precision.
MAX_MU = 60.0
#: The same for one sampled step: above this its losses, mu^2 / 2, fit no grid.
_MAX_STEP_MU = 1000.0
#: Share taken of the mu that dp_accounting solves for, whose error is 2e-11 from epsilon 1e-3 on.
_SAFE_SIDE = 1 - 1e-9
_ROOT = 1e-14
#: Relative rounding of `gaussian_deltas` (measured against mpmath: under 5e-13), added on top.
_ROUNDING = 1e-12
#: Relative rounding of a normal tail at an inverse tail, down to 1e-300, and of sums over a curve.
_TAILS_ROUNDING = 1e-11
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)

#: Relative room in epsilon for the root that `GroupStep.places` finds.
_ROOM = 1e-10
_NEWTON_STEPS = 100
#: Rows that are at work at a time: 8 bytes a row and number of units drawn.
_ROWS = 20_000

#: Rounding of the Fourier transform, absolute in delta, a composed step (measured: under 1e-17).
_FOURIER = 1e-16
#: Probability of a step's losses beyond the grid; counted as an infinite loss.
_TAIL = 1e-22
_TAIL_SIGMAS = -float(ndtri(_TAIL))
#: Grids are powers of this; a finer one cuts the error about by its square.
_LADDER = 3.0
_FIRST_CELLS = 150
#: Relative move of a value between two grids at which it counts as settled.
_SETTLED = 2e-3
_STEP_CELLS, _ALL_CELLS = 1.5e5, 1.5e6
#: The coarsest grid: e to an interval must be a number.
_COARSEST = 500.0

_LARGEST_LOSS = 700.0

_LEAST_NOISE, _MOST_NOISE = 1e-2, 1e7
#: Calibration aims at this share of the target, and ends within `_CLOSE` of that share.
_AIM, _CLOSE = 0.9995, 4e-4


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The smallest delta for which a mu-Gaussian release is (epsilon, delta)-private.

    Formula: Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy"
    (arXiv 1805.06530), theorem 8, with mu = sensitivity / sigma:
    delta = Phi(mu/2 - epsilon/mu) - exp(epsilon) Phi(-mu/2 - epsilon/mu).

    Guarantee: exact for one Gaussian release, and for an adaptive composition with
    mu = sqrt(sum of mu_i^2) (Dong, Roth and Su, arXiv 1905.02383, corollary 3.3); rounded up by
    at most 2e-12 of it (see `gaussian_deltas`).
    """
    if mu <= 0:
        return max(-math.expm1(epsilon), 0.0)
    if math.isinf(mu):
        return 1.0
    return float(gaussian_deltas(mu, np.array([epsilon]))[0])


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The epsilon of a mu-Gaussian release at `delta`; infinite beyond `MAX_MU`.

    Ours, since dp_accounting's `get_epsilon_gaussian` is no bound: it was measured below the exact
    epsilon by up to 2e-10 of it at mu 0.001 and 2e-6 at mu 1e-8
    (`python scripts/bench_calibration.py --exact`).

    Guarantee: never below the exact value; above it by less than 1e-9 of it.

    Raises:
        InputError: when delta is not between 0 and 1.
    """
    _refuse_delta(delta)
    if mu <= 0:
        return 0.0
    if mu > MAX_MU:
        return math.inf
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    high = mu * (mu / 2 + float(norm.isf(delta / 2)) + 1)
    root = brentq(lambda e: gaussian_delta(mu, e) - delta, 0.0, high, xtol=1e-300, rtol=_ROOT)
    return float(root) * (1 + 2 * _ROOT)


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu whose Gaussian release is (epsilon, delta)-private, by dp_accounting.

    Guarantee: `gaussian_epsilon` of the result never exceeds `epsilon`.

    Raises:
        InputError: when epsilon is not positive, beyond what any noise needs or below what any
            noise gives; when delta is not between 0 and 1.
    """
    _refuse_delta(delta)
    if not epsilon > 0:
        raise InputError(f"privacy.epsilon is {epsilon:g}: it must be positive, or `none`")
    if gaussian_epsilon(MAX_MU, delta) <= epsilon:
        raise InputError(
            f"privacy.epsilon is {epsilon:g}: more than any noise needs; write `none` to train "
            "without privacy"
        )
    mu = _SAFE_SIDE / float(get_sigma_gaussian(epsilon, delta))
    # Its logarithms lose digits where epsilon is tiny or delta is next to 0 or 1: there its answer
    # was over the target by more than the safe side (twofold at epsilon 1e-12, by 3e-8 of it at
    # epsilon 1e-6 and delta 1e-100). Ours decides, as everywhere, with room for the rounding of
    # mu's way to noise and back.
    step = 1 - _SAFE_SIDE
    while gaussian_epsilon(mu, delta) > epsilon * (1 - _ROUNDING):
        mu, step = mu * (1 - step), min(2 * step, 0.5)
    if mu**2 < sys.float_info.min:  # losses add up in squares
        raise InputError(
            f"privacy.epsilon is {epsilon:g}: no noise is enough at delta {delta:g}; raise it"
        )
    return mu


def _refuse_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InputError(f"delta is {delta:g}: it must lie between 0 and 1")


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


@dataclass(frozen=True, order=True)
class SampledSteps:
    """Gaussian steps on Poisson samples: each unit is in each step with `sampling_rate` <= 1.

    group: how many units are taken out or added together, each drawn by itself.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    group: int = 1


def step_delta(sigma: float, rate: float, epsilons: Array, *, add: bool) -> Array:
    """One step's delta at each epsilon (any sign), for a unit that is taken out or added.

    Ours, since dp_accounting's `GaussianPrivacyLoss` subtracts two probabilities: it was measured
    below the exact delta by up to 2e-10 of it, and with it an epsilon took 1.6 times as long.

    Formula: taken out, delta(log(1 + q (e^z - 1))) = q delta_G(z), the amplification by sampling
    of Balle, Barthe and Gaboardi (arXiv 1807.01647, theorem 8), tight for this pair; added, it is
    the dual, delta'(e) = 1 - e^e + e^e delta(-e), which comes to (1 - (1 - q) e^e) delta_G(-z)
    with z taken at -e. delta_G is the Gaussian one with mu = 1 / sigma, its own dual.

    Guarantee: exact, rounded up as `gaussian_deltas` is.
    """
    deltas = np.where(epsilons < 0, -np.expm1(np.minimum(epsilons, 0)), 0.0)
    signed = -epsilons if add else epsilons
    # e^z - 1 for the Gaussian loss z behind each loss of the sampled step. A step that may not have
    # drawn the unit at all shows no loss below log(1 - q): those have no z, and their delta stands
    grown = np.expm1(np.minimum(signed, 30.0)) / rate
    inside = np.full(grown.shape, True) if rate == 1 else grown > -1
    near = signed[inside] if rate == 1 else np.log1p(grown[inside])
    # beyond e^30 the 1 in log(1 + (e^loss - 1) / q) is lost to rounding, and e^loss would overflow
    z = np.where(signed[inside] > 30.0, signed[inside] - math.log(rate), near)
    if add:
        weight = 1 - (1 - rate) * np.exp(np.minimum(epsilons[inside], 700.0))  # no inf times 0
        deltas[inside] = np.maximum(weight, 0) * gaussian_deltas(1 / sigma, -z)
    else:
        deltas[inside] = rate * gaussian_deltas(1 / sigma, z)
    return deltas


@dataclass(frozen=True, eq=False)
class GroupStep:
    """One step on a Poisson sample, for a group of units that are taken out or added together.

    sigma: the noise multiplier; log_chances: (J + 1,) of drawing 0 to J units of the group; beyond:
    the chance of more, which counts as an infinite loss.

    Source: the step is dominated by N(0, sigma^2) against the mixture of N(j, sigma^2), j binomial:
    *Privacy Amplification for Matrix Mechanisms* (arXiv 2310.15526, mixtures of Gaussians);
    *Fine-Tuning Large Language Models with User-Level Differential Privacy* (arXiv 2407.07737).
    dp_accounting's `MixtureOfGaussiansPrivacyLoss` is the oracle in tests; ours, since it subtracts
    two probabilities (as `step_delta` says of its single units).
    """

    sigma: float
    log_chances: Array
    beyond: float

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, part: SampledSteps) -> "GroupStep":
        """The step of a part, whatever the number of its steps."""
        drawn = np.arange(part.group + 1)
        beyond = binom.sf(drawn, part.group, part.sampling_rate)
        last = int(np.argmax(beyond <= _TAIL / 100))  # at the end of the group it is 0
        log_chances = binom.logpmf(drawn[: last + 1], part.group, part.sampling_rate)
        return cls(part.noise_multiplier, log_chances, float(beyond[last]))

    @property
    def _drawn(self) -> Array:
        return np.arange(len(self.log_chances), dtype=np.float64)

    def _exponents(self, places: Array) -> Array:
        """Losses of having drawn j units, seen at each place x of the sum: (N, J + 1)."""
        drawn = self._drawn
        return (places[:, None] - drawn / 2) * drawn / self.sigma**2

    def losses(self, places: Array) -> Array:
        """The loss of the step at each place x of the sum, (N,); it rises with x."""
        parts = self.log_chances + self._exponents(places)
        losses: Array = logsumexp(parts, axis=1)
        return losses

    def places(self, losses: Array) -> Array:
        """Where the sum lies for each loss above the least one, (N,).

        Newton's method from the right: the loss is convex and rises, so that it comes down to the
        root and never passes it. It starts where the likeliest single number of units, with the
        chance of none, already gives the loss.
        """
        drawn, chances = self._drawn[1:], self.log_chances[1:]
        least = self.log_chances[0]
        # log(e^loss - e^least), what is left for the drawn ones
        left = losses + np.log(-np.expm1(np.minimum(least - losses, -1e-300)))
        of_drawn = self.sigma**2 * (left[:, None] - chances) / drawn + drawn / 2
        places: Array = of_drawn.min(axis=1)
        for _ in range(_NEWTON_STEPS):
            parts = self.log_chances + self._exponents(places)
            now = np.asarray(logsumexp(parts, axis=1))
            slopes = np.exp(parts - now[:, None]) @ self._drawn / self.sigma**2
            moves = (now - losses) / np.maximum(slopes, 1e-300)
            places = places - np.maximum(moves, 0)
            if np.all(now - losses <= _ROOM / 2 * np.maximum(1, np.abs(losses))):
                break
        return places

    def deltas(self, epsilons: Array, *, add: bool) -> Array:
        """The step's delta at each epsilon (any sign), for a group that is taken out or added.

        Formula: let x be the place at which the loss is e. Taken out, delta(e) is the mean over the
        number j of units drawn of delta_j(e_j), the Gaussian delta for mu = j / sigma at e_j, the
        loss of having drawn j at x; added, with x at the loss -e, it is the mean of delta_j(-e_j)
        with the chances of j given the sum x. Both are the two probabilities' difference, ordered
        by j, so that nothing cancels; with one unit they are `step_delta`'s.

        Guarantee: never below the exact value, and above it by less than what epsilon less 1e-10 of
        it (of 1, if smaller) gives.
        """
        # the place found is a little right of the true one: e is lowered by more, since a delta at
        # a lower epsilon is an upper bound
        epsilons = epsilons - _ROOM * np.maximum(1, np.abs(epsilons))
        signed = -epsilons if add else epsilons
        deltas = np.where(epsilons < 0, -np.expm1(np.minimum(epsilons, 0)), 0.0)
        inside = signed > self.log_chances[0]
        if len(self.log_chances) == 1:  # as good as never drawn
            return np.asarray(np.clip(deltas + self.beyond, 0, 1))
        for some in np.array_split(np.flatnonzero(inside), 1 + inside.sum() // _ROWS):
            places = self.places(signed[some])
            exponents = self._exponents(places)
            # chances of j given the sum x, and without
            weights = self.log_chances + (exponents - signed[some, None] if add else 0 * exponents)
            total = np.zeros(len(some))
            for j in range(1, len(self.log_chances)):
                single = -exponents[:, j] if add else exponents[:, j]
                total += np.exp(weights[:, j]) * gaussian_deltas(j / self.sigma, single)
            deltas[some] = total
        return np.asarray(np.clip(deltas * (1 + _ROUNDING) + self.beyond, 0, 1))

    def _ends(self) -> tuple[float, float]:
        """Where the sum lies with all but `_TAIL` of each probability."""
        drawn, chances = self._drawn, np.exp(self.log_chances)
        low, high = 0.0, len(drawn) + self.sigma * _TAIL_SIGMAS
        while high - low > 1e-3 * high:
            middle = (low + high) / 2
            over = float(chances @ ndtr((drawn - middle) / self.sigma))
            low, high = (middle, high) if over > _TAIL else (low, middle)
        return -self.sigma * _TAIL_SIGMAS, high

    def loss_range(self) -> tuple[float, float]:
        """The least and largest loss that the grid holds, for a group taken out."""
        least, largest = self.losses(np.array(self._ends()))
        return float(least), float(largest)

    def second_moment(self) -> float:
        """About the mean square of the loss, for a group taken out."""
        places = np.linspace(*self._ends(), 4001)
        density = np.exp(self.losses(places) - (places / self.sigma) ** 2 / 2)
        return float(np.average(self.losses(places) ** 2, weights=density))


def _loss_range(part: SampledSteps) -> tuple[float, float]:
    """The least and largest loss of one step that the grid holds, for a unit taken out."""
    if part.group > 1:
        return GroupStep.of(part).loss_range()
    mu, rate = 1 / part.noise_multiplier, part.sampling_rate
    far = mu**2 / 2 + mu * _TAIL_SIGMAS
    not_drawn = math.log1p(-rate) if rate < 1 else -math.inf

    def loss_of_step(z: float) -> float:
        """log(1 - q + q e^z), the loss of a step that draws the unit with probability q."""
        return float(np.logaddexp(not_drawn, math.log(rate) + z))

    return loss_of_step(-far), loss_of_step(far)


def _step_distribution(part: SampledSteps, interval: float) -> PrivacyLossDistribution:
    """The distribution of one step, in both directions."""
    least, largest = _loss_range(part)
    low, high = math.floor(least / interval), math.ceil(largest / interval)

    def on_grid(first: int, last: int, *, add: bool) -> Any:
        epsilons: Array = np.arange(first, last + 1, dtype=np.float64) * interval
        if part.group > 1:
            deltas = GroupStep.of(part).deltas(epsilons, add=add)
        else:
            deltas = step_delta(part.noise_multiplier, part.sampling_rate, epsilons, add=add)
        # rounding may let a curve rise that falls: the larger value on the right holds for both
        return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(
            interval, first, last, np.clip(np.maximum.accumulate(deltas[::-1])[::-1], 0, 1)
        )

    # the losses of a unit that is added are those of one taken out with the sign turned
    removed = on_grid(low, high, add=False)
    return PrivacyLossDistribution(removed, on_grid(-high, -low, add=True))


@lru_cache(maxsize=16)
def composed(parts: tuple[SampledSteps, ...], interval: float) -> PrivacyLossDistribution:
    """The distribution of all steps together, on a grid of `interval`."""
    total = _step_distribution(parts[0], interval).self_compose(parts[0].steps)
    for part in parts[1:]:
        total = total.compose(_step_distribution(part, interval).self_compose(part.steps))
    return total


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


def _spread(part: SampledSteps, width: float) -> float:
    """About the width of the composed grid: 2 * 6 standard deviations and two single steps."""
    if part.group > 1:
        moment = GroupStep.of(part).second_moment()
    else:
        moment = part.sampling_rate**2 * math.expm1(min(part.noise_multiplier**-2, 500.0))
    return 2 * width + 12 * math.sqrt(part.steps * min(moment, width**2 / 4))


def _intervals(parts: tuple[SampledSteps, ...]) -> Iterator[float]:
    """Grids from coarse to fine, as far as time and memory allow."""
    widths = [high - low for low, high in map(_loss_range, parts)]
    of_all = sum(_spread(part, width) for part, width in zip(parts, widths, strict=True))
    least = min(max(max(widths) / _STEP_CELLS, of_all / _ALL_CELLS), _COARSEST)
    # powers of one number, so that a search over the noise meets the same grids again and again
    first = min(max(min(widths) / _FIRST_CELLS, least), _COARSEST)
    power = math.floor(math.log(first, _LADDER))
    yield _LADDER**power
    while _LADDER ** (power - 1) > least:
        power -= 1
        yield _LADDER**power


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

    def with_loss(self, other: "PrivacyLoss") -> "PrivacyLoss":
        """This composed with `other`: mu adds in squares, steps of one kind in number."""
        steps: dict[SampledSteps, int] = {}
        for part in self.sampled + other.sampled:
            kind = replace(part, steps=0)
            steps[kind] = steps.get(kind, 0) + part.steps
        sampled = tuple(replace(kind, steps=number) for kind, number in sorted(steps.items()))
        return PrivacyLoss(math.hypot(self.mu, other.mu), sampled)

    def of_group(self, size: int) -> "PrivacyLoss":
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
        _refuse_delta(delta)
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
        rate = _sampled_rate(self, a) if self.sampled else float(ndtr(ndtri(a) + self.mu))
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
    found = float(dense._infinity_mass + members[:called].sum())
    if called == len(members):
        return found
    left = false_alarms - (float(strangers[called - 1]) if called else 0.0)
    return found + left * math.exp(min(losses[called], _LARGEST_LOSS))


def mu_between(false_alarms: float, found: float) -> float:
    """The mu of a Gaussian release that finds this share of members at these false alarms."""
    if found <= false_alarms:
        return 0.0
    return float(ndtri(found) - ndtri(false_alarms)) if found < 1 else math.inf


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
        found = rate(distribution)
        return min(mu_between(false_alarms, found), MAX_MU) + max(math.log(found), 0.0)

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
    log_noise = low if low == high else float(brentq(excess, low, high, xtol=_CLOSE / 4))
    # where epsilon jumps from one grid to another no point may be close enough: step over to the
    # side that keeps the target. `high` keeps it, so that this ends there at the latest
    step = _CLOSE / 4
    while excess(log_noise) > 0:
        log_noise, step = min(log_noise + step, high), 2 * step
    return math.exp(log_noise)
