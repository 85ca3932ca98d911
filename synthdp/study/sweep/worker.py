"""What a worker process of a study does with one call, whichever engine has sent it."""

import fcntl
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

from synthdp.errors import InputError
from synthdp.progress import silence_bars
from synthdp.runs import RunBusyError, StageCall

#: Runs a call with so many threads; gives its folder and, when it failed, the error.
Attempt = Callable[[StageCall, int], tuple[str, str | None]]


@dataclass(frozen=True)
class Place:
    """What a worker is told of where it runs.

    devices: one for each local worker, empty without GPUs. slots: a folder in which local workers
    agree on who has which. parent: the study's process, whose end ends its local workers.
    cluster: whether the worker is of a cluster. folder: where relative paths begin.
    """

    threads: int
    devices: tuple[str, ...] = ()
    slots: str = ""
    parent: int | None = None
    cluster: bool = False
    folder: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a call: its error (None: it is finished), and how long it took.

    busy: another process is at work on the run, so nothing was done.
    """

    folder: str
    error: str | None = None
    seconds: float = 0.0
    busy: bool = False


def work(attempt: Attempt, call: StageCall, place: Place) -> Outcome:
    """Run one call in a worker; whatever it raises becomes its outcome, and the rest go on."""
    if place.parent is not None and os.getppid() != place.parent:
        raise SystemExit  # the study was killed, and a new one may be at work
    began = time.monotonic()
    try:
        _settle(place)
        folder, error = attempt(call, place.threads)
    except KeyboardInterrupt:
        if place.parent is None and not place.cluster:
            raise  # the study's own process
        folder, error = call.folder, "its worker process was told to stop; it can be resumed"
    except RunBusyError:
        return Outcome(call.folder, busy=True)
    except InputError as problem:
        folder, error = call.folder, str(problem)
    except OSError as problem:  # its own text may hold a path below a patient's folder
        folder = call.folder
        error = f"a file could not be read or written: {problem.strerror or type(problem).__name__}"
    except Exception as problem:
        folder, error = call.folder, _unexpected(problem)
    return Outcome(folder, error, time.monotonic() - began)


def _unexpected(problem: Exception) -> str:
    """What was raised and where; its own text may hold anything, a patient's id too."""
    last = traceback.extract_tb(problem.__traceback__)[-1]
    place = "/".join(Path(last.filename).parts[-2:])
    return f"unexpected {type(problem).__name__} at {place}, line {last.lineno}"


_settled: Place | None = None
_held: list[IO[str]] = []


def _settle(place: Place) -> None:
    """Prepare this process, once for each study: its device, its threads, its folder."""
    global _settled  # noqa: PLW0603 (a state of the process)
    if place.cluster:
        _enter(place.folder)
    if _settled == place:
        return
    _settled = place
    if place.devices:
        slot = claim_slot(Path(place.slots), len(place.devices))
        os.environ["CUDA_VISIBLE_DEVICES"] = place.devices[slot]
    if place.cluster:
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 (loky sets its own limits)

        threadpool_limits(place.threads)
    if place.parent is not None:
        Thread(target=_end_with, args=(place.parent,), daemon=True).start()
    if place.cluster or place.parent is not None:
        silence_bars()


def _end_with(parent: int) -> None:
    """End this process when the study's was killed, so that a new study need not wait for it."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)  # as a kill would: every loop can be ended at any line


def _enter(folder: str) -> None:
    """Go where the study's relative paths begin.

    Raises:
        InputError: when the worker's machine has no such folder.
    """
    if Path.cwd() == Path(folder):
        return
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputError(
            f"the worker on {socket.gethostname()} does not see the folder that the study was "
            "started in; start it in one that all machines share"
        ) from error


def claim_slot(folder: Path, count: int) -> int:
    """A number below `count` that no other living process of the folder holds.

    It is held until the process ends, however it ends; where all are held, it is a shared one.
    """
    for slot in range(count):
        stream = open(folder / f"slot-{slot}", "a", encoding="utf-8")  # noqa: SIM115 (held)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            continue
        _held.append(stream)
        return slot
    return os.getpid() % count
