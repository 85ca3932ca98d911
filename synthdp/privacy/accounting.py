"""What Gaussian steps cost one unit: epsilon, delta and the attacker's trade-off curve.

Steps in which every unit takes part compose exactly, in mu. Steps of a Poisson sample are composed
as privacy loss distributions (PLD), rounded to the safe side.

>>> round(gaussian_mu(6.0, 1e-4), 3)
1.46
>>> sampled = PrivacyLoss(sampled=(SampledSteps(4.337, 1 / 9, 2700),))
>>> round(sampled.epsilon(1e-4), 2)
5.48
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from dp_accounting.pld import privacy_loss_distribution
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr
from scipy.stats import norm

from synthdp.errors import InputError

#: Above this, a Gaussian release tells members from strangers with certainty to double precision.
MAX_MU = 60.0
_SAFE_SIDE = 1 - 1e-9

#: Interval on which privacy losses are rounded at first; it is refined for small epsilons.
_COARSE = 1e-3
#: An epsilon this many intervals large has lost less than a thousandth to rounding.
_ENOUGH_INTERVALS = 5_000
_MAX_CELLS = 1e6
_CURVE_POINTS = 4_000
_LEAST_NOISE, _MOST_NOISE = 1e-2, 1e7
_BRACKET = math.log(1.5)
#: Calibration aims at this share of the target, and never lands above the target itself.
_AIM = 0.9995
_TINY = 1e-12


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The smallest delta for which a mu-Gaussian release is (epsilon, delta)-private.

    Formula: Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy"
    (arXiv 1805.06530), theorem 8, with mu = sensitivity / sigma:
    delta = Phi(mu/2 - epsilon/mu) - exp(epsilon) Phi(-mu/2 - epsilon/mu).

    Guarantee: exact for one Gaussian release, and for an adaptive composition with
    mu = sqrt(sum of mu_i^2) (Dong, Roth and Su, arXiv 1905.02383, corollary 3.3).
    """
    if mu <= 0:
        return 0.0
    if math.isinf(mu):
        return 1.0
    upper = float(norm.cdf(mu / 2 - epsilon / mu))
    lower = math.exp(min(epsilon + float(log_ndtr(-mu / 2 - epsilon / mu)), 0.0))
    return max(upper - lower, 0.0)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The epsilon of a mu-Gaussian release at `delta`; infinite beyond `MAX_MU`.

    Guarantee: never below the exact value by more than the solver's tolerance of 1e-12.
    """
    _refuse_delta(delta)
    if mu <= 0:
        return 0.0
    if mu > MAX_MU:
        return math.inf
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    high = mu * (mu / 2 + float(norm.isf(delta / 2)) + 1)
    return float(brentq(lambda e: gaussian_delta(mu, e) - delta, 0.0, high, xtol=1e-12))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu whose Gaussian release is (epsilon, delta)-private.

    Guarantee: `gaussian_epsilon` of the result never exceeds `epsilon` (safe side of 1e-9).

    Raises:
        InputError: when epsilon is not positive, or beyond what any noise needs.
    """
    if not epsilon > 0:
        raise InputError(f"privacy.epsilon is {epsilon:g}: it must be positive, or `none`")
    if gaussian_epsilon(MAX_MU, delta) <= epsilon:
        raise InputError(
            f"privacy.epsilon is {epsilon:g}: more than any noise needs; write `none` to train "
            "without privacy"
        )
    exact = brentq(lambda mu: gaussian_delta(mu, epsilon) - delta, 1e-9, MAX_MU, xtol=1e-13)
    return float(exact) * _SAFE_SIDE


def _refuse_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InputError(f"delta is {delta:g}: it must lie between 0 and 1")


@dataclass(frozen=True, order=True)
class SampledSteps:
    """Gaussian steps on Poisson samples: each unit is in each step with `sampling_rate` < 1."""

    noise_multiplier: float
    sampling_rate: float
    steps: int


@dataclass(frozen=True)
class PrivacyLoss:
    """All that was computed on one unit: an adaptive composition, in any order.

    mu: Gaussian signal-to-noise of the steps in which every unit takes part, infinite where
    nothing protects; sampled: the steps of Poisson samples.
    """

    mu: float = 0.0
    sampled: tuple[SampledSteps, ...] = ()

    def with_loss(self, other: "PrivacyLoss") -> "PrivacyLoss":
        """This composed with `other`: mu adds in squares."""
        sampled = tuple(sorted(self.sampled + other.sampled))
        return PrivacyLoss(math.hypot(self.mu, other.mu), sampled)

    @property
    def unbounded(self) -> bool:
        """Whether nothing protects the unit."""
        return self.mu > MAX_MU or any(part.noise_multiplier == 0 for part in self.sampled)

    def epsilon(self, delta: float) -> float:
        """The epsilon at `delta`, for add/remove neighbours; infinite where nothing protects.

        Guarantee: exact for steps of all units (`gaussian_epsilon`), an upper bound with samples.

        Raises:
            InputError: when delta is not between 0 and 1.
        """
        if not self.sampled or self.unbounded:
            return gaussian_epsilon(math.inf if self.unbounded else self.mu, delta)
        _refuse_delta(delta)
        return max(float(_refined(self, delta).get_epsilon_for_delta(delta)), 0.0)

    def delta(self, epsilon: float) -> float:
        """The delta at `epsilon`, with the guarantee of `epsilon`."""
        if not self.sampled or self.unbounded:
            return gaussian_delta(math.inf if self.unbounded else self.mu, epsilon)
        return float(_composed(self, _interval(self)).get_delta_for_epsilon(epsilon))

    def found(self, false_alarms: float) -> float:
        """The share of members that the best attack finds at a rate of false alarms in (0, 1).

        Formula: Phi(Phi^-1(a) + mu) for Gaussian steps (Dong, Roth and Su, arXiv 1905.02383); with
        samples, the least of min(e^eps a + delta, 1 - e^-eps (1 - delta - a)) over the curve of
        (eps, delta) (proposition 2.12 there).

        Guarantee: an upper bound for every attacker who knows all other units.
        """
        if not self.sampled or self.unbounded:
            mu = math.inf if self.unbounded else self.mu
            return float(norm.cdf(norm.ppf(false_alarms) + mu))
        epsilons, deltas = _curve(self)
        direct = np.exp(epsilons) * false_alarms + deltas
        swapped = 1 - np.exp(-epsilons) * (1 - deltas - false_alarms)
        return float(np.clip(np.minimum(direct, swapped).min(), false_alarms, 1.0))

    @property
    def best_accuracy(self) -> float:
        """The best attack's accuracy on a fair coin flip, in or out: (1 + delta(0)) / 2."""
        return min((1 + self.delta(0.0)) / 2, 1.0)


