"""The public numbers of one release, and what they are worth.

>>> mechanism = Mechanism.calibrate(mu=gaussian_mu(6.0, 1e-4), steps=60, normaliser=600)
>>> round(mechanism.noise_multiplier, 3)
5.307
>>> round(gaussian_epsilon(mechanism.mu, 1e-4), 2)
6.0
"""

import math
from typing import Literal

from pydantic import Field
from scipy.optimize import brentq
from scipy.special import log_ndtr
from scipy.stats import norm

from synthdp.config import Settings
from synthdp.errors import InputError

Unit = Literal["patient", "image"]

#: Above this, a Gaussian release tells members from strangers with certainty to double precision.
MAX_MU = 60.0
_SAFE_SIDE = 1 - 1e-9


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
    upper = float(norm.cdf(mu / 2 - epsilon / mu))
    lower = math.exp(min(epsilon + float(log_ndtr(-mu / 2 - epsilon / mu)), 0.0))
    return max(upper - lower, 0.0)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The epsilon of a mu-Gaussian release at `delta`; infinite beyond `MAX_MU`.

    Guarantee: never below the exact value by more than the solver's tolerance of 1e-12.
    """
    if not 0 < delta < 1:
        raise InputError(f"delta is {delta:g}: it must lie between 0 and 1")
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


class Mechanism(Settings):
    """One Gaussian release over `steps` steps: all of it public, none of it read from the data.

    A step sums each unit's vector, clipped to `clip_norm`, adds Gaussian noise of standard
    deviation `noise_multiplier * clip_norm` to each coordinate, and divides by `normaliser`.

    Guarantee: with `sampling_rate` 1 (every unit in every step), add/remove neighbours, the
    whole is a mu-Gaussian release with mu = sqrt(steps) / noise_multiplier.
    """

    unit: Unit = "patient"
    sampling_rate: float = Field(default=1.0, ge=1, le=1)
    noise_multiplier: float = Field(ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    steps: int = Field(ge=1)
    normaliser: float = Field(gt=0)

    @classmethod
    def calibrate(
        cls,
        *,
        mu: float,
        steps: int,
        normaliser: float,
        clip_norm: float = 1.0,
        unit: Unit = "patient",
    ) -> "Mechanism":
        """The mechanism that spends exactly `mu` over `steps` steps."""
        return cls(
            unit=unit,
            noise_multiplier=math.sqrt(steps) / mu,
            clip_norm=clip_norm,
            steps=steps,
            normaliser=normaliser,
        )

    @property
    def mu(self) -> float:
        """Signal-to-noise of the whole release; infinite without noise."""
        return self.mu_of(self.steps)

    def mu_of(self, steps: int) -> float:
        """Signal-to-noise of the first `steps` steps."""
        if steps == 0:
            return 0.0
        if self.noise_multiplier == 0:
            return math.inf
        return math.sqrt(steps) / self.noise_multiplier
