"""Whether what a training begins with, or mixes in, knows the targets of its patients' set."""

from collections.abc import Sequence
from pathlib import Path

from synthdp.data.description import DatasetInfo
from synthdp.errors import InputError


def refuse_unlabelled(name: str, targets: Sequence[str], info: DatasetInfo) -> None:
    """Refuse a set to start at, called `name`, that does not know all targets.

    Names have to be equal, even of one target: drawn masses teach nothing of pneumonia.

    Raises:
        InputError: naming those that it lacks.
    """
    if lacking := [target for target in info.targets if target not in targets]:
        raise InputError(
            f"head.start: centre has to learn {', '.join(lacking)} first, and {name} has labels of "
            f"{', '.join(targets)}; name a set that has all, or set head.start=zero"
        )


def refuse_other_targets(init: Path, learned: Sequence[str], info: DatasetInfo) -> None:
    """Refuse to go on with the head of a run, `init`, that was trained for other targets.

    Raises:
        InputError: naming those that it lacks.
    """
    if lacking := [name for name in info.targets if name not in learned]:
        raise InputError(
            f"{init}: its head was trained for {', '.join(learned)}, but the data set has "
            f"{', '.join(lacking)} too; leave head.start out, or pretrain on a set that has the "
            "same targets"
        )


def refuse_nothing_shared(name: str, targets: Sequence[str], info: DatasetInfo) -> None:
    """Refuse a set to mix in, called `name`, that shares no target.

    Raises:
        InputError: with the targets of both.
    """
    if not shared_targets(info.targets, targets):
        raise InputError(
            f"synthetic: {name} has labels of {', '.join(targets)}, and {info.name} of "
            f"{', '.join(info.targets)}; name a set that shares a target"
        )


def shared_targets(names: Sequence[str], mixed: Sequence[str]) -> list[str]:
    """Which of the targets a set that is mixed in has labels of, matched by their names.

    Where both have one, it is the same, whatever they are called: class 1 of one stands for class 1
    of the other.
    """
    if len(names) == len(mixed) == 1:
        return list(names)
    return [name for name in names if name in mixed]
