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
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from synthdp.errors import InputError
from synthdp.privacy.loss_distribution import (
    TIGHT,
    SampledSteps,
    composed,
    epsilon_at,
    gaussian_deltas,
    settled,
    slack,
)

#: Above this, a Gaussian release tells members from strangers with certainty to double precision.
MAX_MU = 60.0
_SAFE_SIDE = 1 - 1e-9
_ROOT = 1e-14

_CURVE_POINTS = 4_000
_LARGEST_LOSS = 700.0


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
    """The largest mu whose Gaussian release is (epsilon, delta)-private.

    Guarantee: `gaussian_epsilon` of the result never exceeds `epsilon` (safe side of 1e-9).

    Raises:
        InputError: when epsilon is not positive, or beyond what any noise needs; when delta is
            not between 0 and 1.
    """
    _refuse_delta(delta)
    if not epsilon > 0:
        raise InputError(f"privacy.epsilon is {epsilon:g}: it must be positive, or `none`")
    if gaussian_epsilon(MAX_MU, delta) <= epsilon:
        raise InputError(
            f"privacy.epsilon is {epsilon:g}: more than any noise needs; write `none` to train "
            "without privacy"
        )

    def excess(log_mu: float) -> float:
        return gaussian_delta(math.exp(log_mu), epsilon) - delta

    # delta is below 0.4 mu at any epsilon, so that mu = delta is always too little
    exact = brentq(excess, math.log(delta), math.log(MAX_MU), xtol=_ROOT, rtol=_ROOT)
    return math.exp(exact) * _SAFE_SIDE


def _refuse_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InputError(f"delta is {delta:g}: it must lie between 0 and 1")


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
        steps: dict[tuple[float, float], int] = {}
        for part in self.sampled + other.sampled:
            kind = (part.noise_multiplier, part.sampling_rate)
            steps[kind] = steps.get(kind, 0) + part.steps
        sampled = tuple(SampledSteps(*kind, number) for kind, number in sorted(steps.items()))
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
        return settled_epsilon(self, delta)[1]

    def delta(self, epsilon: float) -> float:
        """The delta at `epsilon`, with the guarantee of `epsilon`."""
        if not self.sampled or self.unbounded:
            return gaussian_delta(math.inf if self.unbounded else self.mu, epsilon)
        parts = parts_of(self)
        found = settled(parts, lambda d: float(d.get_delta_for_epsilon(epsilon)))[1]
        return min(found + slack(parts), 1.0)

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


def parts_of(loss: PrivacyLoss) -> tuple[SampledSteps, ...]:
    """The composition as sampled steps: the Gaussian part is one step at rate 1."""
    return loss.sampled + ((SampledSteps(1 / loss.mu, 1.0, 1),) if loss.mu > 0 else ())


@lru_cache(maxsize=256)
def settled_epsilon(
    loss: PrivacyLoss, delta: float, tolerance: float = TIGHT
) -> tuple[float, float]:
    """The interval on which the epsilon at `delta` has settled (see `settled`), and the epsilon."""
    parts = parts_of(loss)
    return settled(parts, lambda d: epsilon_at(d, parts, delta), tolerance=tolerance)


@lru_cache(maxsize=32)
def _curve(loss: PrivacyLoss) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (epsilon, delta) that the composition keeps, from epsilon 0 up."""
    parts = parts_of(loss)

    def both(d: PrivacyLossDistribution) -> float:
        """Falls with the middle of the curve and with its tail."""
        tail = min(epsilon_at(d, parts, 1e-5), _LARGEST_LOSS)
        return float(d.get_delta_for_epsilon(0.0)) * (tail + 1e-2)

    distribution = composed(parts, settled(parts, both)[0])
    top = min(max(float(distribution.get_epsilon_for_delta(1e-10)), 1.0), _LARGEST_LOSS)
    epsilons = np.concatenate([[0.0], np.geomspace(1e-4, top, _CURVE_POINTS)])
    deltas = np.asarray(distribution.get_delta_for_epsilon(epsilons)) + slack(parts)
    return epsilons, np.clip(deltas, 0.0, 1.0)
