"""What the runs of a study said of each image, read back and laid side by side."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.errors import InputError
from synthdp.evaluation.predictions import PREDICTIONS_FILE, Predictions, read_predictions

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def evaluation_folder(study: Path, run: str, data_set: str, split: str) -> Path:
    """Where a study keeps what a run gave on a split of a set."""
    name = f"{run}-{data_set}-{split}".replace(" ", "-")
    if _PLAIN_NAME.fullmatch(name) is None:  # a part of a set is named after cells of its manifest
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
        name = f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"
    return study / "evaluations" / name


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


def scored_on(found: Predictions) -> tuple[object, ...]:
    """Images, patients, targets, labels: equal for runs that can be laid side by side."""
    return found.images, found.patients, found.targets, found.labels.tobytes()


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
            folder = evaluation_folder(study, run, data_set, split)
            read[run] = read_predictions(folder)
        except InputError:
            there = (folder / PREDICTIONS_FILE).is_file()
            problems[run] = "predictions cut off or damaged" if there else "no predictions"
    most = Counter(scored_on(found) for found in read.values()).most_common(1)
    if not most:
        none = np.zeros((0, 1))
        return ScoredRuns(none, np.zeros(0, np.intp), np.zeros((0, 0, 1)), {}, problems)
    kept = {run: found for run, found in read.items() if scored_on(found) == most[0][0]}
    problems |= {run: "scored on other images" for run in read if run not in kept}
    first = next(iter(kept.values()))
    _, patients = np.unique(np.array(first.patients), return_inverse=True)
    return ScoredRuns(
        first.labels,
        patients.astype(np.intp),
        np.stack([found.scores for found in kept.values()]),
        {run: place for place, run in enumerate(kept)},
        problems,
    )
