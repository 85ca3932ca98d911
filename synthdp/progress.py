"""Progress bars for a person at a terminal; silence everywhere else."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], *, what: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items`, showing a bar named `what` when standard error is a terminal."""
    bar = tqdm(
        items, desc=what, total=total, disable=not sys.stderr.isatty(), leave=False, delay=1.0
    )
    yield from bar
