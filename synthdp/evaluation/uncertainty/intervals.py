"""How sure a figure is: percentile bootstrap over patients, all redraws at once.

A patient's images resemble each other, so patients are drawn, not images: a patient drawn twice
counts twice, with all images (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
13; clusters drawn whole). A redraw is a vector of weights (how often each patient was drawn), and
every metric is computed for many such vectors at once (`weighted_metrics`). Drawing weights once
and scoring two models with them gives paired redraws: `Redrawn` holds a figure with its redraws,
the differences of two such, and their test. What holds without redraws, and for several runs, is in
`synthdp.evaluation.uncertainty.differences`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthdp.errors import InputError
from synthdp.evaluation.metrics import (
    METRICS,
    THRESHOLD,
    Draws,
    FloatArray,
    all_metrics,
    weighted_aurocs,
    weighted_metrics,
)
from synthdp.evaluation.settings import AT_SENSITIVITY, REDRAWS
from synthdp.machine.progress import progress

Array = NDArray[np.float64]

LEVEL = 0.95
# These bound memory: redraws x images worked on at once, of all metrics and of the AUROC alone.
_CELLS_AT_ONCE = 2**17
_AUROC_CELLS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Interval:
    """A figure with its interval; `left_out` redraws had no value, since a class was missing."""

    value: float
    ci_low: float
    ci_high: float
    left_out: int = 0

    def to_json(self) -> dict[str, float | None]:
        """The three numbers as `metrics.json` holds them; None where undefined."""
        return {
            name: None if math.isnan(number) else number
            for name, number in (
                ("value", self.value),
                ("ci_low", self.ci_low),
                ("ci_high", self.ci_high),
            )
        }

    def within(self, low: float, high: float) -> "Interval":
        """The same with its ends held in [low, high], where the figure itself lies; nan stays."""
        ends = np.clip((self.ci_low, self.ci_high), low, high)
        return Interval(self.value, float(ends[0]), float(ends[1]), self.left_out)


def patient_weights(
    n_patients: int, redraws: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw `n_patients` of as many with replacement, `redraws` times.

    Returns:
        (redraws, n_patients): how often each patient was drawn; each row sums to n_patients.
    """
    return generator.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=redraws)


