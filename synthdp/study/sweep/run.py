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
from synthdp.study.sweep.grid import Evaluation, GridRow, parent_of
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

    Each model is scored as soon as it stands, so that a study which is interrupted has the scores
    of what it made.

    Args:
        settings: where they run.
        evaluations: of the models.
        expected_s: how long all of it takes, where that is known before.

    Returns:
        Errors by the folder of the run, for runs and for evaluations of their models.
    """
    calls = calls_in_order([one.row for one in evaluations])
    missing, failures = missing_calls(calls, is_finished)
    finished = [call for folder, call in calls.items() if folder not in {**missing, **failures}]
    _log_finished([call.out for call in finished])
    models = {one.call.folder: one.row.model.name for one in evaluations}
    scores = {
        one.call.folder: one.call for one in evaluations if models[one.call.folder] not in failures
    }
    unscored, cut = missing_calls(scores, is_evaluated)
    to_make = {**missing, **unscored}
    # where nothing is left to run, no cluster is needed, and it may be gone
    where = settings if to_make else EngineSettings()
    with (
        opened_engine(where) as engine,
        closing(StudyProgress(to_make, finished, expected_s=expected_s)) as progress,
    ):
        errors = run_calls(engine, to_make, failures, progress)
    of_scores = {
        models[folder]: error for folder, error in {**cut, **errors}.items() if folder in models
    }
    of_runs = {folder: error for folder, error in errors.items() if folder not in models}
    return of_scores | failures | of_runs


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
        # A round: all whose parents are done, at once, and what they make room for. What it leaves
        # is tried in the next one.
        ready = _Ready(waiting, failed, together=TOGETHER is not None)
        n_waiting = len(waiting)
        begun = ready.calls()
        for outcome in engine.outcomes(attempt, begun, TOGETHER, more=ready.calls):
            if outcome.busy:  # another process is at work on it: it stays for the next round
                continue
            parent = parent_of(calls[outcome.folder])
            if parent in waiting or parent in failed:  # there was no model to score
                continue
            del waiting[outcome.folder]
            if outcome.error is not None:
                failed[outcome.folder] = outcome.error
                log.warning("%s failed: %s", outcome.folder, without_paths(outcome.error))
            progress.count(
                calls[outcome.folder], failed=outcome.error is not None, seconds=outcome.seconds
            )
        if begun and len(waiting) == n_waiting:  # all that could run is made elsewhere
            if time.monotonic() - logged_at >= LOG_WAIT_EVERY_S:
                made = [call.folder for call in begun if parent_of(call) not in waiting]
                names = ", ".join(made[:4]) + ", ..." * (len(made) > 4)
                log.info("waiting for %d run(s) that another process makes: %s", len(made), names)
                logged_at = time.monotonic()
            time.sleep(WAIT_S)
    return {folder: error for folder, error in failed.items() if folder in calls}


class _Ready:
    """Which of the calls that wait can be run, each given once.

    Args:
        waiting: those that wait, by folder; whoever runs them takes out what is done.
        failed: errors of what they may start from, by folder.
        together: whether what scores a model can be made in the job of that model.
    """

    def __init__(
        self, waiting: Mapping[str, StageCall], failed: Mapping[str, str], *, together: bool
    ) -> None:
        self._waiting, self._failed, self._together = waiting, failed, together
        self._left = {folder: parent_of(call) for folder, call in waiting.items()}

    def calls(self) -> list[StageCall]:
        """Those not given before; with a model comes what scores it, if they can be one job."""
        ready = set[str]()
        for folder, parent in self._left.items():
            if parent in ready:
                stands = self._together and self._waiting[folder].stage == "evaluate"
            else:
                stands = parent not in self._waiting and parent not in self._failed
            if stands:
                ready.add(folder)
        for folder in ready:
            del self._left[folder]
        return [call for folder, call in self._waiting.items() if folder in ready]


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
    """Run the calls of a job in a worker; gives what has ended each, in their order.

    What scores a model is not tried where that does not stand: it is busy, as far as this goes.
    """
    import torch  # noqa: PLC0415 (as above)

    torch.set_num_threads(threads)
    ended: dict[str, Exception | None] = {}
    for group in _alike(job).values():
        lost = [call for call in group if ended.get(parent_of(call) or "") is not None]
        ended |= {call.folder: RunBusyError(f"{call.folder}: no model to score") for call in lost}
        run = [call for call in group if call.folder not in ended]
        if run:
            ended |= zip((call.folder for call in run), run_alike(run), strict=True)
    return [ended[call.folder] for call in job]


def run_alike(calls: Sequence[StageCall]) -> list[Exception | None]:
    """Run calls that are alike; gives what has ended each. None of them ends calls of others."""
    stage = STAGES[calls[0].stage]
    try:
        if len(calls) > 1:
            ended = stage.start_together([call.settings for call in calls])
        else:
            stage.start(calls[0].settings)
            ended = [None]
    except Exception as error:
        ended = [error] * len(calls)
    return [
        None if error is None or _made_meanwhile(call) else error
        for call, error in zip(calls, ended, strict=True)
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

    As many jobs as keep all workers at work: what is laid together is done by one of them. A model
    that is among the calls has what scores it in its own job, after it.
    """
    folders = {call.folder for call in calls}
    scores: dict[str, list[StageCall]] = {}
    for call in calls:
        model = parent_of(call)
        if call.stage == "evaluate" and model in folders:
            scores.setdefault(model or "", []).append(call)
    later = {call.folder for several in scores.values() for call in several}
    first = [call for call in calls if call.folder not in later]
    n_jobs = 1 if n_workers == 1 else n_workers * _JOBS_A_WORKER
    most = max(1, len(first) // n_jobs)
    jobs = []
    for group in _alike(first).values():
        n_parts = -(-len(group) // most)
        for index in range(n_parts):
            part = group[index::n_parts]
            jobs.append((*part, *(one for call in part for one in scores.get(call.folder, ()))))
    return jobs


def _alike(calls: Sequence[StageCall]) -> dict[str, list[StageCall]]:
    """Calls that share their work, by what they have in common; others by themselves."""
    alike: dict[str, list[StageCall]] = {}
    for call in calls:
        common = STAGES[call.stage].common(call.settings)
        key = call.folder if common is None else f"{call.stage} {common}"
        alike.setdefault(key, []).append(call)
    return alike


TOGETHER = Together(jobs_for, attempt_together)


def calls_in_order(rows: Sequence[GridRow]) -> dict[str, StageCall]:
    """Every distinct call by its folder, in the order in which they are run where nothing waits.

    One seed after the other, and of a seed what takes little before what takes much, so that a
    study which is interrupted has all of its first seeds, or the most of them. What a call starts
    from comes before it.
    """
    keys: dict[str, tuple[int, int, int]] = {}
    calls = {}
    for row in rows:
        work = max(map(_work, row.calls))
        for depth, call in enumerate(row.calls):
            calls[call.folder] = call
            key = (row.seed, work, depth)
            keys[call.folder] = min(key, keys.get(call.folder, key))
    return {folder: calls[folder] for folder in sorted(calls, key=keys.__getitem__)}


def _work(call: StageCall) -> int:
    """How much a call does beside training a head on the patients' features: the more, the higher.

    1: the features of a synthetic set too; 2: a network, trained on the patients; 3: pretraining;
    4: a generator.
    """
    if call.stage == "train-gan":
        return 4
    if call.stage == "pretrain":
        return 3
    if call.setting("network") is not None:
        return 2
    return int(call.setting("synthetic") is not None)


def _log_finished(runs: Sequence[Path]) -> None:
    if runs:
        log.info("%d run(s) are finished already", len(runs))
    different = other_versions(runs)
    if different:
        log.warning(
            "of the finished runs %s: results may differ; delete what should be made again",
            ", ".join(different),
        )
