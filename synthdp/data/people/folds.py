"""Parts of a set's patients for cross-validation: a public hash of each written id decides.

Whoever trains on all patients but those of one fold, for each fold, has every patient scored once
by a model that never met that patient.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from synthdp.errors import InputError
from synthdp.privacy.units import Part

if TYPE_CHECKING:
    from synthdp.data.dataset import Row

#: Two hashes of an id, so that whether a patient is in a share says nothing of the fold.
_FOLD, _SHARE = "synthdp fold", "synthdp share"


def fold_of(patient_id: str, n_folds: int) -> int:
    """The fold of a patient, from 1 to `n_folds`."""
    return 1 + int(_fraction(_FOLD, patient_id) * n_folds)


def _fraction(what: str, patient_id: str) -> float:
    """A number in [0, 1) that an id always has: 52 bits of SHA-256, all that a float holds."""
    digest = hashlib.sha256(f"{what}|{patient_id}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 12) / 2**52


def rows_of_fold(
    rows: Sequence["Row"], fold: Part | None, *, may_be_empty: bool = False
) -> tuple["Row", ...]:
    """Those of `rows` whose patients are in a fold; all of them for None.

    Raises:
        InputError: when no row is left, unless it `may_be_empty` (`Dataset.split`).
    """
    if fold is None:
        return tuple(rows)
    chosen = tuple(row for row in rows if fold_of(row.patient_id, fold.of) == fold.part)
    if not chosen and not may_be_empty:
        raise InputError(f"fold: no patient of the split is in {fold}; name fewer folds")
    return chosen


def rows_outside_fold(
    rows: Sequence["Row"],
    fold: Part | None,
    share: float | None,
    *,
    may_be_empty: bool = False,
) -> tuple["Row", ...]:
    """Those of `rows` whose patients are outside a fold, and of these a share of the patients.

    A smaller share is part of every larger one. None for `fold`: outside nothing; for `share`: all.

    Guarantee: a patient's rows stay or go by public hashes of the patient's id in the set alone,
    whoever else is there.

    Raises:
        InputError: when no row is left, unless it `may_be_empty` (`Dataset.split`).
    """
    left = tuple(
        row
        for row in rows
        if (fold is None or fold_of(row.patient_id, fold.of) != fold.part)
        and (share is None or _fraction(_SHARE, row.patient_id) < share)
    )
    if not left and not may_be_empty:
        raise InputError(
            "leave_out, share: no patient of the split is left; name more folds, or a larger share"
        )
    return left


def left_out_words(fold: Part | None, share: float | None) -> list[str]:
    """Who is left out by a fold and a share, in words, a phrase each."""
    words = [] if fold is None else [f"without fold {fold}"]
    return words if share is None else [*words, f"a share of {share:g} of the patients"]
