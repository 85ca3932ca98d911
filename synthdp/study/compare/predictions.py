"""What the models of a study gave for each image, by cell: read from its evaluations' folders."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dataset import Dataset, open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.metrics import THRESHOLD
from synthdp.evaluation.predictions import (
    PREDICTIONS_FILE,
    Predictions,
    ScoredImages,
    predicted_rows,
    read_predictions,
)
from synthdp.files import read_json
from synthdp.study.compare.results import ResultRow, StudyCell
from synthdp.study.settings import EvaluateOn, set_name
from synthdp.study.sweep.grid import evaluation_folder

# What the runs of a study said of each image, read back and laid side by side.


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


@dataclass(frozen=True, eq=False)
class ScoredCell:
    """All finished models of one cell: their predictions on the same images, read when asked for.

    evaluations: a folder for each seed; dataset: the set that the models were scored on.
    """

    cell: StudyCell
    evaluations: tuple[Path, ...]
    dataset: Dataset

    @property
    def predictions(self) -> Predictions:
        """Images, patients and labels, and the scores of the first model."""
        return self._read[0]

    @property
    def scores(self) -> NDArray[np.float64]:
        """(S, N, T): of each seed, image and target."""
        return self._read[1]

    @cached_property
    def thresholds(self) -> tuple[tuple[float, ...], ...]:
        """Where each seed's model calls each target positive, (S, T)."""
        return tuple(_thresholds(one, self.predictions.targets) for one in self.evaluations)

    def images(self) -> ScoredImages:
        """The same with the manifest's rows.

        Raises:
            InputError: when an evaluation is damaged, or does not fit its data set any more.
        """
        found = self.predictions
        where = f"{self.cell.data_set}, {self.cell.split}"
        rows = predicted_rows(self.dataset, found, where=where)
        return ScoredImages(
            self.dataset, rows, found.labels, self.scores, self.thresholds, found.targets
        )

    @cached_property
    def _read(self) -> tuple[Predictions, NDArray[np.float64]]:
        """The first model's predictions, and the scores of all on the same images."""
        first, *others = (read_predictions(folder) for folder in self.evaluations)
        for other, folder in zip(others, self.evaluations[1:], strict=True):
            if scored_on(other) != scored_on(first):
                raise _made_of_other_images(folder)
        return first, np.stack([one.scores for one in (first, *others)])


def refuse_other_images(cells: Sequence[ScoredCell]) -> None:
    """Refuse cells of one split that can't share redraws, since one was scored on other images.

    Raises:
        InputError: naming the first evaluation that is not as most are, or that is damaged.
    """
    found = [scored_on(one.predictions) for one in cells]
    (most, _), *_ = Counter(found).most_common(1)
    for one, here in zip(cells, found, strict=True):
        if here != most:
            raise _made_of_other_images(one.evaluations[0])


def _made_of_other_images(evaluation: Path) -> InputError:
    return InputError(
        f"{evaluation.name}: was made of other images, patients, targets or labels than its "
        "sisters; delete it and run the study again"
    )


def _thresholds(evaluation: Path, targets: Sequence[str]) -> tuple[float, ...]:
    """Where an evaluation called each target positive, as its metrics say."""
    told = read_json(evaluation / "metrics.json").get("threshold", THRESHOLD)
    each = [told.get(name) if isinstance(told, dict) else told for name in targets]
    numbers = [float(value) for value in each if isinstance(value, int | float)]
    if len(numbers) < len(each):
        raise InputError(f"{evaluation.name}/metrics.json: its threshold is no number")
    return tuple(numbers)


def scored_cells(
    study: Path, rows: Sequence[ResultRow], places: Sequence[EvaluateOn]
) -> Iterator[ScoredCell]:
    """The cells of a study that have a finished run, set after set, in the order of the rows.

    Args:
        study: the study's folder.
        rows: its results.
        places: what its models were scored on.
    """
    for place in places:
        dataset = open_place(study, place)
        data_set = set_name(dataset.info.name, place.where)
        cells: dict[tuple[object, ...], list[ResultRow]] = {}
        for row in rows:
            here = (row.data_set, row.split) == (data_set, place.split)
            if row.state == "finished" and here:
                key = (row.strategy, row.trained_on, row.epsilon, row.tuned)
                cells.setdefault(key, []).append(row)
        for found in cells.values():
            yield ScoredCell(
                cell=StudyCell(
                    strategy=found[0].strategy,
                    epsilon=found[0].epsilon,
                    tuned=found[0].tuned,
                    trained_on=found[0].trained_on,
                    data_set=data_set,
                    split=place.split,
                    n_seeds=len(found),
                ),
                evaluations=tuple(
                    evaluation_folder(study, row.run, data_set, place.split) for row in found
                ),
                dataset=dataset,
            )


def open_place(study: Path, place: EvaluateOn) -> Dataset:
    """The data set of a place, whose path is seen from where the study was run, or from itself."""
    return open_dataset(place.data if place.data.exists() else study / place.data)
