"""How progress is shown: bars in a terminal, a widget in a notebook, else lines.

SYNTHDP_PROGRESS=bars, lines or off chooses another way than the one that fits standard error.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from synthdp.errors import InputError, quoted
from synthdp.machine import terminal
from synthdp.machine.progress_task import Task, duration_words

#: Seconds that a task lasts before anything is said of it; those between two lines.
FIRST_S, EVERY_S = 2.0, 30.0
#: Seconds that a task lasts before it has a bar.
_BAR_AFTER_S = 1.0
#: Seconds between two writings of a worker's state.
_FILE_EVERY_S = 5.0
#: Columns below which a bar has no room; columns and rows of a terminal that does not say.
_NARROW, _UNKNOWN_COLUMNS, _ROWS = 60, 40, 20
ENVIRONMENT = "SYNTHDP_PROGRESS"
_WAYS = ("bars", "lines", "off")


class Display(Protocol):
    """Where open tasks are shown; `needs_a_thread`: whether it may be called by one."""

    needs_a_thread: bool

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Show these, outermost first; called often, and writes when something is due."""

    def end(self, task: Task, now: float) -> None:
        """A task has ended."""

    def close(self) -> None:
        """All have ended."""


class Nothing:
    """Shows nothing."""

    needs_a_thread = False

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Show nothing."""

    def end(self, task: Task, now: float) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


def line_of(tasks: Sequence[Task], now: float) -> str:
    """All open tasks in one line: "finetune: features of mine, 35 %, about 2 min left".

    A stage that has nothing open says since when it is at work.
    """
    stages, inner = list[str](), list[str]()
    for task in tasks:
        if not task.is_stage:
            inner.append(task.line(now))
        elif task is tasks[-1] and not inner:
            return ": ".join([*stages, task.line(now)])
        elif inner:
            inner.append(f"{task.what}:")
        else:
            stages.append(task.what)
    return ": ".join([*stages, "; ".join(inner).replace(":; ", ": ").rstrip(":")])


class Lines:
    """A line when something has begun to last, and one every half minute."""

    needs_a_thread = True

    def __init__(self) -> None:
        self._last_line_at = 0.0
        self._begun, self._announced = set[str](), set[Task]()

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Write a line when one is due."""
        last = tasks[-1]
        begins = now - last.began >= FIRST_S and last.what not in self._begun
        if begins or (self._begun and now - self._last_line_at >= EVERY_S):
            self._last_line_at = now
            self._begun |= {task.what for task in tasks}
            self._announced |= set(tasks)
            terminal.tell(line_of(tasks, now))

    def end(self, task: Task, now: float) -> None:
        """Say that a task is done that was long enough to be told of twice."""
        if task in self._announced and not task.is_stage and now - task.began >= EVERY_S:
            terminal.tell(f"{task.what}: ended after {duration_words(now - task.began)}")
            self._last_line_at = now
        self._announced.discard(task)

    def close(self) -> None:
        """Nothing is left over."""


