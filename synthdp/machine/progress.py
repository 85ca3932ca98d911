"""Progress of whatever lasts, for the person who waits for it.

Whoever has a loop that may last names it here: `progress` for a loop, `counted` for work that
reports by a call, `at_work` for a step that can't be counted, `stage` for a whole stage. How it is
shown (a bar, lines, a widget) is the affair of `progress_displays`. A thread looks at what is
open, so that one slow item, or a loop that nobody named, is told too.

Privacy: lines go to logs, which are sent on. Of images and patients they give a share and the
time left, and no number; `public_unit` names what is counted where the number is public (steps
of a recipe, runs of a study), and then the number and the rate are told.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from synthdp.machine.progress_displays import Display, FileDisplay, Nothing, chosen_display
from synthdp.machine.progress_task import Task

Item = TypeVar("Item")

#: Seconds between two looks at what is open.
LOOK_S = 0.25


@dataclass
class Reporter:
    """What is open in this process, outermost first, and where it is shown.

    clock: seconds; choose: gives the display when the first task is opened; threaded: whether a
    thread looks by itself, as it does but in tests.
    """

    clock: Callable[[], float] = time.monotonic
    choose: Callable[[], Display] = chosen_display
    threaded: bool = True
    tasks: list[Task] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _display: Display | None = None
    _looker: threading.Thread | None = None

    def open(self, task: Task) -> None:
        """Begin to show a task."""
        with self.lock:
            if not self.tasks:
                self._display = self.choose()
            task.began = task.advanced_at = self.clock()
            self.tasks.append(task)
            is_alive = self._looker is not None and self._looker.is_alive()
            if self.threaded and not is_alive and self._display and self._display.needs_a_thread:
                self._looker = threading.Thread(target=self._look_on, daemon=True)
                self._looker.start()

    def advance(self, task: Task, count: int = 1) -> None:
        """Count what is done of a task; cheap enough for each item of any loop."""
        task.done += count
        task.advanced_at = self.clock()
        if self._display is not None and not self._display.needs_a_thread:
            self.look()

    def close(self, task: Task) -> None:
        """Show a task no more."""
        with self.lock:
            if task in self.tasks:
                self.tasks.remove(task)
                if self._display is not None:
                    self._display.end(task, self.clock())
                    if not self.tasks:
                        self._display.close()

    def look(self) -> None:
        """Show what is open as it stands now."""
        with self.lock:
            if self.tasks and self._display is not None:
                self._display.show(self.tasks, self.clock())

    def _look_on(self) -> None:
        while True:
            time.sleep(LOOK_S)
            with suppress(OSError, ValueError):  # standard error is closed, or its reader is gone
                self.look()


_reporter = Reporter()


def _begin_anew() -> None:
    """In a forked process: its parent tells of what is open, and holds the lock no more."""
    global _reporter  # noqa: PLW0603 (a property of the process, as its standard error is)
    _reporter = Reporter(choose=Nothing)


def _hold_still() -> None:
    """Before a fork: the thread writes nothing, which would leave the child a locked stream."""
    _reporter.lock.acquire()


def _go_on() -> None:
    """After a fork, in the process that was there before."""
    _reporter.lock.release()


os.register_at_fork(before=_hold_still, after_in_parent=_go_on, after_in_child=_begin_anew)


def silence_bars(file: Path | None = None, *, n_calls: int = 1) -> None:
    """Show nothing in this process: beside other workers' it is unreadable.

    Args:
        file: where the state is kept for the study's process to read, if anywhere.
        n_calls: how many of the study's runs are made together.
    """
    _reporter.choose = Nothing if file is None else lambda: FileDisplay(file, n_calls)


def progress(
    items: Iterable[Item],
    *,
    what: str,
    total: int | None = None,
    public_unit: str = "",
    begun: int = 0,
    estimate: Callable[[], float | None] | None = None,
) -> Iterator[Item]:
    """Yield `items`, telling how far it is.

    Args:
        items: what is gone through.
        what: the loop's name, such as "reading images".
        total: how many items there are, with `begun`; by default what `len` says.
        public_unit: of what is counted ("steps"), where its number is public; else lines give a
            share alone.
        begun: how many were done before, by a process that was interrupted.
        estimate: gives the seconds left, where something else than the items decides them; None
            where they do.
    """
    if total is None and isinstance(items, Sized):
        total = begun + len(items)
    task = Task(what, total=total, public_unit=public_unit, begun=begun, estimate=estimate)
    with opened(task):
        reporter = _reporter
        for item in items:
            yield item
            reporter.advance(task)


@contextmanager
def counted(
    what: str, *, total: int | None, public_unit: str = "", begun: int = 0
) -> Iterator[Callable[[int], None]]:
    """Tell how far the block is; yields what takes the number of items done since the last call."""
    with opened(Task(what, total=total, public_unit=public_unit, begun=begun)) as task:
        reporter = _reporter
        yield lambda count: reporter.advance(task, count)


@contextmanager
def at_work(what: str) -> Iterator[None]:
    """Tell that the block is at work, and since when: for a step that can't be counted."""
    with opened(Task(what)):
        yield


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Tell which stage is at work, before all that is told inside it."""
    with opened(Task(name, is_stage=True)):
        yield


@contextmanager
def opened(task: Task) -> Iterator[Task]:
    """Show a task while the block runs."""
    reporter = _reporter
    reporter.open(task)
    try:
        yield task
    finally:
        reporter.close(task)


def left_within(task: Task) -> float | None:
    """Seconds that what was opened after `task` still takes; None where it does not say."""
    with _reporter.lock:
        tasks = _reporter.tasks
        inner = tasks[tasks.index(task) + 1 :] if task in tasks else []
        times_left = (one.seconds_left(_reporter.clock()) for one in inner)
        return next((seconds for seconds in times_left if seconds is not None), None)


def advance(task: Task, count: int = 1) -> None:
    """Count what is done of an opened task."""
    _reporter.advance(task, count)
