"""How far a study is: what is done, what runs now, how long it still takes.

Workers keep how far they are in files of the study's folder (`.progress/`), wherever they are: on
this machine, on a cluster, or of another shard. So the time left counts what runs now too, such as
the pretraining or the features that many models wait for.
"""

import json
import logging
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from synthdp.errors import InputError
from synthdp.machine.progress import advance, left_within, opened
from synthdp.machine.progress_task import Task
from synthdp.runs.folder import StageCall
from synthdp.status import read_status

log = logging.getLogger(__name__)

FOLDER = ".progress"
#: Seconds between two looks at the files of workers.
_READ_EVERY_S = 2.0
#: A worker that has not written for so long is gone.
_GONE_AFTER_S = 120.0
#: So many of the calls that run now are named.
_NAMED = 4
#: The largest state that is read: a worker writes some hundred bytes.
_MOST_BYTES = 10_000


def state_file(call: StageCall) -> Path:
    """Where the worker of a call keeps how far it is."""
    return call.out.parent.parent / FOLDER / f"{call.out.name}.json"


@dataclass(frozen=True)
class _Running:
    """A call at work: since when, what it says of itself, and how long it says it takes.

    n_calls: how many are made together, this one and others that wait with it.
    """

    call: StageCall
    for_s: float
    doing: str
    left_s: float | None
    n_calls: int = 1


class StudyProgress:
    """Counts the runs and evaluations of a study, and tells how far it is.

    Args:
        calls: all that are to be made, by folder.
        finished: those that stand already, whose time says how long others take.
        expected_s: how long all calls take together, where that was said before. The first calls
            of a kind also make what all others share, such as features, so that this is believed
            until it is over, if it is less than what the calls tell.
    """

    def __init__(
        self,
        calls: Mapping[str, StageCall],
        finished: Sequence[StageCall] = (),
        *,
        expected_s: float | None = None,
    ) -> None:
        self._waiting, self._n_jobs = dict(calls), len(calls)
        self._n_done, self._n_failed = 0, 0
        self._folder = next((state_file(call).parent for call in calls.values()), None)
        self._seen: tuple[float, list[_Running]] = (-math.inf, [])
        self._seconds: dict[str, list[float]] = {}
        for call in finished:
            with suppress(InputError):  # a run that can't be read is refused elsewhere
                status = read_status(call.out)
                if status is not None and status.seconds:
                    self._seconds.setdefault(call.stage, []).append(status.seconds)
        self._began = time.monotonic()
        self._expected_end = None if expected_s is None else self._began + expected_s
        self._stack = ExitStack()
        self._task = Task(
            "runs and scores",
            total=self._n_jobs,
            public_unit="done",
            has_rate=False,
            estimate=self.seconds_left,
            note=self._note,
        )
        if self._n_jobs:
            self._stack.enter_context(opened(self._task))

    def count(self, call: StageCall, *, failed: bool, seconds: float | None = None) -> None:
        """Count a call that is done, in so many seconds, or that failed."""
        self._waiting.pop(call.folder, None)
        self._n_done += not failed
        self._n_failed += failed
        if seconds is not None and not failed:
            self._seconds.setdefault(call.stage, []).append(seconds)
        self._began = time.monotonic()
        advance(self._task)

    def close(self) -> None:
        """Say how it ended: what was not counted was not run."""
        self._stack.close()
        if self._folder is not None:  # other shards make it again
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._n_jobs:
            n_not_run = self._n_jobs - self._n_done - self._n_failed
            counts = ((self._n_failed, "failed"), (n_not_run, "not run"))
            more = "".join(f", {n} {word}" for n, word in counts if n)
            log.info("study: %d of %d done%s", self._n_done, self._n_jobs, more)

    def seconds_left(self) -> float | None:
        """How long the study still takes; None where nobody has told.

        The longest call at work is waited for in any case.
        """
        running = self._running()
        expected = None
        if self._expected_end is not None and self._expected_end > time.monotonic():
            expected = self._expected_end - time.monotonic()
        estimates = [one for one in (expected, self._left_by_calls(running)) if one is not None]
        if not estimates or not self._waiting:
            return None
        return max([min(estimates), *(one.left_s for one in running if one.left_s is not None)])

    def _left_by_calls(self, running: Sequence[_Running]) -> float | None:
        """The time left by how long calls took; None while none has told how long it takes."""
        typical = {stage: median(values) for stage, values in self._seconds.items()}
        for one in running:  # what is the first of its kind tells by itself
            if one.left_s is not None:
                typical.setdefault(one.call.stage, (one.for_s + one.left_s) / one.n_calls)
        if not typical:
            return None
        others = sum(typical.values()) / len(typical)  # for kinds that none has told of
        left = [
            one.left_s
            if one.left_s is not None
            else max(typical.get(one.call.stage, others) * one.n_calls - one.for_s, 0.0)
            for one in running
        ]
        n_waiting = Counter(call.stage for call in self._waiting.values())
        for one in running:
            n_waiting[one.call.stage] -= one.n_calls
        rest = [
            typical.get(name, others) for name, count in n_waiting.items() for _ in range(count)
        ]
        if not running:  # this process does it all
            within = left_within(self._task)
            begun = time.monotonic() - self._began
            left = [max(rest.pop(0) - begun, 0.0) if within is None else within] if rest else []
        return max([sum(left + rest) / max(len(running), 1), *left])

    def _note(self) -> str:
        """What failed, and what runs now."""
        running = self._running()
        parts = [f"{self._n_failed} failed"] if self._n_failed else []
        if running:
            telling = [one for one in running if one.doing][:_NAMED]
            words = [f"{one.call.stage} ({one.doing})" for one in telling]
            silent = Counter(one.call.stage for one in running if one not in telling)
            words += [f"{n} {stage}" if n > 1 else stage for stage, n in silent.items()]
            parts.append(f"now {'; '.join(words)}")
        return ", ".join(parts)

    def _running(self) -> list[_Running]:
        now, (seen_at, running) = time.monotonic(), self._seen
        if now - seen_at >= _READ_EVERY_S and self._folder is not None:
            names = set[str]()
            with suppress(OSError):  # no worker has written yet
                names = set(os.listdir(self._folder))
            here = [call for call in self._waiting.values() if state_file(call).name in names]
            running = [one for one in map(_read, here) if one is not None]
            self._seen = (now, running)
        return running


def _read(call: StageCall) -> _Running | None:
    """What the worker of a call says; None where none is at work on it."""
    try:
        with state_file(call).open("rb") as stream:
            state: Any = json.loads(stream.read(_MOST_BYTES))
        age = time.time() - float(state["at"])
        left = None if state["left_s"] is None else max(float(state["left_s"]) - age, 0.0)
        for_s = float(state["for_s"]) + max(age, 0.0)
        doing, n_calls = str(state["doing"]), int(state.get("calls", 1))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return _Running(call, for_s, doing, left, n_calls) if age < _GONE_AFTER_S else None
