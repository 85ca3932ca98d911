"""What figures over seeds and patients allow to be said: intervals, tests, corrections.

How AUROCs and shares of several models vary and covary with the patients is computed without
redraws: DeLong, DeLong and Clarke-Pearson (Biometrics 44:837, 1988) write an AUROC as the mean of
its images' placements (the share of the other class that an image lies on the right side of);
Obuchowski (Biometrics 53:567, 1997) sums them within patients, since a patient's images resemble
each other. With one image for each patient both are the same. Placements come from midranks (Sun
and Xu, IEEE Signal Processing Letters 21:1389, 2014).

Two things vary when a recipe is judged: the patients that it is scored on, and the run itself
(initialisation, noise). Runs stand here where readers stand in studies of readers: the variances
are separated as by Obuchowski and Rockette (Communications in Statistics 24:285, 1995). The
variance of a mean over S runs is

    its variance over patients, with these runs       (DeLong's: sum of covariances / S^2)
    + max(0, s^2 - c) / S                             (s^2: variance of the runs' figures)

where c, the mean variance over patients of one run less the mean covariance of two, is what s^2
holds because runs of other seeds err on other patients, which the first line has counted. A
difference of two recipes has such a second line for each: runs are not paired by seed, since noise
keys come from the operating system and a seed's number ties nothing but splits and initialisation.
Intervals are Student's, with Satterthwaite's degrees of freedom as Hillis (Statistics in Medicine
26:596, 2007) gives them for readers: patients count as many, runs as the few that they are. Where
many recipes are compared, s^2 and its degrees of freedom are drawn towards what they share
(`synthdp.evaluation.uncertainty.seed_spread`).

`holm` and `benjamini_hochberg` adjust p-values, of these tests or of those by redraws
(`synthdp.evaluation.uncertainty.intervals.Redrawn`), for having been many.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, rankdata
from scipy.stats import t as student

from synthdp.evaluation.metrics import FloatArray
from synthdp.evaluation.uncertainty.intervals import LEVEL, Interval
from synthdp.evaluation.uncertainty.seed_spread import SeedSpread

Array = NDArray[np.float64]

#: Variances below are left by rounding: figures lie in [-1, 1].
_ROUNDING = 1e-18


@dataclass(frozen=True)
class Correlated:
    """A figure of K models on the same patients.

    values: (K,), nan where it is not defined. covariance: (K, K) over patients, nan where fewer
    than two patients have a class.
    """

    values: Array
    covariance: Array


@dataclass(frozen=True)
class _Placements:
    """Of one target: AUROCs (K,), and for each class (K, P): each patient's placements, less the
    AUROC, summed over the images and divided by their number in the class.

    The corrections are Obuchowski's I / (I - 1), with I the patients who have a positive image, a
    negative one, and any.
    """

    aurocs: Array
    positive: Array
    negative: Array
    corrections: tuple[float, float, float]


def correlated_aurocs(
    targets: FloatArray, scores: FloatArray, patients: NDArray[np.intp]
) -> Correlated:
    """AUROCs of K models with their covariance over patients.

    Of several targets the figure is the mean AUROC over those that have both classes; patients
    are then summed over targets, which DeLong and Obuchowski leave open.

    Args:
        targets: (N, T) of 1, 0 or nan (left out).
        scores: (K, N, T), finite.
        patients: (N,), counted from 0.
    """
    n_patients = int(patients.max()) + 1 if patients.size else 0
    both = [
        _placements(targets[:, index], scores[:, :, index], patients, n_patients)
        for index in range(targets.shape[1])
        if np.unique(targets[~np.isnan(targets[:, index]), index]).size == 2
    ]
    if not both:
        n_models = len(scores)
        return Correlated(np.full(n_models, np.nan), np.full((n_models, n_models), np.nan))
    # Obuchowski's S10, S01 and S11 as products of sums by patient, each with its own correction,
    # half of which goes to either factor. S11 is not 0 because one patient may have images of both
    # classes.
    ones = _mean([part.positive * np.sqrt(part.corrections[0]) for part in both])
    zeros = _mean([part.negative * np.sqrt(part.corrections[1]) for part in both])
    positive = _mean([part.positive * np.sqrt(part.corrections[2]) for part in both])
    negative = _mean([part.negative * np.sqrt(part.corrections[2]) for part in both])
    mixed = positive @ negative.T
    covariance = ones @ ones.T + zeros @ zeros.T + mixed + mixed.T
    return Correlated(_mean([part.aurocs for part in both]), covariance)


def _mean(arrays: Sequence[Array]) -> Array:
    mean: Array = np.mean(arrays, axis=0)
    return mean


def _placements(
    targets: FloatArray, scores: FloatArray, patients: NDArray[np.intp], n_patients: int
) -> _Placements:
    chosen = ~np.isnan(targets)
    labels, values, owners = targets[chosen] == 1, scores[:, chosen], patients[chosen]
    n_positive, n_negative = int(labels.sum()), int((~labels).sum())
    # A rank among all, less the rank within the class, counts the images of the other class below;
    # ties, which share their mean rank, count half. Over their number it is the placement.
    ranks = rankdata(values, axis=1)
    above = (ranks[:, labels] - rankdata(values[:, labels], axis=1)) / n_negative
    below = 1 - (ranks[:, ~labels] - rankdata(values[:, ~labels], axis=1)) / n_positive
    aurocs = above.mean(axis=1)
    ones, zeros = owners[labels], owners[~labels]
    return _Placements(
        aurocs,
        _by_patient(above - aurocs[:, None], ones, n_patients) / n_positive,
        _by_patient(below - aurocs[:, None], zeros, n_patients) / n_negative,
        (_correction(ones), _correction(zeros), _correction(owners)),
    )


def _by_patient(values: Array, owners: NDArray[np.intp], n_patients: int) -> Array:
    """Sums over each patient's images: (K, M) -> (K, P)."""
    sums = np.zeros((n_patients, len(values)))
    np.add.at(sums, owners, values.T)
    return sums.T


