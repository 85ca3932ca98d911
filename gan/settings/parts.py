"""Parts of train-gan's settings: what is done to images, what guides, and the private ways."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from synthdp.config.settings import ADDED_LATER, Settings
from synthdp.networks.settings import BackboneSettings
from synthdp.privacy.settings import ClipNorm

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Symmetry = Literal["none", "mirror", "dihedral"]


def _listed(value: Any) -> Any:
    """A single path as a list of one."""
    return [value] if isinstance(value, str | Path) else value


class FindingsTable(Settings):
    """A published table of labels: several findings are drawn as they stand together in it."""

    table: Annotated[tuple[Path, ...], BeforeValidator(_listed), Field(min_length=1)]
    """A CSV table, plain or gzipped, with a column of 1, 0 or nothing for each finding, by its
    name, such as the manifest of a public set; or those of a `collection`.
    Example: Data_Entry_2017_v2020.csv.gz
    """

    table_is_public: bool = False
    """Says that the table is published: what is drawn by it shows how findings stand together in
    it.
    """

    collection: str | None = None
    """The known collection by whose mapping the table is read (`synthdp data import --like`).
    Example: nih-cxr14
    """

    @model_validator(mode="after")
    def _is_public(self) -> Self:
        if not self.table_is_public:
            raise ValueError(
                "what is drawn by a table shows how findings stand together in it; say "
                "table_is_public: true of a published one, and give public shares in findings in "
                "place of a table of patients of your own"
            )
        if len(self.table) > 1 and self.collection is None:
            raise ValueError("table: several are read by a collection; name it, or one table")
        return self


class AugmentationSettings(Settings):
    """What is done to every image before the discriminator sees it, and how often.

    Each is applied with a probability that a controller moves.
    """

    translation: Share = 0.125
    """Largest shift, as a share of the image's side."""

    brightness: Share = 0.1
    """Largest change of the mean, in grey levels of [-1, 1]; small, because mean density is class
    information.
    """

    contrast: Share = 0.2
    """0.2 stretches grey levels by 0.8 to 1.2."""

    cutout: Share = 0.5
    """Side of the square that is blanked, as a share of the image's side."""

    symmetry: Symmetry = "mirror"
    """Done to real images alone, always, and so learned: `mirror` swaps left and right, which
    mammograms allow; `dihedral` also turns, which mixes the scanner's two axes.
    """

    strength_start: Share = 0.3
    """Probability at the start."""

    strength_min: Share = 0.2
    """Lowest probability that the controller takes."""

    strength_max: Share = 0.6
    """Highest probability that the controller takes."""

    target_sign: Share = 0.6
    """Mean sign of the discriminator on real images that the controller aims at."""

    ramp_kimg: Positive = 50.0
    """Thousands of images in which the probability could go from 0 to 1."""

    @model_validator(mode="after")
    def _start_lies_between(self) -> Self:
        if not self.strength_min <= self.strength_start <= self.strength_max:
            raise ValueError("strength_start must lie between strength_min and strength_max")
        return self


class GuidanceSettings(Settings):
    """How a frozen public network guides the generator, beside its discriminator."""

    features: BackboneSettings
    """The network; its `size_px` is not used, since it sees the images as they are.
    Example: {name: vit_small_patch14_dinov2, weights: hub}
    """

    ramp: tuple[Share, Share] = (0.25, 0.35)
    """Between these shares of the training the network's part fades in. Before that the generator
    is so far off that heads on good features would drown out its discriminator, and a step without
    the network takes half the time.
    """

    interval: int = Field(default=4, ge=1, le=64)
    """The network is asked every so many steps, with its weight multiplied by as much."""

    projected_weight: NotNegative = 0.25
    """Weight of the heads on the network's maps."""

    projected_lr: float = Field(default=3e-4, gt=0)
    """Learning rate of these heads."""

    width: int = Field(default=64, ge=4, le=512)
    """Channels of the maps that the heads see."""

    moments_weight: NotNegative = 1.0
    """Weight of matched feature moments."""

    spectrum_weight: NotNegative = 0.1
    """Weight of the matched power spectrum."""

    @model_validator(mode="after")
    def _the_ramp_rises(self) -> Self:
        if self.ramp[0] >= self.ramp[1]:
            raise ValueError("ramp must rise: [begin, end], both shares of the training")
        return self

    def strength_at(self, progress: float) -> float:
        """How much of the network's part counts at a share of the training, 0 to 1."""
        begin, end = self.ramp
        return min(max((progress - begin) / (end - begin), 0.0), 1.0)


