"""Settings of a network that is trained with its head."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from classify.settings.by_epsilon import NumberByEpsilon, number_at
from synthdp.config.settings import ADDED_LATER, Settings
from synthdp.data.views.augmentation import Augmentation
from synthdp.privacy.settings import ClipNorm

#: What moves in the blocks that DP-SGD trains: all their weights, or low-rank additions to them.
Tune = Literal["blocks", "lora"]


#: Values that settings of `network` once had, and what to do instead.
_DROPPED = {
    "images: one": "one image a patient was dropped in synthdp 0.1.0, since it was no gain; "
    "leave network.images out, so that a patient's gradient is the mean over all images",
    "tune: biases": "training biases alone was dropped in synthdp 0.1.0, since it was no gain; "
    "take blocks or lora, or leave `network` out, which was better",
}


#: What takes a network's steps, on gradients that are public by then.
NetworkOptimizer = Literal["sgd", "nadam"]
#: NAdam's steps are as long as its rate, whatever the gradient: more is a rate of SGD.
MOST_NADAM_RATE = 1.0


class NetworkSettings(Settings):
    """How the network, or its end, is trained together with its head; every number is public.

    A patient's gradient is the mean over all of its images and `views` of each. The head is always
    trained.
    """

    trainable_blocks: Annotated[int, Field(ge=1)] | Literal["all"] = 2
    """How many blocks of a transformer, or stages of a convolutional network, counted from the end,
    are trained with the head; `all` trains the whole network.
    """

    tune: Tune = "blocks"
    """What moves in the blocks: `blocks` all weights; `lora` a low-rank addition to each matrix
    (arXiv 2106.09685), merged into it in the end.
    """

    lora_rank: int = Field(default=4, ge=1)
    """Rank of these additions."""

    steps: int = Field(default=60, ge=1, le=100_000)
    """Steps of DP-SGD."""

    sampling_rate: float = Field(default=0.25, gt=0, le=1)
    """Probability of each patient to be in a step's Poisson sample."""

    optimizer: Annotated[NetworkOptimizer | None, ADDED_LATER] = None
    """What takes the steps, on gradients that have their noise already: `sgd` with `momentum`, also
    when not set, or `nadam` (Dozat 2016), whose steps are about as long as `lr` whatever the
    gradient.
    Example: nadam
    """

    lr: NumberByEpsilon = 2.0
    """Learning rate; `nadam` takes one such as 0.02, which moves weights by 0.02 times `scale`. A
    mapping from epsilons gives it for the stage's epsilon, log-linear between two.
    Example: {none: 0.05, 8: 0.02, 1: 0.005}
    """

    scale: float = Field(default=0.01, gt=0)
    """The blocks are trained in units of this: a block's gradient is a hundred times the head's,
    which would else have no part of the clipped vector.
    """

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of the noisy gradients; of `nadam` its first beta."""

    clip_norm: ClipNorm = 1.0
    """Norm to which each patient's gradient is clipped."""

    average_from: float = Field(default=0.5, ge=0, lt=1)
    """The iterates from this share of the steps on are averaged."""

    average_decay: Annotated[float | None, ADDED_LATER] = Field(default=None, gt=0, lt=1)
    """Averages them exponentially, each new one counting 1 less this; evenly when not set.
    Example: 0.99
    """

    images: Literal["all"] = "all"
    """Has one value. The key stays, since run folders are named by a hash of all settings and a
    resumed run is compared with its config.yaml: without it, runs of before would not be known
    again.
    """

    max_images: Annotated[int | None, ADDED_LATER] = Field(default=None, ge=1)
    """Of a patient with more images so many are drawn anew in each step; all when not set.
    Example: 4
    """

    views: int = Field(default=1, ge=1, le=64)
    """Views of each image that are averaged over."""

    augment: Annotated[Augmentation | None, ADDED_LATER] = None
    """Draws the views of an image anew in each step, at random; what is not named in it has its
    default. Without it, of `trainable_blocks` below `all` the first view is the image itself and
    the others are the same in every step, and a whole network sees the image itself.
    Example: {flip: true}
    """

    packed_bits: Annotated[Literal[8, 16] | None, ADDED_LATER] = None
    """Bits of a pixel in the packed form from which a network that sees images reads them in each
    step; 8 when not set. 16 for a set of 16-bit images; never read from them.
    Example: 16
    """

    batch: int = Field(default=16, ge=1, le=4096)
    """Views computed at a time; changes memory and time alone."""

    block_steps: int = Field(default=5, ge=1)
    """Steps that are kept and accounted for at a time."""

    @field_validator("images", "tune", mode="before")
    @classmethod
    def _what_was_dropped_is_named(cls, value: object, info: ValidationInfo) -> object:
        dropped = _DROPPED.get(f"{info.field_name}: {value}")
        if dropped is not None:
            raise ValueError(dropped)
        return value

    @model_validator(mode="after")
    def _views_differ(self) -> "NetworkSettings":
        if self.trainable_blocks == "all" and self.views > 1 and self.augment is None:
            raise ValueError(
                f"network.views is {self.views}, but without network.augment a whole network sees "
                "the image itself in each of them; set augment, such as {flip: false}, or views 1"
            )
        return self

    @model_validator(mode="after")
    def _a_rate_is_its_optimizers(self) -> "NetworkSettings":
        most = max(self.lr.values()) if isinstance(self.lr, dict) else self.lr
        if self.optimizer == "nadam" and most > MOST_NADAM_RATE:
            raise ValueError(
                f"network.lr is {most:g}, a rate of sgd: steps of nadam are as long as lr, so "
                "set a small one, such as 0.02"
            )
        return self

    @model_validator(mode="after")
    def _a_rank_is_one_of_lora(self) -> "NetworkSettings":
        if self.tune != "lora" and self.lora_rank != type(self).model_fields["lora_rank"].default:
            raise ValueError(
                f"network.lora_rank is {self.lora_rank}, but network.tune is {self.tune}, which "
                "has no rank; set network.tune: lora, or leave lora_rank out"
            )
        return self

    def at(self, stage_epsilon: float) -> "NetworkSettings":
        """The recipe at the epsilon of its stage alone, inf for none: its `lr` is one number."""
        return self.model_copy(update={"lr": number_at(stage_epsilon, self.lr)})
