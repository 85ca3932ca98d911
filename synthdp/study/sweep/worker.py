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
class WorkerSetup:
    """What a worker process is to be like.

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
    """What became of a call: its error, or None when it is finished.

    busy: another process is at work on the run, so nothing was done.
    """

    folder: str
    error: str | None = None
    busy: bool = False


def work(attempt: Attempt, call: StageCall, setup: WorkerSetup) -> Outcome:
    """Run one call in a worker; whatever it raises becomes its outcome, and the rest go on."""
    if setup.parent is not None and os.getppid() != setup.parent:
        raise SystemExit  # the study was killed, and a new one may be at work
    try:
        _set_up(setup)
        return Outcome(*attempt(call, setup.threads))
    except KeyboardInterrupt:
        if setup.parent is None and not setup.cluster:
            raise  # the study's own process
        error = "its worker process was told to stop; it can be resumed"
    except RunBusyError:
        return Outcome(call.folder, busy=True)
    except InputError as problem:
        error = str(problem)
    except OSError as problem:  # its own text may hold a path below a patient's folder
        error = f"a file could not be read or written: {problem.strerror or type(problem).__name__}"
    except Exception as problem:
        # what was raised and where: its own text may hold anything, a patient's id too
        last = traceback.extract_tb(problem.__traceback__)[-1]
        file = "/".join(Path(last.filename).parts[-2:])
        error = f"unexpected {type(problem).__name__} at {file}, line {last.lineno}"
    return Outcome(call.folder, error)


_setup: WorkerSetup | None = None
_held: list[IO[str]] = []


def _set_up(setup: WorkerSetup) -> None:
    """Prepare this process, once for each study: its device, its threads, its folder.

    Raises:
        InputError: when the worker's machine does not have the study's folder.
    """
    global _setup  # noqa: PLW0603 (a state of the process)
    if setup.cluster and Path.cwd() != Path(setup.folder):
        try:
            os.chdir(setup.folder)
        except OSError as error:
            raise InputError(
                f"the worker on {socket.gethostname()} does not see the folder that the study was "
                "started in; start it in one that all machines share"
            ) from error
    if _setup == setup:
        return
    _setup = setup
    if setup.devices:
        slot = claim_slot(Path(setup.slots), len(setup.devices))
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.devices[slot]
    if setup.cluster:
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 (loky sets its own limits)

        threadpool_limits(setup.threads)
    if setup.parent is not None:
        Thread(target=_end_with, args=(setup.parent,), daemon=True).start()
    if setup.cluster or setup.parent is not None:
        silence_bars()


def _end_with(parent: int) -> None:
    """End this process when the study's was killed, so that a new study need not wait for it."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)  # as a kill would: every loop can be ended at any line


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
