"""Who works on a study: the plain command alone, or shards together; the rest are refused.

Locks are the kernel's, so that they end with their process, however it ends.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from synthdp.files import refused_when_full
from synthdp.runs import RunBusyError, open_run, take_lock
from synthdp.study.engine import WHERE_IT_RUNS
from synthdp.study.grid import GridRow
from synthdp.study.settings import StudySettings

#: Shards that begin at once open the study one after the other; each takes milliseconds.
_OPEN_WITHIN_S = 60.0


@contextmanager
def claimed(out: Path, *, shared: bool) -> Iterator[None]:
    """Claim the study at `out`: for this process alone, or with other shards.

    Raises:
        RunBusyError: when another process has it, and does not share it.
    """
    with refused_when_full():
        out.mkdir(parents=True, exist_ok=True)
        (out / ".study.lock").touch()
    with open(out / ".study.lock", "a+", encoding="utf-8") as lock:
        try:
            take_lock(lock, out, shared=shared)
        except RunBusyError as error:
            why = (
                "the plain command is at work there and takes every run, so no shard is needed"
                if shared
                else "nothing was started; to share the work, start all of them with --shard i/n"
            )
            raise RunBusyError(f"{error}; {why}; finished runs stand") from error
        yield


def joined(settings: StudySettings) -> bool:
    """Open the study as one shard of several, or make it; returns whether it is finished.

    Raises:
        InputError: when it was started with other settings.
        RunBusyError: when another process does not let go of it.
    """
    give_up = time.monotonic() + _OPEN_WITHIN_S
    while True:
        try:
            with open_run(settings.out, "study", settings, free=WHERE_IT_RUNS) as run:
                finished: bool = run.finished
                return finished
        except RunBusyError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)


def part_of(rows: Sequence[GridRow], index: int, n_parts: int) -> list[GridRow]:
    """The rows of shard `index` (from 0): models in the order of their hashes, dealt out in turn.

    Every model is in one shard; a run that models of several shards start from is made by
    whichever needs it first, and the others wait.
    """
    models = sorted({row.calls[-1].folder for row in rows})
    own = set(models[index::n_parts])
    return [row for row in rows if row.calls[-1].folder in own]
