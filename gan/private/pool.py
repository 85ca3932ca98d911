"""The public pool that a private generator selects from: data sets without patients."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dataset import Dataset, Row, open_dataset
from synthdp.errors import InputError


@dataclass(frozen=True)
class Pool:
    """The candidates: sets without patients, and their rows of known class.

    members: each set with its rows; labels: (N,) of 0 and 1, over all members in order.
    """

    members: tuple[tuple[Dataset, tuple[Row, ...]], ...]
    labels: NDArray[np.int64]


def open_pool(paths: Sequence[Path], target: str, images: int) -> Pool:
    """The pool that settings name; reads manifests alone.

    Args:
        paths: data sets.
        target: what class 1 is.
        images: how many of each class will be kept.

    Raises:
        InputError: when a set holds patients or lacks the target, or a class has too few candidates
            or none.
    """
    members, labels = [], list[float]()
    for path in paths:
        dataset = open_dataset(path)
        info = dataset.info
        if info.protects_patients:
            raise InputError(
                f"selection.pool: {info.name} holds patients, whose images would be kept as they "
                "are; name phantom or synthetic sets"
            )
        if target not in info.targets:
            raise InputError(
                f"selection.pool: {info.name} has no target {target!r} (it has: "
                f"{', '.join(info.targets)}); name a set of the same target"
            )
        column = info.targets.index(target)
        rows = tuple(row for row in dataset.split("train") if row.targets[column] in {0, 1})
        members.append((dataset, rows))
        labels += [row.targets[column] for row in rows]
    of_each = np.array(labels, dtype=np.int64)
    for value in (0, 1):
        count = int((of_each == value).sum())
        if count < images:
            has = f"{count:,} candidates have" if count else "no candidate has"
            raise InputError(
                f"selection.pool: {has} {target} {value}, and {images:,} are to be kept of each "
                "class (selection.images); add a set that has more, such as `synthdp data phantoms "
                f"patients={4 * images}`, or keep fewer"
            )
    return Pool(tuple(members), of_each)
