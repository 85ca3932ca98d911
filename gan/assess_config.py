"""Settings of the assess stage: how close a synthetic set is to the real one."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from synthdp.config import BackboneSettings, Settings


class FeatureSpace(BackboneSettings):
    """A frozen public network and the short label that its figures carry, as in FD-DINOv2."""

    label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,23}$")


class InceptionSettings(Settings):
    """The weights file of pytorch-fid's Inception, checked by its SHA-256; nothing is fetched."""

    weights: Path
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class AssessSettings(Settings):
    """How close a synthetic set is to a real one, and whether it holds copies of patients.

    `baseline` is a second synthetic set, measured in the same run. Distances, scores and copies are
    measured in each space of `features`; only with `inception` is there a figure called FID.
    `neighbours` is the k of precision, recall, density and coverage, which are taken of as many
    images of either side: `compare_n` of each, by default all of the smallest set, at most 1104.
    `max_images` bounds what is read of a synthetic set, evenly spaced. `redraws` is how often
    patients are drawn for an interval, from `seed`. `precision: auto` multiplies in bfloat16 where
    the hardware does: three times as fast, and features that differ by about a hundredth.
    """

    synthetic: Path
    real: Path
    out: Path
    seed: int = Field(default=0, ge=0)
    baseline: Path | None = None
    features: tuple[FeatureSpace, ...] = Field(default=(), max_length=8, validate_default=True)
    inception: InceptionSettings | None = None
    neighbours: int = Field(default=5, ge=1, le=100)
    compare_n: int | None = Field(default=None, ge=2, le=5000)
    max_images: int = Field(default=10_000, ge=10, le=50_000)
    redraws: int = Field(default=2000, ge=100, le=100_000)
    precision: Literal["auto", "float32"] = "auto"

    @field_validator("features")
    @classmethod
    def _are_named_apart(cls, spaces: tuple[FeatureSpace, ...]) -> tuple[FeatureSpace, ...]:
        labels = [space.label.lower() for space in spaces]
        if not labels:
            raise ValueError(
                "name at least one frozen network, with a local file of its weights and its "
                "sha256, as configs/gan/assess-cbis.yaml does"
            )
        if {"pixels", "inception"} & set(labels):
            raise ValueError("a label is taken (pixels, inception); choose another")
        if len(set(labels)) != len(labels):
            raise ValueError("two spaces have the same label; name each after its network")
        return spaces
