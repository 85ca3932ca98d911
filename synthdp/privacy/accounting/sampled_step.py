"""One Gaussian step on a Poisson sample: its curve of epsilon and delta, for a unit or a group.

What many such steps cost together stands in `accounting`.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy  # its parts are imported at their first use

from synthdp.privacy.accounting.gaussian import ROUNDING, Array, gaussian_deltas

#: Probability of a step's losses beyond the grid; counted as an infinite loss.
_TAIL = 1e-22
#: Relative room in epsilon for the root that `GroupStep.sums` finds.
_ROOM = 1e-10
_NEWTON_STEPS = 100
#: Rows that are at work at a time: 8 bytes a row and number of units drawn.
_ROWS = 20_000


@lru_cache(maxsize=1)
def _tail_sigmas() -> float:
    """How many standard deviations `_TAIL` lies from the mean of a Gaussian."""
    return -float(scipy.special.ndtri(_TAIL))


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
        beyond = scipy.stats.binom.sf(drawn, part.group, part.sampling_rate)
        last = int(np.argmax(beyond <= _TAIL / 100))  # at the end of the group it is 0
        log_chances = scipy.stats.binom.logpmf(drawn[: last + 1], part.group, part.sampling_rate)
        return cls(part.noise_multiplier, log_chances, float(beyond[last]))

    @property
    def _drawn(self) -> Array:
        return np.arange(len(self.log_chances), dtype=np.float64)

    def _exponents(self, sums: Array) -> Array:
        """Losses of having drawn j units, seen at each value x of the sum: (N, J + 1)."""
        drawn = self._drawn
        return (sums[:, None] - drawn / 2) * drawn / self.sigma**2

    def losses(self, sums: Array) -> Array:
        """The loss of the step at each value x of the sum, (N,); it rises with x."""
        parts = self.log_chances + self._exponents(sums)
        losses: Array = scipy.special.logsumexp(parts, axis=1)
        return losses

    def sums(self, losses: Array) -> Array:
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
        sums: Array = of_drawn.min(axis=1)
        for _ in range(_NEWTON_STEPS):
            parts = self.log_chances + self._exponents(sums)
            now = np.asarray(scipy.special.logsumexp(parts, axis=1))
            slopes = np.exp(parts - now[:, None]) @ self._drawn / self.sigma**2
            moves = (now - losses) / np.maximum(slopes, 1e-300)
            sums = sums - np.maximum(moves, 0)
            if np.all(now - losses <= _ROOM / 2 * np.maximum(1, np.abs(losses))):
                break
        return sums

    def deltas(self, epsilons: Array, *, add: bool) -> Array:
        """The step's delta at each epsilon (any sign), for a group that is taken out or added.

        Formula: let x be the sum at which the loss is e. Taken out, delta(e) is the mean over the
        number j of units drawn of delta_j(e_j), the Gaussian delta for mu = j / sigma at e_j, the
        loss of having drawn j at x; added, with x at the loss -e, it is the mean of delta_j(-e_j)
        with the chances of j given the sum x. Both are the two probabilities' difference, ordered
        by j, so that nothing cancels; with one unit they are `step_delta`'s.

        Guarantee: never below the exact value, and above it by less than what epsilon less 1e-10 of
        it (of 1, if smaller) gives.
        """
        # the sum that `sums` gives is a little right of the true one: e is lowered by more, since
        # a delta at a lower epsilon is an upper bound
        epsilons = epsilons - _ROOM * np.maximum(1, np.abs(epsilons))
        signed = -epsilons if add else epsilons
        deltas = np.where(epsilons < 0, -np.expm1(np.minimum(epsilons, 0)), 0.0)
        inside = signed > self.log_chances[0]
        if len(self.log_chances) == 1:  # as good as never drawn
            return np.asarray(np.clip(deltas + self.beyond, 0, 1))
        for some in np.array_split(np.flatnonzero(inside), 1 + inside.sum() // _ROWS):
            sums = self.sums(signed[some])
            exponents = self._exponents(sums)
            # chances of j given the sum x, and without
            weights = self.log_chances + (exponents - signed[some, None] if add else 0 * exponents)
            total = np.zeros(len(some))
            for j in range(1, len(self.log_chances)):
                single = -exponents[:, j] if add else exponents[:, j]
                total += np.exp(weights[:, j]) * gaussian_deltas(j / self.sigma, single)
            deltas[some] = total
        return np.asarray(np.clip(deltas * (1 + ROUNDING) + self.beyond, 0, 1))

    def _ends(self) -> tuple[float, float]:
        """Where the sum lies with all but `_TAIL` of each probability."""
        drawn, chances = self._drawn, np.exp(self.log_chances)
        low, high = 0.0, len(drawn) + self.sigma * _tail_sigmas()
        while high - low > 1e-3 * high:
            middle = (low + high) / 2
            over = float(chances @ scipy.special.ndtr((drawn - middle) / self.sigma))
            low, high = (middle, high) if over > _TAIL else (low, middle)
        return -self.sigma * _tail_sigmas(), high

    def loss_range(self) -> tuple[float, float]:
        """The least and largest loss that the grid holds, for a group taken out."""
        least, largest = self.losses(np.array(self._ends()))
        return float(least), float(largest)

    def second_moment(self) -> float:
        """About the mean square of the loss, for a group taken out."""
        sums = np.linspace(*self._ends(), 4001)
        density = np.exp(self.losses(sums) - (sums / self.sigma) ** 2 / 2)
        return float(np.average(self.losses(sums) ** 2, weights=density))


def loss_range(part: SampledSteps) -> tuple[float, float]:
    """The least and largest loss of one step that the grid holds, for a unit taken out."""
    if part.group > 1:
        return GroupStep.of(part).loss_range()
    mu, rate = 1 / part.noise_multiplier, part.sampling_rate
    far = mu**2 / 2 + mu * _tail_sigmas()
    not_drawn = math.log1p(-rate) if rate < 1 else -math.inf

    def loss_of_step(z: float) -> float:
        """log(1 - q + q e^z), the loss of a step that draws the unit with probability q."""
        return float(np.logaddexp(not_drawn, math.log(rate) + z))

    return loss_of_step(-far), loss_of_step(far)
