"""Ctrl-C and SIGTERM: taken as one, and held back where a stop must be clean."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def handled(signals: tuple[signal.Signals, ...], handler: Handler) -> Iterator[None]:
    """Let `handler` take these signals, save those that are ignored, as Ctrl-C is under nohup.

    Outside the main thread nothing changes: signals are the main thread's.
    """
    taken = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    try:
        previous = {number: signal.signal(number, handler) for number in taken}
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, as Ctrl-C does."""
    raise KeyboardInterrupt


@contextmanager
def deferred_stop() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether a stop was asked for; a second request stops at once."""
    asked = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    with handled((signal.SIGINT, signal.SIGTERM), note):
        yield lambda: asked
