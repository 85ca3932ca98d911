import math

import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.data.people.splits import (
    connected,
    duplicate_groups,
    label_conflicts,
    link_ids,
    one_split_a_unit,
    split_by_patient,
)
from synthdp.errors import InputError

NAN = math.nan


def noise(seed: int, side_px: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side_px, side_px), dtype=np.uint8)


def cohort(patients: int, seed: int = 0) -> tuple[list[str], list[float]]:
    """Image-wise patient ids and labels; 30 % of the patients are positive."""
    rng = np.random.default_rng(seed)
    ids = [f"P{index:03d}" for index in range(patients) for _ in range(1 + index % 3)]
    positive = rng.permutation(patients) < 0.3 * patients
    return ids, [float(positive[int(name[1:])]) for name in ids]


@pytest.mark.parametrize("seed", range(5))
def test_each_split_has_its_share_of_both_labels(seed: int) -> None:
    ids, labels = cohort(200)
    split_of = split_by_patient(ids, labels, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=seed)
    positive = {name for name, label in zip(ids, labels, strict=True) if label}
    for split, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        members = {name for name, given in split_of.items() if given == split}
        assert abs(len(members) - 200 * share) <= 1
        assert abs(len(members & positive) - 60 * share) <= 1


def test_the_seed_moves_the_split_and_the_order_does_not() -> None:
    ids, labels = cohort(50)
    fractions = {"train": 0.8, "val": 0.2}
    first = split_by_patient(ids, labels, fractions, seed=1)
    back = split_by_patient(ids[::-1], labels[::-1], fractions, seed=1)
    assert first == back
    assert first != split_by_patient(ids, labels, fractions, seed=2)


@pytest.mark.parametrize("positives", [2, 3, 7])
@pytest.mark.parametrize("patients", [50, 100, 137])
def test_a_rare_class_stands_in_every_split(patients: int, positives: int) -> None:
    """2 % are enough for two splits, whatever the seed."""
    ids = [f"P{index}" for index in range(patients)]
    labels = [float(index < positives) for index in range(patients)]
    fractions = {"train": 0.85, "val": 0.15}
    for seed in range(30):
        split_of = split_by_patient(ids, labels, fractions, seed=seed)
        assert {split_of[name] for name in ids[:positives]} == {"train", "val"}
        in_val = sum(split == "val" for split in split_of.values())
        assert abs(in_val - 0.15 * patients) <= 1


def test_a_class_with_too_few_patients_for_all_splits_is_not_forced() -> None:
    ids = [f"P{index}" for index in range(20)]
    labels = [1.0] + [0.0] * 19
    split_of = split_by_patient(ids, labels, {"train": 0.5, "val": 0.5}, seed=0)
    assert set(split_of.values()) == {"train", "val"}


def test_unknown_labels_are_a_stratum_of_their_own() -> None:
    ids = [f"P{index}" for index in range(40)]
    labels = [NAN] * 20 + [1.0] * 20
    split_of = split_by_patient(ids, labels, {"train": 0.5, "val": 0.5}, seed=0)
    assert sum(split_of[name] == "val" for name in ids[:20]) == 10


def test_a_patient_with_one_positive_image_is_positive() -> None:
    ids = [name for index in range(20) for name in (f"P{index}",) * 2]
    labels = [label for index in range(20) for label in (0.0, float(index < 10))]
    split_of = split_by_patient(ids, labels, {"train": 0.5, "val": 0.5}, seed=0)
    assert sum(split_of[f"P{index}"] == "val" for index in range(10)) == 5


@pytest.mark.parametrize(
    "fractions",
    [{"train": 0.5, "val": 0.4}, {"train": 1.0, "val": 0.0}, {"train": 1.2, "val": -0.2}],
)
def test_fractions_that_are_no_shares(fractions: dict[str, float]) -> None:
    with pytest.raises(InputError, match="split fractions"):
        split_by_patient(["A", "B"], [0, 1], fractions, seed=0)


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(InputError, match=r"3 patient\(s\) are too few .* val would stay empty"):
        split_by_patient(["A", "B", "C"], [0, 1, 0], {"train": 0.9, "val": 0.1}, seed=0)


def test_linked_ids_become_one_unit() -> None:
    ids = ["D", "A", "B", "C", "A", "E"]
    assert link_ids([(0, 1), (2, 4)], ids) == {"D": "A", "A": "A", "B": "A", "C": "C", "E": "E"}
    assert link_ids([(1, 4)], ids) == {name: name for name in ids}


def test_connected_groups() -> None:
    groups = connected([(1, 2), (3, 4), (2, 5), (6, 3)])
    assert sorted(map(sorted, groups)) == [[1, 2, 5], [3, 4, 6]]
    assert connected([]) == []


def test_duplicate_groups_and_label_conflicts() -> None:
    digests = ["a", "b", "a", "c", "b", "d", "d", "c"]
    targets = [(1.0,), (0.0,), (0.0,), (1.0,), (0.0,), (NAN,), (1.0,), (NAN,)]
    assert duplicate_groups(digests) == [(0, 2), (1, 4), (3, 7), (5, 6)]
    assert label_conflicts(digests, targets) == [(0, 2)]
    assert label_conflicts(["a", "a"], [(NAN, 1.0), (0.0, 0.0)]) == [(0, 1)]
    assert label_conflicts(["a", "a"], [(NAN,), (NAN,)]) == []
    assert label_conflicts(["a", "a"], [(), ()]) == []


def test_a_unit_in_two_splits_goes_to_the_first() -> None:
    units = ["A", "B", "A", "B", "C"]
    splits = ["val", "external", "train", "test", "val"]
    assert one_split_a_unit(units, splits) == {"A": "train", "B": "test", "C": "val"}
