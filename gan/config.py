"""Settings of the generator's stages: train-gan with its parts, generate, export and assess."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from gan.package.conditions import Conditions
from gan.package.description import DcganShape, HaarShape
from synthdp.config.settings import (
    BackboneSettings,
    ClipNorm,
    PrivacySettings,
    Seed,
    Settings,
)
from synthdp.privacy.lineage import CohortPart

#: Generators that are joined into one, at most.
MAX_MIXED = 8

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


# Parts of train-gan: what is done to images, what guides the generator, and the private ways.


class AugmentationSettings(Settings):
    """What is done to every image before the discriminator sees it, and how often.

    `translation` and `cutout` are shares of the image side; `brightness` is in grey levels of [-1,
    1] and small because mean density is class information; `contrast` 0.2 stretches by 0.8 to 1.2.
    `symmetry` is done to real images alone, always, and so learned: `mirror` swaps left and right,
    which mammograms allow; `dihedral` also turns, which mixes the scanner's two axes.
    Each is applied with a probability that a controller moves between `strength_min` and
    `strength_max` towards `target_sign` of the discriminator; 0 to 1 would take `ramp_kimg`.
    """

    translation: Share = 0.125
    brightness: Share = 0.1
    contrast: Share = 0.2
    cutout: Share = 0.5
    symmetry: Literal["none", "mirror", "dihedral"] = "mirror"
    strength_start: Share = 0.3
    strength_min: Share = 0.2
    strength_max: Share = 0.6
    target_sign: Share = 0.6
    ramp_kimg: Positive = 50.0

    @model_validator(mode="after")
    def _start_lies_between(self) -> Self:
        if not self.strength_min <= self.strength_start <= self.strength_max:
            raise ValueError("strength_start must lie between strength_min and strength_max")
        return self


class GuidanceSettings(Settings):
    """How a frozen public network guides the generator, beside its discriminator.

    `features` names the network (its `size_px` is not used: it sees the images as they are), which
    is asked every `interval` steps, with its weight multiplied by as much. `projected_weight` is
    that of the heads on its maps, which are `width` channels wide and learn at `projected_lr`;
    `moments_weight` that of matched feature moments, `spectrum_weight` of the matched spectrum.
    `ramp`: between these shares of the training the network's part fades in. Before that the
    generator is so far off that heads on good features would drown out its discriminator; and a
    step without the network takes half the time.
    """

    features: BackboneSettings
    ramp: tuple[Share, Share] = (0.25, 0.35)
    interval: int = Field(default=4, ge=1, le=64)
    projected_weight: NotNegative = 0.25
    projected_lr: float = Field(default=3e-4, gt=0)
    width: int = Field(default=64, ge=4, le=512)
    moments_weight: NotNegative = 1.0
    spectrum_weight: NotNegative = 0.1

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
    """What is released of the patients, once, for a generator to be matched to.

    `features` names the frozen public network (its `size_px` is not used). `public` is a data set
    without patients, such as phantoms, that the features are standardised by. An image's vector
    has norm 1, and `constant` is its first number: the sum of these counts the images of a class.

    Means alone say nothing of variety, so where the run has an `init`, `layout_weight` holds each
    generated image to the coarse layout (an eighth of the side) of what `init` draws from the same
    latent vector. `separation` multiplies the difference of the two classes' means; 1 leaves it as
    it was released.
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
    clip_norm: ClipNorm = 1.0
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


# The stages.


