"""Settings of the head, and what no stage that trains on patients may be asked for."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from classify.settings.by_epsilon import ByEpsilon
from synthdp.config.settings import ADDED_LATER, Settings
from synthdp.privacy.settings import ClipNorm

#: What takes a head's steps.
Optimizer = Literal["sgd", "adamw"]
#: The losses of a linear head (`classify.head.examples.residuals`).
LinearLoss = Literal["logistic", "least_squares", "class_means"]


#: A share that both classes have a part of.
PublicShare = Annotated[float, Field(gt=0, lt=1)]
#: Most targets of a classifier.
MAX_TARGETS = 256


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

    image_noise: Annotated[float | None, ADDED_LATER] = Field(default=None, gt=0, le=0.5)
    """Shows each flat image once more with white noise on its pixels, in a patient's one gradient,
    so that the head holds on another scanner: the largest standard deviation, as a share of the
    grey range; each copy's is drawn from 0 to it, by that image alone. It is no privacy, and costs
    none.
    Example: 0.08
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

    lr_population: Annotated[int | None, ADDED_LATER] = Field(default=None, ge=1)
    """How many patients the epsilons of `lr_times_steps` are of. With another `population` the rate
    is read at epsilon times that over this one, since noise on a mean over patients goes about with
    epsilon times their number; at the stage's epsilon itself when not set.
    Example: 600
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

    start: Literal["zero", "pretrained", "centre"] = "zero"
    """`pretrained` begins with the head of `init`; `centre` with one that learned the labels of the
    set `centre`, without noise: of phantoms it costs nothing, and noise then has less to undo. They
    are matched by name. In a study it is of recipes that centre frozen features by phantoms; others
    begin at zero.
    """

    block_steps: int = Field(default=100, ge=1)
    """Steps that are kept and accounted for at a time."""

    @property
    def shown(self) -> int:
        """How many times each image is shown: in `views`, and with noise where that is set."""
        return self.views + (self.image_noise is not None)

    @property
    def norm(self) -> float:
        """The norm of the features that the head sees."""
        return self.input_norm or 1.0

    _no_fits = model_validator(mode="before")(refuse_fits)

    @model_validator(mode="after")
    def _a_kind_has_its_options(self) -> "HeadSettings":
        if self.kind == "mlp" and self.start != "zero":
            raise ValueError("head.kind mlp starts at random; leave head.start out")
        if self.kind != "mlp" and self.label_smoothing > 0:
            raise ValueError("head.label_smoothing is of head.kind mlp; leave it out")
        return self
