"""Reading `predictions.csv`: what an evaluation found for each image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dataset import Dataset, Row
from synthdp.data.tables import read_table
from synthdp.errors import InputError
from synthdp.evaluation.differences import auroc_draws
from synthdp.evaluation.intervals import (
    REDRAWS,
    Interval,
    patient_weights,
    percentile_interval,
)

METRICS_FILE, PREDICTIONS_FILE = "metrics.json", "predictions.csv"
_SCORE = "score_"


@dataclass(frozen=True, eq=False)
class Predictions:
    """Images with their patients, labels (N, T) of 1, 0 or nan, and scores (N, T)."""

    images: tuple[str, ...]
    patients: tuple[str, ...]
    targets: tuple[str, ...]
    labels: NDArray[np.float64]
    scores: NDArray[np.float64]


def read_predictions(folder: Path) -> Predictions:
    """Read the predictions of a finished evaluation.

    Raises:
        InputError: when the file is missing or damaged; the error tells rows, no patient.
    """
    path = folder / PREDICTIONS_FILE
    table = read_table(path, required=("image", "patient_id"))
    names = [column for column in table.columns if f"{_SCORE}{column}" in table.columns]
    findings = list(table.problems)
    if not findings and not names:
        findings.append("has no column of scores beside its target")
    if path.is_file() and not (table.records and path.read_bytes().endswith(b"\n")):
        findings.append("is cut off")
    records = list(table.records.values())
    labels = [[_cell(record[name], (0.0, 1.0)) for name in names] for record in records]
    scores = [[_cell(record[f"{_SCORE}{name}"]) for name in names] for record in records]
    for number, row in enumerate(zip(labels, scores, strict=True), start=2):
        if None in row[0] or None in row[1] or any(math.isnan(v or 0.0) for v in row[1]):
            findings.append(f"row {number}: a label is not 0, 1 or empty, or a score is no number")
    if findings:
        raise InputError(
            f"{folder.name}/{PREDICTIONS_FILE}: {'; '.join(findings[:5])}; delete the evaluation's "
            "folder and run the same command again"
        )
    shape = (len(records), len(names))
    return Predictions(
        images=tuple(record["image"] for record in records),
        patients=tuple(record["patient_id"] for record in records),
        targets=tuple(names),
        labels=np.array(labels, dtype=np.float64).reshape(shape),
        scores=np.array(scores, dtype=np.float64).reshape(shape),
    )


def _cell(text: str, allowed: Sequence[float] = ()) -> float | None:
    """The number in a cell, nan when it is empty, None when it is none or not allowed."""
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and (not allowed or value in allowed) else None


def predicted_rows(dataset: Dataset, predictions: Predictions, *, where: str) -> list[Row]:
    """The manifest's row of each predicted image.

    Raises:
        InputError: when the set has no such image, or gives it to another patient.
    """
    known = {row.image: row for row in dataset.rows}
    found = [known.get(image) for image in predictions.images]
    lost = sum(
        row is None or row.patient_id != patient
        for row, patient in zip(found, predictions.patients, strict=True)
    )
    if lost:
        raise InputError(
            f"{where}: {lost} image(s) are not those of {dataset.info.name} any more; delete the "
            "evaluation's folder and run the same command again"
        )
    return [row for row in found if row is not None]


# Scores of several models on the same images, and figures of them on the same redraws. The models
# are those of several seeds of one recipe: a figure is the mean of what each has, and its interval
# tells of the patients alone.


@dataclass(frozen=True, eq=False)
class Scored:
    """One target of one recipe: labels (N,) of 1 and 0, scores (S, N) of S seeds' models, the
    patients' columns (N,) in the redraws, and each model's threshold (S,)."""

    labels: NDArray[np.float64]
    scores: NDArray[np.float64]
    patients: NDArray[np.intp]
    thresholds: tuple[float, ...]

    def of(self, chosen: NDArray[np.bool_]) -> "Scored":
        """The same of the images chosen, (N,)."""
        return Scored(
            self.labels[chosen], self.scores[:, chosen], self.patients[chosen], self.thresholds
        )


@dataclass(frozen=True)
class Estimate:
    """A figure and what it is on each redraw, (R,); nan where it has no value."""

    value: float
    draws: NDArray[np.float64]

    @classmethod
    def of(cls, found: NDArray[np.float64]) -> "Estimate":
        """From what was found with the rows of `itself_and_redraws`, (1 + R,)."""
        return cls(float(found[0]), found[1:])

    def minus(self, other: "Estimate") -> "Estimate":
        """The paired difference."""
        return Estimate(self.value - other.value, self.draws - other.draws)

    def interval(self) -> Interval:
        """The figure with its interval."""
        return percentile_interval(self.value, self.draws)

    def p_value(self) -> float:
        """How probable a difference of this size would be by chance, were there none; two-sided.

        Twice the share of redraws on the other side of 0 (Efron and Tibshirani, 1993, chapter 15,
        the percentile interval turned round), counting the set itself, so that it is never 0; nan
        where the figure has no value.
        """
        drawn = self.draws[~np.isnan(self.draws)]
        if np.isnan(self.value) or not drawn.size:
            return float("nan")
        tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
        return min(1.0, float(2 * (tail + 1) / (drawn.size + 1)))


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """All targets of models of one recipe: the rows (N), labels (N, T) of 1, 0 or nan, scores
    (S, N, T) of S models, their thresholds (S, T), and the T targets' names."""

    dataset: Dataset
    rows: Sequence[Row]
    labels: NDArray[np.floating]
    scores: NDArray[np.floating]
    thresholds: Sequence[Sequence[float]]
    targets: Sequence[str]

    def target(self, index: int, columns: NDArray[np.intp]) -> tuple[Scored, NDArray[np.bool_]]:
        """One target of the images whose label is known, and which these are, (N,)."""
        labels = np.asarray(self.labels[:, index], dtype=np.float64)
        known = ~np.isnan(labels)
        scored = Scored(
            labels=labels,
            scores=np.asarray(self.scores[:, :, index], dtype=np.float64),
            patients=columns,
            thresholds=tuple(each[index] for each in self.thresholds),
        )
        return scored.of(known), known

    def threshold(self, index: int) -> float | None:
        """The threshold that all models share for a target, if they do."""
        used = {each[index] for each in self.thresholds}
        return used.pop() if len(used) == 1 else None


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


def auroc_estimate(scored: Scored, weights: NDArray[np.int64]) -> Estimate:
    """The mean AUROC of the models, nan where the images or a redraw lack a class.

    Args:
        scored: the images whose label is known.
        weights: (R, P) of `patient_weights`.
    """
    drawn = itself_and_redraws(weights)
    labels, scores = scored.labels[:, None], scored.scores[:, :, None]
    return Estimate.of(auroc_draws(labels, scores, scored.patients, drawn).mean(axis=0))
