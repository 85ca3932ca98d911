"""What the models of a study gave for each image, by cell: read from its evaluations' folders."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dataset import Dataset, open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.metrics import THRESHOLD
from synthdp.evaluation.predictions import Predictions, predicted_rows, read_predictions
from synthdp.evaluation.scored import ScoredImages
from synthdp.files import read_json
from synthdp.study.compare import ResultRow
from synthdp.study.predictions import evaluation_folder, scored_on
from synthdp.study.sites import EvaluateOn, place_name
from synthdp.study.tables import StudyCell


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
        data_set = place_name(dataset.info.name, place.where)
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
