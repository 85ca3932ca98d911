"""How far a study is: what is done, what failed, what will not run, and the time left."""

import logging
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import TypeAlias

from tqdm import tqdm

log = logging.getLogger(__name__)

#: Seconds between two lines of a log, and between two looks at a terminal.
LINE_EVERY_S, LOOK_EVERY_S = 30.0, 1.0
#: So many times of a kind are believed without a look at coarser ones.
ENOUGH = 3
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400

#: What decides how long a job takes, from coarse to fine: stage, recipe, epsilon.
Kind: TypeAlias = tuple[str, ...]
_Times: TypeAlias = defaultdict[Kind, list[float]]


@dataclass(frozen=True)
class Job:
    """A job to come: its kind, and the name of the job without which it is not run, if any."""

    kind: Kind
    after: str | None = None


def in_words(seconds: float) -> str:
    """A duration as a person says it, as in `2 h 5 min`."""
    if seconds < _MINUTE_S:
        return f"{max(1, round(seconds))} s"
    if seconds < _HOUR_S:
        return f"{round(seconds / _MINUTE_S)} min"
    if seconds < _DAY_S:
        return f"{int(seconds // _HOUR_S)} h {int(seconds % _HOUR_S // _MINUTE_S)} min"
    return f"{int(seconds // _DAY_S)} d {int(seconds % _DAY_S // _HOUR_S)} h"


class Countdown:
    """Jobs on several workers: done, failed, not run, and the time left.

    A job that is left counts as the median of its kind, since a worker that was stopped for a
    while, or a machine that slept, would move a mean for the rest of the study. While few of its
    kind are done, the next coarser kind's median counts where it is shorter: the first of a kind
    may have made features that the others find. A stage that has not begun counts as the shortest
    kind, since the last one, scoring, is short. At a terminal there is a bar, elsewhere a line
    every half minute, and a last line in the end.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        *,
        what: str,
        workers: int,
        earlier: Iterable[tuple[Kind, float]] = (),
    ) -> None:
        """Begin to count.

        Args:
            jobs: all of them, by name.
            what: names them all.
            workers: how many run at once.
            earlier: kinds and seconds of jobs of before; those of now count alone when there are
                any.
        """
        self._left, self._n_jobs, self._what = dict(jobs), len(jobs), what
        self._workers, self._n = max(1, workers), Counter[str]()
        self._followers: defaultdict[str, list[str]] = defaultdict(list)
        for name, job in jobs.items():
            if job.after is not None:
                self._followers[job.after].append(name)
        self._now, self._earlier = _Times(list), _Times(list)
        for kind, seconds in earlier:
            self._earlier[kind].append(seconds)
        self._said = self._looked = -LINE_EVERY_S
        hidden = not sys.stderr.isatty()
        self._bar = tqdm(total=self._n_jobs, desc=what, disable=hidden, leave=False)
        self._bar.bar_format = "{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}"

    def done(self, name: str, seconds: float | None) -> None:
        """Count a job that was finished; None: elsewhere, so how long it took is not known."""
        if name in self._left and seconds is not None:
            self._now[self._left[name].kind].append(seconds)
        self._count(name, "done")
        self._show()

    def failed(self, name: str) -> None:
        """Count a job that failed, which tells nothing of the others; those after it won't run."""
        self._count(name, "failed")
        self._show()

    def drop(self, name: str) -> None:
        """Count a job that won't run, nor those after it."""
        self._count(name, "not run")
        self._show()

    def close(self) -> None:
        """Take the bar away and say how it ended: what is left was not run."""
        self._bar.close()
        self._n["not run"] += len(self._left)
        self._left = {}
        if self._n_jobs:
            log.info("%s", self._state())

    @property
    def seconds_left(self) -> float | None:
        """The time left; None before any job told how long one takes."""
        kinds = Counter(job.kind for job in self._left.values())
        typical = {kind: self._typical(kind) for kind in kinds}
        known = {kind: seconds for kind, seconds in typical.items() if seconds is not None}
        if len(known) < len(typical):  # one is known of all kinds or of none
            return None
        total = sum(n * known[kind] for kind, n in kinds.items())
        return total / max(1, min(self._workers, len(self._left)))

    def _typical(self, kind: Kind) -> float | None:
        """Seconds that a job of the kind takes, by the nearest kinds of which any is done."""
        found: list[float] = []
        for depth in range(len(kind), 0, -1):
            for times in (self._now, self._earlier):
                nearest = [some for one, some in times.items() if one[:depth] == kind[:depth]]
                near = list(chain.from_iterable(nearest))
                if near:
                    found.append(median(near))
                    if len(near) >= ENOUGH:
                        return min(found)
                    break
        medians = map(median, [*self._now.values(), *self._earlier.values()])
        return min(found or medians, default=None)

    def _count(self, name: str, state: str) -> None:
        """Count a job once, and those after one that has no result."""
        if self._left.pop(name, None) is None:
            return
        self._n[state] += 1
        self._bar.update()
        if state != "done":
            for follower in self._followers[name]:
                self._count(follower, "not run")

    def _show(self) -> None:
        now = time.monotonic()
        if not self._bar.disable and now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._bar.set_postfix_str(", ".join(self._notes()))
        if self._bar.disable and self._left and now - self._said >= LINE_EVERY_S:
            self._said = now
            log.info("%s", self._state())

    def _state(self) -> str:
        done = f"{self._what}: {self._n['done']} of {self._n_jobs} done"
        return ", ".join([done, *self._notes()])

    def _notes(self) -> list[str]:
        counts = [f"{self._n[state]} {state}" for state in ("failed", "not run") if self._n[state]]
        left = self.seconds_left if self._left else None
        return counts if left is None else [*counts, f"about {in_words(left)} left"]