def _correction(owners: NDArray[np.intp]) -> float:
    """I / (I - 1) of the I patients; nan where there are fewer than two."""
    count = np.unique(owners).size
    return count / (count - 1) if count > 1 else float("nan")


def correlated_shares(hits: NDArray[np.bool_], patients: NDArray[np.intp]) -> Correlated:
    """Shares of images that K models get right, with their covariance over patients.

    A ratio of sums over patients, as in Obuchowski (Statistics in Medicine 17:1495, 1998).

    Args:
        hits: (K, M), of images of one class.
        patients: (M,), counted from 0.
    """
    n_models, n_images = hits.shape
    if not n_images:
        return Correlated(np.full(n_models, np.nan), np.full((n_models, n_models), np.nan))
    values = hits.mean(axis=1)
    parts = _by_patient(hits - values[:, None], patients, int(patients.max()) + 1) / n_images
    return Correlated(values, _correction(patients) * parts @ parts.T)


@dataclass(frozen=True)
class Estimate:
    """A mean over runs, or a difference of two, with what it owes to patients and to runs.

    variance_patients and variance_seeds add up to the variance of `value`; the latter holds nothing
    of a recipe with one run, whose variance over seeds nobody knows. degrees_of_freedom is inf
    where runs don't vary.
    """

    value: float
    variance_patients: float
    variance_seeds: float
    degrees_of_freedom: float = math.inf

    @property
    def standard_error(self) -> float:
        """Of patients and runs together."""
        return math.sqrt(self.variance_patients + self.variance_seeds)

    def interval(self, level: float = LEVEL) -> Interval:
        """Student's, of both sources; nan where the value or its variance is not defined."""
        reach = student.ppf((1 + level) / 2, self.degrees_of_freedom) * self.standard_error
        return Interval(self.value, float(self.value - reach), float(self.value + reach))

    def p_value(self) -> float:
        """Student's test that the true value is 0, two-sided; DeLong's where each has one run."""
        return self._tail(abs(self.value), sides=2)

    def p_noninferior(self, margin: float) -> float:
        """Student's test that the true value is at most -margin, one-sided."""
        return self._tail(self.value + margin, sides=1)

    def _tail(self, distance: float, sides: int) -> float:
        """Without any variance nothing is tested, except that two equal figures are equal."""
        error = self.standard_error
        if math.isnan(error) or error == 0:
            return 1.0 if sides == 2 and distance == 0 else math.nan
        return float(min(1.0, sides * student.sf(distance / error, self.degrees_of_freedom)))


