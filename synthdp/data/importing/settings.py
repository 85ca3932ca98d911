"""Where the images stand, and how to read what they show: settings that every import shares."""

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from synthdp.config import Settings
from synthdp.data.dataset import FIXED_COLUMNS, SPLITS, Split

# Before a class's word there is no letter, so that no longer word is taken for it, and no denial.
# After `is_` a value decides.
_WORD = r"(?<![a-z])(?<!is_)(?<!non[ _-])(?<!not[ _-])"
MALIGNANT_PATTERN = (
    rf"(?i)is_benign_(?:false|0(?!\d))|is_malignant_(?:true|1(?!\d))|{_WORD}malignant(?![a-z])"
)
BENIGN_PATTERN = (
    rf"(?i)is_benign_(?:true|1(?!\d))|is_malignant_(?:false|0(?!\d))|{_WORD}benign(?![a-z])"
)


class ListingSettings(Settings):
    """Where the images stand and how to read what they show.

    `metadata` is a table with a row for each image (`src`/metadata.csv when there is one; `none`
    leaves it aside). Without one, the class comes from patterns on folder and file names, and
    `patient_pattern` finds the patient: one group, or the word `none` where each image counts as
    a patient of its own. `benign_column` holds 1 for benign, and is turned into `malignant` by
    the listing alone. `splits` chooses by the split that folders or table give; `split` overrides.
    """

    src: Path
    kind: Literal["real", "synthetic"] = "real"
    metadata: Literal["none"] | Path | None = None
    file_column: str = "file"
    patient_column: str = "patient_id"
    split_column: str = "split"
    targets: tuple[str, ...] = Field(default=("malignant",), min_length=1)
    benign_column: str = "is_benign"
    attributes: tuple[str, ...] | None = None
    malignant_pattern: str = MALIGNANT_PATTERN
    benign_pattern: str = BENIGN_PATTERN
    patient_pattern: str | None = None
    split: Split | None = None
    splits: tuple[Split, ...] = Field(default=SPLITS, min_length=1)

    @field_validator("malignant_pattern", "benign_pattern", "patient_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from error
        return pattern

    @model_validator(mode="after")
    def _columns_have_their_own_names(self) -> "ListingSettings":
        named = [*FIXED_COLUMNS, *self.targets, *(self.attributes or ())]
        if twice := sorted(name for name, count in Counter(named).items() if count > 1):
            raise ValueError(f"targets, attributes: {', '.join(twice)} would name two columns")
        return self

    @model_validator(mode="after")
    def _patient_pattern_has_one_group(self) -> "ListingSettings":
        pattern = self.patient_pattern
        if pattern not in (None, "none") and re.compile(str(pattern)).groups != 1:
            raise ValueError("patient_pattern: put the patient's id, and only it, into one (group)")
        return self

    @property
    def images_are_patients(self) -> bool:
        """Whether each image was declared to be a patient of its own."""
        return self.kind == "real" and self.patient_pattern == "none"
