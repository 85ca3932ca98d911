"""The groups of images that an assessment looks at by themselves: by target, and by attribute.

An attribute is a column of the manifest, its numbers cut at points, as in fairness tables
(`synthdp.evaluation.groups`). Images whose cell is empty are in no group.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.quality.sets import MeasuredSet, Sets
from synthdp.data.columns import UNKNOWN, cell_of, columns_of
from synthdp.evaluation.groups import groups_of_cells, sorted_groups
from synthdp.evaluation.settings import CutPoints

Array = NDArray[Any]


@dataclass(frozen=True)
class Attribute:
    """What groups are made by: a target by its place, or a column and the points that cut it."""

    name: str
    target: int | None = None
    cuts: CutPoints = None

    def groups_in(self, measured: MeasuredSet) -> Array:
        """The group of each image, (N,) of text; `unknown` where nobody knows it.

        Raises:
            InputError: when a cell that is to be cut is no number, or there are too many groups.
        """
        if self.target is not None:
            labels = measured.labels[:, self.target]
            known = [UNKNOWN if np.isnan(one) else f"{one:g}" for one in labels]
            return np.array(known, dtype=object)
        cells = [cell_of(row, self.name) for row in measured.rows]
        where = measured.dataset.info.name
        return np.array(groups_of_cells(cells, self.name, self.cuts, where=where), dtype=object)

    def lacking_in(self, measured: MeasuredSet, groups: Array) -> str:
        """Why a set says nothing of the attribute; empty where it says something of some image."""
        name = measured.dataset.info.name
        if self.target is None and self.name not in columns_of(measured.dataset):
            return f"{name} has no column {self.name}, so it says nothing of it"
        return "" if (groups != UNKNOWN).any() else f"{self.name} is unknown in all of {name}"


def attributes_of(sets: Sets, columns: Mapping[str, CutPoints] | None) -> Iterator[Attribute]:
    """The targets of an assessment, then the columns that were named."""
    for index, name in enumerate(sets.targets):
        yield Attribute(name, target=index)
    for name, cuts in (columns or {}).items():
        yield Attribute(name, cuts=cuts)


def known_groups(groups: Array) -> list[str]:
    """The groups that there are, in an order for people, without the unknown one."""
    return [name for name in sorted_groups([*groups]) if name != UNKNOWN]
