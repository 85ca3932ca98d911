"""Settings of the train-gan stage."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gan.package.conditions import Conditions
from gan.package.description import DcganShape, HaarShape
from gan.settings.parts import (
    AugmentationSettings,
    DpDiscriminatorSettings,
    EmbeddingSettings,
    FindingsTable,
    GuidanceSettings,
    NotNegative,
    Positive,
    SelectionSettings,
    Share,
)
from synthdp.config.settings import ADDED_LATER, Seed, Settings
from synthdp.privacy.settings import PrivacySettings
from synthdp.privacy.units import CohortPart, Fold


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

    method: Literal["adversarial", "embedding", "selection", "dp_discriminator"] = "adversarial"
    """`adversarial` has no differential privacy, so `privacy.epsilon` must be none. The private
    ones are `selection`, one noisy release of mean features by which images of a public pool are
    weighted and kept; `embedding`, such a release that a network is matched to; and
    `dp_discriminator`, DP-SGD on the discriminator, which is EXPERIMENTAL. All are the same recipe
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

    selection: Annotated[SelectionSettings | None, ADDED_LATER] = None
    """What `method: selection` releases, and the public pool that it selects from.
    Example: {features: {name: tf_efficientnet_lite0, weights: hub}, tokens: {name:
    vit_small_patch14_dinov2, weights: hub, size_px: 98}, pool: [data/pool-varied]}
    """

    dp_discriminator: DpDiscriminatorSettings = DpDiscriminatorSettings()
    """How `method: dp_discriminator` trains."""

    cohort: CohortPart = None
    """A part of the patients, such as the first of two, which a keyed hash of their ids decides;
    all, when not set.
    Example: 1/2
    """

    leave_out: Annotated[Fold, ADDED_LATER] = None
    """Trains on the patients outside this fold of a cross-validation. A public hash of each written
    id decides; the promise counts all patients of the set.
    Example: 1/5
    """

    share: Annotated[float | None, ADDED_LATER] = Field(default=None, gt=0, lt=1)
    """Of the patients that are left, trains on this share alone, which a public hash of each
    written id decides.
    Example: 0.25
    """

    arch: Literal["haar", "dcgan"] = "haar"
    """Kind of network: `haar` draws wavelet bands, `dcgan` is the paper's baseline."""

    conditions: tuple[str, ...] = Field(default=(), max_length=3)
    """Columns of the manifest that are given to the networks beside the class, at most 3. Of
    `method: selection` they are columns of the pool's sets, and nothing of patients' is read but
    with `selection.conditions_share`.
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

    findings_table: Annotated[FindingsTable | None, ADDED_LATER] = None
    """Draws several targets later as they stand together in a published table, in place of the
    train split: with `view` or `sex` as it has them, where these are `conditions` and it says them.
    Example: {table: Data_Entry_2017_v2020.csv.gz, table_is_public: true, collection: nih-cxr14}
    """

    condition_prior: dict[str, dict[str, Positive]] | None = None
    """How the conditions are drawn later, in place of how they stand in the train split; of
    `method: selection`, where every value of the pool comes as often when this is not set, public
    shares, such as published ones.
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
    def releases_conditions(self) -> bool:
        """Whether patients' cells of `conditions` are part of what a selection releases."""
        selects, recipe = self.method == "selection", self.selection
        return selects and recipe is not None and recipe.conditions_share is not None

    @property
    def _changes_what_was_trained(self) -> bool:
        """Whether anything is done to the generator when its training is over."""
        return self.film or self.style_spread != 1 or self.class_spread != 1

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        finest_px = self.size_px // 2**self.haar_levels
        stages = (finest_px // 4).bit_length()
        if len(self.channels) != stages and self.method != "selection":  # which trains no network
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
        if self.method == "selection":
            self._refuse_what_no_bank_has()
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
        if self.conditions and self.method != "selection":
            raise ValueError(
                f"method: {self.method} knows the class alone, since the levels of conditions are "
                "read from patients; leave conditions out, or set method: selection, which has "
                "them from its pool"
            )
        if self.arch != "haar":
            raise ValueError(f"method: {self.method} trains arch: haar; set that")
        return self

    def _refuse_what_no_bank_has(self) -> None:
        if self.selection is None:
            raise ValueError(
                "selection is missing: method: selection needs two networks and a pool; give "
                "selection.features, selection.tokens and selection.pool"
            )
        if self.selection.conditions_share is not None and not self.conditions:
            raise ValueError(
                "selection.conditions_share: there are no conditions; name some, or leave it out"
            )
        if self.init is not None:
            raise ValueError(
                "init: method: selection keeps images of a pool and trains no network; leave init "
                "out, or name the set that init draws in selection.pool"
            )
        if self.minutes is not None:
            raise ValueError(
                "minutes: method: selection trains nothing that a clock could end; leave it out"
            )

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
        if self.findings is not None and self.findings_table is not None:
            raise ValueError(
                "findings and findings_table both say how findings are drawn; give one"
            )
        return self
