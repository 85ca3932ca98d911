"""Calls that depend on each other, run in rounds by an engine until none is left to do."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from synthdp.errors import InputError
from synthdp.paths import without_paths
from synthdp.runs import StageCall
from synthdp.study.sweep.countdown import Countdown, Job, Kind
from synthdp.study.sweep.engine import Engine
from synthdp.study.sweep.worker import Attempt

log = logging.getLogger(__name__)

PARENT_FAILED = "the run that it starts from failed"
#: How long to wait for runs that another process makes before looking again.
WAIT_S, SAY_EVERY_S = 3.0, 60.0


@dataclass(frozen=True)
class Crew:
    """An engine, and the countdown that it moves."""

    engine: Engine
    countdown: Countdown

    def run(
        self, attempt: Attempt, calls: Mapping[str, StageCall], failures: Mapping[str, str]
    ) -> dict[str, str]:
        """Run calls by folder, each after the one that it starts from; returns failures by folder.

        A run that another process makes is waited for, when all others are done.

        Args:
            attempt: runs one call.
            calls: by folder; what others start from comes before them.
            failures: of calls that these may start from.
        """
        waiting, failed, said = dict(calls), dict(failures), -SAY_EVERY_S
        elsewhere = set[str]()
        while waiting:
            for call in list(waiting.values()):
                why = failed.get(parent_of(call) or "")
                if why is not None:
                    failed[call.folder] = (
                        f"{PARENT_FAILED}: {why.removeprefix(PARENT_FAILED + ': ')}"
                    )
                    del waiting[call.folder]
                    self.countdown.drop(call.folder)
            ready = [call for call in waiting.values() if parent_of(call) not in waiting]
            n_before = len(waiting)
            for outcome in self.engine.outcomes(attempt, ready):
                if outcome.busy:
                    elsewhere.add(outcome.folder)
                    continue
                call = waiting.pop(outcome.folder)
                if outcome.error is not None:
                    failed[call.folder] = outcome.error
                    log.warning("%s failed: %s", call.folder, without_paths(outcome.error))
                    self.countdown.failed(call.folder)
                else:
                    own = call.folder not in elsewhere
                    self.countdown.done(call.folder, outcome.seconds if own else None)
            if ready and len(waiting) == n_before:
                said = _wait_for([call.folder for call in ready], said)
        return {folder: error for folder, error in failed.items() if folder in calls}


def parent_of(call: StageCall) -> str | None:
    """The folder of the run that a call starts from, or that it scores."""
    parent: Path | None = call.setting("init") or call.setting("run")
    return parent.name if parent is not None else None


def _wait_for(folders: list[str], said: float) -> float:
    now = time.monotonic()
    if now - said >= SAY_EVERY_S:
        shown = ", ".join(folders[:4]) + (", ..." if len(folders) > 4 else "")
        log.info("waiting for %d run(s) that another process makes: %s", len(folders), shown)
        said = now
    time.sleep(WAIT_S)
    return said


def to_do(
    calls: Mapping[str, StageCall], stands: Callable[[Path], bool]
) -> tuple[dict[str, StageCall], dict[str, str]]:
    """The calls whose results don't stand yet, and those that stand cut, with the reason."""
    missing, broken = {}, {}
    for folder, call in calls.items():
        try:
            if not stands(call.out):
                missing[folder] = call
        except InputError as error:
            broken[folder] = str(error)
    return missing, broken


@contextmanager
def crew_of(
    engine: Engine, jobs: Mapping[str, Job], earlier: Iterable[tuple[Kind, float]]
) -> Iterator[Crew]:
    """A crew that counts down these jobs, which are named by their calls' folders.

    Args:
        engine: what they run on.
        jobs: all of them, those of later rounds too.
        earlier: kinds and seconds of jobs that were done before.
    """
    countdown = Countdown(jobs, what="study", workers=engine.size(), earlier=earlier)
    try:
        yield Crew(engine, countdown)
    finally:
        countdown.close()