def _least_interval(loss: PrivacyLoss) -> float:
    """The interval that spreads the distribution over about `_MAX_CELLS`.

    A step's loss spans about 1 / (2 sigma^2) + 10 / sigma; for the sum of sampled steps, mean and
    variance are at most about steps * rate^2 * (e^(1 / sigma^2) - 1).
    """
    width = loss.mu**2 / 2 + 12 * loss.mu
    for part in loss.sampled:
        sigma = part.noise_multiplier
        of_step = 0.5 / sigma**2 + 10 / sigma
        moment = part.steps * part.sampling_rate**2 * math.expm1(min(1 / sigma**2, 500.0))
        of_all = part.steps * 0.5 / sigma**2 + 12 * math.sqrt(part.steps) / sigma
        width += of_step + min(moment + 12 * math.sqrt(moment), of_all)
    return width / _MAX_CELLS


def _interval(loss: PrivacyLoss) -> float:
    return max(_COARSE, _least_interval(loss))


@lru_cache(maxsize=32)
def _composed(loss: PrivacyLoss, interval: float) -> Any:
    """The privacy loss distribution of `loss`, rounded up on `interval`."""

    def one(sigma: float, rate: float) -> Any:
        return privacy_loss_distribution.from_gaussian_mechanism(
            sigma, sampling_prob=rate, value_discretization_interval=interval
        )

    parts = [
        one(part.noise_multiplier, part.sampling_rate).self_compose(part.steps)
        for part in loss.sampled
    ]
    if loss.mu > 0:
        parts.append(one(1 / loss.mu, 1.0))
    total = parts[0]
    for part in parts[1:]:
        total = total.compose(part)
    return total


def _refined(loss: PrivacyLoss, delta: float) -> Any:
    """The distribution at an interval that is small beside the epsilon at `delta`."""
    interval = _interval(loss)
    while True:
        distribution = _composed(loss, interval)
        epsilon = distribution.get_epsilon_for_delta(delta)
        fine = epsilon == 0 or epsilon > _ENOUGH_INTERVALS * interval
        if fine or interval / 10 < _least_interval(loss):
            return distribution
        interval /= 10


@lru_cache(maxsize=32)
def _curve(loss: PrivacyLoss) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (epsilon, delta) that the composition keeps, from epsilon 0 up."""
    distribution = _composed(loss, _interval(loss))
    top = max(float(distribution.get_epsilon_for_delta(1e-12)), 1e-3)
    epsilons = np.concatenate([[0.0], np.geomspace(1e-4, max(top, 1.0), _CURVE_POINTS)])
    return epsilons, np.asarray(distribution.get_delta_for_epsilon(epsilons))


def noise_for(
    target: float, delta: float, loss_at: Callable[[float], PrivacyLoss], *, guess: float
) -> float:
    """The smallest noise multiplier with which a composition stays within a target.

    Args:
        target: epsilon at `delta`.
        delta: as in `PrivacyLoss.epsilon`.
        loss_at: the whole composition at a noise multiplier; its epsilon falls with the noise.
        guess: a noise multiplier to start from.

    Guarantee: the epsilon of the result never exceeds `target`; it is within 0.1 % of it.

    Raises:
        InputError: when no noise reaches the target.
    """

    @lru_cache
    def excess(log_noise: float) -> float:
        epsilon = loss_at(math.exp(log_noise)).epsilon(delta)
        return math.log(max(epsilon, _TINY) / (_AIM * target)) if epsilon < math.inf else 1e3

    low = high = math.log(guess)
    while excess(high) > 0:
        low, high = high, high + _BRACKET
        if high > math.log(_MOST_NOISE):
            raise InputError(
                f"epsilon {target:g} at delta {delta:g} can't be reached by any noise; raise it, "
                "or start from something that spent less"
            )
    while excess(low) < 0:
        low, high = low - _BRACKET, low
        if low < math.log(_LEAST_NOISE):
            raise InputError(
                f"epsilon {target:g} is more than any noise needs; write `none` to train without "
                "privacy"
            )
    noise = math.exp(brentq(excess, low, high, xtol=2e-4)) if low < high else guess
    while loss_at(noise).epsilon(delta) > target:
        noise *= 1.0002
    return noise
