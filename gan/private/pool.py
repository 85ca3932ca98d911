"""The public pool that a private generator selects from: data sets without patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gan.package.conditions import Conditions, combinations_of, public_conditions
from gan.settings.train import TrainGanSettings
from synthdp.data.dataset import Dataset, Row, open_dataset
from synthdp.data.manifest.contract import FIXED_COLUMNS
from synthdp.data.manifest.tables import read_table
from synthdp.errors import InputError


@dataclass(frozen=True)
class Pool:
    """The candidates: sets without patients, and their rows of known class and conditions.

    members: each set with its rows; labels: (N,) of 0 and 1, over all members in order; conditions:
    what is known of a candidate beside the class, and how often each combination is kept, as a
    share of the images of either class; combinations: (N,) which of these a candidate is, all 0
    where there are no conditions.
    """

    members: tuple[tuple[Dataset, tuple[Row, ...]], ...]
    labels: NDArray[np.int64]
    conditions: Conditions
    combinations: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share (G,) of each combination."""
        return np.array([one.share for one in self.conditions.prior[0]] or [1.0])

    @property
    def values(self) -> NDArray[np.int64]:
        """The value (G, A) from 0 of each condition in each combination; (1, 0) of none."""
        codes = [one.codes for one in self.conditions.prior[0]] or [()]
        return np.array(codes, dtype=np.int64).reshape(len(codes), -1) - 1


def open_pool(
    paths: Sequence[Path],
    target: str,
    images: int,
    conditions: Sequence[str] = (),
    shares: Mapping[str, Mapping[str, float]] | None = None,
) -> Pool:
    """The pool that settings name; reads manifests alone, and of no patient.

    Args:
        paths: data sets.
        target: what class 1 is.
        images: how many of each class will be kept.
        conditions: columns of the sets' manifests that images are kept and drawn by.
        shares: by condition, a public weight for each of its values that are drawn; all values of
            the pool, as often as each other, where there are none.

    Raises:
        InputError: when a set is named twice, holds patients or lacks the target or a condition, no
            candidate has a value, or a class (of a combination of values) has too few candidates or
            none.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError(
            "selection.pool: a set is named twice, so that its images could be kept twice; name "
            "each set once"
        )
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
        _refuse_missing_columns(info.name, rows, conditions)
        members.append((dataset, rows))
        labels += [row.targets[column] for row in rows]
    rows = tuple(row for _, own in members for row in own)
    known = public_conditions(rows, conditions, shares, images)
    of_each = combinations_of(known, rows)
    taken = iter(of_each >= 0)
    pool = Pool(
        members=tuple(
            (dataset, tuple(row for row in own if next(taken))) for dataset, own in members
        ),
        labels=np.array(labels, dtype=np.int64)[of_each >= 0],
        conditions=known,
        combinations=of_each[of_each >= 0],
    )
    _refuse_too_few(pool, target, images)
    return pool


def selected_pool(settings: TrainGanSettings, target: str) -> Pool:
    """The pool that `method: selection` names, and the conditions of its candidates.

    Raises:
        InputError: as `open_pool`.
    """
    selection = settings.selection
    assert selection is not None  # TrainGanSettings asks for it
    return open_pool(
        selection.pool, target, selection.images, settings.conditions, settings.condition_prior
    )


def refuse_missing_conditions(dataset: Dataset, conditions: Sequence[str]) -> None:
    """Refuse patients whose table lacks a condition that is to be told of them.

    The head of the table decides, whoever stands in it.

    Raises:
        InputError: naming the condition.
    """
    if dataset.rows:  # each has all columns
        has = set(dataset.rows[0].attributes)
    else:
        head = read_table(dataset.root / "manifest.csv", required=()).columns
        has = {*head} - {*FIXED_COLUMNS, *dataset.info.targets}
    if missing := [one for one in conditions if one not in has]:
        raise InputError(
            f"selection.conditions_share: {dataset.info.name} has no column {missing[0]!r}, of "
            "which it would be told how images of each value look; leave conditions_share out, or "
            "the condition"
        )


def _refuse_missing_columns(name: str, rows: Sequence[Row], conditions: Sequence[str]) -> None:
    has = rows[0].attributes.keys() if rows else set(conditions)
    if missing := [one for one in conditions if one not in has]:
        raise InputError(
            f"conditions: the pool's set {name} has no column {missing[0]!r} (attributes: "
            f"{', '.join(sorted(has)) or 'none'}); with method: selection conditions are those of "
            "the pool, so leave it out, or name sets that have it"
        )


def _refuse_too_few(pool: Pool, target: str, images: int) -> None:
    """Refuse a pool that has fewer candidates of something than are to be kept of it."""
    counts = np.rint(pool.shares * images).astype(int)
    words = [
        " and ".join(
            f"{name} {levels[code - 1]}"
            for name, levels, code in zip(
                pool.conditions.names, pool.conditions.levels, one.codes, strict=True
            )
        )
        for one in pool.conditions.prior[0]
    ]
    for value in (0, 1):
        there = np.bincount(pool.combinations[pool.labels == value], minlength=len(counts))
        for index, (count, asked) in enumerate(zip(there, counts, strict=True)):
            if count >= asked:
                continue
            has = f"{count:,} candidates have" if count else "no candidate has"
            if count == 1:
                has = "1 candidate has"
            what, mend = "of each class (selection.images)", "keep fewer"
            if words:
                has += f" {words[index]} and"
                what = "of these, by their share of selection.images"
                mend = "keep fewer, or give the value a smaller share in condition_prior"
            raise InputError(
                f"selection.pool: {has} {target} {value}, and {asked:,} are to be kept {what}; add "
                "a set that has more, such as `synthdp data phantoms --out data/pool-more seed=NEW "
                f"patients={_enough(pool, int(count), int(asked), images)}` with a seed that the "
                f"pool does not have yet, or {mend}"
            )


def _enough(pool: Pool, count: int, asked: int, images: int) -> int:
    """About how many phantom patients, of 1.8 images each, have a few times what is asked for."""
    if not pool.conditions.names or not count:
        return 4 * images
    return round(2.5 * asked / count * len(pool.labels) / 1.8)
