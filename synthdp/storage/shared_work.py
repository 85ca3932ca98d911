"""Work in parts that processes share: each takes a part that nobody is at.

A part is locked while it is made, and the lock goes with its process, however that ends: whoever
comes to the part of a process that was killed makes it. What a part leaves must be whole or absent
(`synthdp.storage.files.write_atomic`).
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from synthdp.machine.progress import at_work, progress
from synthdp.storage.locks import WITHOUT_LOCKS


def make_parts(
    folder: Path, names: Sequence[str], make: Callable[[int], None], *, what: str
) -> None:
    """Make the files of a folder that are not there, beside other processes that do the same.

    Where the file system has no locks, several may make one part.

    Args:
        folder: that is there.
        names: of the files, one a part; each is made by one process, and looked at by its name.
        make: makes part i, so that its file is whole or absent.
        what: is made, for the progress bar.

    Raises:
        OSError: when the folder can't be written, or was removed meanwhile.
    """
    left = [part for part, name in enumerate(names) if not (folder / name).exists()]
    while left:
        taken = []
        for part in progress(left, what=what):
            if (folder / names[part]).exists():
                continue
            with _claimed(folder / f".{names[part]}.lock", wait=False) as mine:
                if not mine:
                    taken.append(part)
                elif not (folder / names[part]).exists():
                    make(part)
        if taken:  # the last ones of others: their end is waited for, or they are taken over
            with (
                at_work(f"{what}: a part that another process is at"),
                _claimed(folder / f".{names[taken[0]]}.lock", wait=True),
            ):
                pass
        left = taken


def remove_locks(folder: Path) -> None:
    """Remove the files by which parts were locked, once all of them are there."""
    for path in folder.glob(".*.lock"):
        path.unlink(missing_ok=True)


@contextmanager
def _claimed(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a part for the block; False where another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        mine = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            mine = False
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
        yield mine
    finally:
        os.close(descriptor)
