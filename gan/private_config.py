"""Settings of the private ways to train a generator; every number is public."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from synthdp.config import BackboneSettings, Settings


class EmbeddingSettings(Settings):
    """What is released of the patients, once, for a generator to be matched to (`gan.embedding`).

    `features` names the frozen public network (its `size_px` is not used). `public` is a data set
    without patients, such as phantoms, that the features are standardised by. `constant` is the
    part of an image's vector of norm 1 that is spent on counting the images of a class.

    Means alone say nothing of variety, so where the run has an `init`, `layout_weight` holds each
    generated image to the coarse layout (an eighth of the side) of what `init` draws from the same
    latent vector. `separation` multiplies what sets the two classes' means apart; 1 is as released.
    """

    features: BackboneSettings
    public: Path
    constant: float = Field(default=0.25, gt=0, lt=1)
    layout_weight: float = Field(default=0.1, ge=0)
    separation: float = Field(default=1.0, gt=0, le=4)


class DpDiscriminatorSettings(Settings):
    """EXPERIMENTAL: how a discriminator learns from patients by DP-SGD; every number is public.

    `steps` is how often the discriminator is moved, each time by a Poisson sample of the patients
    at `sampling_rate` whose gradients are clipped to `clip_norm` each. The generator is moved once
    in `discriminator_steps_per_generator_step` of them, at no cost in privacy; below 1, several
    times after each; not at all in the first `head_start` ones, so that noise does not lead it
    before the discriminator has learned something. `channels` gives the width of the
    discriminator's stages from 4 px on: fewer weights take less noise. Real images are paired with
    `fakes` generated ones, drawn anew when the generator has moved. `block_steps` are kept and
    accounted for at a time.
    """

    steps: int = Field(default=1000, ge=1, le=100_000)
    sampling_rate: float = Field(default=0.25, gt=0, le=1)
    clip_norm: float = Field(default=1.0, gt=0)
    discriminator_steps_per_generator_step: float = Field(default=10, ge=0.01, le=1000)
    head_start: int = Field(default=0, ge=0)
    channels: tuple[Annotated[int, Field(ge=4, le=1024)], ...] = (48, 32, 32, 24)
    fakes: int = Field(default=256, ge=2, le=8192)
    block_steps: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _the_generator_moves(self) -> Self:
        if self.steps < self.head_start + self.discriminator_steps_per_generator_step:
            raise ValueError(
                f"steps is {self.steps}, fewer than head_start and "
                "discriminator_steps_per_generator_step together, so that the generator would "
                "never move; raise steps"
            )
        return self
