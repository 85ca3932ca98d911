"""The words of a data set's manifest that every set has: splits, and fixed columns."""

from typing import Literal

Split = Literal["train", "val", "test", "external"]
SPLITS: tuple[Split, ...] = ("train", "val", "test", "external")
FIXED_COLUMNS = ("image", "patient_id", "split")
