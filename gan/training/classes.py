"""The two classes that a generator learns, of one target."""

from collections.abc import Sequence

import numpy as np

from synthdp.data.dataset import DatasetInfo, Row, targets_array
from synthdp.errors import InputError


def refuse_other_targets(info: DatasetInfo) -> None:
    """Refuse a data set with several targets.

    Raises:
        InputError: naming them.
    """
    if len(info.targets) != 1:
        raise InputError(
            f"{info.name}: has {len(info.targets)} targets ({', '.join(info.targets)}), but the "
            "generator is conditioned on one; keep one of them in a data set of its own"
        )


def refuse_missing_classes(info: DatasetInfo, rows: Sequence[Row]) -> None:
    """Refuse rows without a label, or all of one class.

    Raises:
        InputError: naming the class that is missing, or the column that lacks a label.
    """
    name = info.targets[0]
    target = targets_array(rows)[:, 0]
    if np.isnan(target).any():
        raise InputError(
            f"{info.name}: images of the train split have no label in column {name!r}; the "
            "generator needs a class for each, so leave them out"
        )
    for value in (0, 1):
        if not (target == value).any():
            raise InputError(
                f"{info.name}: no image of the train split has {name} = {value}; the "
                "generator learns two classes, so give it images of both"
            )
