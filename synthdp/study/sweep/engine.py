"""Where the runs of a study run: processes of this machine, or an existing Ray or Dask cluster.

One code path, joblib's; the engines differ in their backend alone. A worker that dies takes no
other run with it, and a cluster that goes away ends the study with what was finished standing. The
first half of this file runs in the study's own process, the second in its workers.
"""

import fcntl
import logging
import os
import socket
import tempfile
import time
import traceback
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any

from joblib import Parallel, cpu_count, delayed, parallel_config

from synthdp.errors import InputError, RunError
from synthdp.machine.processes import can_work_together
from synthdp.machine.progress import silence_bars
from synthdp.runs.folder import RunBusyError, StageCall
from synthdp.study.settings import Devices, EngineSettings
from synthdp.study.sweep import clusters
from synthdp.study.sweep.progress import state_file

log = logging.getLogger(__name__)

#: How often an idle study looks whether its cluster is still there.
LOOK_EVERY_S = 2.0
#: So many looks in a row must fail: workers that were killed take a while to start again.
LOOKS = 8


#: Runs a call with so many threads; gives its folder and, when it failed, the error.
Attempt = Callable[[StageCall, int], tuple[str, str | None]]
#: Calls that one worker makes together, since they share their work, and what scores them.
Job = tuple[StageCall, ...]
#: Runs the calls of a job with so many threads; gives what has ended each, in their order.
AttemptTogether = Callable[[Job, int], Sequence[Exception | None]]


