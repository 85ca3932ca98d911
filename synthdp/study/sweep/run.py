"""Make the models of a study's grid and score them, where that is not done yet.

Every run is a folder named by a hash of its settings, so that a study which was interrupted goes on
where it stopped: finished runs are left alone, a failed one is tried again, and what several models
start from is run once.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from synthdp.errors import InputError, RunError
from synthdp.runs.folder import RunBusyError, StageCall
from synthdp.stages import STAGES
from synthdp.storage.paths import without_paths
from synthdp.study.settings import EngineSettings
from synthdp.study.sweep.engine import Engine, Job, Together, opened_engine
from synthdp.study.sweep.grid import Evaluation, GridRow
from synthdp.study.sweep.progress import StudyProgress
from synthdp.study.sweep.state import is_evaluated, is_finished, missing_calls, other_versions

log = logging.getLogger(__name__)

PARENT_FAILED = "the run that it starts from failed"
#: Seconds between two looks at a run that another process makes, and between two lines about it.
WAIT_S, LOG_WAIT_EVERY_S = 3.0, 60.0


def run_grid(
    settings: EngineSettings, evaluations: Sequence[Evaluation], *, expected_s: float | None = None
) -> dict[str, str]:
    """Make the models of these evaluations and score them, where that is not done yet.

    Args:
        settings: where they run.
        evaluations: of the models.
        expected_s: how long all of it takes, where that is known before.

    Returns:
        Errors by the folder of the run, for runs and for evaluations of their models.
    """
    calls = _distinct_calls([one.row for one in evaluations])
    missing, failures = missing_calls(calls, is_finished)
    finished = [call for folder, call in calls.items() if folder not in {**missing, **failures}]
    _log_finished([call.out for call in finished])
    unscored, _ = missing_calls(_scoring_calls(evaluations, failures), is_evaluated)
    to_make = {**missing, **unscored}
    # where nothing is left to run, no cluster is needed, and it may be gone
    where = settings if to_make else EngineSettings()
    with (
        opened_engine(where) as engine,
        closing(StudyProgress(to_make, finished, expected_s=expected_s)) as progress,
    ):
        failures |= run_calls(engine, missing, failures, progress)
        return failures | evaluate_models(engine, evaluations, failures, progress)


def evaluate_models(
    engine: Engine,
    evaluations: Sequence[Evaluation],
    failures: Mapping[str, str],
    progress: StudyProgress,
) -> dict[str, str]:
    """Score every model that did not fail; returns errors by the folder of the model's run."""
    missing, errors = missing_calls(_scoring_calls(evaluations, failures), is_evaluated)
    errors |= run_calls(engine, missing, {}, progress)
    models = {one.call.folder: one.row.model.name for one in evaluations}
    return {models[folder]: error for folder, error in errors.items()}


def run_calls(
    engine: Engine,
    calls: Mapping[str, StageCall],
    failures: Mapping[str, str],
    progress: StudyProgress,
) -> dict[str, str]:
    """Run calls, each after the one that it starts from; returns errors by folder.

    A run that another process makes is waited for, when all others are done.

    Args:
        engine: where they run.
        calls: by folder; what others start from comes before them.
        failures: errors of calls that these may start from, by folder.
        progress: counts what is done.
    """
    waiting, failed, logged_at = dict(calls), dict(failures), -math.inf
    while waiting:
        # What starts from a failed run can't be run. Parents come first in the order, so that one
        # pass takes a whole line of descent out.
        for folder, call in list(waiting.items()):
            error = failed.get(parent_of(call) or "")
            if error is not None:
                failed[folder] = f"{PARENT_FAILED}: {error.removeprefix(PARENT_FAILED + ': ')}"
                del waiting[folder]
        # A round: all whose parents are done, at once. What it leaves is tried in the next one.
        ready = [call for call in waiting.values() if parent_of(call) not in waiting]
        n_waiting = len(waiting)
        for outcome in engine.outcomes(attempt, ready, TOGETHER):
            if outcome.busy:  # another process is at work on it: it stays for the next round
                continue
            del waiting[outcome.folder]
            if outcome.error is not None:
                failed[outcome.folder] = outcome.error
                log.warning("%s failed: %s", outcome.folder, without_paths(outcome.error))
            progress.count(
                calls[outcome.folder], failed=outcome.error is not None, seconds=outcome.seconds
            )
        if ready and len(waiting) == n_waiting:  # all that could run is made elsewhere
            if time.monotonic() - logged_at >= LOG_WAIT_EVERY_S:
                names = ", ".join(call.folder for call in ready[:4]) + ", ..." * (len(ready) > 4)
                log.info("waiting for %d run(s) that another process makes: %s", len(ready), names)
                logged_at = time.monotonic()
            time.sleep(WAIT_S)
    return {folder: error for folder, error in failed.items() if folder in calls}


def attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
    """Run one call in a worker; an error becomes text, so that the other runs go on."""
    import torch  # noqa: PLC0415 (in the worker, after its thread limit is set)

    torch.set_num_threads(threads)
    try:
        STAGES[call.stage].start(call.settings)
    except RunBusyError:
        raise
    except (InputError, RunError) as error:
        return call.folder, None if _made_meanwhile(call) else str(error)
    return call.folder, None


def attempt_together(job: Job, threads: int) -> list[Exception | None]:
    """Run the calls of a job in a worker; gives what has ended each, in their order."""
    import torch  # noqa: PLC0415 (as above)

    torch.set_num_threads(threads)
    ended = STAGES[job[0].stage].start_together([call.settings for call in job])
    return [
        None if error is None or _made_meanwhile(call) else error
        for call, error in zip(job, ended, strict=True)
    ]


def _made_meanwhile(call: StageCall) -> bool:
    """Whether another process has finished an evaluation meanwhile, which takes no lock."""
    with suppress(InputError):
        return call.stage == "evaluate" and is_evaluated(call.out)
    return False


#: Jobs that each of several workers has, where there are enough calls: they end at other times.
_JOBS_A_WORKER = 2


def jobs_for(calls: Sequence[StageCall], n_workers: int) -> list[Job]:
    """Calls that share their work laid together, in the order of each job's first call.

    As many jobs as keep all workers at work: what is laid together is done by one of them.
    """
    alike: dict[str, list[StageCall]] = {}
    for call in calls:
        common = STAGES[call.stage].common(call.settings)
        alike.setdefault(call.folder if common is None else common, []).append(call)
    n_jobs = 1 if n_workers == 1 else n_workers * _JOBS_A_WORKER
    most = max(1, len(calls) // n_jobs)
    jobs = []
    for group in alike.values():
        n_parts = -(-len(group) // most)
        jobs += [tuple(group[index::n_parts]) for index in range(n_parts)]
    return jobs


TOGETHER = Together(jobs_for, attempt_together)


def parent_of(call: StageCall) -> str | None:
    """The folder of the run that a call starts from, or that it scores."""
    parent: Path | None = call.setting("init") or call.setting("run")
    return parent.name if parent is not None else None


def _distinct_calls(rows: Sequence[GridRow]) -> dict[str, StageCall]:
    """Every distinct call by its folder, those that others start from first.

    They come first since they are the longest too, and the others fill the gaps.
    """
    parents = {parent_of(call) for row in rows for call in row.calls}
    calls = {(depth, call.folder): call for row in rows for depth, call in enumerate(row.calls)}
    in_order = sorted(calls, key=lambda key: (key[0], key[1] not in parents, key[1]))
    return {folder: calls[depth, folder] for depth, folder in in_order}


def _scoring_calls(
    evaluations: Sequence[Evaluation], failures: Mapping[str, str]
) -> dict[str, StageCall]:
    """The calls, by folder, that score models which did not fail."""
    scorable = (one.call for one in evaluations if one.row.model.name not in failures)
    return {call.folder: call for call in scorable}


def _log_finished(runs: Sequence[Path]) -> None:
    if runs:
        log.info("%d run(s) are finished already", len(runs))
    different = other_versions(runs)
    if different:
        log.warning(
            "of the finished runs %s: results may differ; delete what should be made again",
            ", ".join(different),
        )