class TrainGanSettings(Settings):
    """How a generator is trained on the train split of a data set.

    `method: adversarial` has no differential privacy, so `privacy.epsilon` must be none. The
    private ones are `embedding`, one noisy release of mean features that the generator is matched
    to, and `dp_discriminator`, DP-SGD on the discriminator, which is EXPERIMENTAL. They draw their
    classes with the public `class_prior` (the share of 1), and are the same recipe without clipping
    and noise where `privacy.epsilon` is none. `init` names a finished generator of the same shape,
    or `pretrained:NAME`, to start from; what it descends from is part of the lineage.

    `kimg` is the length: thousands of real images shown. With `haar_levels` 2 the networks work at
    a quarter of the image's side, not half: about twice as fast. `channels` gives the width of the
    stages from 4 px to that side, for generator and discriminator alike. `conditions` names
    columns of the manifest that are given beside the class; `condition_prior`, such as {view: {CC:
    1, MLO: 1}}, says how they are drawn later, in place of how they stand in the train split.
    `gamma` weighs the gradient penalty, taken every `penalty_interval` steps; 0 leaves it out.
    `class_ramp`: between these shares of the training class and conditions fade in. `ema_kimg` and
    `ema_share` bound the half-life of the averaged weights: the smaller one counts. `cohort` takes
    a part of the patients, such as 1/2, which a keyed hash of their ids decides. `arch: dcgan` with
    `loss: bce` is the paper's baseline (`gan.network.dcgan`). `guidance` adds what a frozen public
    network teaches (`gan.training.guidance`), to the adversarial method. At its end
    (`gan.training.finish`) the classes are set `class_spread` times as far apart and styles spread
    `style_spread` times as wide about their mean, since with averaged weights classes differ too
    little and images vary too little; `film` adds grain and opaque marks, fitted to real images.
    `tensorboard` also writes the metrics and sample grids to `private/tensorboard`.

    With `dp_discriminator`, its `steps` give the length and its blocks the checkpoints; `gamma`,
    `penalty_interval`, `kimg` and `checkpoint_kimg` have no meaning, augmentation stays at
    `strength_start`, and `batch` is that of the generator's steps.
    """

    data: Path
    out: Path
    seed: Seed = 0
    method: Literal["adversarial", "embedding", "dp_discriminator"] = "adversarial"
    privacy: PrivacySettings = PrivacySettings()
    class_prior: float = Field(default=0.5, gt=0, lt=1)
    init: Path | None = None
    embedding: EmbeddingSettings | None = None
    dp_discriminator: DpDiscriminatorSettings = DpDiscriminatorSettings()
    cohort: CohortPart = None
    arch: Literal["haar", "dcgan"] = "haar"
    conditions: tuple[str, ...] = Field(default=(), max_length=3)
    condition_prior: dict[str, dict[str, Positive]] | None = None
    size_px: Literal[32, 64, 128, 256, 512] = 128
    haar_levels: Literal[1, 2] = 1
    channels: tuple[Annotated[int, Field(ge=4, le=1024)], ...] = (192, 160, 96, 64, 32)
    z_dim: int = Field(default=128, ge=2, le=1024)
    kimg: Positive = 300.0
    batch: int = Field(default=16, ge=4, le=1024, multiple_of=4)
    loss: Literal["relativistic", "non_saturating", "bce"] = "relativistic"
    generator_lr: Positive = 2e-4
    discriminator_lr: Positive = 2e-4
    final_lr_share: Share = 0.25
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.0
    beta2_start: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2_end: Annotated[float, Field(ge=0, lt=1)] = 0.99
    gamma_start: NotNegative = 10.0
    gamma_end: NotNegative = 1.0
    penalty_interval: int = Field(default=8, ge=1)
    class_ramp: tuple[Share, Share] = (0.2, 0.45)
    ema_kimg: Positive = 10.0
    ema_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    augmentation: AugmentationSettings = AugmentationSettings()
    guidance: GuidanceSettings | None = None
    class_spread: Annotated[float, Field(ge=1, le=3)] = 1.0
    style_spread: Annotated[float, Field(ge=1, le=2)] = 1.0
    film: bool = False
    checkpoint_kimg: Positive = 10.0
    tensorboard: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"

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


class GenerateSettings(Settings):
    """Which generator to draw from, how much, and in what form.

    Either `per_class` images of each class, or `total` of which `malignant_share` (0.5) are
    malignant. `truncation` below 1 gives more typical and less varied images
    (`gan.network.sampling`). `licence` is that of the set, for its card.
    """

    run: Path
    out: Path
    per_class: int | None = None
    total: int | None = None
    malignant_share: Share | None = None
    seed: Seed = 0
    bits: Literal[8, 16] = 8
    truncation: Annotated[float, Field(gt=0, le=1)] = 1.0
    licence: str = Field(default="", max_length=64)
    batch: int = Field(default=64, ge=1, le=4096)
    device: Literal["auto", "cpu", "cuda"] = "auto"

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
        if self.malignant_share is not None and self.total is None:
            raise ValueError("malignant_share belongs to total; per_class draws as many of each")
        for name in ("per_class", "total"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name}: {count} images make no data set; ask for 1 or more")
        return self


