"""Progress for a person at a terminal; of a study also plain lines for logs, with the time left."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)

Item = TypeVar("Item")
#: Seconds between two lines of a log.
LINE_EVERY_S = 30.0
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_silent = False


def silence_bars() -> None:
    """Show no bars of inner loops in this process: beside other workers' they are unreadable."""
    global _silent  # noqa: PLW0603 (a property of the process, as its standard error is)
    _silent = True


def progress(items: Iterable[Item], *, what: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items`, showing a bar named `what` when standard error is a terminal."""
    hidden = _silent or not sys.stderr.isatty()
    yield from tqdm(items, desc=what, total=total, disable=hidden, leave=False, delay=1.0)


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
    """Jobs of several kinds on several workers: done, failed, and the time left.

    A job that is left counts as long as those of its kind took, or, before any of its kind is
    done, as those of all kinds did. At a terminal there is a bar, elsewhere a line every half
    minute.
    """

    def __init__(
        self, jobs: Mapping[str, int], *, what: str, workers: int, took: Mapping[str, float]
    ) -> None:
        """Begin to count.

        Args:
            jobs: how many there are of each kind.
            what: names them all.
            workers: how many run at once.
            took: mean seconds of earlier jobs by kind, where there were any.
        """
        self._left, self._total, self._what = Counter(jobs), sum(jobs.values()), what
        self._workers, self._failed = max(1, workers), 0
        self._seconds = {kind: [mean] for kind, mean in took.items()}
        self._earlier = set(took)
        self._said = -LINE_EVERY_S
        hidden = not sys.stderr.isatty()
        self._bar = tqdm(total=self._total, desc=what, disable=hidden, leave=False)
        self._bar.bar_format = "{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}"

    def done(self, kind: str, seconds: float, *, failed: bool = False) -> None:
        """Count a job of a kind that took so long; a failed one tells nothing of the others."""
        self._left[kind] -= 1
        self._failed += failed
        if not failed:
            if kind in self._earlier:  # a measurement of this machine counts alone
                self._earlier.discard(kind)
                self._seconds[kind] = []
            self._seconds.setdefault(kind, []).append(seconds)
        self._show()

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    @property
    def seconds_left(self) -> float | None:
        """The time left; None before any job told how long one takes."""
        means = {kind: sum(times) / len(times) for kind, times in self._seconds.items()}
        if not means:
            return None
        other = sum(means.values()) / len(means)
        return sum(n * means.get(kind, other) for kind, n in self._left.items()) / self._workers

    def _show(self) -> None:
        left, n_left = self.seconds_left, sum(self._left.values())
        notes = [f"{self._failed} failed"] if self._failed else []
        if left is not None and n_left:
            notes.append(f"about {in_words(left)} left")
        self._bar.set_postfix_str(", ".join(notes), refresh=False)
        self._bar.update()
        now = time.monotonic()
        if self._bar.disable and (n_left == 0 or now - self._said >= LINE_EVERY_S):
            self._said = now
            done = f"{self._what}: {self._total - n_left} of {self._total} done"
            log.info("%s", ", ".join([done, *notes]))
