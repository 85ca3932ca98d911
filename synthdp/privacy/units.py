"""Whom a promise protects: the unit, what says that ids are one person, and a part of patients."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from synthdp.config.settings import Settings
from synthdp.config.typed_values import InWords

Unit = Literal["patient", "image"]
#: What says that ids are one person: the importer, or images that look alike.
UnitFrom = Literal["declared", "looks"]


class Part(Settings):
    """One of `of` equal parts, counted from 1; written `1/2`."""

    part: int = Field(ge=1)
    of: int = Field(ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _is_one_of_them(self) -> "Part":
        if self.part > self.of:
            raise ValueError(f"there is no part {self.part} of {self.of}")
        return self

    def within(self, whole: "Part") -> "Part":
        """This part of another part: 1/2 within 2/2 is 3/4."""
        return Part(part=(whole.part - 1) * self.of + self.part, of=whole.of * self.of)

    def __str__(self) -> str:
        return f"{self.part}/{self.of}"


def _parsed(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lower() in ("none", "all"):
        return None
    part, slash, of = value.partition("/")
    if not (slash and part.strip().isdigit() and of.strip().isdigit()):
        raise ValueError("write a part as `1/2` (the first of two), or `none` for all patients")
    return {"part": int(part), "of": int(of)}


#: A setting that names a cohort, or None for all patients.
CohortPart = Annotated[
    Part | None, BeforeValidator(_parsed), InWords("part such as 1/2", whole=True)
]
#: A setting that names a fold of a cross-validation, or None for none.
Fold = Annotated[Part | None, BeforeValidator(_parsed), InWords("fold such as 1/5", whole=True)]
#: What the results of a study call patients who were each scored by a model that never met them,
#: one of several that were trained on the others.
CROSS_VALIDATED = "cross-validated"
