"""Settings of the pretrain stage."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from synthdp.config.settings import ADDED_LATER, Seed, Settings
from synthdp.data.views.augmentation import Augmentation
from synthdp.networks.settings import FeatureSettings, TrainableBlocks
from synthdp.privacy.settings import PrivacySettings
from synthdp.privacy.units import CohortPart


class PretrainSettings(Settings):
    """The pretrain stage: ordinary training, on a synthetic, phantom or public set.

    A set of patients, or a `cohort` of them, is allowed: that is the baseline without privacy. With
    `trainable_blocks: 0` the head alone is fitted, to the end: then `epochs`, `batch`, the rates
    and `warmup` have no meaning, and `weight_decay` weighs half the squared norm against the mean
    loss.
    """

    data: Path
    """The data set; its train split is learned. Example: data/synthetic"""

    out: Path
    """The run's folder, which is made. Example: runs/pre"""

    seed: Seed = 0
    """Moves initialisation and augmentation."""

    privacy: PrivacySettings = PrivacySettings()
    """There is none here: `privacy.epsilon` must be none."""

    cohort: CohortPart = None
    """A part of the patients, such as the first of two, which a keyed hash of their ids decides;
    all, when not set.
    Example: 1/2
    """

    backbone: FeatureSettings = FeatureSettings()
    """The network that is trained."""

    trainable_blocks: TrainableBlocks = 2
    """How many blocks, counted from the end, are trained; the final norm goes with the last block.
    0 fits the head alone.
    """

    epochs: int = Field(default=10, ge=1, le=10_000)
    """Passes over the set; each shows one of the `views` of each image."""

    minutes: Annotated[float | None, ADDED_LATER] = Field(default=None, gt=0)
    """The training ends after so many minutes, if it has not before: rates and ramps follow the
    clock then, so that the model is a finished one. What is read before and after comes on top;
    without an end that the clock brings, the model is the same as without `minutes`.
    Example: 30
    """

    batch: int = Field(default=32, ge=1, le=4096)
    """Images a step."""

    lr: float = Field(default=1e-4, gt=0)
    """Learning rate of the blocks."""

    head_lr: float = Field(default=1e-3, gt=0)
    """Learning rate of the head."""

    weight_decay: float = Field(default=0.05, ge=0)
    """Decay of the weights, as AdamW takes it."""

    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the learning rates rise; then they fall as a cosine."""

    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """How much of each label is given to the other class."""

    views: int = Field(default=2, ge=1, le=64)
    """Views of each image, of which the first is the image itself."""

    augment: Annotated[Augmentation | None, ADDED_LATER] = None
    """Draws another view of each image in each epoch, at random, and keeps none: for many images,
    and for a network that is trained whole. `views` then says nothing.
    Example: {flip: true}
    """

    packed_bits: Annotated[Literal[8, 16] | None, ADDED_LATER] = None
    """With `augment`: bits of a pixel in the packed form from which images are read in each epoch;
    8 when not set.
    Example: 16
    """

    teacher: FeatureSettings | None = None
    """A frozen public network, whose features of the whole image the blocks learn to reproduce,
    from any view and without labels; the head is then fitted to the labels.
    Example: {name: vit_small_patch14_dinov2, weights: hub}
    """

    @model_validator(mode="after")
    def _trains_without_privacy(self) -> "PretrainSettings":
        if self.privacy.protects:
            raise ValueError(
                "pretrain trains without differential privacy, so "
                f"{self.privacy.asked_by} must be none; "
                "patients are trained on with an epsilon by the finetune stage"
            )
        if self.teacher is not None and self.trainable_blocks == 0:
            raise ValueError("a teacher needs blocks that learn; raise trainable_blocks")
        if self.augment is not None and self.trainable_blocks != "all":
            raise ValueError(
                "augment: draws images anew, which a frozen trunk would have to see anew too; set "
                "trainable_blocks to all, or leave augment out and set views"
            )
        if self.packed_bits is not None and self.augment is None:
            raise ValueError(
                "packed_bits: without augment no packed form is read; set augment, or leave it out"
            )
        if self.minutes is not None and self.trainable_blocks == 0:
            raise ValueError(
                "minutes: with trainable_blocks 0 the head alone is fitted, to its optimum; leave "
                "minutes out"
            )
        return self