class EmbeddingSettings(Settings):
    """What is released of the patients, once, for a generator to be matched to."""

    features: BackboneSettings
    """The frozen public network; its `size_px` is not used.
    Example: {name: vit_small_patch14_dinov2, weights: hub}
    """

    public: Path
    """A data set without patients, such as phantoms, that the features are standardised by.
    Example: data/phantoms
    """

    constant: float = Field(default=0.25, gt=0, lt=1)
    """First number of an image's vector, which has norm 1: the sum of these counts the images of a
    class.
    """

    components: Annotated[int | None, ADDED_LATER] = Field(default=None, ge=2, le=4096)
    """So many directions in which the features of the public images vary most stand for all, so
    that fewer numbers take noise: of several findings some dozens; all features when not set.
    Example: 64
    """

    layout_weight: float = Field(default=0.1, ge=0)
    """Where the run has an `init`, holds each generated image to the coarse layout (an eighth of
    the side) of what `init` draws from the same latent vector, since means alone say nothing of
    variety.
    """

    separation: float = Field(default=1.0, gt=0, le=4)
    """Multiplies the difference of the two classes' means; 1 leaves it as it was released."""


class SelectionSettings(Settings):
    """What is released of the patients, once, and the public pool that is weighted by it."""

    features: BackboneSettings
    """A frozen public network whose maps' means are part of an image's vector; its `size_px` is not
    used.
    Example: {name: tf_efficientnet_lite0, weights: hub}
    """

    tokens: BackboneSettings
    """A second frozen public network, whose pooled features are the other part; a transformer at a
    small side costs as much as a convolutional network at a large one.
    Example: {name: vit_small_patch14_dinov2, weights: hub, size_px: 98}
    """

    pool: Annotated[tuple[Path, ...], BeforeValidator(_listed), Field(min_length=1)]
    """Data sets without patients, such as phantoms of several styles, whose train splits are the
    candidates: what they lack no weight can bring, and what they have too much of costs a weight.
    Example: [data/pool-fibrous, data/pool-varied]
    """

    images: int = Field(default=3000, ge=1, le=50_000)
    """Candidates of each class that are kept, and drawn from later; each is taken once."""

    components: int = Field(default=128, ge=2, le=2048)
    """So many directions in which the pool varies most stand for all features in the release."""

    constant: float = Field(default=0.25, gt=0, lt=1)
    """First number of an image's vector, which has norm 1 at most: the sum of these counts the
    images of a class.
    """

    separation: float = Field(default=1.0, gt=0, le=4)
    """Multiplies the difference of the two classes' means, and with `conditions_share` those of
    values; 1 leaves them as they were released.
    """

    conditions_share: Annotated[float | None, ADDED_LATER] = Field(default=None, gt=0, lt=1)
    """Releases of patients' `conditions` too how images of each value look, with this share of each
    patient's squared bound, which the classes lose; epsilon is the same. Of patients no condition
    is read when this is not set.
    Example: 0.4
    """


class DpDiscriminatorSettings(Settings):
    """EXPERIMENTAL: how a discriminator learns from patients by DP-SGD; every number is public."""

    steps: int = Field(default=1000, ge=1, le=100_000)
    """How often the discriminator is moved."""

    sampling_rate: float = Field(default=0.25, gt=0, le=1)
    """Probability of each patient to be in a step's Poisson sample."""

    clip_norm: ClipNorm = 1.0
    """Norm to which each patient's gradient is clipped."""

    discriminator_steps_per_generator_step: float = Field(default=10, ge=0.01, le=1000)
    """The generator is moved once in so many steps, at no cost in privacy; below 1, several times
    after each.
    """

    head_start: int = Field(default=0, ge=0)
    """In so many first steps the generator is not moved, so that noise does not lead it before the
    discriminator has learned something.
    """

    channels: tuple[Annotated[int, Field(ge=4, le=1024)], ...] = (48, 32, 32, 24)
    """Width of the discriminator's stages from 4 px on: fewer weights take less noise."""

    fakes: int = Field(default=256, ge=2, le=8192)
    """Generated images that real ones are paired with, drawn anew when the generator has moved."""

    block_steps: int = Field(default=20, ge=1)
    """Steps that are kept and accounted for at a time."""

    @model_validator(mode="after")
    def _the_generator_moves(self) -> Self:
        if self.steps < self.head_start + self.discriminator_steps_per_generator_step:
            raise ValueError(
                f"steps is {self.steps}, fewer than head_start and "
                "discriminator_steps_per_generator_step together, so that the generator would "
                "never move; raise steps"
            )
        return self
