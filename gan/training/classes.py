"""The classes that a generator learns: two of one target, or two of each of several."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dataset import Row
from synthdp.data.description import DatasetInfo
from synthdp.errors import InputError


def chosen_targets(info: DatasetInfo, asked: Sequence[str] | None) -> dict[str, int]:
    """The targets that a generator is conditioned on, each with its place among the set's.

    Args:
        info: of the data set.
        asked: their names; all of the set's, where None.

    Raises:
        InputError: when the set has no such target.
    """
    if unknown := [name for name in asked or () if name not in info.targets]:
        raise InputError(
            f"targets: {info.name} has no target {', '.join(unknown)} (it has: "
            f"{', '.join(info.targets)})"
        )
    return {name: info.targets.index(name) for name in asked or info.targets}


def refuse_several(targets: Mapping[str, int], asker: str) -> None:
    """Refuse several targets where `asker` knows the two classes of one.

    Raises:
        InputError: naming them, and the mend.
    """
    if len(targets) > 1:
        raise InputError(
            f"{asker} knows one target, not {len(targets)} ({', '.join(targets)}); name one, as "
            f"in targets: [{next(iter(targets))}], or train arch: haar by method: adversarial "
            "or embedding, which take several"
        )


def labels_array(rows: Sequence[Row], targets: Mapping[str, int]) -> NDArray[np.float64]:
    """Labels 1, 0, or nan where unknown: (N,) of one target, (N, T) of several."""
    by_row = [[row.targets[column] for column in targets.values()] for row in rows]
    labels = np.array(by_row, dtype=np.float64).reshape(len(rows), len(targets))
    return labels[:, 0] if len(targets) == 1 else labels


def refuse_missing_classes(
    info: DatasetInfo, rows: Sequence[Row], targets: Mapping[str, int]
) -> None:
    """Refuse rows all of one class, and, of a single target, rows without a label.

    Of several targets an unknown label is left out by itself.

    Raises:
        InputError: naming the class that is missing, or the column that lacks a label.
    """
    for name, column in targets.items():
        target = labels_array(rows, {name: column})
        if len(targets) == 1 and np.isnan(target).any():
            raise InputError(
                f"{info.name}: images of the train split have no label in column {name!r}; the "
                "generator needs a class for each, so leave them out"
            )
        for value in (0, 1):
            if not (target == value).any():
                mend = "give it images of both"
                if len(targets) > 1:
                    mend += ", or name the other findings in `targets`"
                raise InputError(
                    f"{info.name}: no image of the train split has {name} = {value}; the "
                    f"generator learns two classes, so {mend}"
                )
