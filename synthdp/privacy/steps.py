"""The order of things in a private training: reserve, run, keep; and what a stop does to it."""

from collections.abc import Callable

from torch import Tensor

from synthdp.interrupts import deferred_stop
from synthdp.privacy.ledger import Ledger

#: Given a step's number, the weights before it, and the noisy mean that it released.
Observer = Callable[[int, Tensor, Tensor], None]


def run_steps(
    ledger: Ledger,
    *,
    state_at: int,
    block_steps: int,
    take: Callable[[int], None],
    keep: Callable[[int], None],
) -> None:
    """Run the steps that a ledger's release has left.

    A stop by Ctrl-C or SIGTERM waits for the end of a step, and the next start goes on exactly
    there. After a crash the reserved block is spent: the training goes on from its last checkpoint
    with the block after it, so that crashes end a training early and never exceed its budget.

    Args:
        ledger: claimed by the run's release.
        state_at: the step that the state at hand is to go on with: 0, or a checkpoint's.
        block_steps: steps to reserve at a time.
        take: runs the step of this number.
        keep: saves the state, to go on with the step of this number.

    Guarantee: a step's number is handed to `take` once, ever, and only when it stands reserved.

    Raises:
        InputError: when the state is ahead of the ledger.
        KeyboardInterrupt: after a clean stop.
    """
    with deferred_stop() as stop_asked:
        block = ledger.resumed(state_at)
        while True:
            for step in block:
                take(step)
                if stop_asked():
                    keep(step + 1)
                    ledger.note_stop(step + 1)
                    raise KeyboardInterrupt
            if block:
                keep(block.stop)
            left = ledger.steps_left
            if not left:
                return
            block = ledger.reserve(min(block_steps, left))
