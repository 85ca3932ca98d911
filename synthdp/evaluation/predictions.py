"""What models gave for images: `predictions.csv` read, and several models on the same images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from synthdp.config.settings import Settings, validate_settings
from synthdp.data.dataset import Dataset, Row
from synthdp.data.manifest.tables import csv_text, read_table
from synthdp.errors import InputError
from synthdp.evaluation.metrics import MACRO, METRICS, THRESHOLD
from synthdp.storage.files import read_json

METRICS_FILE, PREDICTIONS_FILE = "metrics.json", "predictions.csv"
_SCORE = "score_"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What S models gave for the same N images, of T targets.

    images: N names; patients: N ids; targets: T names; labels: (N, T) of 1, 0 or nan (unknown);
    scores: (S, N, T), finite.
    """

    images: tuple[str, ...]
    patients: tuple[str, ...]
    targets: tuple[str, ...]
    labels: NDArray[np.floating]
    scores: NDArray[np.floating]

    @property
    def scored_on(self) -> tuple[object, ...]:
        """Images, patients, targets, labels: equal for models that can be laid side by side."""
        return self.images, self.patients, self.targets, self.labels.tobytes()

    def of_targets(self, names: Sequence[str]) -> "Predictions":
        """The same of some targets, by name, in this order."""
        if tuple(names) == self.targets:
            return self
        columns = [self.targets.index(name) for name in names]
        return replace(
            self,
            targets=tuple(names),
            labels=self.labels[:, columns],
            scores=self.scores[:, :, columns],
        )

    def beside(self, others: Sequence["Predictions"]) -> "Predictions":
        """These models and others on the same images, as `scored_on` says, in this order."""
        return replace(self, scores=np.concatenate([one.scores for one in (self, *others)]))


def shared_targets(several: Sequence[Predictions]) -> tuple[str, ...]:
    """The targets that all have, by name, in the order of the first.

    Models of sites with other targets are scored on those that their set and the images share.
    """
    first, *others = several
    return tuple(name for name in first.targets if all(name in one.targets for one in others))


class _Figure(Settings):
    """A metric and its interval, each empty where it is not defined."""

    model_config = ConfigDict(extra="ignore")

    value: float | None
    ci_low: float | None
    ci_high: float | None


class _MetricsFile(Settings):
    """What `metrics.json` must hold beside its figures."""

    model_config = ConfigDict(extra="allow")

    n_images: int = Field(ge=0)
    n_patients: int = Field(ge=0)
    threshold: float | dict[str, float] = THRESHOLD


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read the metrics of a finished evaluation: `metrics.json`, its figures checked.

    Of several targets the mean over them stands as `macro`, which earlier versions called `mean`
    and took over other targets metric by metric.

    Raises:
        InputError: when the file is missing or damaged.
    """
    where = f"{folder.name}/{METRICS_FILE}"
    content = read_json(folder / METRICS_FILE)
    checked = validate_settings(_MetricsFile, content, where=where)
    values = {**content, **checked.model_dump(include={"n_images", "n_patients", "threshold"})}
    if "mean" in values:
        values.setdefault(MACRO, values.pop("mean"))
    by_target = values.get("targets", {}) if MACRO in values else {}
    if not isinstance(by_target, dict):
        raise InputError(f"{where}: not that of an evaluation; evaluate again")
    _check_figures(headline(values), where)
    for target, figures in by_target.items():
        _check_figures(figures, f"{where}, {target}")
    return values


def _check_figures(figures: object, where: str) -> None:
    """Check the figures of one target, or of their mean, in place.

    Raises:
        InputError: when they are none.
    """
    if not isinstance(figures, dict) or "auroc" not in figures:
        raise InputError(f"{where}: not that of an evaluation; evaluate again")
    for name in METRICS:
        if name in figures:
            figure = validate_settings(_Figure, figures[name], where=f"{where}, {name}")
            figures[name] = {**figures[name], **figure.model_dump()}


def headline(metrics: Mapping[str, Any]) -> Any:
    """The figures that stand for all of a `metrics.json`: of several targets, their mean."""
    return metrics if "auroc" in metrics else metrics.get(MACRO)


def figures_by_target(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The figures of `read_metrics` by target: of several each one's, the mean over them first.

    Of one target they have the name "": the files of an evaluation do not say it.
    """
    if "auroc" in metrics:
        return {"": metrics}
    of_all = {"n_images": metrics["n_images"], "n_patients": metrics["n_patients"]}
    return {MACRO: {**of_all, **metrics[MACRO]}, **metrics.get("targets", {})}


