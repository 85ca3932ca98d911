"""Where the images stand, and how to read what they show: settings that every import shares."""

import math
import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from synthdp.data.importing.findings import Reason
from synthdp.data.importing.labels import Labels, answers, default_labels, own_labels
from synthdp.data.importing.settings.tables import TableSettings
from synthdp.data.importing.tables.cells import Column
from synthdp.data.manifest.contract import FIXED_COLUMNS, SPLITS, Split
from synthdp.data.volumes.form import VolumeForm

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
    """Where the images stand and how to read what they show."""

    src: Path
    """The folder of the images. Example: downloads/clinic"""

    kind: Literal["real", "synthetic", "public"] = "real"
    """Whether patients stand in the images: `real` ones, who are protected; none, since they are
    `synthetic`; or those of a `public` collection, whom nothing protects and to whom nothing is
    charged. A set keeps its kind, and the statement of all that learns from a public one names it.
    """

    metadata: Literal["none"] | Path | None = None
    """A table with a row for each image; `src`/metadata.csv when there is one, and `none` leaves it
    aside. Without one, the class comes from words in folder and file names.
    Example: clinic.csv
    """

    file_column: Column = "file"
    """Column of the file's name, or a template of columns."""

    patient_column: Column = "patient_id"
    """Column of the patient's id."""

    split_column: Column = "split"
    """Column of the split."""

    targets: tuple[str, ...] = Field(default=("malignant",), min_length=1)
    """What is to be told of an image, 1 or 0 each."""

    benign_column: Column = "is_benign"
    """Column that holds 1 for benign; it is turned into `malignant`."""

    attributes: tuple[str, ...] | None = None
    """Columns that are carried over into the set; view, laterality, breast_density, age, sex, site,
    scanner and the like when not set.
    Example: [view, site]
    """

    labels: dict[str, LabelWords] | None = None
    """The words for each class, in cells as in names; of other targets `positive` and `negative`.
    Where it is given, no other word has a meaning.
    Example: {malignant: [MALIGNANT, M], benign: [BENIGN, B], unknown: [U]}
    """

    malignant_pattern: str | None = None
    """Regular expression that tells malignant in folder and file names, in place of words.
    Example: (?i)cancer
    """

    benign_pattern: str | None = None
    """Regular expression that tells benign in folder and file names. Example: (?i)normal"""

    patient_pattern: Literal["none"] | str | None = None
    """Regular expression whose one group finds the patient in a path, or the word `none` where each
    image counts as a patient of its own.
    Example: (P[0-9]+)_
    """

    split: Split | None = None
    """Puts all images into one split, whatever folders and table say. Example: test"""

    splits: tuple[Split, ...] = Field(default=SPLITS, min_length=1)
    """Takes the images of these splits alone, as folders or table give them."""

    given_splits: Literal["kept", "left_aside"] = "kept"
    """`left_aside` takes no split from folders or table, as where they put images of one patient
    into two.
    """

    follow_links_into: tuple[Path, ...] = ()
    """Folders outside `src` into which links are followed. Example: [/archive/images]"""

    leave_out: tuple[Reason, ...] = ()
    """Reasons for which an image is left out, and counted, where otherwise nothing would be
    imported.
    Example: [missing_file, unreadable]
    """

    bits: int | None = Field(default=None, ge=1, le=16)
    """Bits of each sample that are used, where the files state more (12 in 16). Example: 12"""

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
        plain = self.labels is None and target != "malignant"
        return self._certain_or_not[0 if plain else 1]

    @cached_property
    def _certain_or_not(self) -> tuple[Labels, Labels]:
        """Yes and no, and the words for the classes, each with the words of nobody's certainty."""
        label = {"unknown": math.nan, "positive": 1.0, "negative": 0.0}[self.uncertain]
        both = (answers(), self.words)
        return (
            both[0].with_words(self.uncertain_words, label),
            both[1].with_words(self.uncertain_words, label),
        )

    @property
    def form(self) -> VolumeForm | None:
        """What volumes become; None where images are flat."""
        return None

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
        return self.shows_patients and self.patient_pattern == "none"

    @property
    def shows_patients(self) -> bool:
        """Whether the images are of people, be they protected or public."""
        return self.kind != "synthetic"
