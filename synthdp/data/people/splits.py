"""Splits by patient, and the copies that tie patients or labels together."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from synthdp.data.manifest.contract import SPLITS
from synthdp.errors import InputError

Key = TypeVar("Key", bound=Hashable)


def split_by_patient(
    patient_ids: Sequence[str],
    labels: Sequence[float],
    fractions: Mapping[str, float],
    *,
    seed: int,
) -> dict[str, str]:
    """Give each patient one split, with the labels shared out evenly.

    Args:
        patient_ids: the patient of each image.
        labels: 0, 1 or nan for each image; a patient counts as positive with one positive image.
        fractions: the share of the patients that each split gets; together 1.
        seed: moves who goes where; the order of the images does not.

    Returns:
        The split of each patient.

    Raises:
        InputError: when the fractions are not shares of 1, or a split would stay empty.
    """
    if any(share <= 0 for share in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
        raise InputError("split fractions: each must be above 0, and together they must be 1")
    strata: dict[str, float] = {}
    for patient, label in zip(patient_ids, labels, strict=True):
        known = -1.0 if np.isnan(label) else float(label)
        strata[patient] = max(strata.get(patient, -1.0), known)
    rng = np.random.default_rng(seed)
    # One line of all patients, stratum after stratum: cutting it evenly keeps each stratum's share.
    by_stratum = sorted(strata, key=lambda patient: (strata[patient], patient))
    line = [by_stratum[index] for index in _shuffled_within(by_stratum, strata, rng)]
    split_of = dict(zip(line, _evenly(fractions, len(line)), strict=True))
    _share_out_rare(split_of, strata, list(fractions))
    if empty := sorted(set(fractions) - set(split_of.values())):
        raise InputError(
            f"{len(line)} patient(s) are too few for these split fractions: {', '.join(empty)} "
            "would stay empty; ask for a larger share"
        )
    return split_of


def _share_out_rare(
    split_of: dict[str, str], strata: Mapping[str, float], splits: Sequence[str]
) -> None:
    """Give a patient of a rare class to each split that has none, in exchange for another patient.

    It happens where a class has as many patients as there are splits, or more, and all of them
    came into some: an even cut of the line promises a split no patient of a short stretch.
    """
    members: dict[tuple[float, str], list[str]] = {}
    for patient, split in split_of.items():
        members.setdefault((strata[patient], split), []).append(patient)
    values = sorted(set(strata.values()))
    for value in [value for value in values if value >= 0]:  # the classes that are known
        of_split = {split: members.get((value, split), []) for split in splits}
        for lacking in [split for split in splits if not of_split[split]]:
            giver = max(splits, key=lambda split: len(of_split[split]))
            taker = max(values, key=lambda other: len(members.get((other, lacking), [])))
            exchanged = members.get((taker, lacking), [])
            if len(of_split[giver]) < 2 or len(exchanged) < 2:
                continue
            one, other = of_split[giver].pop(), exchanged.pop()
            split_of[one], split_of[other] = lacking, giver
            of_split[lacking].append(one)
            members[value, lacking] = of_split[lacking]
            members.setdefault((taker, giver), []).append(other)


def _shuffled_within(
    patients: Sequence[str], strata: Mapping[str, float], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The indices of `patients` in an order at random within each stratum, strata rising."""
    order = rng.permutation(len(patients))
    values = np.array([strata[patient] for patient in patients])
    shuffled: NDArray[np.int64] = order[np.argsort(values[order], kind="stable")]
    return shuffled


def _evenly(fractions: Mapping[str, float], count: int) -> list[str]:
    """`count` split names, mixed so that every stretch of them keeps the fractions.

    Each position goes to the split that is farthest behind its share so far.
    """
    names = list(fractions)
    shares = np.array([fractions[name] for name in names])
    given = np.zeros(len(names))
    splits = []
    for position in range(1, count + 1):
        chosen = int(np.argmax(shares * position - given))
        given[chosen] += 1
        splits.append(names[chosen])
    return splits


def duplicate_groups(digests: Sequence[Key]) -> list[tuple[int, ...]]:
    """The indices of equal entries, for each value that occurs more than once."""
    indices: dict[Key, list[int]] = {}
    for index, digest in enumerate(digests):
        indices.setdefault(digest, []).append(index)
    return [tuple(group) for group in indices.values() if len(group) > 1]


def label_conflicts(
    digests: Sequence[Key], targets: Sequence[tuple[float, ...]]
) -> list[tuple[int, ...]]:
    """The groups of images with the same pixels whose known labels differ."""
    conflicts = []
    for group in duplicate_groups(digests):
        values = np.array([targets[index] for index in group])
        known = np.where(np.isnan(values), -np.inf, values).max(axis=0)
        low = np.where(np.isnan(values), np.inf, values).min(axis=0)
        if np.any(known > low):
            conflicts.append(group)
    return conflicts


def connected(pairs: Sequence[tuple[Key, Key]]) -> list[set[Key]]:
    """The groups that `pairs` tie together, directly or through others (union-find)."""
    parent: dict[Key, Key] = {}

    def root(item: Key) -> Key:
        parent.setdefault(item, item)
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in pairs:
        parent[root(one)] = root(other)
    groups: dict[Key, set[Key]] = {}
    for item in parent:
        groups.setdefault(root(item), set()).add(item)
    return list(groups.values())


def link_ids(groups: Iterable[Sequence[int]], patient_ids: Sequence[str]) -> dict[str, str]:
    """The unit of each patient, where `groups` of images (by index) tie patients together.

    A unit bears the first of its ids in sorted order.
    """
    tied = {
        (patient_ids[group[0]], patient_ids[index])
        for group in groups
        for index in group
        if patient_ids[group[0]] != patient_ids[index]
    }
    units = {patient: patient for patient in patient_ids}
    for group in connected(sorted(tied)):
        units.update(dict.fromkeys(group, min(group)))
    return units


def one_split_a_unit(units: Sequence[str], splits: Sequence[str]) -> dict[str, str]:
    """The split of each unit; one that stands in several goes to the first of them.

    The order is train, val, test, external: what remains for evaluation was never trained on.
    """
    chosen: dict[str, str] = {}
    for unit, split in zip(units, splits, strict=True):
        chosen[unit] = min(chosen.get(unit, split), split, key=SPLITS.index)
    return chosen
