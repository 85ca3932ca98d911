"""Standard output and standard error of any kind: ASCII, closed, a broken pipe, a full disk."""

import io
import logging
import os
import select
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress


def accept_any_text() -> None:
    """Write what the streams' encoding does not have as escapes, such as names in an ASCII log."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


#: What hides whatever is drawn at the foot of the terminal while a line is written.
_hidden: Callable[[], AbstractContextManager[object]] = nullcontext


def hide_while_writing(hidden: Callable[[], AbstractContextManager[object]]) -> None:
    """Let `hidden` give the context in which lines are written: bars are drawn again after it."""
    global _hidden  # noqa: PLW0603 (a property of the process, as its standard error is)
    _hidden = hidden


def is_watched() -> bool:
    """Whether standard error is a terminal, with somebody before it."""
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def tell(text: str) -> None:
    """Write a line to standard error, where there is one that takes it."""
    if sys.stderr is not None:
        # a closed or broken stream: the exit code says it too
        with suppress(OSError, ValueError), _hidden():
            print(text, file=sys.stderr, flush=True)


class ToldLines(logging.Handler):
    """Log records as lines of standard error, above the bars that may stand there.

    Those with exact figures of patients (`for_the_holder`) are written to a terminal alone. What
    libraries note of their own work is not written: it helps no user, and may name files.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said = set[str]()
        self.addFilter(lambda record: record.levelno >= logging.WARNING or _is_own(record.name))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one, or what may be said in its place."""
        elsewhere = getattr(record, _ELSEWHERE, "")
        if not elsewhere or is_watched():
            tell(self.format(record))
        elif elsewhere not in self._said:
            self._said.add(elsewhere)
            tell(f"exact figures of patients are shown at a terminal alone; {elsewhere}")


def _is_own(logger: str) -> bool:
    return logger.partition(".")[0] in ("synthdp", "gan", "classify")


#: The attribute of a log record with exact figures of patients.
_ELSEWHERE = "elsewhere"


def for_the_holder(elsewhere: str) -> dict[str, str]:
    """The `extra` of a log call about exact figures of patients: a log may be sent on.

    Args:
        elsewhere: where they are to be found, or what may be said without them.
    """
    return {_ELSEWHERE: elsewhere}


def flush() -> None:
    """Write out what was printed.

    Raises:
        OSError: when it can't be written; BrokenPipeError when nobody reads any more.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def has_no_reader() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(state & select.POLLERR for _, state in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # there is none, or it is no stream of the system
        return False


def let_go_of_output() -> None:
    """Drop what can't be written, which the end of the process would try once more."""
    with suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
