"""The evaluate stage: scores and metrics of a finished run on a split of any data set."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from classify.classifier import load_classifier, scores
from classify.config import EvaluateSettings
from synthdp.config import dump_settings, read_yaml
from synthdp.data.dataset import Dataset, Row, open_dataset
from synthdp.data.images import decode_pixels
from synthdp.errors import InputError
from synthdp.evaluation.statistics import summarise
from synthdp.files import atomic_folder, write_atomic, write_json

CONFIG_FILE, METRICS_FILE, PREDICTIONS_FILE = "config.yaml", "metrics.json", "predictions.csv"


@dataclass(frozen=True)
class Repeats:
    """Images that occur more than once, to the pixel.

    duplicates: images that equal an earlier one; label_conflicts: pictures that occur with
    different known labels.
    """

    duplicates: int
    label_conflicts: int


def run_evaluate(settings: EvaluateSettings) -> Path:
    """Score a split and write `metrics.json` and `predictions.csv`; at once when they stand.

    Duplicates and label conflicts are counted in the metrics and stop nothing. A row whose label
    is unknown is scored and left out of the metrics.

    Raises:
        InputError: when the run is not finished, the data set lacks a target of the classifier or
            the split, an image is unreadable, or `out` holds something else.
    """
    if _stands(settings):
        return settings.out
    classifier = load_classifier(settings.run)
    dataset = open_dataset(settings.dataset)
    rows = dataset.split(settings.split)
    targets = _targets(dataset, rows, classifier.targets)
    found = scores(classifier, dataset, rows)
    metrics = {
        "data_set": dataset.info.name,
        "split": settings.split,
        **summarise(
            targets,
            found,
            [row.patient_id for row in rows],
            names=classifier.targets,
            redraws=settings.redraws,
            generator=np.random.default_rng(settings.seed),
        ),
        **vars(count_repeats(dataset, rows, targets)),
    }
    with atomic_folder(settings.out) as folder:
        write_atomic(folder / CONFIG_FILE, dump_settings(settings))
        write_json(folder / METRICS_FILE, metrics)
        write_atomic(
            folder / PREDICTIONS_FILE, _predictions(rows, targets, found, classifier.targets)
        )
    return settings.out


def _stands(settings: EvaluateSettings) -> bool:
    """Whether the folder holds this very evaluation."""
    if not (settings.out / METRICS_FILE).is_file():
        return False
    if read_yaml(settings.out / CONFIG_FILE) != yaml.safe_load(dump_settings(settings)):
        raise InputError(
            f"{settings.out}: holds an evaluation with other settings; name another out"
        )
    return True


def _targets(dataset: Dataset, rows: Sequence[Row], names: Sequence[str]) -> NDArray[np.float64]:
    """The labels of the classifier's targets, (N, T), nan unknown."""
    missing = [name for name in names if name not in dataset.info.targets]
    if missing:
        raise InputError(
            f"{dataset.info.name}: has no target {', '.join(missing)}, which the classifier scores "
            f"(it has {', '.join(dataset.info.targets)}); name the columns of both alike"
        )
    columns = [dataset.info.targets.index(name) for name in names]
    return np.array([[row.targets[column] for column in columns] for row in rows])


def count_repeats(dataset: Dataset, rows: Sequence[Row], targets: NDArray[np.float64]) -> Repeats:
    """Count images that occur again, by a hash of their pixels.

    Args:
        dataset: the opened data set.
        rows: N of its rows.
        targets: (N, T), nan unknown.
    """
    labels: dict[bytes, list[NDArray[np.float64]]] = {}
    for row, label in zip(rows, targets, strict=True):
        pixels = decode_pixels(dataset.root / row.image)
        digest = sha256(f"{pixels.shape} {pixels.dtype}".encode() + pixels.tobytes()).digest()
        labels.setdefault(digest, []).append(label)
    return Repeats(
        duplicates=sum(len(same) - 1 for same in labels.values()),
        label_conflicts=sum(_conflict(np.array(same)) for same in labels.values()),
    )


def _conflict(labels: NDArray[np.float64]) -> bool:
    """Whether equal images, (K, T), have both labels of some target."""
    return bool(((labels == 0).any(axis=0) & (labels == 1).any(axis=0)).any())


def _predictions(
    rows: Sequence[Row],
    targets: NDArray[np.float64],
    found: NDArray[np.float32],
    names: Sequence[str],
) -> str:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", "patient_id", *names, *(f"score_{name}" for name in names)])
    for row, labels, values in zip(rows, targets, found, strict=True):
        known: list[Any] = ["" if math.isnan(label) else int(label) for label in labels]
        writer.writerow([row.image, row.patient_id, *known, *(f"{v:.9g}" for v in values)])
    return stream.getvalue()
