"""Ids as people hold them, and who is one patient by them."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from classify.library.patient_names import patient_names
from synthdp.errors import InputError


@pytest.mark.parametrize(
    "ids",
    [
        [1, 1.0, 2],
        ["1", 1, "2"],
        [True, 1, 0],
        [" a", "a ", "b"],
        np.array([1, 1.0, "2"], dtype=object),
        np.array([[7], [7], [8]]),
        torch.tensor([3, 3, 4]),
        [torch.tensor(3), torch.tensor(3), torch.tensor(4)],
        pd.DataFrame({"patient": ["a", "a", "b"]}),
        pd.Series(["a", "a", "b"], index=[9, 5, 7], dtype="category"),
        pd.array([1, 1, 2], dtype="Int64"),
        [2**53, 2**53, 2**53 + 1],
    ],
    ids=repr,
)
def test_equal_ids_are_one_patient_and_others_are_not(ids: object) -> None:
    one, same, other = patient_names(ids, 3, setting="groups")
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    "ids",
    [
        ["a", None],
        ["a", math.nan],
        ["a", ""],
        ["a", " "],
        np.array([1.0, math.nan]),
        pd.Series(["a", pd.NA], dtype="string"),
        pd.Series([1, pd.NA], dtype="Int64"),
        pd.Series([pd.Timestamp("2026-01-01"), pd.NaT]),
        [torch.tensor(1.0), torch.tensor(math.nan)],
    ],
    ids=repr,
)
def test_an_item_without_a_patient_is_refused(ids: object) -> None:
    with pytest.raises(InputError, match="groups: a row has no patient"):
        patient_names(ids, 2, setting="groups")


@pytest.mark.parametrize(
    "ids", ["ab", ["a"], ["a", "b", "c"], {"a": 1, "b": 2}, [("x", 1), ("y", 2)], None], ids=repr
)
def test_one_value_for_each_item_is_asked_for(ids: object) -> None:
    with pytest.raises(InputError, match="groups: name one patient for each row or item"):
        patient_names(ids, 2, setting="groups")