def redraws_of(
    patients: Sequence[str], seed: int, redraws: int = REDRAWS
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The column of each image's patient, (N,), and the redraws of all patients, (R, P)."""
    ids, columns = np.unique(np.asarray(patients), return_inverse=True)
    weights = patient_weights(ids.size, redraws, np.random.default_rng(seed))
    return columns.astype(np.intp), weights


def itself_and_redraws(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """The set itself, which has each patient once, above the redraws (R, P): (1 + R, P)."""
    return np.concatenate([np.ones_like(weights[:1]), weights])


def bootstrap_draws(
    targets: FloatArray,
    scores: FloatArray,
    patients: NDArray[np.intp],
    weights: NDArray[np.int64],
    *,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
) -> Draws:
    """Every metric on every redraw of the patients.

    Args:
        targets: (N,) of 1, 0 or nan (left out).
        scores: (N,), finite.
        patients: (N,), the column of `weights` that each image's patient has.
        weights: (R, P) of `patient_weights`.
        threshold: where a score is called positive.
        at_sensitivity: as in `weighted_metrics`.

    Returns:
        (R,) for each metric; nan where a class was not drawn.
    """
    chosen = ~np.isnan(targets)
    if not chosen.any():
        return {name: np.full(len(weights), np.nan) for name in METRICS}
    labels, values, columns = targets[chosen], scores[chosen], patients[chosen]
    rows_at_once = max(1, _CELLS_AT_ONCE // labels.size)
    parts = [
        weighted_metrics(
            labels,
            values,
            part[:, columns].astype(np.float64),
            threshold=threshold,
            at_sensitivity=at_sensitivity,
        )
        for part in _blocks(weights, rows_at_once)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def auroc_draws(
    targets: FloatArray,
    scores: FloatArray,
    patients: NDArray[np.intp],
    weights: NDArray[np.int64],
) -> Array:
    """AUROCs of K models on the same redraws of the patients, so that differences are paired.

    Args:
        targets: (N, T) of 1, 0 or nan (left out).
        scores: (K, N, T), finite.
        patients: (N,), the column of `weights` that each image's patient has.
        weights: (R, P) of `patient_weights`.

    Returns:
        (K, R), the mean over targets that have both classes; nan where a class was not drawn, and
        everywhere where no target has both.
    """
    rows_at_once = max(1, _AUROC_CELLS_AT_ONCE // max(1, len(patients)))
    blocks = _blocks(weights, rows_at_once)
    parts = [_auroc_draws_at_once(targets, scores, patients, block) for block in blocks]
    return np.concatenate(parts, axis=1)


def _auroc_draws_at_once(
    targets: FloatArray,
    scores: FloatArray,
    patients: NDArray[np.intp],
    weights: NDArray[np.int64],
) -> Array:
    """`auroc_draws` of as many redraws as fit into memory at once."""
    # a row for each image: whole rows are then picked and added up, which is far faster
    by_image = np.ascontiguousarray(weights.T, dtype=np.float64)[patients]
    draws = []
    for index in range(targets.shape[1]):
        chosen = ~np.isnan(targets[:, index])
        labels = targets[chosen, index]
        if np.unique(labels).size == 2:
            drawn = by_image if chosen.all() else by_image[chosen]
            draws.append([weighted_aurocs(labels, one, drawn) for one in scores[:, chosen, index]])
    if not draws:
        return np.full((len(scores), len(weights)), np.nan)
    means: Array = np.mean(draws, axis=0)
    return means


def _blocks(weights: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """The redraws, `size` at a time; blocks change no figure, since rows are independent."""
    for start in progress(range(0, len(weights), size), what="redrawing patients"):
        yield weights[start : start + size]


def percentile_interval(value: float, draws: Array, level: float = LEVEL) -> Interval:
    """The interval that holds the middle `level` of the redraws that have a value.

    Args:
        value: the figure itself; nan where it has none.
        draws: (R,) its values on the redraws; nan where one has none.
        level: in (0, 1).
    """
    defined = draws[~np.isnan(draws)]
    left_out = int(draws.size - defined.size)
    if math.isnan(value) or not defined.size:
        return Interval(value, math.nan, math.nan, left_out)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), left_out)


@dataclass(frozen=True)
class Redrawn:
    """A figure and what it is on each redraw of the patients, (R,); nan where it has no value."""

    value: float
    draws: Array

    @classmethod
    def of(cls, values: Array) -> "Redrawn":
        """From the values on the rows of `itself_and_redraws`, (1 + R,)."""
        return cls(float(values[0]), values[1:])

    @classmethod
    def mean(cls, figures: Sequence["Redrawn"]) -> "Redrawn":
        """The plain mean of figures on the same redraws, at least one; nan where one has none."""
        return cls(
            float(np.mean([one.value for one in figures])),
            np.mean([one.draws for one in figures], axis=0),
        )

    def minus(self, other: "Redrawn") -> "Redrawn":
        """The difference: a paired one where both were drawn with the same weights."""
        return Redrawn(self.value - other.value, self.draws - other.draws)

    def interval(self) -> Interval:
        """The figure with its percentile interval."""
        return percentile_interval(self.value, self.draws)

    def p_value(self) -> float:
        """The bootstrap test that the true figure is 0, two-sided.

        Twice the share of redraws on the other side of 0 (Efron and Tibshirani, 1993, chapter 15,
        the percentile interval turned round), counting the set itself, so that it is never 0; nan
        where the figure has no value.
        """
        drawn = self.draws[~np.isnan(self.draws)]
        if np.isnan(self.value) or not drawn.size:
            return float("nan")
        tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
        return min(1.0, float(2 * (tail + 1) / (drawn.size + 1)))


def redrawn_auroc(
    labels: FloatArray, scores: FloatArray, patients: NDArray[np.intp], weights: NDArray[np.int64]
) -> Redrawn:
    """The mean AUROC of several models, nan where the images or a redraw lack a class.

    Args:
        labels: (N,) of 1 and 0.
        scores: (S, N) of S models, finite.
        patients: (N,), the column of `weights` that each image's patient has.
        weights: (R, P) of `patient_weights`.
    """
    drawn = itself_and_redraws(weights)
    draws = auroc_draws(labels[:, None], scores[:, :, None], patients, drawn)
    return Redrawn.of(draws.mean(axis=0))


def with_known_target(
    targets: FloatArray, scores: FloatArray, patients: Sequence[object]
) -> tuple[Array, Array, NDArray[np.intp]]:
    """Targets and scores as (K, T), patients as (K,) columns, of images with a known target.

    Raises:
        InputError: when a score is no number, or no target is known.
    """
    labels = np.asarray(targets, dtype=np.float64)
    values = np.asarray(scores, dtype=np.float64)
    if labels.shape != values.shape or len(patients) != len(labels):
        raise ValueError(f"targets {labels.shape}, scores {values.shape}, {len(patients)} patients")
    labels, values = labels.reshape(len(labels), -1), values.reshape(len(values), -1)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).any(axis=1).sum())
        raise InputError(
            f"{count} of {len(values)} images have a score that is no number, so the model has "
            "diverged; train it again with a smaller learning rate"
        )
    chosen = ~np.isnan(labels).all(axis=1)
    if not chosen.any():
        raise InputError("no image has a known target, so there is nothing to evaluate")
    _, columns = np.unique(np.asarray(patients)[chosen], return_inverse=True)
    return labels[chosen], values[chosen], columns.astype(np.intp)


def patient_bootstrap(
    targets: FloatArray,
    scores: FloatArray,
    patients: Sequence[str],
    *,
    threshold: float = THRESHOLD,
    at_sensitivity: float = AT_SENSITIVITY,
    redraws: int = REDRAWS,
    generator: np.random.Generator,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Every metric of one target with its percentile interval over patients.

    Args:
        targets: (N,) of 1, 0 or nan (left out).
        scores: (N,), finite.
        patients: N ids; images of one patient are drawn together.
        threshold: where a score is called positive.
        at_sensitivity: as in `weighted_metrics`.
        redraws: how many times the patients are drawn.
        generator: the source of the draws.
        level: the share of redraws inside the interval.

    Raises:
        InputError: when a score is no number, or no target is known.
    """
    labels, values, columns = with_known_target(targets, scores, patients)
    weights = patient_weights(int(columns.max()) + 1, redraws, generator)
    intervals, _ = intervals_and_draws(
        labels[:, 0],
        values[:, 0],
        columns,
        weights,
        threshold=threshold,
        at_sensitivity=at_sensitivity,
        level=level,
    )
    return intervals


def intervals_and_draws(
    labels: FloatArray,
    values: FloatArray,
    columns: NDArray[np.intp],
    weights: NDArray[np.int64],
    *,
    threshold: float,
    at_sensitivity: float,
    level: float,
) -> tuple[dict[str, Interval], Draws]:
    """Every metric of one target with its interval, and its values on the redraws, (R,) each.

    Args:
        labels: (N,) of 1, 0 or nan (left out).
        values: (N,) scores, finite.
        columns: (N,), the column of `weights` that each image's patient has.
        weights: (R, P) of `patient_weights`.
        threshold: where a score is called positive.
        at_sensitivity: as in `weighted_metrics`.
        level: the share of redraws inside an interval.
    """
    draws = bootstrap_draws(
        labels, values, columns, weights, threshold=threshold, at_sensitivity=at_sensitivity
    )
    figures = all_metrics(labels, values, threshold=threshold, at_sensitivity=at_sensitivity)
    intervals = {
        name: percentile_interval(value, draws[name], level) for name, value in figures.items()
    }
    return intervals, draws
