"""Settings of the classifier's stages."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from synthdp.config import BackboneSettings, PrivacySettings, Settings


def _auto_word(value: object) -> object:
    return None if value == "auto" else value


class HeadSettings(Settings):
    """How a linear head is trained on cached features; every number is public.

    `lr_times_steps` is the learning rate times `steps`; `auto` takes it from the stage's epsilon
    (`classify.finetune.auto_lr_times_steps`). `bias_input` is the constant that the bias sees
    beside unit-norm features. `start: pretrained` begins with the head of `init`.
    """

    steps: int = Field(default=60, ge=1, le=100_000)
    lr_times_steps: Annotated[float | None, BeforeValidator(_auto_word)] = Field(default=None, gt=0)
    clip_norm: float = Field(default=1.0, gt=0)
    average_from: float = Field(default=0.5, ge=0, lt=1)
    bias_input: float = Field(default=0.5, ge=0, le=10)
    start: Literal["zero", "pretrained"] = "zero"
    block_steps: int = Field(default=20, ge=1)


class FinetuneSettings(Settings):
    """The finetune stage: a head on frozen features of real patients.

    `init` is a pretrained run; without it the features are those of `backbone`. `synthetic` is a
    set whose images are mixed in with `synthetic_weight`, `centre` a set whose mean feature is
    subtracted: what either descends from is part of the lineage.
    """

    data: Path
    out: Path
    seed: int = 0
    privacy: PrivacySettings = PrivacySettings()
    init: Path | None = None
    backbone: BackboneSettings | None = None
    synthetic: Path | None = None
    synthetic_weight: float = Field(default=0.5, gt=0, lt=1)
    centre: Path | None = None
    head: HeadSettings = HeadSettings()

    @model_validator(mode="after")
    def _one_source_of_features(self) -> "FinetuneSettings":
        if (self.init is None) == (self.backbone is None):
            raise ValueError("set either init (a pretrained run) or backbone, and not both")
        if self.head.start == "pretrained" and self.init is None:
            raise ValueError("head.start is pretrained, so init must name a pretrained run")
        if self.init is not None and self.centre is not None:
            raise ValueError("init brings its own centre; leave centre out")
        if self.privacy.epsilon is not None and self.privacy.population is None:
            raise ValueError(
                "privacy.population is missing: a public round upper bound on the number of "
                "patients, such as 600 for CBIS-DDSM; the true count is private"
            )
        return self
