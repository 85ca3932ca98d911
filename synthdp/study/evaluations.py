"""Every model of a study on every set: the calls that score it, and the rows that come of them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from synthdp.errors import InputError
from synthdp.files import read_json
from synthdp.runs import StageCall, read_statement
from synthdp.study.compare import ResultRow, evaluation_row, failed_row
from synthdp.study.grid import GridRow
from synthdp.study.predictions import evaluation_folder
from synthdp.study.settings import StudySettings
from synthdp.study.sites import EvaluateOn
from synthdp.study.standing import METRICS_FILE


def _places(settings: StudySettings) -> list[tuple[str, EvaluateOn]]:
    """What models are scored on, with its name, for which its set is opened: once, not by row."""
    return [(where.name, where) for where in settings.places]


def _evaluation(settings: StudySettings, row: GridRow, name: str, where: EvaluateOn) -> StageCall:
    run = row.model
    out = evaluation_folder(settings.out, run.name, name, where.split)
    values = {"run": str(run), "dataset": str(where.data), "split": where.split, "out": str(out)}
    return StageCall("evaluate", {**values, "where": where.where})


def evaluations_of(
    settings: StudySettings, rows: Sequence[GridRow], failures: Mapping[str, str]
) -> list[tuple[StageCall, str]]:
    """Every scoring of a model on a set, with the folder of the model's run."""
    places = _places(settings)
    return [
        (_evaluation(settings, row, name, where), row.model.name)
        for row in rows
        if row.model.name not in failures
        for name, where in places
    ]


def result_rows(
    settings: StudySettings, rows: Sequence[GridRow], failures: Mapping[str, str]
) -> Iterator[ResultRow]:
    """The rows of `results.csv`, read from runs and evaluations; what failed has its error."""
    places = _places(settings)
    for row in rows:
        run = row.model
        for name, where in places:
            cell: dict[str, Any] = {
                "strategy": row.strategy,
                "epsilon": row.epsilon,
                "seed": row.seed,
                "tuned": row.tuned,
                "trained_on": row.trained_on,
                "data_set": name,
                "split": where.split,
                "run": run.name,
            }
            error = failures.get(run.name)
            try:
                if error is None:
                    out = Path(_evaluation(settings, row, name, where).settings["out"])
                    metrics, statement = read_json(out / METRICS_FILE), read_statement(run)
            except InputError as problem:  # deleted since it was finished
                error = f"{run.name}: deleted or cut while the study was at work ({problem})"
            if error is not None:
                yield failed_row(**cell, error=error)
            else:
                yield evaluation_row(**cell, metrics=metrics, statement=statement)
