"""What the runs of a study said of each image, read back and laid side by side."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.errors import InputError

MAX_PREDICTIONS_BYTES = 256 * 2**20
PREDICTIONS_FILE = "predictions.csv"


def evaluation_folder(study: Path, run: str, data_set: str, split: str) -> Path:
    """Where a study keeps the evaluation of a run on a split of a data set."""
    return study / "evaluations" / f"{run}-{data_set}-{split}".replace(" ", "-")


@dataclass(frozen=True)
class Predictions:
    """One run on one split: images and patients, N each; targets and scores, (N, T)."""

    images: tuple[str, ...]
    patients: tuple[str, ...]
    targets: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def judged(self) -> tuple[tuple[str, ...], tuple[str, ...], bytes]:
        """The same for runs that were scored on the same images with the same labels."""
        return self.images, self.patients, self.targets.tobytes()


@dataclass(frozen=True)
class ScoredRuns:
    """Runs on the same images: targets (N, T), nan unknown, patients (N,) counted from 0, scores
    (K, N, T). `places` gives each run's place among the K; `problems` says why a run has none.
    """

    targets: NDArray[np.float64]
    patients: NDArray[np.intp]
    scores: NDArray[np.float64]
    places: Mapping[str, int]
    problems: Mapping[str, str]


def read_predictions(folder: Path) -> Predictions:
    """Read an evaluation's `predictions.csv`.

    Raises:
        InputError: when it is missing, cut off or damaged; no path or patient is named.
    """
    path = folder / PREDICTIONS_FILE
    if not path.is_file():
        raise InputError("no predictions")
    if path.stat().st_size > MAX_PREDICTIONS_BYTES:
        raise InputError(f"predictions larger than {MAX_PREDICTIONS_BYTES:,} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        header, *rows = list(csv.reader(text.splitlines()))
        n_targets = _n_targets(header)
        whole = bool(rows) and text.endswith("\n") and {len(row) for row in rows} == {len(header)}
        cells = [[float(cell or "nan") for cell in row[2:]] for row in rows] if whole else []
    except (ValueError, csv.Error) as error:
        raise InputError("predictions damaged") from error
    if not whole:
        raise InputError("predictions cut off")
    values = np.array(cells)
    targets, scores = values[:, :n_targets], values[:, n_targets:]
    if not np.isfinite(scores).all() or not np.isin(targets[~np.isnan(targets)], (0, 1)).all():
        raise InputError("predictions damaged")
    images, patients = (tuple(row[column] for row in rows) for column in (0, 1))
    return Predictions(images, patients, targets, scores)


def _n_targets(header: list[str]) -> int:
    """How many targets the columns have.

    Raises:
        ValueError: when they are not those of `predictions.csv`.
    """
    n_targets = (len(header) - 2) // 2
    names = header[2 : 2 + n_targets]
    expected = ["image", "patient_id", *names, *(f"score_{name}" for name in names)]
    if not names or header != expected:
        raise ValueError("other columns")
    return n_targets


def read_scored(study: Path, data_set: str, split: str, runs: Iterable[str]) -> ScoredRuns:
    """The runs' scores on one split; a run that was scored on other images than most is left out.

    Args:
        study: the study's folder.
        data_set: the set's name.
        split: the split.
        runs: folder names of finished runs.
    """
    read: dict[str, Predictions] = {}
    problems: dict[str, str] = {}
    for run in dict.fromkeys(runs):
        try:
            read[run] = read_predictions(evaluation_folder(study, run, data_set, split))
        except (InputError, OSError) as error:
            problems[run] = str(error) if isinstance(error, InputError) else "no predictions"
    most = Counter(found.judged for found in read.values()).most_common(1)
    if not most:
        none = np.zeros((0, 1))
        return ScoredRuns(none, np.zeros(0, np.intp), np.zeros((0, 0, 1)), {}, problems)
    kept = {run: found for run, found in read.items() if found.judged == most[0][0]}
    problems |= {run: "scored on other images" for run in read if run not in kept}
    first = next(iter(kept.values()))
    _, patients = np.unique(np.array(first.patients), return_inverse=True)
    return ScoredRuns(
        first.targets,
        patients.astype(np.intp),
        np.stack([found.scores for found in kept.values()]),
        {run: place for place, run in enumerate(kept)},
        problems,
    )