class ExportSettings(Settings):
    """Which generator becomes a package that medigan can run, and what the package is called.

    `package_name` is what is imported, by default made of the data set's name; `model_id` is
    medigan's. `licence` is that of the weights. `quality` is a finished assessment of a set that
    the generator drew (`synthdp assess`): its figures stand in the metadata. `organ` and `modality`
    are what medigan's users search by.
    """

    run: Path
    out: Path
    package_name: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]{0,63}$")
    model_id: str | None = Field(default=None, pattern=r"^[0-9A-Z][A-Za-z0-9_-]{0,63}$")
    title: str = Field(default="", max_length=200)
    licence: str = Field(default="", max_length=64)
    organ: str = Field(default="breast", max_length=64)
    modality: str = Field(default="mammography", max_length=64)
    quality: Path | None = None


class FeatureSpace(BackboneSettings):
    """A frozen public network and the short label that its figures carry, as in FD-DINOv2."""

    label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,23}$")


class InceptionSettings(Settings):
    """The weights file of pytorch-fid's Inception, checked by its SHA-256; nothing is fetched."""

    weights: Path
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class AssessSettings(Settings):
    """How close a synthetic set is to a real one, and whether it holds copies of patients.

    `baseline` is a second synthetic set, measured in the same run. Distances, scores and copies are
    measured in each space of `features`; only with `inception` is there a figure called FID.
    `neighbours` is the k of precision, recall, density and coverage, which are taken of as many
    images of either side: `compare_n` of each, by default all of the smallest set, at most 1104.
    `max_images` bounds what is read of a synthetic set, evenly spaced. `redraws` is how often
    patients are drawn for an interval, from `seed`. `precision: auto` multiplies in bfloat16 where
    the hardware does: three times as fast, and features that differ by about a hundredth.
    """

    synthetic: Path
    real: Path
    out: Path
    seed: Seed = 0
    baseline: Path | None = None
    features: tuple[FeatureSpace, ...] = Field(default=(), max_length=8, validate_default=True)
    inception: InceptionSettings | None = None
    neighbours: int = Field(default=5, ge=1, le=100)
    compare_n: int | None = Field(default=None, ge=2, le=5000)
    max_images: int = Field(default=10_000, ge=10, le=50_000)
    redraws: int = Field(default=2000, ge=100, le=100_000)
    precision: Literal["auto", "float32"] = "auto"

    @field_validator("features")
    @classmethod
    def _are_named_apart(cls, spaces: tuple[FeatureSpace, ...]) -> tuple[FeatureSpace, ...]:
        labels = [space.label.lower() for space in spaces]
        if not labels:
            raise ValueError(
                "name at least one frozen network, with a local file of its weights and its "
                "sha256, as configs/gan/assess-cbis.yaml does"
            )
        if {"pixels", "inception"} & set(labels):
            raise ValueError("a label is taken (pixels, inception); choose another")
        if len(set(labels)) != len(labels):
            raise ValueError("two spaces have the same label; name each after its network")
        return spaces


class MixGeneratorsSettings(Settings):
    """Which finished generators are joined: runs of train-gan (arch: haar) or `pretrained:NAME`."""

    runs: tuple[Path, ...] = Field(min_length=2, max_length=MAX_MIXED)
    out: Path


class ImportGeneratorSettings(Settings):
    """A checkpoint `{"generator": state_dict}` of a conditional DCGAN.

    `sha256` is that of the file. `trained_on` names the data set whose train patients it saw.
    `unit_range`: it was trained on images in [0, 1], as the paper's was, not in [-1, 1].
    """

    file: Path
    out: Path
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    trained_on: str = Field(pattern=r"^[A-Za-z0-9_. -]{1,64}$")
    target: str = "malignant"
    unit_range: bool = True
