"""Cohorts of patients that are disjoint by construction.

A keyed hash of the patient's id, and nothing else, decides to which part of the unit interval a
patient belongs: who else is there, and what the images show, moves nobody from one to another.
"""

import hmac
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from synthdp.config import Settings

_BITS = 64


class Part(Settings):
    """One of `of` equal parts, counted from 1; written `1/2`."""

    part: int = Field(ge=1)
    of: int = Field(ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _is_there(self) -> "Part":
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
        raise ValueError("write a cohort as `1/2` (the first of two), or `none` for all patients")
    return {"part": int(part), "of": int(of)}


#: A setting that names a cohort, or None for all patients.
CohortPart = Annotated[Part | None, BeforeValidator(_parsed)]


class Cohort(Settings):
    """The patients whose hash under one secret key falls into one part.

    key_id: names the key and says nothing about it.

    Guarantee: a patient is in exactly one of the parts of a key, whoever else is there.
    """

    key_id: str = Field(pattern=r"^[0-9a-f]{16}$")
    part: Part

    @property
    def bounds(self) -> tuple[Fraction, Fraction]:
        """Where the part begins and ends in [0, 1]."""
        return Fraction(self.part.part - 1, self.part.of), Fraction(self.part.part, self.part.of)

    def holds(self, tag: bytes) -> bool:
        """Whether the patient of this tag (`patient_tag`) belongs to the cohort."""
        position = int.from_bytes(tag[: _BITS // 8], "big")
        return (position * self.part.of) >> _BITS == self.part.part - 1


def key_id(key: bytes) -> str:
    """A public name of a secret key: a keyed digest of a fixed word."""
    return hmac.new(key, b"synthdp key id", "sha256").hexdigest()[:16]


def patient_tag(key: bytes, patient_id: str) -> bytes:
    """A secret name of a patient: HMAC-SHA-256 of the id under the data set's key."""
    return hmac.new(key, b"synthdp patient " + patient_id.encode(), "sha256").digest()
