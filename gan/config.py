"""Settings of the generator's stages: train-gan with its parts, generate, export and assess."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from gan.package.conditions import Conditions
from gan.package.description import DcganShape, HaarShape
from synthdp.config.settings import (
    ADDED_LATER,
    BackboneSettings,
    ClipNorm,
    PrivacySettings,
    Seed,
    Settings,
)
from synthdp.errors import InputError
from synthdp.privacy.units import CohortPart

#: Generators that are joined into one, at most.
MAX_MIXED = 8

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


# Parts of train-gan: what is done to images, what guides the generator, and the private ways.


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

    symmetry: Literal["none", "mirror", "dihedral"] = "mirror"
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

    layout_weight: float = Field(default=0.1, ge=0)
    """Where the run has an `init`, holds each generated image to the coarse layout (an eighth of
    the side) of what `init` draws from the same latent vector, since means alone say nothing of
    variety.
    """

    separation: float = Field(default=1.0, gt=0, le=4)
    """Multiplies the difference of the two classes' means; 1 leaves it as it was released."""


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


# The stages.


class TrainGanSettings(Settings):
    """How a generator is trained on the train split of a data set.

    `arch: dcgan` with `loss: bce` is the paper's baseline (`gan.network.dcgan`). With
    `dp_discriminator`, its `steps` give the length and its blocks the checkpoints; `gamma_start`,
    `gamma_end`, `penalty_interval`, `kimg` and `checkpoint_kimg` have no meaning, augmentation
    stays at `strength_start`, and `batch` is that of the generator's steps. What is done at the end
    of a training (`class_spread`, `style_spread`, `film`) is in `gan.training.finish`.
    """

    data: Path
    """The data set; its train split is learned. Example: data/cbis-ddsm"""

    out: Path
    """The run's folder, which is made. Example: runs/gan"""

    seed: Seed = 0
    """Moves initialisation and augmentation; never the noise of a private training."""

    method: Literal["adversarial", "embedding", "dp_discriminator"] = "adversarial"
    """`adversarial` has no differential privacy, so `privacy.epsilon` must be none. The private
    ones are `embedding`, one noisy release of mean features that the generator is matched to, and
    `dp_discriminator`, DP-SGD on the discriminator, which is EXPERIMENTAL; both are the same recipe
    without clipping and noise where `privacy.epsilon` is none.
    """

    privacy: PrivacySettings = PrivacySettings()
    """The promise to the patients of `data`."""

    class_prior: float = Field(default=0.5, gt=0, lt=1)
    """Share of class 1 that a private method draws: public, never counted in the patients."""

    init: Path | None = None
    """A finished generator of the same shape, or `pretrained:NAME`, to start from; what it descends
    from is part of the lineage.
    Example: pretrained:mcgan-cbis
    """

    embedding: EmbeddingSettings | None = None
    """What `method: embedding` releases and matches."""

    dp_discriminator: DpDiscriminatorSettings = DpDiscriminatorSettings()
    """How `method: dp_discriminator` trains."""

    cohort: CohortPart = None
    """A part of the patients, such as the first of two, which a keyed hash of their ids decides;
    all, when not set.
    Example: 1/2
    """

    arch: Literal["haar", "dcgan"] = "haar"
    """Kind of network: `haar` draws wavelet bands, `dcgan` is the paper's baseline."""

    conditions: tuple[str, ...] = Field(default=(), max_length=3)
    """Columns of the manifest that are given to the networks beside the class, at most 3.
    Example: [view]
    """

    targets: Annotated[tuple[str, ...] | None, ADDED_LATER] = Field(default=None, min_length=1)
    """The targets of the set that the generator is conditioned on, such as some findings of
    radiographs; all when not set. Several are taken by arch: haar and method: adversarial alone.
    Example: [effusion, cardiomegaly]
    """

    findings: Annotated[dict[str, Share] | None, ADDED_LATER] = None
    """How often each of several targets is drawn later, apart from the others: public shares, in
    place of how they stand together in the train split.
    Example: {effusion: 0.12, cardiomegaly: 0.03}
    """

    condition_prior: dict[str, dict[str, Positive]] | None = None
    """How the conditions are drawn later, in place of how they stand in the train split.
    Example: {view: {CC: 1, MLO: 1}}
    """

    size_px: Literal[32, 64, 128, 256, 512] = 128
    """Side of the images in pixels."""

    haar_levels: Literal[1, 2] = 1
    """With 2 the networks work at a quarter of the image's side, not half: about twice as fast."""

    channels: tuple[Annotated[int, Field(ge=4, le=1024)], ...] = (192, 160, 96, 64, 32)
    """Width of the stages from 4 px to the finest side, for generator and discriminator alike: one
    number for each stage.
    """

    z_dim: int = Field(default=128, ge=2, le=1024)
    """Length of the random vector that an image is drawn from."""

    kimg: Positive = 300.0
    """Length of the training: thousands of real images shown."""

    minutes: Annotated[Positive | None, ADDED_LATER] = None
    """The training ends after so many minutes, if it has not before: rates and ramps follow the
    clock then, so that the model is a finished one. What is read before and after comes on top;
    without an end that the clock brings, the model is the same as without `minutes`.
    Example: 30
    """

    batch: int = Field(default=16, ge=4, le=1024, multiple_of=4)
    """Images a step, a multiple of 4."""

    loss: Literal["relativistic", "non_saturating", "bce"] = "relativistic"
    """Loss of the two networks; `bce` is the paper's."""

    generator_lr: Positive = 2e-4
    """Learning rate of the generator."""

    discriminator_lr: Positive = 2e-4
    """Learning rate of the discriminator."""

    final_lr_share: Share = 0.25
    """Share of the learning rates that is left at the end."""

    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Adam's decay of the first moment."""

    beta2_start: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Adam's decay of the second moment at the start."""

    beta2_end: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Adam's decay of the second moment at the end."""

    gamma_start: NotNegative = 10.0
    """Weight of the gradient penalty at the start; 0 leaves it out."""

    gamma_end: NotNegative = 1.0
    """Weight of the gradient penalty at the end."""

    penalty_interval: int = Field(default=8, ge=1)
    """The penalty is taken every so many steps."""

    class_ramp: tuple[Share, Share] = (0.2, 0.45)
    """Between these shares of the training class and conditions fade in."""

    ema_kimg: Positive = 10.0
    """Half-life of the averaged weights, in thousands of images; `ema_share` may give a shorter
    one.
    """

    ema_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Half-life of the averaged weights as a share of what was shown so far; the smaller one
    counts.
    """

    augmentation: AugmentationSettings = AugmentationSettings()
    """What is done to images before the discriminator sees them."""

    guidance: GuidanceSettings | None = None
    """Adds what a frozen public network teaches, to the adversarial method.
    Example: {features: {name: vit_small_patch14_dinov2, weights: hub}}
    """

    class_spread: Annotated[float, Field(ge=1, le=3)] = 1.0
    """At the end the classes are set so many times as far apart, since with averaged weights they
    differ too little.
    """

    style_spread: Annotated[float, Field(ge=1, le=2)] = 1.0
    """At the end styles spread so many times as wide about their mean, since with averaged weights
    images vary too little.
    """

    film: bool = False
    """At the end grain and opaque marks are added, fitted to real images."""

    checkpoint_kimg: Positive = 10.0
    """A checkpoint every so many thousand images."""

    tensorboard: bool = False
    """Writes the metrics and sample grids to `private/tensorboard` too."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it is computed; `auto` takes a GPU if there is one."""

    def shape(self, conditions: Conditions) -> HaarShape | DcganShape:
        """The network that is asked for; its film is no part of it, as it is fitted at the end."""
        if self.arch == "dcgan":
            return DcganShape(size_px=self.size_px, channels=self.channels, z_dim=self.z_dim)
        return HaarShape(
            size_px=self.size_px,
            channels=self.channels,
            z_dim=self.z_dim,
            haar_levels=self.haar_levels,
            conditions=conditions,
        )

    @property
    def _changes_what_was_trained(self) -> bool:
        """Whether anything is done to the generator when its training is over."""
        return self.film or self.style_spread != 1 or self.class_spread != 1

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        finest_px = self.size_px // 2**self.haar_levels
        stages = (finest_px // 4).bit_length()
        if len(self.channels) != stages:
            raise ValueError(
                f"channels has {len(self.channels)} entries, but {self.size_px} px takes {stages} "
                f"with haar_levels {self.haar_levels}: one for each side from "
                f"4 px to {finest_px} px"
            )
        if self.class_ramp[0] >= self.class_ramp[1]:
            raise ValueError("class_ramp must rise: [begin, end], both shares of the training")
        return self

    @model_validator(mode="after")
    def _baseline_is_plain(self) -> Self:
        if self.arch == "dcgan" and self.haar_levels != 1:
            raise ValueError("arch: dcgan draws pixels; leave haar_levels at 1")
        if self.arch == "dcgan" and self.conditions:
            raise ValueError("arch: dcgan knows the class alone; leave conditions out")
        if self.arch == "dcgan" and self._changes_what_was_trained:
            raise ValueError(
                "arch: dcgan is the paper's baseline, which has neither styles nor a film; leave "
                "class_spread, style_spread and film out"
            )
        return self

    @model_validator(mode="after")
    def _the_promise_fits_the_method(self) -> Self:
        if self.method == "adversarial":
            if self.privacy.protects:
                raise ValueError(
                    f"{self.privacy.asked_by} is given, but method: adversarial trains without "
                    "differential privacy; set method: embedding (or dp_discriminator, which is "
                    f"experimental), or {self.privacy.asked_by}: none"
                )
            return self
        self.privacy.refuse_missing_population()
        if self.method == "dp_discriminator" and self.minutes is not None:
            raise ValueError(
                "minutes: the steps of method: dp_discriminator are part of its promise, so their "
                "number is fixed before the first and no clock decides it; set "
                "dp_discriminator.steps, and leave minutes out"
            )
        if self.method == "embedding" and self.embedding is None:
            raise ValueError(
                "embedding is missing: method: embedding needs its features and a public set; give "
                "embedding.features and embedding.public"
            )
        if self.guidance is not None:
            raise ValueError(
                f"method: {self.method} takes no guidance, which reads real images without noise; "
                "leave guidance out"
            )
        if self._changes_what_was_trained:
            raise ValueError(
                f"method: {self.method} takes neither film, style_spread nor class_spread: they "
                "finish an adversarial training, and read patients without noise; leave them out"
            )
        if self.conditions:
            raise ValueError(
                f"method: {self.method} knows the class alone, since the levels of conditions are "
                "read from patients; leave conditions out"
            )
        if self.arch != "haar":
            raise ValueError(f"method: {self.method} trains arch: haar; set that")
        return self

    @model_validator(mode="after")
    def _the_private_discriminator_fits(self) -> Self:
        if self.method != "dp_discriminator":
            return self
        self.privacy.refuse_discrete("method: dp_discriminator")
        if len(self.dp_discriminator.channels) != len(self.channels):
            raise ValueError(
                f"dp_discriminator.channels has {len(self.dp_discriminator.channels)} entries, but "
                f"channels has {len(self.channels)}; give one for each stage"
            )
        if self.loss != "non_saturating":
            raise ValueError(
                f"method: dp_discriminator judges no pairs and knows one loss; set loss: "
                f"non_saturating, not {self.loss}"
            )
        return self

    @model_validator(mode="after")
    def _conditions_agree(self) -> Self:
        if len(set(self.conditions)) != len(self.conditions):
            raise ValueError("conditions: a column stands twice; keep one")
        if self.condition_prior is not None and set(self.condition_prior) != set(self.conditions):
            raise ValueError("condition_prior must name each column of conditions, and no other")
        return self

    @model_validator(mode="after")
    def _targets_agree(self) -> Self:
        if self.targets is not None and len(set(self.targets)) != len(self.targets):
            raise ValueError("targets: one stands twice; keep it once")
        return self


class GenerateSettings(Settings):
    """Which generator to draw from, how much, and in what form.

    Either `per_class` images of each class, or `total` of which `malignant_share` are malignant; of
    a generator of several findings `total`, and how often each is drawn, if not as in training.
    """

    run: Path
    """A finished generator: a run of train-gan, or `pretrained:NAME`. Example: runs/gan"""

    out: Path
    """The synthetic data set, which is made. Example: data/synthetic"""

    per_class: int | None = None
    """Images of each class. Example: 1500"""

    total: int | None = None
    """Images in all, in place of `per_class`. Example: 3000"""

    malignant_share: Share | None = None
    """Share of `total` that is malignant; one half when not set. Example: 0.4"""

    findings: Annotated[dict[str, Share] | None, ADDED_LATER] = None
    """Of a generator of several findings: how often each is drawn, apart from the others, in place
    of how they stand together in the generator. Example: {effusion: 0.5, cardiomegaly: 0.5}
    """

    seed: Seed = 0
    """Which images are drawn."""

    bits: Literal[8, 16] = 8
    """Depth of the PNG files."""

    truncation: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Below 1 gives more typical and less varied images."""

    licence: str = Field(default="", max_length=64)
    """Licence of the set, for its card. Example: CC-BY-4.0"""

    batch: int = Field(default=64, ge=1, le=4096)
    """Images drawn at a time; changes memory and time alone."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it is computed; `auto` takes a GPU if there is one."""

    @property
    def count(self) -> int:
        """How many images are asked for."""
        return sum(self.class_counts)

    def refuse_other_classes(self, findings: tuple[str, ...]) -> None:
        """Refuse classes that are asked for otherwise than a generator of these findings takes.

        `findings` are none of a generator of one target.

        Raises:
            InputError: with what to set.
        """
        if findings and (self.per_class is not None or self.malignant_share is not None):
            raise InputError(
                f"per_class, malignant_share: the generator draws {len(findings)} findings "
                f"({', '.join(findings)}), which stand together in an image; set total, and "
                "findings for how often each is drawn, or leave that out for as in training"
            )
        if self.findings is not None and not findings:
            raise InputError(
                "findings: the generator knows one target; set malignant_share, its share of total"
            )

    @property
    def class_counts(self) -> tuple[int, int]:
        """How many benign and how many malignant images are asked for."""
        if self.per_class is not None:
            return self.per_class, self.per_class
        assert self.total is not None  # one of them is given
        share = 0.5 if self.malignant_share is None else self.malignant_share
        malignant = round(self.total * share)
        return self.total - malignant, malignant

    @model_validator(mode="after")
    def _asks_for_images(self) -> Self:
        if (self.per_class is None) == (self.total is None):
            raise ValueError("set per_class, or total (with malignant_share), and not both")
        if self.findings is not None and (self.total is None or self.malignant_share is not None):
            raise ValueError(
                "findings belongs to total alone; set total, and no share of one class"
            )
        if self.malignant_share is not None and self.total is None:
            raise ValueError("malignant_share belongs to total; per_class draws as many of each")
        for name in ("per_class", "total"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name}: {count} images make no data set; ask for 1 or more")
        return self


class ExportSettings(Settings):
    """Which generator becomes a package that medigan can run, and what the package is called."""

    run: Path
    """A finished generator, or `pretrained:NAME`. Example: runs/gan"""

    out: Path
    """The package's folder, which is made. Example: packages/ours"""

    package_name: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]{0,63}$")
    """What is imported; made of the data set's name when not set. Example: our_gan"""

    model_id: str | None = Field(default=None, pattern=r"^[0-9A-Z][A-Za-z0-9_-]{0,63}$")
    """What medigan calls the model. Example: 00042_OUR_GAN"""

    title: str = Field(default="", max_length=200)
    """One line about the model. Example: Breast masses of our clinic"""

    licence: str = Field(default="", max_length=64)
    """Licence of the weights. Example: CC-BY-4.0"""

    organ: str = Field(default="breast", max_length=64)
    """What medigan's users search by."""

    modality: str = Field(default="mammography", max_length=64)
    """What medigan's users search by."""

    quality: Path | None = None
    """A finished assessment of a set that the generator drew (`synthdp assess`): its figures stand
    in the metadata.
    Example: assessments/synthetic
    """

    yes_without_protection: bool = False
    """The generator may leave although its epsilon is infinite, as for a release."""


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
    """The k of precision, recall, density and coverage."""

    compare_n: int | None = Field(default=None, ge=2, le=5000)
    """Images of either side that these are taken of; all of the smallest set when not set, at most
    1104.
    Example: 500
    """

    max_images: int = Field(default=10_000, ge=10, le=50_000)
    """Images that are read of a synthetic set at most, evenly spaced."""

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


class MixGeneratorsSettings(Settings):
    """Which finished generators are joined."""

    runs: tuple[Path, ...] = Field(min_length=2, max_length=MAX_MIXED)
    """Two to eight runs of train-gan (arch: haar) or `pretrained:NAME`.
    Example: [runs/gan-0, runs/gan-1]
    """

    out: Path
    """The joined run, which is made. Example: runs/gan"""


class ImportGeneratorSettings(Settings):
    """A checkpoint `{"generator": state_dict}` of a conditional DCGAN."""

    file: Path
    """The checkpoint. Example: 1400.pt"""

    out: Path
    """The run's folder, which is made. Example: runs/seed"""

    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the file, 64 hexadecimal digits; another file is refused.
    Example: 0000000000000000000000000000000000000000000000000000000000000000
    """

    trained_on: str = Field(pattern=r"^[A-Za-z0-9_. -]{1,64}$")
    """Name of the data set whose train patients it saw. Example: cbis-ddsm"""

    target: str = "malignant"
    """What class 1 means."""

    unit_range: bool = True
    """It was trained on images in [0, 1], as the paper's was, not in [-1, 1]."""
