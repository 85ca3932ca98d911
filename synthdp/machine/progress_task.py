"""One task whose progress is told, and the words for it."""

from collections.abc import Callable
from dataclasses import dataclass

#: Private counts are told in steps of so many percent: a finer share of few patients would give
#: their number away.
_PERCENT_STEP = 5
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


@dataclass(eq=False)
class Task:
    """Something that lasts: what is done of it, since when.

    what: its name; total: of its items, None where unknown; public_unit: what is counted, where
    the number is public; begun: items that were done before; done: since then. estimate: seconds
    left, where whoever opened it knows better than the mean of what is done; note: what else is
    said of it; has_rate: whether its items are alike, so that a rate says something.
    """

    what: str
    total: int | None = None
    public_unit: str = ""
    begun: int = 0
    is_stage: bool = False
    estimate: Callable[[], float | None] | None = None
    note: Callable[[], str] | None = None
    has_rate: bool = True
    done: int = 0
    began: float = 0.0
    advanced_at: float = 0.0

    def seconds_left(self, now: float) -> float | None:
        """How long it still takes, by the mean of what is done; None where that can't be told."""
        if self.estimate is not None and (estimated := self.estimate()) is not None:
            return estimated
        if self.total is None or self.done == 0:
            return None
        n_left = max(self.total - self.begun - self.done, 0)
        each = (self.advanced_at - self.began) / self.done
        # the item at hand is under way since the last one, and at most it is nearly done
        return max(each * n_left - (now - self.advanced_at), each * (n_left - 1), 0.0)

    def line(self, now: float) -> str:
        """The task in one line without a number that is private, such as "reading images, 35 %"."""
        parts = [self.what, *self._figures(now)]
        left = self.seconds_left(now)
        if left is not None:
            parts.append(f"about {duration_words(left)} left")
        elif len(parts) == 1 and now > self.began:
            parts.append(f"at work for {duration_words(now - self.began)}")
        if self.note is not None and (note := self.note()):
            parts.append(note)
        return ", ".join(parts)

    def _figures(self, now: float) -> list[str]:
        count = self.begun + self.done
        if not self.public_unit:
            return [] if not self.total else [_coarse_percent(count / self.total)]
        of = "" if self.total is None else f" of {self.total}"
        figures = [f"{count}{of} {self.public_unit}"]
        elapsed = self.advanced_at - self.began
        if self.done and elapsed > 0 and self.has_rate:
            figures.append(_rate_words(self.done / elapsed, self.public_unit))
        return figures


def _coarse_percent(share: float) -> str:
    return f"{int(100 * min(share, 1.0)) // _PERCENT_STEP * _PERCENT_STEP} %"


def _rate_words(per_second: float, unit: str) -> str:
    """A rate with the time that makes it readable: "3.4 steps/s", "12 runs/h"."""
    for seconds, per in ((1, "s"), (_MINUTE_S, "min"), (_HOUR_S, "h")):
        if per_second * seconds >= 1 or per == "h":
            return f"{per_second * seconds:.3g} {unit}/{per}"
    raise AssertionError  # the last one is always taken


def duration_words(seconds: float) -> str:
    """A time to read at a glance.

    >>> [duration_words(s) for s in (0.4, 59, 60, 3599, 3600, 5000, 200_000)]
    ['1 s', '59 s', '1 min', '59 min', '1 h', '1 h 23 min', '2 d 7 h']
    """
    whole = max(1, round(seconds))
    for unit_s, name, part_s, part_name in (
        (_DAY_S, "d", _HOUR_S, "h"),
        (_HOUR_S, "h", _MINUTE_S, "min"),
    ):
        if whole >= unit_s:
            part = whole % unit_s // part_s
            return f"{whole // unit_s} {name}" + (f" {part} {part_name}" if part else "")
    return f"{whole // _MINUTE_S} min" if whole >= _MINUTE_S else f"{whole} s"
