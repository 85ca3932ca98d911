"""Decoders in other languages that write to the terminal, kept from doing so."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_STDERR = 2
_one_at_a_time = Lock()  # the terminal is the process's, and is to be given back to it


@contextmanager
def unheard() -> Iterator[None]:
    """Let nothing that is written to the process's standard error in the block be seen.

    A decoder in Rust prints where in its own code it gave up, which helps nobody with a file.
    """
    with _one_at_a_time:
        try:
            shown = os.dup(_STDERR)
        except OSError:  # a process without one
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(nowhere, _STDERR)
            yield
        finally:
            os.dup2(shown, _STDERR)
            os.close(shown)
            os.close(nowhere)
