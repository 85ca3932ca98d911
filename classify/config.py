"""Settings of the classifier's stages."""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from synthdp.config.settings import (
    ADDED_LATER,
    ClipNorm,
    EpsilonTarget,
    FeatureSettings,
    Names,
    PrivacySettings,
    Seed,
    Settings,
    TrainableBlocks,
)
from synthdp.data.augmentation import Augmentation
from synthdp.data.columns import Where
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.importing.settings.lesions import CropSettings
from synthdp.evaluation.settings import AT_SENSITIVITY, Fairness
from synthdp.privacy.units import CohortPart

#: What takes a head's steps.
Optimizer = Literal["sgd", "adamw"]
#: The losses of a linear head (`classify.head.train.residuals`).
LinearLoss = Literal["logistic", "least_squares", "class_means"]


def _auto_word(value: object) -> object:
    return None if value == "auto" else value


def _by_epsilon(value: object) -> object:
    """A mapping whose keys are epsilons, the word none for inf."""
    if not isinstance(value, dict):
        return value
    return {math.inf if key in ("none", "inf", None) else key: item for key, item in value.items()}


PositiveNumber = Annotated[float, Field(gt=0)]
#: A share that both classes have a part of.
PublicShare = Annotated[float, Field(gt=0, lt=1)]
#: Most targets of a classifier.
MAX_TARGETS = 256
_Epsilon = Annotated[float, Field(gt=0, allow_inf_nan=True)]
#: One number for every epsilon, or a number for each of some epsilons (`none` for no privacy).
ByEpsilon = Annotated[
    PositiveNumber | dict[_Epsilon, PositiveNumber] | None,
    BeforeValidator(_by_epsilon),
    BeforeValidator(_auto_word),
]


#: What others fit on the patients, and what to do here instead: each would be a release of its own.
_FITTED_ON_PATIENTS = {
    **dict.fromkeys(
        ("class_weight", "class_weights", "pos_weight"),
        "leave it out, since the ranking of patients needs none; or name public shares of "
        "positives as `prior` of the head, as in head.prior={effusion: 0.1}",
    ),
    **dict.fromkeys(
        ("standardise", "standardize", "scaler", "pca", "normalise", "normalize"),
        "name a phantom or synthetic set as `centre`, and `whiten` of the backbone",
    ),
    **dict.fromkeys(
        ("calibration", "calibrate", "temperature", "threshold"),
        "leave it out here; `synthdp calibrate` makes it of the finished run, and pays for it",
    ),
    **dict.fromkeys(
        ("early_stopping", "patience", "best_checkpoint", "select_on"),
        "leave it out: the averaged iterate is the model; tune on phantoms (`tune` of a study)",
    ),
}


def refuse_clock(values: object) -> object:
    """Refuse a time budget for steps on patients: their number is part of what is promised.

    Raises:
        ValueError: saying what sets the number of steps.
    """
    if isinstance(values, dict) and values.get("minutes") is not None:
        raise ValueError(
            "minutes: the number of steps on patients is part of the promise, so it is fixed "
            "before the first one and no clock decides it; set head.steps (or network.steps), and "
            "give minutes to pretrain or train-gan"
        )
    return values


def refuse_fits(values: object) -> object:
    """Refuse by name what would read the patients without a charge."""
    for key in values if isinstance(values, dict) else ():
        if instead := _FITTED_ON_PATIENTS.get(str(key)):
            raise ValueError(
                f"{key}: would be fitted on the patients without being charged; {instead}"
            )
    return values


