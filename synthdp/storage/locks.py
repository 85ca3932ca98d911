"""Locks between processes: those of the file system, or a file that one process alone can make.

`flock` goes with the process that holds it, however that ends, and is taken wherever there is one.
Some network and user-space file systems have none. There a lock is a file beside the locked one,
made with O_EXCL, which those file systems keep to be made once; it holds the name of its owner.
Nobody takes it over when its owner seems to be gone: to look and to remove are two steps, between
which another may do both, and then two would hold it. So a lock that a killed process left is
refused with its name, and whoever knows that nobody is at work removes it. Where `flock` works such
a file is honoured too: another machine may see the same folder without it.
"""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from synthdp.errors import RunError

#: What a file system without locks says; the last is of those that make `flock` of POSIX locks, as
#: NFSv4: what can't be opened for writing, such as a folder, can't be locked there.
WITHOUT_LOCKS = (
    *(errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL),
    errno.EBADF,
)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_ENDING = ".owner"
_MAX_OWNER_BYTES = 200
#: How long a lock is waited for that is taken for moments, and how often it is looked for.
_PATIENCE_S, _PAUSE_S = 60.0, 0.05


def owner_words() -> str:
    """This process, for people."""
    return f"process {os.getpid()} on {socket.gethostname()}"


@contextmanager
def locked(stream: IO[Any], *, shared: bool = False, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of an open file for the block.

    Args:
        stream: the file, whose name decides; of a path that stands still.
        shared: with others who share it.
        wait: until it is free; else the block gets False at once where another process holds it.

    Raises:
        OSError: when there are no locks, and what is to be shared for long can't be.
        RunError: when a lock that is a file was waited for in vain.
    """
    beside = Path(f"{stream.name}{_ENDING}")
    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(stream, kind)
    except BlockingIOError:
        yield False
        return
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS or (shared and not wait):
            raise
        made = _made(beside, wait=wait, reading=shared)
    else:
        try:
            yield _is_free(beside, wait=wait)
        finally:
            fcntl.flock(stream, fcntl.LOCK_UN)
        return
    try:
        yield made is not False
    finally:
        if made:
            with suppress(FileNotFoundError):
                beside.unlink()


def owner_of(stream: IO[Any]) -> str:
    """Who holds a lock that is a file; empty where there is none."""
    return _owner_in(Path(f"{stream.name}{_ENDING}"))


def _owner_in(path: Path) -> str:
    """What a file that is a lock says of its owner; empty where it is gone, or another user's."""
    with suppress(OSError), open(path, "rb") as file:
        return file.read(_MAX_OWNER_BYTES).decode(errors="replace").strip()
    return ""


def _made(path: Path, *, wait: bool, reading: bool) -> bool | None:
    """Whether the file that is a lock was made, once nobody else had it; None without one.

    A reader of a folder that can't be written does without: nobody writes to it from here, and what
    is read while another machine does so is refused by its digests.
    """
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            if not wait:
                return False
            _refuse_late(path, until)
        except OSError as error:
            if reading and error.errno in _READ_ONLY:
                return None
            raise
        else:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file, suppress(OSError):
                file.write(f"{owner_words()}\n")
            return True


def _is_free(path: Path, *, wait: bool) -> bool:
    """Whether no other machine holds the lock as a file, once it has been let go."""
    until = time.monotonic() + _PATIENCE_S
    while path.exists():
        if not wait:
            return False
        _refuse_late(path, until)
    return True


def _refuse_late(path: Path, until: float) -> None:
    """Wait a moment; from `until` on, refuse what is still there."""
    if time.monotonic() > until and path.exists():
        raise RunError(
            f"{path.name}: the lock of {_owner_in(path) or 'another process'}; wait for that one "
            "to end, or remove the file if it has ended (the file system has no locks that go with "
            "a process)"
        )
    time.sleep(_PAUSE_S)
