"""Settings of the assess stage."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from synthdp.config.settings import Seed, Settings
from synthdp.evaluation.settings import Attributes
from synthdp.networks.settings import BackboneSettings


class FeatureSpace(BackboneSettings):
    """A frozen public network and the short label that its figures carry, as in FD-DINOv2."""

    label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,23}$")
    """Short name of the space, of letters, digits and hyphens. Example: DINOv2"""


class InceptionSettings(Settings):
    """The weights file of pytorch-fid's Inception, checked by its SHA-256; nothing is fetched."""

    weights: Path
    """The local file. Example: weights/pt_inception-2015-12-05.pth"""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the file, 64 hexadecimal digits.
    Example: 0000000000000000000000000000000000000000000000000000000000000000
    """


class AssessSettings(Settings):
    """How close a synthetic set is to a real one, and whether it holds copies of patients."""

    synthetic: Path
    """The synthetic set to judge. Example: data/synthetic"""

    real: Path
    """The real set to judge it against. Example: data/cbis-ddsm"""

    out: Path
    """The assessment's folder, which is made. Example: assessments/synthetic"""

    seed: Seed = 0
    """Moves the redraws of the intervals."""

    baseline: Path | None = None
    """A second synthetic set, measured in the same run. Example: data/dcgan"""

    features: tuple[FeatureSpace, ...] = Field(default=(), max_length=8, validate_default=True)
    """Spaces in which distances, scores and copies are measured: frozen public networks, each with
    a label.
    Example: [{label: DINOv2, name: vit_small_patch14_dinov2, weights: hub}]
    """

    inception: InceptionSettings | None = None
    """The network of FID; only with it is there a figure called FID.
    Example: {weights: weights/pt_inception-2015-12-05.pth, sha256:
    0000000000000000000000000000000000000000000000000000000000000000}
    """

    neighbours: int = Field(default=5, ge=1, le=100)
    """The k of precision, recall, density, coverage and beta-recall."""

    compare_n: int | None = Field(default=None, ge=2, le=5000)
    """Images of either side that these are taken of; all of the smallest set when not set, at most
    1104.
    Example: 500
    """

    max_images: int = Field(default=10_000, ge=10, le=50_000)
    """Images that are read of a synthetic set at most, evenly spaced."""

    radiomics_n: int = Field(default=1104, ge=0, le=10_000)
    """Images of each set, drawn once, whose radiomic features FRD is made of at most; 0: no FRD."""

    attributes: Attributes | None = None
    """Columns of the real set's manifest: by their groups it is said who is missing and whom a
    classifier serves, as by targets, and whether the set tells them of its patients. Numbers are
    cut at points.
    Example: {view: none, breast_density: none, age: [50, 70]}
    """

    redraws: int = Field(default=2000, ge=100, le=100_000)
    """How often patients are drawn for an interval."""

    precision: Literal["auto", "float32"] = "auto"
    """`auto` multiplies in bfloat16 where the hardware does: three times as fast, and features that
    differ by about a hundredth.
    """

    @field_validator("features")
    @classmethod
    def _are_named_apart(cls, spaces: tuple[FeatureSpace, ...]) -> tuple[FeatureSpace, ...]:
        labels = [space.label.lower() for space in spaces]
        if not labels:
            raise ValueError(
                "name at least one frozen network, with a local file of its weights and its "
                "sha256, as configs/gan/assess.yaml does"
            )
        if {"pixels", "inception"} & set(labels):
            raise ValueError("a label is taken (pixels, inception); choose another")
        if len(set(labels)) != len(labels):
            raise ValueError("two spaces have the same label; name each after its network")
        return spaces