class HeadSettings(Settings):
    """How a head is trained on cached features; every number is public."""

    kind: LinearLoss | Literal["mlp"] = "logistic"
    """A linear head by its loss (logistic regression, least squares, or the difference of the
    classes' sums, which one step gives), or `mlp`, with one hidden layer.
    """

    hidden: int = Field(default=16, ge=1, le=4096)
    """Units of the hidden layer of an mlp."""

    optimizer: Optimizer = "sgd"
    """What takes the steps."""

    sampling_rate: float = Field(default=1.0, gt=0, le=1)
    """Below 1 draws patients, and synthetic ones too, anew in each step."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Of an mlp, how much of each label is given to the other class."""

    views: int = Field(default=1, ge=1, le=64)
    """In how many views each image is shown: itself, and others made at random, over which a
    patient's gradient is averaged too.
    """

    steps: int = Field(default=400, ge=1, le=100_000)
    """Steps in all. More cost no privacy, since each gets its share of noise. 400 keep the learning
    rate below 2 / L for every epsilon, where the logistic loss of inputs of norm sqrt(1 +
    bias_input^2) has smoothness L = (1 + bias_input^2) / 4.
    """

    lr_times_steps: ByEpsilon = None
    """Learning rate times steps. A mapping from epsilons gives it for the stage's epsilon,
    log-linear between two; `auto` takes synthdp's own.
    Example: {none: 300, 6: 60, 1: 15}
    """

    clip_norm: ClipNorm = 1.0
    """Norm to which each patient's gradient is clipped."""

    average_from: float = Field(default=0.5, ge=0, le=1)
    """The iterates from this share of the steps on are averaged."""

    bias_input: float = Field(default=0.5, ge=0, le=10)
    """The constant that the bias sees, beside features of norm `input_norm`."""

    input_norm: Annotated[float | None, ADDED_LATER] = Field(default=None, gt=0, le=1000)
    """Norm of the features that the head sees; 1 when not set. A recipe whose features had another
    is repeated with that, since it decides how far a step of a given rate moves a score.
    Example: 2
    """

    prior: Annotated[dict[str, PublicShare] | None, ADDED_LATER] = Field(
        default=None, min_length=1, max_length=MAX_TARGETS
    )
    """Public shares of positives by target, such as a registry's: never counted on the patients.
    The loss of a positive is then multiplied by negatives per positive, at most 10, so that both
    classes weigh alike, and a head from zero starts where they do. A target that is not named has
    no weight.
    Example: {effusion: 0.12, cardiomegaly: 0.03}
    """

    start: Literal["zero", "pretrained"] = "zero"
    """`pretrained` begins with the head of `init`."""

    block_steps: int = Field(default=100, ge=1)
    """Steps that are kept and accounted for at a time."""

    @property
    def norm(self) -> float:
        """The norm of the features that the head sees."""
        return self.input_norm or 1.0

    _no_fits = model_validator(mode="before")(refuse_fits)

    @model_validator(mode="after")
    def _a_kind_has_its_options(self) -> "HeadSettings":
        if self.kind == "mlp" and self.start == "pretrained":
            raise ValueError("head.kind mlp starts at random; leave head.start out")
        if self.kind != "mlp" and self.label_smoothing > 0:
            raise ValueError("head.label_smoothing is of head.kind mlp; leave it out")
        return self


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

    lr: float = Field(default=2.0, gt=0)
    """Learning rate; `nadam` takes one such as 0.02, which moves weights by 0.02 times `scale`."""

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
        if self.optimizer == "nadam" and self.lr > MOST_NADAM_RATE:
            raise ValueError(
                f"network.lr is {self.lr:g}, a rate of sgd: steps of nadam are as long as lr, so "
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


class FinetuneSettings(Settings):
    """The finetune stage: a head on frozen features of real patients."""

    data: Path
    """The data set; its train split is learned. Example: data/cbis-ddsm"""

    out: Path
    """The run's folder, which is made. Example: runs/dp"""

    seed: Seed = 0
    """Moves initialisation and augmentation, never the noise."""

    privacy: PrivacySettings = PrivacySettings()
    """The promise to the patients of `data`."""

    cohort: CohortPart = None
    """A part of the patients, such as the first of two, which a keyed hash of their ids decides;
    all, when not set.
    Example: 1/2
    """

    where: Annotated[Where | None, ADDED_LATER] = None
    """Takes the images alone that have certain values in columns of the manifest. Each row stays or
    goes by itself, so that the promise is as ever; it counts all patients of the set, and
    `privacy.population` may be a bound on those that are left.
    Example: {site: A}
    """

    init: Path | None = None
    """A pretrained run, whose network gives the features. Example: runs/pre"""

    backbone: FeatureSettings | None = None
    """The network that gives the features, where there is no `init`.
    Example: {name: vit_small_patch14_dinov2, weights: hub}
    """

    beside: tuple[FeatureSettings, ...] = Field(default=(), max_length=8)
    """Frozen networks whose features are put beside those.
    Example: [{name: convnext_small, weights: hub, size_px: 128}]
    """

    synthetic: Path | None = None
    """A set whose images are mixed in; what it descends from is part of the lineage.
    Example: data/synthetic
    """

    synthetic_weight: float = Field(default=0.5, gt=0, lt=1)
    """Weight of the synthetic images in the gradient."""

    centre: Path | None = None
    """A phantom or synthetic set by which features are centred and whitened; what it descends from
    is part of the lineage.
    Example: data/phantoms
    """

    head: HeadSettings = HeadSettings()
    """How the head is trained."""

    network: NetworkSettings | None = None
    """With it the network, or its last blocks, is trained beside the head.
    Example: {trainable_blocks: 2}
    """

    _no_clock = model_validator(mode="before")(refuse_clock)
    _no_fits = model_validator(mode="before")(refuse_fits)

    @model_validator(mode="after")
    def _one_source_of_features(self) -> "FinetuneSettings":
        if (self.init is None) == (self.backbone is None):
            raise ValueError("set either init (a pretrained run) or backbone, and not both")
        if self.head.start == "pretrained" and self.init is None:
            raise ValueError("head.start is pretrained, so init must name a pretrained run")
        if self.head.start == "pretrained" and self.beside:
            raise ValueError("a pretrained head knows no features beside its own; leave one out")
        if self.init is not None and self.centre is not None and not self.beside:
            raise ValueError("init brings its own centre; leave centre out")
        frozen = self.beside if self.backbone is None else (self.backbone, *self.beside)
        if self.centre is None and any(one.whiten > 0 for one in frozen):
            raise ValueError(
                "whiten: needs `centre`, a phantom or synthetic set; whitening by the patients "
                "would be a release of its own"
            )
        if self.network is not None and self.beside:
            raise ValueError("network trains one backbone; leave `beside` out")
        if self.network is not None and self.head.kind != "logistic":
            raise ValueError("network trains a logistic head; leave head.kind out")
        if self.network is not None and self.head.prior is not None:
            raise ValueError(
                "head.prior weighs the positives of a head on features, and a network is trained "
                "without such weights; leave head.prior or network out"
            )
        if self.network is not None and self.synthetic is not None:
            raise ValueError(
                "network does not mix in a synthetic set; pretrain on it and name that run as init"
            )
        if self.network is not None:
            self.privacy.refuse_discrete("network")
        self.privacy.refuse_missing_population()
        return self


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
        if self.minutes is not None and self.trainable_blocks == 0:
            raise ValueError(
                "minutes: with trainable_blocks 0 the head alone is fitted, to its optimum; leave "
                "minutes out"
            )
        return self


class EvaluateSettings(Settings):
    """The evaluate stage: a finished run on one split of any data set.

    With a `table` of labels and lesions, `dataset` is a folder of full images, which are imported
    for this evaluation alone, as `synthdp data dicom` does, all of them as `split`. `crop`,
    `dicom`, `bits` and `size_px` count before what `as_imported` says.
    """

    run: Path
    """The finished run. Example: runs/dp"""

    dataset: Path
    """The data set; with a `table`, a folder of DICOM files or other full images.
    Example: data/cbis-ddsm
    """

    table: Annotated[Path | None, ADDED_LATER] = None
    """A table of labels and lesions in full images. Example: lesions.csv"""

    as_imported: Annotated[Path | None, ADDED_LATER] = None
    """The settings file by which the set that the run was trained on was imported: what it says of
    columns, words and crops holds here.
    Example: clinic.yaml
    """

    crop: Annotated[CropSettings | None, ADDED_LATER] = None
    """With a `table`: how lesions are cut out. Example: {margin_px: 60}"""

    dicom: Annotated[DicomReading | None, ADDED_LATER] = None
    """With a `table`: which DICOM images are taken, and how their grey levels are made.
    Example: {window: full}
    """

    bits: Annotated[int | None, ADDED_LATER] = Field(default=None, ge=1, le=16)
    """With a `table`: bits of each sample that are used, where the files state more. Example: 12"""

    size_px: Annotated[int | None, ADDED_LATER] = Field(default=None, ge=8, le=8192)
    """With a `table`: side that lesions are brought to; that of the run's own set. Example: 128"""

    split: Literal["train", "val", "test", "external", "all"] = "val"
    """Which split is scored."""

    out: Path
    """The evaluation's folder, which is made. Example: evaluations/dp-val"""

    where: Where | None = None
    """Takes the images alone that have certain values in columns of the manifest.
    Example: {site: A}
    """

    targets: Annotated[Names | None, ADDED_LATER] = Field(default=None, min_length=1)
    """Scores these of the run's targets alone, by name, on a set that lacks the others; all when
    not set.
    Example: [effusion, cardiomegaly]
    """

    redraws: int = Field(default=2000, ge=1, le=100_000)
    """How often patients are drawn for the intervals."""

    seed: Seed = 0
    """Moves these redraws."""

    at_sensitivity: float = Field(default=AT_SENSITIVITY, gt=0, le=1)
    """Share of positives to be found at which a specificity is given."""

    auroc_epsilon: EpsilonTarget = None
    """Releases a noisy AUROC that may be published beside the exact figures: it costs the patients
    of the split that epsilon, on top of what models spent on them. Several targets share it.
    Example: 1
    """

    auroc_delta: float = Field(default=1e-4, gt=0, lt=1)
    """Delta of the noisy AUROC."""

    auroc_unit: Literal["patient", "image"] = "patient"
    """Whom the noisy AUROC protects."""

    population: int | None = Field(default=None, ge=1)
    """For the noisy AUROC: a public round upper bound on the number of patients in the split.
    Example: 200
    """

    by: Fairness = None
    """Columns of the manifest by whose groups the run is judged too, written to `fairness.json`;
    for numbers with cut points.
    Example: {age: [50, 70]}
    """

    @model_validator(mode="after")
    def _a_table_is_of_full_images(self) -> "EvaluateSettings":
        asked = (self.as_imported, self.crop, self.dicom, self.bits, self.size_px)
        if self.table is None and any(value is not None for value in asked):
            raise ValueError(
                "as_imported, crop, dicom, bits, size_px: for full images with a `table` alone"
            )
        if self.table is not None and self.auroc_epsilon is not None:
            raise ValueError(
                "auroc_epsilon: is charged to the ledger of a data set; import the images with "
                "`synthdp data dicom`, and evaluate on that set"
            )
        if self.table is not None and self.split == "all":
            raise ValueError("split: name the one split as which images with a `table` count")
        return self

    @model_validator(mode="after")
    def _a_release_has_a_population_and_a_small_delta(self) -> "EvaluateSettings":
        if self.auroc_epsilon is None:
            return self
        if self.population is None:
            raise ValueError(
                "population is missing: with auroc_epsilon, declare a public round upper bound on "
                "the number of patients in the split, such as 200; the true count is private"
            )
        if self.auroc_delta >= 1 / self.population:
            raise ValueError(
                f"auroc_delta {self.auroc_delta:g} is not below 1/population = "
                f"{1 / self.population:.2g}; choose a smaller delta"
            )
        return self


class CalibrateSettings(Settings):
    """The calibrate stage: what turns a finished run's logits into probabilities and decisions."""

    run: Path
    """The finished run. Example: runs/dp"""

    data: Path
    """The set that slope, offset and threshold are fitted to. Example: data/cbis-ddsm"""

    out: Path
    """The calibrated run, which is made. Example: runs/dp-calibrated"""

    split: Literal["train", "val", "test", "external", "all"] = "train"
    """The split that they are fitted to."""

    seed: Seed = 0
    """Moves nothing, since the fit has one optimum."""

    sensitivity: float = Field(default=0.9, gt=0, lt=1)
    """What the threshold is chosen for: the share of positives to be found."""

    privacy: PrivacySettings = PrivacySettings()
    """The promise to the patients of the split; with `epsilon: none` they are fitted exactly,
    without protection.
    """

    cohort: CohortPart = None
    """A part of the patients, such as the first of two, which a keyed hash of their ids decides;
    all, when not set.
    Example: 2/2
    """

    @model_validator(mode="after")
    def _an_epsilon_has_a_population(self) -> "CalibrateSettings":
        self.privacy.refuse_missing_population()
        return self


class PredictSettings(Settings):
    """The predict stage: a finished run on new images.

    Without `boxes` images are scored whole. With them lesions are cut as `crop` and `dicom` say,
    and averaged to `size_px`: name what `synthdp data dicom` was given for the set that the run was
    trained on, or in `as_imported` its settings file.
    """

    run: Path
    """The finished run, or a released one. Example: to-share/dp"""

    images: Path
    """A folder of image files, or a data set. Example: new-patches"""

    out: Path
    """The table to write. Example: scores.csv"""

    boxes: Path | None = None
    """A table of where lesions lie in the images: columns of a file, and of a box, an outline or a
    mask.
    Example: boxes.csv
    """

    as_imported: Path | None = None
    """The settings file by which the set that the run was trained on was imported; it says too how
    columns of `boxes` are called.
    Example: clinic.yaml
    """

    crop: CropSettings | None = None
    """How the lesions of `boxes` are cut out. Example: {margin_px: 60}"""

    dicom: DicomReading | None = None
    """Which DICOM images are taken, and how their grey levels are made. Example: {window: full}"""

    size_px: int | None = Field(default=None, ge=8, le=8192)
    """Side that images are brought to first: name the set's own, since a network sees what was once
    smaller as less sharp.
    Example: 128
    """

    bits: int | None = Field(default=None, ge=1, le=16)
    """Bits of each sample that are used, where the files state more (12 in 16). Example: 12"""

    follow_links_into: tuple[Path, ...] = ()
    """Folders outside `images` into which links are followed. Example: [/archive/images]"""

    saliency: Path | None = None
    """A folder for pictures of what moves the score. Example: saliency"""

    saliency_grid: int = Field(default=9, ge=3, le=32)
    """Regions a side at which it is looked for."""

    @model_validator(mode="after")
    def _of_boxes_alone(self) -> "PredictSettings":
        if self.boxes is None and self.as_imported is not None:
            raise ValueError("as_imported: for full images with a table of `boxes` alone")
        if self.boxes is None and self.crop is not None:
            raise ValueError("crop: for lesions that `boxes` names; whole images are not cut")
        return self
