"""Where the images stand, and how to read what they show: settings that every import shares."""

import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from synthdp.data.dataset import FIXED_COLUMNS, SPLITS, Split
from synthdp.data.importing.findings import Reason
from synthdp.data.importing.labels import Labels, answers, default_labels, own_labels
from synthdp.data.importing.tables.cells import Column
from synthdp.data.importing.tables.table_settings import TableSettings

#: What the patterns were by default before words decided; imports of then name them.
_WORD = r"(?<![a-z])(?<!is_)(?<!non[ _-])(?<!not[ _-])"
FORMER_PATTERNS = {
    "malignant_pattern": (
        r"(?i)is_benign_(?:false|0(?!\d))|is_malignant_(?:true|1(?!\d))|"
        rf"{_WORD}malignant(?![a-z])"
    ),
    "benign_pattern": (
        rf"(?i)is_benign_(?:true|1(?!\d))|is_malignant_(?:false|0(?!\d))|{_WORD}benign(?![a-z])"
    ),
}

#: Columns that are carried over where the settings name none.
ATTRIBUTES = (
    *("view", "laterality", "breast_density", "age", "sex", "site", "scanner"),
    *("subtlety", "birads_assessment", "mass_shape", "mass_margins", "follow_up"),
)


def _as_text(value: Any) -> Any:
    """A word of a label as text: YAML makes numbers and booleans of some."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _as_words(value: Any) -> Any:
    return [_as_text(word) for word in value] if isinstance(value, list | tuple) else value


#: Words that mean the same class.
LabelWords = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], BeforeValidator(_as_words)
]


class ListingSettings(TableSettings):
    """Where the images stand and how to read what they show.

    `metadata` is a table with a row for each image (`src`/metadata.csv when there is one; `none`
    leaves it aside). Without one, the class comes from words in folder and file names, or from
    `malignant_pattern` and `benign_pattern` where they are given, and `patient_pattern` finds the
    patient: one group, or the word `none` where each image counts as a patient of its own.
    `labels` are the words for each class, in cells as in names: `{malignant: [MALIGNANT, M, 1],
    benign: [BENIGN, B, 0], unknown: [U]}`; of other targets `positive` and `negative`. Where it is
    given, no other word has a meaning. `benign_column` holds 1 for benign, and is turned into
    `malignant` by the listing alone. `splits` chooses by the split that folders or table give;
    `split` overrides. `follow_links_into` names folders outside `src` into which links are
    followed. `leave_out` names reasons for which an image is left out, and counted, where otherwise
    nothing would be imported. `bits` says how many bits of each sample are used, where the files
    state more (12 in 16).
    """

    src: Path
    kind: Literal["real", "synthetic"] = "real"
    metadata: Literal["none"] | Path | None = None
    file_column: Column = "file"
    patient_column: Column = "patient_id"
    split_column: Column = "split"
    targets: tuple[str, ...] = Field(default=("malignant",), min_length=1)
    benign_column: Column = "is_benign"
    attributes: tuple[str, ...] | None = None
    labels: dict[str, LabelWords] | None = None
    malignant_pattern: str | None = None
    benign_pattern: str | None = None
    patient_pattern: Literal["none"] | str | None = None
    split: Split | None = None
    splits: tuple[Split, ...] = Field(default=SPLITS, min_length=1)
    follow_links_into: tuple[Path, ...] = ()
    leave_out: tuple[Reason, ...] = ()
    bits: int | None = Field(default=None, ge=1, le=16)

    @field_validator("malignant_pattern", "benign_pattern", "patient_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from error
        return pattern

    @field_validator("file_column")
    @classmethod
    def _stars_stand_alone(cls, column: Column) -> Column:
        for name in (column,) if isinstance(column, str) else column:
            if any("**" in part and part != "**" for part in name.split("/")):
                raise ValueError("** stands alone between slashes, for any folders")
        return column

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

    @model_validator(mode="after")
    def _labels_are_complete(self) -> "ListingSettings":
        if self.labels is None:
            return self
        positive, negative = self._label_keys()
        for keys in (positive, negative):
            if sum(bool(self.labels.get(key)) for key in keys) != 1:
                raise ValueError(f"labels: give the words of {' or '.join(sorted(keys))}, once")
        if further := sorted(self.labels.keys() - positive - negative - {"unknown"}):
            known = ", ".join(sorted({*positive, *negative, "unknown"}))
            raise ValueError(f"labels: {', '.join(further)[:100]} is none of {known}")
        try:
            words = self.words
        except ValueError as error:
            raise ValueError(f"labels: {error}") from error
        if both := [word for word in self.unknown if words.of_cell(word) in (0.0, 1.0)]:
            raise ValueError(
                f"labels, unknown: {', '.join(both)[:100]} is a class and stands for an empty cell "
                "too; leave it out of one of them (unknown: [] where a mapping has it)"
            )
        return self

    def _label_keys(self) -> tuple[set[str], set[str]]:
        """What the words of class 1 and those of class 0 may stand under in `labels`."""
        own = set(self.targets) if len(self.targets) == 1 else set()
        return {"positive", *own}, {"negative"} | ({"benign"} if own == {"malignant"} else set())

    @cached_property
    def words(self) -> Labels:
        """The words for the classes."""
        if self.labels is None:
            return default_labels()
        positive, negative = (
            tuple(word for key in keys for word in (self.labels or {}).get(key, ()))
            for keys in self._label_keys()
        )
        return own_labels(positive, negative, self.labels.get("unknown", ()))

    def words_of(self, target: str) -> Labels:
        """The words in cells of one target; those for malignant say nothing of others."""
        return answers() if self.labels is None and target != "malignant" else self.words

    @property
    def default_attributes(self) -> tuple[str, ...]:
        """Columns that are carried over where the settings name none."""
        return ATTRIBUTES

    @property
    def linked_folders(self) -> tuple[Path, ...]:
        """The folders outside `src` into which links may lead, resolved."""
        return tuple(folder.resolve() for folder in self.follow_links_into)

    @property
    def images_are_patients(self) -> bool:
        """Whether each image was declared to be a patient of its own."""
        return self.kind == "real" and self.patient_pattern == "none"
