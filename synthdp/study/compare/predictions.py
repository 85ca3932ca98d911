"""What the runs of a study gave for each image, read from its evaluations and laid side by side.

For comparisons (`read_scored`) a run that can't be read is left out, and why is kept; where groups
or sites are judged (`scored_cells`) it is refused.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from synthdp.config.settings import load_settings
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.metrics import MACRO
from synthdp.evaluation.predictions import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    Predictions,
    ScoredImages,
    predicted_rows,
    read_metrics,
    read_predictions,
    shared_targets,
)
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.results import CellKey, ResultRow, cell_key
from synthdp.study.sets import EvaluateOn, seen_from, set_name
from synthdp.study.settings import StudySettings
from synthdp.study.sweep.grid import evaluation_folder

_EVALUATIONS = "evaluations"
Row = TypeVar("Row")


def has_evaluations(study: Path) -> bool:
    """Whether predictions of its runs stand in a study; a released one has none."""
    return (study / _EVALUATIONS).is_dir()


def compared_settings(study: Path) -> StudySettings | None:
    """The settings by which a finished study can be compared anew.

    None without its settings or its evaluations, as in a released one.

    Raises:
        InputError: when the settings are wrong.
    """
    config = study / "config.yaml"
    if not config.is_file() or not has_evaluations(study):
        return None
    return load_settings(StudySettings, config)


def kept_or_compared(
    study: Path,
    file: str,
    read: Callable[[Path], list[Row]],
    compare: Callable[[StudySettings], list[Row]],
    *,
    asked: bool,
    wanted: Callable[[StudySettings], bool],
) -> list[Row]:
    """A table of a study: as it stands, or computed and written when it does not.

    Args:
        study: the study's folder; a released one has no predictions, and so no table.
        file: the table's name.
        read: reads it.
        compare: computes and writes it.
        asked: compute it whatever stands, and whatever the study asks for.
        wanted: whether the study's settings ask for it.

    Raises:
        InputError: when a table or an evaluation is damaged.
    """
    path = study / file
    if path.is_file() and not asked:
        return read(path)
    settings = compared_settings(study)
    if settings is None or not (asked or wanted(settings)):
        return []
    return compare(settings)


@dataclass(frozen=True, eq=False)
class ScoredRuns:
    """Runs on the same images: their predictions, and the images' patients, (N,), counted from 0.

    `index` gives each run's position among the models; `problems` says why a run has none. The
    targets are those that all runs have; `n_targets` is of the run with the most.
    """

    predictions: Predictions
    patients: NDArray[np.intp]
    index: Mapping[str, int]
    problems: Mapping[str, str]
    n_targets: int = 1

    def by_target(self) -> list[tuple[str, "ScoredRuns"]]:
        """The same by target: of one its own, without a name; of several their mean, then each."""
        if self.n_targets == 1:
            return [("", self)]
        names = self.predictions.targets
        each = [
            (name, replace(self, predictions=self.predictions.of_targets([name]))) for name in names
        ]
        return [(MACRO, self), *each]

    def positions(self, runs: Iterable[str]) -> list[int]:
        """Those of the runs that have predictions."""
        return [self.index[run] for run in runs if run in self.index]


def read_scored(study: Path, data_set: str, split: str, runs: Iterable[str]) -> ScoredRuns:
    """The runs' scores on one split; a run that was scored on other images than most is left out.

    Runs of sites with other targets are laid side by side for those that all of them have.

    Args:
        study: the study's folder.
        data_set: the set's name.
        split: the split.
        runs: folder names of finished runs.
    """
    read: dict[str, Predictions] = {}
    problems: dict[str, str] = {}
    for run in dict.fromkeys(runs):
        folder = evaluation_folder(study, run, data_set, split)
        try:
            read[run] = read_predictions(folder)
        except InputError:
            there = (folder / PREDICTIONS_FILE).is_file()
            problems[run] = "predictions cut off or damaged" if there else "no predictions"
    n_targets = max((len(one.targets) for one in read.values()), default=1)
    if shared := shared_targets([*read.values()]) if read else ():
        read = {run: one.of_targets(shared) for run, one in read.items()}
    most = Counter(predictions.scored_on for predictions in read.values()).most_common(1)
    if not most:
        nothing = Predictions((), (), ("",), np.zeros((0, 1)), np.zeros((0, 0, 1)))
        return ScoredRuns(nothing, np.zeros(0, np.intp), {}, problems)
    kept = {run: one for run, one in read.items() if one.scored_on == most[0][0]}
    problems |= {run: "scored on other images" for run in read if run not in kept}
    first, *others = kept.values()
    _, patients = np.unique(np.array(first.patients), return_inverse=True)
    index = {run: position for position, run in enumerate(kept)}
    return ScoredRuns(first.beside(others), patients.astype(np.intp), index, problems, n_targets)


@dataclass(frozen=True, eq=False)
class ScoredCell:
    """A cell on one split, with what its models gave on the same images, read when asked for.

    evaluations: a folder for each seed; dataset: the set that the models were scored on.
    """

    cell: Cell
    evaluations: tuple[Path, ...]
    dataset: Dataset

    @cached_property
    def predictions(self) -> Predictions:
        """Of all seeds, S models.

        Raises:
            InputError: when an evaluation is damaged, or was made of other images than the first.
        """
        first, *others = (read_predictions(folder) for folder in self.evaluations)
        for other, folder in zip(others, self.evaluations[1:], strict=True):
            if other.scored_on != first.scored_on:
                raise _made_of_other_images(folder)
        return first.beside(others)

    def images(self) -> ScoredImages:
        """The same with the manifest's rows, and each model's thresholds.

        Raises:
            InputError: when an evaluation is damaged, or does not fit its data set any more.
        """
        where = f"{self.cell.data_set}, {self.cell.split}"
        rows = predicted_rows(self.dataset, self.predictions, where=where)
        thresholds = [_thresholds(one, self.predictions.targets) for one in self.evaluations]
        return ScoredImages(self.predictions, thresholds, self.dataset, rows)


def refuse_other_images(cells: Sequence[ScoredCell]) -> None:
    """Refuse cells of one split that can't share redraws, since one was scored on other images.

    Cells may have other targets; the labels of those that all have must be the same.

    Raises:
        InputError: naming the first evaluation that is not as most are, or that is damaged.
    """
    shared = shared_targets([one.predictions for one in cells])
    scored_on = [one.predictions.of_targets(shared).scored_on for one in cells]
    (most, _), *_ = Counter(scored_on).most_common(1)
    for one, here in zip(cells, scored_on, strict=True):
        if here != most:
            raise _made_of_other_images(one.evaluations[0])


def _made_of_other_images(evaluation: Path) -> InputError:
    return InputError(
        f"{evaluation.name}: was made of other images, patients, targets or labels than others on "
        "its split; delete it and run the study again"
    )


def _thresholds(evaluation: Path, targets: Sequence[str]) -> tuple[float, ...]:
    """Where an evaluation called each target positive, as its metrics say."""
    threshold = read_metrics(evaluation)["threshold"]
    each = [threshold.get(name) if isinstance(threshold, dict) else threshold for name in targets]
    numbers = [float(value) for value in each if isinstance(value, int | float)]
    if len(numbers) < len(each):
        raise InputError(f"{evaluation.name}/{METRICS_FILE}: its threshold is no number")
    return tuple(numbers)


def scored_cells(
    study: Path, rows: Sequence[ResultRow], evaluated_on: Sequence[EvaluateOn]
) -> Iterator[ScoredCell]:
    """The cells of a study that have a finished run, set after set, in the order of the rows.

    Args:
        study: the study's folder.
        rows: its results.
        evaluated_on: what its models were scored on.

    Raises:
        InputError: when a data set is missing or damaged.
    """
    for on in evaluated_on:
        dataset = open_dataset(seen_from(study, on.data))
        data_set = set_name(dataset.info.name, on.where)
        groups: dict[CellKey, list[ResultRow]] = {}
        for row in rows:
            here = (row.data_set, row.split) == (data_set, on.split)
            if row.state == "finished" and here:
                groups.setdefault(cell_key(row), []).append(row)
        for group in groups.values():
            folders = (evaluation_folder(study, row.run, data_set, on.split) for row in group)
            yield ScoredCell(Cell(tuple(group)), tuple(folders), dataset)
