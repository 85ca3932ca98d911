"""The order of things in a private stage: reserve, run, keep; and what a stop does to it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from synthdp.checkpoint import load_weights, save_weights
from synthdp.errors import InputError, RunError
from synthdp.machine.interrupts import deferred_stop
from synthdp.machine.progress import counted
from synthdp.privacy.ledger.run_ledger import Ledger

#: Given a step's number, the weights before it, and the noisy mean that it released.
Observer = Callable[[int, Tensor, Tensor], None]


def reserved_blocks(ledger: Ledger, *, state_at: int, block_steps: int) -> Iterator[range]:
    """The steps that a ledger's release has left, a block at a time; the first may be empty.

    Args:
        ledger: claimed by the run's release.
        state_at: the step that the state at hand is to go on with: 0, or a checkpoint's.
        block_steps: steps to reserve at a time.

    Guarantee: a step's number is given once, ever, and only when it stands reserved on the disk.

    Raises:
        InputError: when the state is ahead of the ledger.
    """
    yield ledger.resumed(state_at)
    while left := ledger.steps_left:
        yield ledger.reserve(min(block_steps, left))


@dataclass(frozen=True)
class Training:
    """One of the trainings whose steps are run together: what is its own.

    ledger: claimed by its run's release; state_at: the step that its state is to go on with, 0 or a
    checkpoint's; block_steps: steps to reserve at a time; keep: saves its state, to go on with the
    step of this number.
    """

    ledger: Ledger
    state_at: int
    block_steps: int
    keep: Callable[[int], None]

    def steps(self, advance: Callable[[int], None]) -> Iterator[int]:
        """The steps that its release has left, each when it stands reserved; keeps each block.

        `advance` is told of steps that a crash lost.
        """
        reached = self.state_at
        for block in reserved_blocks(
            self.ledger, state_at=self.state_at, block_steps=self.block_steps
        ):
            advance(block.start - reached)  # what a crash lost, before the first
            reached = block.stop
            yield from block
            if block:
                self.keep(block.stop)


def run_steps(
    ledger: Ledger,
    *,
    state_at: int,
    block_steps: int,
    take: Callable[[int], None],
    keep: Callable[[int], None],
    what: str = "training",
) -> None:
    """Run the steps that a ledger's release has left, as `run_steps_together` of one training.

    Args:
        ledger: as of `Training`.
        state_at: as of `Training`.
        block_steps: as of `Training`.
        take: runs the step of this number.
        keep: as of `Training`.
        what: the training's name, where progress is shown.

    Guarantee: a step's number is handed to `take` once, ever, and only when it stands reserved.

    Raises:
        InputError: when the state is ahead of the ledger.
        KeyboardInterrupt: after a clean stop.
    """
    training = Training(ledger, state_at, block_steps, keep)
    for error in run_steps_together([training], lambda at: take(at[0]), what=what).values():
        raise error


def run_steps_together(
    trainings: Sequence[Training],
    take: Callable[[Mapping[int, int]], None],
    *,
    what: str = "training",
) -> dict[int, InputError | RunError]:
    """Run the steps that the releases of several trainings have left, one of each at a time.

    A stop by Ctrl-C or SIGTERM waits for the end of a step, and the next start goes on exactly
    there. After a crash the reserved blocks are spent: each training goes on from its last
    checkpoint with the block after it, so that crashes end a training early and never exceed its
    budget. They need not be at the same step, and one that has none left is done.

    Args:
        trainings: each with a ledger of its own.
        take: runs a step of some of them: given its number by the training's index in the list.
        what: their name, where progress is shown.

    Returns:
        By index, what ended a training whose state is ahead of its ledger, or that could not
        reserve or keep its steps; the others went on.

    Guarantee: of each training a step's number is handed to `take` once, ever, and only when it
    stands reserved in that training's own ledger.

    Raises:
        KeyboardInterrupt: after a clean stop.
    """
    ended: dict[int, InputError | RunError] = {}
    n_steps = sum(one.ledger.spent_steps + one.ledger.steps_left for one in trainings)
    begun = sum(one.state_at for one in trainings)
    with (
        deferred_stop() as stop_asked,
        counted(what, total=n_steps, public_unit="steps", begun=begun) as advance,
    ):
        left = {index: one.steps(advance) for index, one in enumerate(trainings)}
        while left:
            at = dict[int, int]()
            for index, steps in list(left.items()):
                try:
                    step = next(steps, None)
                except (InputError, RunError) as error:
                    ended[index], step = error, None
                if step is None:
                    del left[index]
                else:
                    at[index] = step
            if not at:
                break
            take(at)
            advance(len(at))
            if stop_asked():
                for index, step in at.items():
                    trainings[index].keep(step + 1)
                    trainings[index].ledger.note_stop(step + 1)
                raise KeyboardInterrupt
    return ended


def run_once(
    ledger: Ledger, kept: Path, release: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """What a release of one step gave: made once, kept in a file, and read from there ever after.

    Noise that was drawn can't be drawn again, since no key is kept: what a kill took between the
    reserved step and the file is lost, and its cost is not. A stop by Ctrl-C or SIGTERM waits.

    Args:
        ledger: claimed by the run's release.
        kept: the file, in the run's private part.
        release: draws the noise; whatever takes long is better done before.

    Guarantee: `release` is called once, ever, and only when its step stands reserved.

    Raises:
        InputError: when the step is spent and the file is gone, or is there though nothing is.
        KeyboardInterrupt: after a clean stop; the file stands.
    """
    if kept.is_file() and not ledger.spent_steps:
        raise InputError(
            f"private/{kept.name}: what was released is there, but the ledger has spent nothing on "
            "it, so it is of another run; start in a new run folder"
        )
    if not kept.is_file():
        if not ledger.steps_left:
            raise InputError(
                f"private/{kept.name}: the release is spent, but what was released is gone (the "
                "run was killed just then, or the file was deleted), and a second release would "
                "cost again; start in a new run folder, which is counted beside this one"
            )
        with deferred_stop() as stop_asked:
            ledger.reserve(1)
            save_weights(kept, release())
            if stop_asked():
                raise KeyboardInterrupt
    return load_weights(kept)