@dataclass(frozen=True)
class Together:
    """How calls that share their work are run at once.

    jobs: lays calls together, for so many workers; attempt: runs the calls of a job of several.
    """

    jobs: Callable[[Sequence[StageCall], int], Sequence[Job]]
    attempt: AttemptTogether


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

    busy: another process is at work on the run, so nothing was done. seconds: how long it took,
    None where that is not known.
    """

    folder: str
    error: str | None = None
    busy: bool = False
    seconds: float | None = None


@dataclass(frozen=True)
class Engine:
    """An engine that is open.

    name: for errors. size: how many runs it takes at once, now. backend: joblib's settings for so
    many at once. setup: what its workers are to be like. alive: whether the cluster answers; None
    where there is none.
    """

    name: str
    size: Callable[[], int]
    backend: Callable[[int], Mapping[str, Any]]
    setup: WorkerSetup
    alive: Callable[[], bool] | None = None

    def outcomes(
        self,
        attempt: Attempt,
        calls: Sequence[StageCall],
        together: Together | None = None,
        *,
        more: Callable[[], Sequence[StageCall]] = tuple,
    ) -> Iterator[Outcome]:
        """Run the calls; yields each one's outcome as soon as it is known.

        When a worker dies, the runs that were at work are tried again job by job, and those of a
        job that kills its worker again one by one: so the one that kills its worker is found, and
        fails alone.

        Args:
            attempt: runs a call.
            calls: all that can be run at once.
            together: runs several of them at once; None: each is run by itself.
            more: asked after each outcome for calls that can be run since then. They go before
                what still waits, if any worker is still to be given something; those that it never
                gave are left to the next call of this function.

        Raises:
            RunError: when the cluster went away, or has no core left.
        """
        queue, suspects = deque(self._jobs(calls, together)), deque[Job]()
        while queue or suspects:
            alone = not queue
            if alone:
                queue.append(suspects.popleft())
            begun, done = list[Job](), set[str]()
            try:
                for outcome in self._parallel_outcomes(attempt, queue, begun, together):
                    done.add(outcome.folder)
                    yield outcome
                    if not alone:  # what a suspect may take with it is not begun beside it
                        queue.extendleft(reversed(self._jobs(more(), together)))
            except RunError:  # there is no core to run on
                raise
            except (Exception, CancelledError) as error:  # what a run raises is in its outcome
                self._refuse_lost_cluster(error)
                # joblib ends the whole batch with the worker. What had begun may be what killed it,
                # and is tried alone in the end; the rest go on at once.
                struck = [job for job in begun if job[0].folder not in done]
                if not struck and queue:
                    struck = [queue.popleft()]
                if alone and len(struck[0]) > 1:
                    suspects += [(call,) for call in struck[0]]
                elif alone:
                    yield Outcome(
                        struck[0][0].folder,
                        f"its worker process died twice ({type(error).__name__}): killed, or out "
                        "of memory; what it had saved stands",
                    )
                else:
                    log.warning(
                        "a worker process died; %d run(s) at work are tried again, one by one",
                        sum(map(len, struck)),
                    )
                    suspects += struck

    def _jobs(self, calls: Sequence[StageCall], together: Together | None) -> list[Job]:
        if together is None or not calls:
            return [(call,) for call in calls]
        return [*together.jobs(calls, self.size())]

    def _parallel_outcomes(
        self,
        attempt: Attempt,
        queue: deque[Job],
        begun: list[Job],
        together: Together | None,
    ) -> Iterator[Outcome]:
        """Run the jobs at once, from the queue to `begun`.

        A worker that has ended its job gets the first of those that wait then: so the queue may
        grow, until it is found empty.
        """

        def tasks() -> Iterator[Any]:  # in a thread of joblib's, too
            while queue:
                job = queue.popleft()
                begun.append(job)
                if together is not None and len(job) > 1:
                    yield delayed(work_together)(together.attempt, job, self.setup)
                else:
                    yield delayed(work)(attempt, job[0], self.setup)

        def run() -> Iterator[Outcome]:
            size = self.size()
            # joblib runs a single job in this very process, which a cluster is not asked for:
            # such a backend is given two, of which only one is ever at work
            n_jobs = size if self.alive is None else max(size, 2)
            # none waits in a worker's queue behind a job of many calls: what waits there is struck
            # when the worker dies
            handed_out = "2*n_jobs" if all(len(job) == 1 for job in queue) else size
            with parallel_config(**self.backend(size)):
                parallel = Parallel(
                    n_jobs=n_jobs,
                    return_as="generator_unordered",
                    batch_size=1,
                    pre_dispatch=handed_out if self.alive is None else size,
                )
                for results in parallel(tasks()):
                    yield from results

        return run() if self.alive is None else _watched(run, self.alive)

    def _refuse_lost_cluster(self, error: BaseException) -> None:
        if self.alive is not None and not _answers(self.alive):
            raise RunError(
                f"the {self.name} cluster went away ({type(error).__name__}): finished runs stand, "
                "and the same command goes on when it is back, or at once with engine=local"
            ) from error


def _answers(alive: Callable[[], bool]) -> bool:
    for look in range(LOOKS):
        if alive():
            return True
        if look + 1 < LOOKS:
            time.sleep(LOOK_EVERY_S)
    return False


def _watched(run: Callable[[], Iterator[Outcome]], alive: Callable[[], bool]) -> Iterator[Outcome]:
    """What `run` yields, from a thread of its own: a cluster that is gone may never answer it.

    Raises:
        ConnectionError: when the cluster does not answer any more.
    """
    outcomes = SimpleQueue[Outcome | BaseException | None]()

    def consume() -> None:
        try:
            for outcome in run():
                outcomes.put(outcome)
            outcomes.put(None)
        except BaseException as error:
            outcomes.put(error)

    Thread(target=consume, daemon=True).start()
    while True:
        try:
            item = outcomes.get(timeout=LOOK_EVERY_S)
        except Empty:
            if not _answers(alive):
                raise ConnectionError from None
            continue
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item


@contextmanager
def opened_engine(settings: EngineSettings) -> Iterator[Engine]:
    """Open the engine of a study.

    Raises:
        InputError: when its package is not installed or no cluster can be reached.
    """
    with ExitStack() as stack:
        if settings.engine == "local":
            yield _local(settings, stack)
        else:
            connect = clusters.connect_ray if settings.engine == "ray" else clusters.connect_dask
            cluster = connect(settings.engine_address, settings.threads, stack)
            yield Engine(
                name=settings.engine.capitalize(),
                size=lambda: workers_that_fit(
                    settings, cluster.cores(), f"the {settings.engine} cluster"
                ),
                backend=cluster.backend,
                setup=WorkerSetup(settings.threads, cluster=True, folder=str(Path.cwd())),
                alive=cluster.alive,
            )


def _local(settings: EngineSettings, stack: ExitStack) -> Engine:
    n_workers = workers_that_fit(settings, cpu_count(), "this machine")
    backend: dict[str, Any] = {"backend": "sequential"}
    if can_work_together():
        backend = {"backend": "loky", "inner_max_num_threads": min(settings.threads, cpu_count())}
    else:
        n_workers = 1
    threads = min(settings.threads, cpu_count())
    devices = device_names(settings.devices)
    slots = stack.enter_context(tempfile.TemporaryDirectory(prefix="synthdp-"))
    setup = WorkerSetup(
        threads,
        devices=tuple(devices[worker % len(devices)] for worker in range(n_workers))
        if devices
        else (),
        slots=slots,
        parent=os.getpid() if n_workers > 1 else None,
    )
    return Engine("local", lambda: n_workers, lambda _: backend, setup)


def workers_that_fit(settings: EngineSettings, cores: int, where: str) -> int:
    """How many workers of so many threads fit on the cores; says so when it is fewer than asked.

    Raises:
        RunError: when there is no core at all.
    """
    if cores < 1:
        raise RunError(f"{where} has no core left for a worker; add some and run it again")
    fit = max(1, cores // settings.threads)
    if settings.workers == "all":
        return fit
    if settings.workers * settings.threads > cores:
        n_workers = min(settings.workers, fit)
        log.warning(
            "%d worker(s) of %d thread(s) were asked for, and %s has %d core(s): %d worker(s) of "
            "%d run at once, since more would slow each other down",
            *(settings.workers, settings.threads, where, cores),
            *(n_workers, min(settings.threads, cores)),
        )
        return n_workers
    return settings.workers


def device_names(devices: Devices) -> tuple[str, ...]:
    """The names of the GPUs that local workers share, as CUDA_VISIBLE_DEVICES takes them."""
    if devices != "auto":
        return tuple(str(device) for device in devices)
    import torch  # noqa: PLC0415 (starts without the image stack)

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else map(str, range(torch.cuda.device_count()))
    return tuple(names) if torch.cuda.is_available() else ()


# In a worker process: what it does with one call, whichever engine has sent it.


def work(attempt: Attempt, call: StageCall, setup: WorkerSetup) -> list[Outcome]:
    """Run one call in a worker; whatever it raises becomes its outcome, and the rest go on."""

    def run() -> list[Outcome]:
        began = time.monotonic()
        folder, error = attempt(call, setup.threads)
        return [Outcome(folder, error, seconds=time.monotonic() - began)]

    return _outcomes(run, (call,), setup)


def work_together(attempt: AttemptTogether, job: Job, setup: WorkerSetup) -> list[Outcome]:
    """Run the calls of a job in a worker, as `work` runs one; each has an outcome of its own."""

    def run() -> list[Outcome]:
        began = time.monotonic()
        ended = attempt(job, setup.threads)
        seconds = (time.monotonic() - began) / len(job)
        return [
            Outcome(call.folder, seconds=seconds) if error is None else _failed(call, error)
            for call, error in zip(job, ended, strict=True)
        ]

    return _outcomes(run, job, setup)


def _outcomes(run: Callable[[], list[Outcome]], job: Job, setup: WorkerSetup) -> list[Outcome]:
    """What `run` gives, or the outcome of each call of the job by what it raises."""
    if setup.parent is not None and os.getppid() != setup.parent:
        raise SystemExit  # the study was killed, and a new one may be at work
    try:
        _set_up(setup)
        if setup.cluster or setup.parent is not None:
            alike = [call for call in job if call.stage == job[0].stage]
            silence_bars(state_file(job[0]), n_calls=len(alike))
        return run()
    except KeyboardInterrupt:
        if setup.parent is None and not setup.cluster:
            raise  # the study's own process
        error = "its worker process was told to stop; it can be resumed"
        return [Outcome(call.folder, error) for call in job]
    except Exception as problem:
        return [_failed(call, problem) for call in job]


def _failed(call: StageCall, problem: Exception) -> Outcome:
    """The outcome of a call that raised."""
    if isinstance(problem, RunBusyError):
        return Outcome(call.folder, busy=True)
    if isinstance(problem, InputError | RunError):
        error = str(problem)
    elif isinstance(problem, OSError):  # its own text may hold a path below a patient's folder
        error = f"a file could not be read or written: {problem.strerror or type(problem).__name__}"
    else:
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
        Thread(target=_exit_after, args=(setup.parent,), daemon=True).start()


def _exit_after(parent: int) -> None:
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
        except OSError:  # the file system keeps no locks
            stream.close()
            break
        _held.append(stream)
        return slot
    return os.getpid() % count