def mean_over_runs(
    figures: Correlated, runs: Sequence[int], spread: SeedSpread | None = None
) -> Estimate:
    """The mean figure of a recipe's runs.

    Args:
        figures: of K models on the same patients.
        runs: the positions of the recipe's runs among them, at least one.
        spread: how much they vary, where more is known of it than from these runs alone.
    """
    return _contrast(figures, [(runs, 1.0)], [spread])


def difference(
    figures: Correlated,
    first: Sequence[int],
    second: Sequence[int],
    spreads: tuple[SeedSpread | None, SeedSpread | None] = (None, None),
) -> Estimate:
    """The mean figure of the first recipe's runs less that of the second's, on the same patients.

    With one run each it is DeLong's test (Obuchowski's with several images a patient).

    Args:
        figures: of K models on the same patients.
        first: the positions of the first recipe's runs.
        second: of the second's; a run may stand in both.
        spreads: how much runs of either vary, as in `mean_over_runs`.
    """
    return _contrast(figures, [(first, 1.0), (second, -1.0)], spreads)


def _contrast(
    figures: Correlated,
    recipes: Sequence[tuple[Sequence[int], float]],
    spreads: Sequence[SeedSpread | None],
) -> Estimate:
    """The signed sum of recipes' means, with the variance that the head of this file derives."""
    weights = np.zeros(len(figures.values))
    for runs, sign in recipes:
        np.add.at(weights, list(runs), sign / len(runs))
    used = np.flatnonzero(weights)  # none, where two recipes are the same runs: no variance at all
    covariance = figures.covariance[np.ix_(used, used)]
    patients = _not_negative(float(weights[used] @ covariance @ weights[used]))
    value = sum(sign * float(figures.values[list(runs)].mean()) for runs, sign in recipes)
    seeds = [
        _seed_variance(figures, list(runs), spread)
        for (runs, _), spread in zip(recipes, spreads, strict=True)
        if used.size
    ]
    between = sum(kept for kept, _, _ in seeds)
    total = patients + between
    # Satterthwaite's, after Hillis: with all of the spread over runs, not what is kept of it above
    unsure = sum(whole**2 / degrees for _, whole, degrees in seeds if degrees > 0)
    freedom = total**2 / unsure if unsure > 0 else math.inf
    return Estimate(value, patients, between, freedom)


def _seed_variance(
    figures: Correlated, runs: Sequence[int], spread: SeedSpread | None
) -> tuple[float, float, float]:
    """Of a mean over runs: the variance that runs add to that of patients, the variance that their
    spread alone would give, and its degrees of freedom."""
    count = len(runs)
    if count < 2:
        return 0.0, 0.0, 0.0
    known = spread or SeedSpread(float(figures.values[runs].var(ddof=1)), count - 1.0)
    whole = _not_negative(known.variance)
    block = figures.covariance[np.ix_(runs, runs)]
    own = float(np.trace(block)) / count
    shared = float(block.sum() - np.trace(block)) / (count * (count - 1))
    kept = _not_negative(whole - (own - shared)) / count
    return kept, whole / count, known.degrees_of_freedom


def _not_negative(variance: float) -> float:
    """At least 0, without what rounding left; nan where it is nan, which max would make 0."""
    return 0.0 if variance < _ROUNDING else float(variance)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for having been many (Holm, Scandinavian Journal of Statistics 6:65, 1979).

    The chance that any true hypothesis among them has an adjusted value below a level is at most
    that level, whatever ties the tests. nan is no test: it stays nan and counts for nothing.
    """
    values = np.asarray(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    steps = values[order] * np.arange(order.size, 0, -1)
    adjusted = np.full(values.shape, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if order.size else steps
    return [float(value) for value in adjusted]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for having been many (Benjamini and Hochberg, JRSS B 57:289, 1995).

    Of the hypotheses with an adjusted value below a level the expected share of true ones is at
    most that level, where the tests are independent or positively dependent. nan is no test: it
    stays nan and counts for nothing.
    """
    values = np.array(p_values, dtype=np.float64)
    tested = ~np.isnan(values)
    if tested.any():
        values[tested] = false_discovery_control(values[tested])
    return [float(value) for value in values]
