"""Lower bounds on what a release gave away, from an attacker's scores; nothing is trained here.

Two kinds stand side by side: bounds that assume nothing of the scores, which are loose with few of
them, and a Gaussian fit, which is tight and holds where the scores are normal.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import beta, chi2, kstest, norm

from synthdp.privacy.accounting.gaussian import MAX_MU, gaussian_epsilon
from synthdp.privacy.accounting.privacy_loss import PrivacyLoss
from synthdp.privacy.mechanism import Mechanism

Scores = NDArray[np.float64]

#: The attacks by canaries, as records of audits call them.
ONE_RUN, MANY_RUNS = "canaries in one run", "worst-case patient in many runs"
#: Norms of a canary's images, in clip norms: its mean is far above one, and so is each of them.
CANARY_IMAGE_NORMS = (50.0, 20.0, 120.0)
#: Beside whom the worst-case patient of many runs stands, at most: so each run is a short one.
MOST_BESIDE = 100
#: Numbers of guesses between which the best is chosen, as shares of the canaries.
_GUESSED_SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
_GRID = 20_001
_MU_TOLERANCE = 1e-4
#: Logarithms of noise multipliers: how far from the promise is searched, and how finely.
_NOISE_RANGE, _NOISE_TOLERANCE = 4.0, 0.02
#: Points of a trade-off curve with samples, and the delta of the last one.
_CURVE_POINTS, _LEAST_DELTA = 100, 1e-7
_MOST_EXPONENT = 700.0


@dataclass(frozen=True)
class Bound:
    """An empirical lower bound: with the stated confidence, epsilon is no less than this.

    mu: the Gaussian signal-to-noise behind it, where there is one.
    """

    attack: str
    method: str
    epsilon: float
    mu: float | None = None


def gaussian_bound(attack: str, method: str, mu: float, delta: float) -> Bound:
    """The bound that a lower limit on mu means at `delta`."""
    return Bound(attack, method, gaussian_epsilon(max(mu, 0.0), delta), max(mu, 0.0))


def fitted_mu(inside: Scores, outside: Scores, confidence: float) -> float:
    """Lower confidence limit of mu, one-sided, when both groups of scores are normal.

    Formula: d = difference of means / pooled deviation, less z times its large-sample standard
    error sqrt(1/n1 + 1/n0 + d^2 / (2 (n1 + n0 - 2))) (Hedges and Olkin, Statistical Methods for
    Meta-Analysis, 1985, section 5.E). Its coverage is tested from 30 scores a group on.

    Returns:
        The limit; infinite beyond `MAX_MU`, where nothing protects.
    """
    n_in, n_out = len(inside), len(outside)
    free = n_in + n_out - 2
    if free < 1 or min(n_in, n_out) == 0:
        return 0.0
    squares = ((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()
    difference = abs(float(inside.mean() - outside.mean()))
    pooled = math.sqrt(float(squares) / free)
    if pooled * MAX_MU <= difference * 1e-3:
        return math.inf if difference > 0 else 0.0
    distance = difference / pooled
    error = math.sqrt(1 / n_in + 1 / n_out + distance**2 / (2 * free))
    limit = distance - float(ndtri(confidence)) * error
    return math.inf if limit > MAX_MU else max(limit, 0.0)


@dataclass(frozen=True)
class Counts:
    """How often a score passed a threshold that was fixed before: hits of members, false alarms."""

    hits: int
    members: int
    false_alarms: int
    strangers: int

    @classmethod
    def at(cls, threshold: float, inside: Scores, outside: Scores) -> "Counts":
        """Counts of the scores above `threshold`."""
        passed = int((inside > threshold).sum()), int((outside > threshold).sum())
        return cls(passed[0], len(inside), passed[1], len(outside))

    def limits(self, confidence: float) -> tuple[float, float]:
        """Least share of members found and largest share of false alarms, jointly at `confidence`.

        Clopper and Pearson (Biometrika 1934), each one-sided at half the remaining risk.
        """
        risk = (1 - confidence) / 2
        misses = self.members - self.hits
        hits = float(beta.ppf(risk, self.hits, misses + 1)) if self.hits else 0.0
        quiet = self.strangers - self.false_alarms
        alarms = float(beta.isf(risk, self.false_alarms + 1, quiet)) if quiet else 1.0
        return hits, alarms

    def epsilon(self, delta: float, confidence: float) -> float:
        """Lower confidence limit of epsilon, for any mechanism: the better of both directions.

        Formula: hits <= e^eps alarms + delta, and the same for 1 - alarms and 1 - hits, both as
        shares (Kairouz, Oh and Viswanath, arXiv 1311.0776, theorem 2.1).
        """
        hits, alarms = self.limits(confidence)
        direct = (hits - delta) / alarms if alarms > 0 else math.inf
        swapped = (1 - alarms - delta) / (1 - hits) if hits < 1 else math.inf
        return math.log(max(direct, swapped, 1.0))

    def mu(self, confidence: float) -> float:
        """Lower confidence limit of mu, when the trade-off curve is Gaussian: ppf difference.

        Source: Nasr et al., "Tight Auditing of Differentially Private Machine Learning"
        (arXiv 2302.07956), section 4.
        """
        hits, alarms = self.limits(confidence)
        return max(float(ndtri(hits) - ndtri(alarms)), 0.0)


def best_threshold(
    mu: float, members: int, strangers: int, delta: float, confidence: float
) -> float:
    """The threshold to fix for `Counts.epsilon` on scores N(0, 1) and N(mu, 1): a public number."""

    def expected(threshold: float) -> float:
        hits = round(members * float(norm.sf(threshold - mu)))
        alarms = round(strangers * float(norm.sf(threshold)))
        return Counts(hits, members, alarms, strangers).epsilon(delta, confidence)

    return max((float(t) for t in np.linspace(mu / 2, mu + 1, 60)), key=expected)


def too_many_correct(mu: float, correct: int, guesses: int, canaries: int, risk: float) -> bool:
    """As `too_many_for`, for a mu-Gaussian release."""

    def on_curve(found: float) -> float:
        return float(ndtr(ndtri(found) - mu))

    return too_many_for(on_curve, correct, guesses, canaries, risk)


def too_many_for(
    false_alarms_of: Callable[[float], float],
    correct: int,
    guesses: int,
    canaries: int,
    risk: float,
) -> bool:
    """Whether a release lets that many guesses be correct with a chance below `risk`.

    Args:
        false_alarms_of: the release's trade-off curve: the least false alarms, Phi(Phi^-1(b) -
            mu) for a mu-Gaussian one, of whoever finds a share b of members.
        correct: guesses that were right.
        guesses: how many were made.
        canaries: among how many fair coins.
        risk: the chance.

    The attacker guesses for `guesses` of `canaries` fair coins. With p_i the chance of exactly i
    correct guesses, turning one coin gives, for each j,
    sum_{i >= j} (i/m) p_i <= Phi(Phi^-1(sum_{i >= j-1} ((c - i)/m) p_i) + mu).
    Were P(at least `correct`) = `risk`, then the least mass that these inequalities force on
    fewer correct guesses would have to fit into a total of 1.

    Source: Mahloujifar, Melis and Chaudhuri, "Auditing f-Differential Privacy in One Run"
    (arXiv 2410.22235), theorem 3.2 and algorithm 3.
    """
    if correct == 0:
        return False
    hit = risk * correct / canaries
    missed = risk * (guesses - correct) / canaries
    # From the most correct guesses down: `hit` and `missed` are the sums of (i/m) p_i and of
    # ((c - i)/m) p_i so far, with as little mass as the inequalities allow.
    for i in range(correct - 1, -1, -1):
        needed = false_alarms_of(min(hit, 1.0))  # of `missed` with p_i, by j = i + 1
        if needed > missed:  # what is missing is ((c - i)/m) p_i
            hit += (needed - missed) * i / (guesses - i)
            missed = needed
        if hit + missed > guesses / canaries:  # the mass so far is more than 1
            return True
    return False


def one_run_mu(correct: int, guesses: int, canaries: int, confidence: float) -> float:
    """Lower confidence limit of mu from the correct guesses of one run (`too_many_correct`)."""

    def refuted(mu: float) -> bool:
        return too_many_correct(mu, correct, guesses, canaries, 1 - confidence)

    if guesses == 0 or not refuted(0.0):
        return 0.0
    # halving: a yes or no has no slope for Brent's method, and the refuted end is the bound
    low, high = 0.0, MAX_MU
    while high - low > _MU_TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class CanaryScores:
    """Scores of canaries that took part and of those that did not, in units of the noise."""

    inside: Scores
    outside: Scores


def canary_bounds(
    attack: str, scores: CanaryScores, mechanism: Mechanism, *, delta: float, confidence: float
) -> list[Bound]:
    """Lower bounds from the canaries of one run: the f-DP one, which assumes nothing, and a fit.

    f-DP: the guesses refute all mechanisms with as much noise as this bound's or more, and the
    epsilon is that of the one with the least. Better of two numbers of guesses, both fixed
    beforehand: the one that is best where the promise holds, and all; each at half the risk.
    Samples of patients are in the curves that are refuted.

    Args:
        attack: its name.
        scores: of fair coins, N(0, 1) where a canary stayed out.
        mechanism: as promised.
        delta: at which epsilon is stated.
        confidence: of each bound, one-sided.
    """
    guessed = _guessed(scores, mechanism, 1 - confidence)

    def refuted(log_noise: float) -> bool:
        loss = mechanism.with_noise(math.exp(log_noise)).loss()
        return _refuted(loss, guessed, len(scores.inside) + len(scores.outside), 1 - confidence)

    fit = canary_fit(attack, scores, delta=delta, confidence=confidence)
    middle = math.log(mechanism.noise_multiplier)
    low, high = middle - _NOISE_RANGE, middle + _NOISE_RANGE
    if not refuted(high):
        return [Bound(attack, "f-DP", 0.0, 0.0), fit]
    if refuted(low):
        return [Bound(attack, "f-DP", math.inf, math.inf), fit]
    while high - low > _NOISE_TOLERANCE:  # halving, as in `one_run_mu`; `high` stays refuted
        between = (low + high) / 2
        low, high = (low, between) if refuted(between) else (between, high)
    least = mechanism.with_noise(math.exp(high))
    return [Bound(attack, "f-DP", least.loss().epsilon(delta)), fit]


def canary_refutes(scores: CanaryScores, mechanism: Mechanism, risk: float) -> bool:
    """Whether the canaries of one run refute a mechanism, which a sound one risks by chance."""
    n = len(scores.inside) + len(scores.outside)
    return _refuted(mechanism.loss(), _guessed(scores, mechanism, risk), n, risk)


def canary_fit(attack: str, scores: CanaryScores, *, delta: float, confidence: float) -> Bound:
    """The bound of canaries whose scores are taken as normal, as `canary_bounds`."""
    mu = fitted_mu(scores.inside, scores.outside, confidence)
    return gaussian_bound(attack, "Gaussian fit", mu, delta)


def worst_case_bounds(
    attack: str, scores: CanaryScores, *, mu: float, delta: float, confidence: float
) -> list[Bound]:
    """Bounds from a patient's scores in many runs: a fit, and Clopper-Pearson read in two ways.

    Its thresholds are decided by the promise alone. It holds for any mechanism, and for a Gaussian
    trade-off curve, which is what is promised.

    Args:
        attack: its name.
        scores: one a run, in units of the noise.
        mu: as promised.
        delta: at which epsilon is stated.
        confidence: of each bound, one-sided.
    """
    inside, outside = scores.inside, scores.outside
    middle = Counts.at(mu / 2, inside, outside)
    threshold = best_threshold(mu, len(inside), len(outside), delta, confidence)
    free = Counts.at(threshold, inside, outside).epsilon(delta, confidence)
    on_curve = middle.mu(confidence)
    return [
        canary_fit(attack, scores, delta=delta, confidence=confidence),
        gaussian_bound(attack, "Clopper-Pearson on the curve", on_curve, delta),
        Bound(attack, "Clopper-Pearson", free),
    ]


def _guessed(scores: CanaryScores, mechanism: Mechanism, risk: float) -> dict[int, int]:
    """The numbers of guesses that are tried, and how many of them are right."""
    inside = np.repeat([True, False], [len(scores.inside), len(scores.outside)])
    values = np.concatenate([scores.inside, scores.outside])
    at_promise = min(mechanism.sampling_rate * mechanism.mu, MAX_MU)
    tried = {planned_guesses(at_promise, len(values), 1 - risk / 2), len(values)}
    return {guesses: correct_guesses(values, inside, guesses) for guesses in tried}


def least_false_alarms(loss: PrivacyLoss, found: float) -> float:
    """The least share of strangers that an attack takes for members who finds this share of these.

    Args:
        loss: of the release.
        found: in [0, 1].

    Formula: the inverse of the trade-off curve: Phi(Phi^-1(b) - mu) for Gaussian steps; with
    samples the largest of e^-eps (b - delta) and 1 - delta - e^eps (1 - b) over points of the curve
    of (eps, delta) (Dong, Roth and Su, arXiv 1905.02383, proposition 2.12).

    Guarantee: a lower bound for every attacker who knows all other units.
    """
    if not loss.sampled:
        return float(ndtr(ndtri(found) - loss.mu))
    epsilons, deltas = _curve(loss)
    direct = np.exp(-epsilons) * (found - deltas)
    swapped = 1 - deltas - np.exp(np.minimum(epsilons, _MOST_EXPONENT)) * (1 - found)
    return float(np.clip(np.maximum(direct, swapped).max(), 0.0, found))


@lru_cache(maxsize=64)
def _curve(loss: PrivacyLoss) -> tuple[Scores, Scores]:
    epsilons = np.linspace(0, loss.epsilon(_LEAST_DELTA), _CURVE_POINTS)
    return epsilons, np.array([loss.delta(epsilon) for epsilon in epsilons])


def _refuted(loss: PrivacyLoss, guessed: Mapping[int, int], canaries: int, risk: float) -> bool:
    return any(
        too_many_for(
            partial(least_false_alarms, loss), correct, guesses, canaries, risk / len(guessed)
        )
        for guesses, correct in guessed.items()
    )


def expected_correct(mu: float, share: float) -> float:
    """Share of correct guesses on the clearest `share` of fair coins, scores N(0, 1) or N(mu, 1).

    The clearest are the largest and the smallest scores, half of the guesses each.
    """
    if share >= 1:
        return float(ndtr(mu / 2))
    grid = np.linspace(-10, mu + 10, _GRID)
    above = (norm.sf(grid) + norm.sf(grid - mu)) / 2
    cut = float(np.interp(-share / 2, -above, grid))
    return float(norm.sf(cut - mu) / (norm.sf(cut) + norm.sf(cut - mu)))


@lru_cache(maxsize=64)
def planned_guesses(mu: float, canaries: int, confidence: float) -> int:
    """The number of guesses that promises the highest bound at `mu`, fixed before any score."""

    def expected(guesses: int) -> float:
        correct = math.floor(guesses * expected_correct(mu, guesses / canaries))
        return one_run_mu(correct, guesses, canaries, confidence)

    numbers = sorted({max(2, round(canaries * share / 2) * 2) for share in _GUESSED_SHARES})
    return max((n for n in numbers if n <= canaries), key=expected, default=canaries)


def correct_guesses(scores: Scores, inside: NDArray[np.bool_], guesses: int) -> int:
    """How many of `guesses` are right: the largest half said to be in, the smallest half out."""
    order = np.argsort(scores, kind="stable")
    low, high = guesses // 2, guesses - guesses // 2
    return int((~inside[order[:low]]).sum() + inside[order[len(order) - high :]].sum())


NoiseFlaw = Literal["of another scale", "not normal", "repeated over steps"]


def noise_flaws(noise: Scores, risk: float) -> list[NoiseFlaw]:
    """What is wrong with noise that should be N(0, 1), independent over steps and coordinates.

    Args:
        noise: (steps, coordinates), each over its declared standard deviation.
        risk: chance of naming any on sound noise, at most.

    Chi-square of all values and of their sums over steps (what an attacker adds up), both sided,
    and Kolmogorov-Smirnov.
    """
    each = risk / 3
    sums = noise.sum(axis=0) / math.sqrt(len(noise))
    flaws: list[NoiseFlaw] = []
    if _strange_squares(noise, each):
        flaws.append("of another scale")
    if kstest(noise.ravel(), "norm").pvalue < each:
        flaws.append("not normal")
    if _strange_squares(sums, each):
        flaws.append("repeated over steps")
    return flaws


def _strange_squares(values: Scores, risk: float) -> bool:
    total = float((values**2).sum())
    tail = min(chi2.cdf(total, values.size), chi2.sf(total, values.size))
    return float(tail) < risk / 2