def read_predictions(folder: Path) -> Predictions:
    """Read the predictions of a finished evaluation, which has one model.

    Raises:
        InputError: when the file is missing or damaged; the error tells rows, no patient.
    """
    path = folder / PREDICTIONS_FILE
    table = read_table(path, required=("image", "patient_id"))
    names = [column for column in table.columns if f"{_SCORE}{column}" in table.columns]
    problems = list(table.problems)
    if not problems and not names:
        problems.append("has no column of scores beside its target")
    if path.is_file() and not (table.records and path.read_bytes().endswith(b"\n")):
        problems.append("is cut off")
    records = list(table.records.values())
    labels = [[_number(record[name], (0.0, 1.0)) for name in names] for record in records]
    scores = [[_number(record[f"{_SCORE}{name}"]) for name in names] for record in records]
    for number, row in enumerate(zip(labels, scores, strict=True), start=2):
        if None in row[0] or None in row[1] or any(math.isnan(v or 0.0) for v in row[1]):
            problems.append(f"row {number}: a label is not 0, 1 or empty, or a score is no number")
    if problems:
        raise InputError(
            f"{folder.name}/{PREDICTIONS_FILE}: {'; '.join(problems[:5])}; delete the evaluation's "
            "folder and run the same command again"
        )
    shape = (len(records), len(names))
    return Predictions(
        images=tuple(record["image"] for record in records),
        patients=tuple(record["patient_id"] for record in records),
        targets=tuple(names),
        labels=np.array(labels, dtype=np.float64).reshape(shape),
        scores=np.array(scores, dtype=np.float64).reshape(1, *shape),
    )


def predictions_csv(predictions: Predictions) -> str:
    """`predictions.csv` of the first model: labels empty where unknown, scores to nine digits."""
    names = predictions.targets
    cells = list[list[object]]()
    of_images = zip(
        predictions.images,
        predictions.patients,
        predictions.labels,
        predictions.scores[0],
        strict=True,
    )
    for image, patient, labels, scores in of_images:
        known = ["" if math.isnan(label) else int(label) for label in labels]
        cells.append([image, patient, *known, *(f"{score:.9g}" for score in scores)])
    return csv_text(["image", "patient_id", *names, *(f"{_SCORE}{name}" for name in names)], cells)


def _number(text: str, allowed: Sequence[float] = ()) -> float | None:
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
    rows = [known.get(image) for image in predictions.images]
    lost = sum(
        row is None or row.patient_id != patient
        for row, patient in zip(rows, predictions.patients, strict=True)
    )
    if lost:
        raise InputError(
            f"{where}: {lost} image(s) are not those of {dataset.info.name} any more; delete the "
            "evaluation's folder and run the same command again"
        )
    return [row for row in rows if row is not None]


@dataclass(frozen=True, eq=False)
class ScoredTarget:
    """One target of S models: labels (N,) of 1 and 0, scores (S, N), the patients' columns (N,) in
    the redraws, and each model's threshold (S,)."""

    labels: NDArray[np.float64]
    scores: NDArray[np.float64]
    patients: NDArray[np.intp]
    thresholds: tuple[float, ...]

    def only(self, chosen: NDArray[np.bool_]) -> "ScoredTarget":
        """The same for some of the images: True in (N,)."""
        return ScoredTarget(
            self.labels[chosen], self.scores[:, chosen], self.patients[chosen], self.thresholds
        )


@dataclass(frozen=True, eq=False)
class Scored:
    """What S models of one recipe gave for N images, and where each model calls each target
    positive, (S, T)."""

    predictions: Predictions
    thresholds: Sequence[Sequence[float]]

    def target(
        self, index: int, columns: NDArray[np.intp]
    ) -> tuple[ScoredTarget, NDArray[np.bool_]]:
        """One target of the images whose label is known, and which these are, (N,).

        Args:
            index: of the target.
            columns: (N,), the column of each image's patient in redraws.
        """
        labels = np.asarray(self.predictions.labels[:, index], dtype=np.float64)
        known = ~np.isnan(labels)
        scored = ScoredTarget(
            labels=labels,
            scores=np.asarray(self.predictions.scores[:, :, index], dtype=np.float64),
            patients=columns,
            thresholds=tuple(each[index] for each in self.thresholds),
        )
        return scored.only(known), known

    def threshold(self, index: int) -> float | None:
        """The threshold that all models share for a target, if they do."""
        used = {each[index] for each in self.thresholds}
        return used.pop() if len(used) == 1 else None


@dataclass(frozen=True, eq=False)
class ScoredImages(Scored):
    """The same with the manifest's row of each image, N."""

    dataset: Dataset
    rows: Sequence[Row]
