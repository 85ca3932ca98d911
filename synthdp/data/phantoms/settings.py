"""Which phantoms to draw."""

from pathlib import Path

from pydantic import Field, model_validator

from synthdp.config.settings import (
    Seed,
    Settings,
)


class PhantomSettings(Settings):
    """A phantom data set.

    `separation` is how far apart the classes lie, in standard deviations of the hidden suspicion
    that shapes every lesion: a classifier that saw it exactly would reach an AUROC of
    Phi(separation / sqrt 2), 0.94 at 2.2; what pixels still show of it allows less. `as_real` makes
    the ledger treat the phantoms as patients. `site_b_fraction` of the patients come from a second
    site, B, with a digital detector in the place of A's film; `site_shift` sets the two further
    apart, in response, noise and sharpness, for studies of domain transfer.
    """

    out: Path
    patients: int = Field(default=500, ge=1, le=999_999)
    size_px: int = Field(default=128, ge=16, le=1024)
    seed: Seed = 0
    name: str = Field(default="phantoms", pattern=r"^[A-Za-z0-9_. -]{1,64}$")
    as_real: bool = False
    val_fraction: float = Field(default=0.15, ge=0, lt=1)
    test_fraction: float = Field(default=0.15, ge=0, lt=1)
    malignant_fraction: float = Field(default=0.45, ge=0, le=1)
    site_b_fraction: float = Field(default=0.3, ge=0, le=1)
    separation: float = Field(default=2.2, ge=0, le=10)
    site_shift: float = Field(default=0.0, ge=0, le=4)

    @model_validator(mode="after")
    def _leaves_a_train_split(self) -> "PhantomSettings":
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                "val_fraction + test_fraction leave no patient for training; lower one of them"
            )
        return self
