"""Work on many parts, by several processes, handed back in the order of the parts."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from synthdp.machine.processes import can_work_together

Part = TypeVar("Part")
Result = TypeVar("Result")
#: Parts that a process must have to be worth its start.
_PARTS_A_WORKER = 4
#: How long processes stay, with what they hold, when all is done.
_IDLE_S = 20


def in_order(
    work: Callable[[Part], Result], parts: Sequence[Part], *, workers: int | None = None
) -> Iterator[Result]:
    """What `work` gives for each part, one after another; few results wait at once.

    Args:
        work: a function of a module, on one thread.
        parts: what it is called with.
        workers: processes at once; None takes all cores, but no more than the parts are worth.
    """
    from joblib import (  # noqa: PLC0415 (statements and settings need none)
        Parallel,
        cpu_count,
        delayed,
        parallel_config,
    )

    wanted = cpu_count() if workers is None else workers
    if workers is None:
        wanted = min(wanted, len(parts) // _PARTS_A_WORKER)
    if wanted <= 1 or not can_work_together():
        yield from map(work, parts)
        return
    settings = {"inner_max_num_threads": 1, "idle_worker_timeout": _IDLE_S}
    with parallel_config(backend="loky", **settings):
        jobs = Parallel(n_jobs=wanted, return_as="generator", batch_size=1, pre_dispatch="3*n_jobs")
        yield from jobs(delayed(work)(part) for part in parts)
