"""Progress of a loop, for a person at a terminal.

A bar counts images, of patients too: at the terminal of whoever holds the data it tells nobody
more. Where standard error is no terminal (a log, a pipe, a job on a cluster) nothing is written,
since logs are sent on. All bars are made here but that of a study, which counts runs.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from synthdp.machine.terminal import is_watched

Item = TypeVar("Item")
_silent = False


def silence_bars() -> None:
    """Show no bars of inner loops in this process: beside other workers' they are unreadable."""
    global _silent  # noqa: PLW0603 (a property of the process, as its standard error is)
    _silent = True


def progress(items: Iterable[Item], *, what: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items`, showing a bar named `what` when standard error is a terminal."""
    hidden = _silent or not is_watched()
    yield from tqdm(items, desc=what, total=total, disable=hidden, leave=False, delay=1.0)
