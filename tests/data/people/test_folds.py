"""Folds and shares of patients, by public hashes of their ids."""

from collections import Counter

import pytest

from synthdp.data.dataset import Row
from synthdp.data.people.folds import fold_of, rows_of_fold, rows_outside_fold
from synthdp.errors import InputError
from synthdp.privacy.units import Part


def rows(n_patients: int) -> tuple[Row, ...]:
    """Two images of each patient."""
    return tuple(
        Row(f"{patient}-{image}.png", f"p{patient}", "train", (0.0,), {})
        for patient in range(n_patients)
        for image in range(2)
    )


def patients(some: tuple[Row, ...]) -> set[str]:
    return {row.patient_id for row in some}


def test_each_patient_is_in_one_fold_with_all_images_and_outside_the_others() -> None:
    everybody, scored = rows(100), Counter[str]()
    for number in range(1, 6):
        fold = Part(part=number, of=5)
        inside, outside = rows_of_fold(everybody, fold), rows_outside_fold(everybody, fold, None)
        assert patients(inside).isdisjoint(patients(outside))
        assert sorted(row.image for row in inside + outside) == sorted(
            row.image for row in everybody
        )
        scored.update(row.image for row in inside)
    assert set(scored.values()) == {1}
    assert len(scored) == len(everybody)


def test_folds_and_shares_hold_about_what_they_are_of() -> None:
    everybody = rows(4000)
    sizes = Counter(fold_of(row.patient_id, 5) for row in everybody)
    assert all(abs(size / len(everybody) - 0.2) < 0.02 for size in sizes.values())
    fold = Part(part=2, of=5)
    for share in (0.1, 0.5):
        kept = patients(rows_outside_fold(everybody, fold, share))
        assert abs(len(kept) / 3200 - share) < 0.03


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    shares = [patients(rows_outside_fold(rows(200), None, share)) for share in (0.1, 0.4, 0.9)]
    assert shares[0] < shares[1] < shares[2]


def test_who_stays_hangs_on_nobody_else() -> None:
    everybody, fold = rows(60), Part(part=1, of=3)
    kept = rows_outside_fold(everybody, fold, 0.5)
    for gone in patients(everybody):
        fewer = tuple(row for row in everybody if row.patient_id != gone)
        assert rows_outside_fold(fewer, fold, 0.5) == tuple(
            row for row in kept if row.patient_id != gone
        )


def test_no_one_left_is_refused_unless_it_would_tell() -> None:
    (patient,) = {fold_of(row.patient_id, 50) for row in rows(1)}
    own = Part(part=patient, of=50)
    with pytest.raises(InputError, match="no patient of the split is left"):
        rows_outside_fold(rows(1), own, None)
    assert rows_outside_fold(rows(1), own, None, may_be_empty=True) == ()
    other = Part(part=patient % 50 + 1, of=50)
    with pytest.raises(InputError, match="no patient of the split is in"):
        rows_of_fold(rows(1), other)


def test_the_hashes_stay_what_they_are() -> None:
    assert [fold_of(f"p{index}", 5) for index in range(8)] == FOLDS


FOLDS = [1, 2, 5, 1, 3, 1, 5, 2]
