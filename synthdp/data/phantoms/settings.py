"""Which phantoms to draw."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from synthdp.config.settings import (
    Seed,
    Settings,
)


class PhantomSettings(Settings):
    """A phantom data set."""

    out: Path
    """The data set, which is made. Example: data/phantoms"""

    patients: int = Field(default=500, ge=1, le=999_999)
    """How many made-up patients are drawn."""

    size_px: int = Field(default=128, ge=16, le=1024)
    """Side of the images in pixels."""

    seed: Seed = 0
    """Which phantoms are drawn."""

    name: str = Field(default="phantoms", pattern=r"^[A-Za-z0-9_. -]{1,64}$")
    """What results call the set."""

    as_real: bool = False
    """Makes the ledger treat the phantoms as patients."""

    val_fraction: float = Field(default=0.15, ge=0, lt=1)
    """Share of the patients in val."""

    test_fraction: float = Field(default=0.15, ge=0, lt=1)
    """Share of the patients in test."""

    malignant_fraction: float = Field(default=0.45, ge=0, le=1)
    """Share of malignant lesions."""

    site_b_fraction: float = Field(default=0.3, ge=0, le=1)
    """Share of the patients of a second site, B, with a digital detector in the place of A's film.
    """

    separation: float = Field(default=2.2, ge=0, le=10)
    """How far apart the classes lie, in standard deviations of the hidden suspicion that shapes
    every lesion: a classifier that saw it exactly would reach an AUROC of Phi(separation / sqrt 2),
    0.94 at 2.2; what pixels still show of it allows less.
    """

    site_shift: float = Field(default=0.0, ge=0, le=4)
    """Sets the two sites further apart, in response, noise and sharpness, for studies of domain
    transfer.
    """

    style: Literal["fibrous", "lumpy"] = "fibrous"
    """The recipe of tissue, masses and detector: `fibrous` is modelled on mammograms; `lumpy` draws
    the same traits otherwise, for a set that the public phantoms shall not resemble.
    """

    @model_validator(mode="after")
    def _leaves_a_train_split(self) -> "PhantomSettings":
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                "val_fraction + test_fraction leave no patient for training; lower one of them"
            )
        return self
