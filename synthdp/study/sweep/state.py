"""What stands of a study's runs and evaluations: finished, to be made, or cut."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from synthdp.config import validate_settings
from synthdp.errors import InputError
from synthdp.evaluation.predictions import PREDICTIONS_FILE
from synthdp.files import read_json, refused_when_full, write_json
from synthdp.paths import without_paths
from synthdp.privacy.statement import read_statement
from synthdp.runs import RunBusyError, StageCall, open_run, take_lock, versions
from synthdp.stages import STAGES
from synthdp.study.compare.predictions import evaluation_folder
from synthdp.study.compare.results import ResultRow, evaluation_row, failed_row
from synthdp.study.settings import EvaluateOn, StudySettings
from synthdp.study.sweep.engine import WHERE_IT_RUNS
from synthdp.study.sweep.grid import GridRow

METRICS_FILE = "metrics.json"


def _status(run: Path) -> Mapping[str, Any]:
    path = run / "status.json"
    status = read_json(path) if path.is_file() else {}
    if not isinstance(status, dict):
        raise InputError("status.json: not that of a run")
    return status


def is_finished(run: Path) -> bool:
    """Whether a run says that it is finished.

    Raises:
        InputError: when it can't be read, or is finished but cut, or of another version.
    """
    try:
        if _status(run).get("state") != "finished":
            return False
        read_statement(run)
        for name in ("config.yaml", "model"):
            if not (run / name).exists():
                raise InputError(f"its {name} is gone")
        if not any((run / "model").iterdir()):
            raise InputError("its model is gone")
    except InputError as error:
        raise InputError(
            f"{run.name}: cut, or of another version of synthdp ({error}); put it back, or delete "
            "the folder: the same command makes the run again, and its privacy is spent anew"
        ) from error
    return True


def is_evaluated(evaluation: Path) -> bool:
    """Whether an evaluation stands.

    Raises:
        InputError: when it was cut.
    """
    if not (evaluation / METRICS_FILE).is_file():
        return False
    try:
        metrics = read_json(evaluation / METRICS_FILE)
        if not isinstance(metrics, dict) or not {"auroc", "mean"} & {*metrics}:
            raise InputError(f"{METRICS_FILE}: not that of an evaluation")
        if not (evaluation / PREDICTIONS_FILE).is_file():
            raise InputError(f"its {PREDICTIONS_FILE} is gone")
    except InputError as error:
        raise InputError(
            f"evaluation {evaluation.name}: cut ({error}); delete the folder, and the same command "
            "scores the model again"
        ) from error
    return True


def seconds_taken(calls: Iterable[StageCall]) -> dict[str, float]:
    """How long the finished runs among these calls took, by folder."""
    found: dict[str, float] = {}
    for call in calls:
        try:
            status = _status(call.out)
        except InputError:
            continue
        if status.get("state") == "finished" and isinstance(status.get("seconds"), float):
            found[call.folder] = status["seconds"]
    return found


def other_versions(runs: Iterable[Path]) -> list[str]:
    """What finished runs were made with that is not at hand now, in words, with their number."""
    now, found = versions(), Counter[str]()
    for run in runs:
        made_with = _status(run).get("versions", {})
        found.update(
            f"{name} {version} (now {now.get(name, 'absent')})"
            for name, version in made_with.items()
            if now.get(name) != version
        )
    return [f"{n} with {what}" for what, n in found.items()]


# Who works on a study: the plain command alone, or shards together; the rest are refused. Locks
# are the kernel's, so that they end with their process, however it ends.

#: Shards that begin at once open the study one after the other; each takes milliseconds.
_OPEN_WITHIN_S = 60.0


@contextmanager
def claimed(out: Path, *, shared: bool) -> Iterator[None]:
    """Claim the study at `out`: for this process alone, or with other shards.

    Raises:
        RunBusyError: when another process has it, and does not share it.
    """
    with refused_when_full():
        out.mkdir(parents=True, exist_ok=True)
        (out / ".study.lock").touch()
    with open(out / ".study.lock", "a+", encoding="utf-8") as lock:
        try:
            take_lock(lock, out, shared=shared)
        except RunBusyError as error:
            why = (
                "the plain command is at work there and takes every run, so no shard is needed"
                if shared
                else "nothing was started; to share the work, start all of them with --shard i/n"
            )
            raise RunBusyError(f"{error}; {why}; finished runs stand") from error
        yield


def joined(settings: StudySettings) -> bool:
    """Open the study as one shard of several, or make it; returns whether it is finished.

    Raises:
        InputError: when it was started with other settings.
        RunBusyError: when another process does not let go of it.
    """
    give_up = time.monotonic() + _OPEN_WITHIN_S
    while True:
        try:
            with open_run(settings.out, "study", settings, free=WHERE_IT_RUNS) as run:
                finished: bool = run.finished
                return finished
        except RunBusyError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)


def part_of(rows: Sequence[GridRow], index: int, n_parts: int) -> list[GridRow]:
    """The rows of shard `index` (from 0): models in the order of their hashes, dealt out in turn.

    Every model is in one shard; a run that models of several shards start from is made by
    whichever needs it first, and the others wait.
    """
    models = sorted({row.calls[-1].folder for row in rows})
    own = set(models[index::n_parts])
    return [row for row in rows if row.calls[-1].folder in own]


# Failed runs on record in the study's folder, so that another shard can write them into results. A
# file for each, since shards that write at once must not lose each other's.

FAILURES = "failures"


def record_failures(study: Path, runs: Iterable[str], failures: Mapping[str, str]) -> None:
    """Put on record which of these runs failed last time, and that the others did not.

    Args:
        study: the study's folder.
        runs: those that were tried, by folder.
        failures: errors by folder.
    """
    for run in runs:
        path = study / FAILURES / f"{run}.json"
        if run in failures:
            write_json(path, {"error": without_paths(failures[run])})
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or other failures stand in it
        (study / FAILURES).rmdir()


def recorded_failures(study: Path) -> dict[str, str]:
    """Errors of the runs that failed when they were last tried, by folder."""
    found: dict[str, str] = {}
    for path in sorted((study / FAILURES).glob("*.json")):
        with suppress(InputError):  # deleted or damaged: the run is then as if it were never tried
            record = read_json(path)
            if isinstance(record, dict) and isinstance(record.get("error"), str):
                found[path.stem] = record["error"]
    return found


# Every model of a study on every set: the calls that score it, and the rows that come of them.


def _places(settings: StudySettings) -> list[tuple[str, EvaluateOn]]:
    """What models are scored on, with its name, for which its set is opened: once, not by row."""
    return [(where.name, where) for where in settings.places]


def _evaluation(settings: StudySettings, row: GridRow, name: str, where: EvaluateOn) -> StageCall:
    values = {
        "run": row.model,
        "dataset": where.data,
        "split": where.split,
        "out": evaluation_folder(settings.out, row.model.name, name, where.split),
        "where": where.where,
    }
    checked = validate_settings(STAGES["evaluate"].settings_class(), values, where="evaluate")
    return StageCall("evaluate", checked)


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
                    out = evaluation_folder(settings.out, run.name, name, where.split)
                    metrics, statement = read_json(out / METRICS_FILE), read_statement(run)
            except InputError as problem:  # deleted since it was finished
                error = f"{run.name}: deleted or cut while the study was at work ({problem})"
            if error is not None:
                yield failed_row(**cell, error=error)
            else:
                yield evaluation_row(**cell, metrics=metrics, statement=statement)
