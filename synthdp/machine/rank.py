"""Which of several processes this one is, where `torchrun` started them to compute one run."""

import os
from dataclasses import dataclass

from synthdp.errors import InputError


@dataclass(frozen=True)
class Rank:
    """This process among `count`, by its `number` from 0; `local` is its number on its machine."""

    number: int = 0
    count: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether it holds the run: folder, ledger, noise and weights."""
        return self.number == 0


def own_rank() -> Rank:
    """What `torchrun` says of this process; one of one without it.

    Raises:
        InputError: when what it says is no rank.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    values = [os.environ.get(name) for name in names]
    if values[0] is None or values[1] is None:
        return Rank()
    try:
        number, count, local = (int(value or 0) for value in values)
    except ValueError:
        number, count, local = -1, 0, 0
    if not 0 <= number < count or local < 0:
        raise InputError(
            "RANK, WORLD_SIZE and LOCAL_RANK in the environment don't name one of several "
            "processes; start them by torchrun, or unset all three"
        )
    return Rank(number, count, local)


def follows() -> bool:
    """Whether another process leads, as far as the environment says: then this one is silent."""
    return "WORLD_SIZE" in os.environ and os.environ.get("RANK", "0") != "0"


def refuse_several(what: str) -> None:
    """Refuse to be one of several processes, where each would do the same.

    Raises:
        InputError: when `torchrun` started more than one.
    """
    if own_rank().count > 1:
        raise InputError(
            f"{what}: is computed by one process; start it without torchrun, which is for "
            "`synthdp finetune` with `network`"
        )
