"""Settings of what a frozen public network adds to adversarial training."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from synthdp.config import BackboneSettings, Settings

Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class GuidanceSettings(Settings):
    """How a frozen public network guides the generator (`gan.guidance`), beside its discriminator.

    `features` names the network (its `size_px` is not used: it sees the images as they are), which
    is asked every `interval` steps, with its weight multiplied by as much. `projected_weight` is
    that of the heads on its maps, which are `width` channels wide and learn at `projected_lr`;
    `moments_weight` that of matched feature moments, `spectrum_weight` of the matched spectrum.
    `ramp`: between these shares of the training the network's part fades in. Before, the generator
    is so far off that heads on good features would drown its discriminator; and a step takes half
    the time.
    """

    features: BackboneSettings
    ramp: tuple[Share, Share] = (0.25, 0.35)
    interval: int = Field(default=4, ge=1, le=64)
    projected_weight: Weight = 0.25
    projected_lr: float = Field(default=3e-4, gt=0)
    width: int = Field(default=64, ge=4, le=512)
    moments_weight: Weight = 1.0
    spectrum_weight: Weight = 0.1

    @model_validator(mode="after")
    def _the_ramp_rises(self) -> Self:
        if self.ramp[0] >= self.ramp[1]:
            raise ValueError("ramp must rise: [begin, end], both shares of the training")
        return self

    def strength_at(self, progress: float) -> float:
        """How much of the network's part counts at a share of the training, 0 to 1."""
        begin, end = self.ramp
        return min(max((progress - begin) / (end - begin), 0.0), 1.0)