class Bars:
    """A bar for each task that lasts, one below the other, which go when it ends."""

    needs_a_thread = True

    def __init__(self) -> None:
        self._bars: dict[Task, Any] = {}
        terminal.hide_while_writing(_hidden_bars)

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Draw the bars anew."""
        for task in tasks:
            if task not in self._bars and now - task.began >= _BAR_AFTER_S:
                self._bars[task] = self._bar(task, now)
        for task in tasks:
            if task in self._bars:
                self._draw(self._bars[task], task, now)

    def end(self, task: Task, now: float) -> None:
        """Take its bar away."""
        bar = self._bars.pop(task, None)
        if bar is not None:
            bar.close()

    def close(self) -> None:
        """Take every bar away."""
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()

    def _bar(self, task: Task, now: float) -> Any:
        from tqdm import tqdm  # noqa: PLC0415 (the command line starts without it)

        bar = tqdm(
            total=task.total,
            initial=task.begun,
            desc=task.what,
            unit=f" {task.public_unit}" if task.public_unit else "it",
            ncols=columns(),
            nrows=_ROWS,
            file=sys.stderr,
            leave=False,
            delay=1e-9,  # nothing is drawn before its clock is set
        )
        bar.start_t -= now - task.began
        return bar

    def _draw(self, bar: Any, task: Task, now: float) -> None:
        bar.ncols = columns()
        bar.bar_format = _bar_format(task, bar.ncols)
        bar.n = task.begun + task.done
        left = task.seconds_left(now)
        words = [] if left is None else [f"about {duration_words(left)} left"]
        if task.note is not None and (note := task.note()):
            words.append(note)
        bar.set_postfix_str(", ".join(words), refresh=False)
        bar.last_print_t = max(bar.last_print_t, bar.start_t + 1)  # so that its end wipes it
        bar.refresh()


def _bar_format(task: Task, n_columns: int) -> str:
    if task.total is None:
        return "{desc} [{elapsed}]"
    if n_columns < _NARROW:
        return "{percentage:3.0f}% [{elapsed}<{remaining}] {desc}"
    return "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


def columns() -> int:
    """The width of the terminal behind standard error; a small one where it does not say."""
    with suppress(OSError, ValueError, AttributeError):
        width = os.get_terminal_size(sys.stderr.fileno()).columns
        if width > 0:
            return width
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else _UNKNOWN_COLUMNS


def _hidden_bars() -> Any:
    """A context in which no bar is drawn, so that a line of text may be written above them."""
    from tqdm import tqdm  # noqa: PLC0415 (as above)

    return tqdm.external_write_mode(file=sys.stderr)


#: A notebook is kept and sent on with what its cells showed: no number of private images.
_WIDGET_FORMAT = "{desc} {percentage:.0f} % {bar} [{elapsed}<{remaining}]"


class Widget(Bars):
    """The bars of a notebook; drawn by the cell itself, since widgets belong to its thread."""

    needs_a_thread = False

    def __init__(self) -> None:
        self._bars = {}
        self._drawn_at = 0.0

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Draw them, twice a second."""
        if now - self._drawn_at >= 0.5:
            self._drawn_at = now
            super().show(tasks, now)

    def _bar(self, task: Task, now: float) -> Any:
        from tqdm.notebook import tqdm  # noqa: PLC0415 (needs IPython)

        return tqdm(
            total=task.total if task.public_unit or not task.total else 100,
            desc=task.what,
            leave=False,
            bar_format="{desc} {bar} [{elapsed}]" if task.total is None else _WIDGET_FORMAT,
        )

    def _draw(self, bar: Any, task: Task, now: float) -> None:
        count = task.begun + task.done
        bar.n = count if task.public_unit or not task.total else 100 * count // task.total
        bar.refresh()


class FileDisplay:
    """The state of a worker in a file, for the study that waits for it: no private number."""

    needs_a_thread = True

    def __init__(self, path: Path, n_calls: int = 1) -> None:
        self._path, self._n_calls, self._written_at = path, n_calls, float("-inf")

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Write it, now and then."""
        if now - self._written_at < _FILE_EVERY_S:
            return
        self._written_at = now
        left = next((s for task in tasks if (s := task.seconds_left(now)) is not None), None)
        inner = [task for task in tasks if not task.is_stage]
        state = {
            "doing": line_of(inner, now) if inner else "",
            "for_s": now - tasks[0].began,
            "left_s": left,
            "calls": self._n_calls,
            "at": time.time(),
        }
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(state), encoding="utf-8")
            new.replace(self._path)

    def end(self, task: Task, now: float) -> None:
        """What comes next is written in time."""

    def close(self) -> None:
        """Take the file away."""
        self._written_at = float("-inf")
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def chosen_display() -> Display:
    """The way that fits where standard error goes, or the one that the environment asks for.

    Raises:
        InputError: when the environment asks for a way that there is not.
    """
    asked = os.environ.get(ENVIRONMENT, "")
    if asked not in ("", *_WAYS):
        raise InputError(f"{ENVIRONMENT}: {quoted(asked)}: say {', '.join(_WAYS)}, or nothing")
    if asked == "off":
        return Nothing()
    if asked == "bars":
        return Bars()
    if asked != "lines":
        if _in_notebook():
            return Widget() if find_spec("ipywidgets") else _NotebookLines()
        if terminal.is_watched() and os.environ.get("TERM", "") not in ("dumb", "unknown"):
            return Bars()
    return Lines()


class _NotebookLines(Lines):
    """Lines, written by the cell itself."""

    needs_a_thread = False


def _in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None
