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

PREDICTIONS_FILE = "predictions.csv"
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
    findings = list(table.findings)
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
