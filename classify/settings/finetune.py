"""Settings of the finetune stage."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from classify.settings.head import HeadSettings, refuse_fits
from classify.settings.network import NetworkSettings
from synthdp.config.settings import ADDED_LATER, Seed, Settings
from synthdp.data.columns import Where
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.settings import PrivacySettings
from synthdp.privacy.units import CohortPart, Fold


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

    leave_out: Annotated[Fold, ADDED_LATER] = None
    """Trains on the patients outside this fold, to be scored on those in it (`fold` of evaluate).
    A public hash of each written id decides. The promise counts all patients of the set, and
    `privacy.population` may be a bound on those that are left.
    Example: 1/5
    """

    share: Annotated[float | None, ADDED_LATER] = Field(default=None, gt=0, lt=1)
    """Of the patients that are left, trains on this share alone, which a public hash of each
    written id decides: what a smaller hospital would have. `privacy.population` may be a bound on
    these.
    Example: 0.25
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
        if self.head.start == "centre" and self.centre is None:
            raise ValueError(
                "head.start is centre, so centre must name the phantom or synthetic set whose "
                "labels the head learns first; or leave head.start out"
            )
        if self.head.start == "centre" and self.network is not None:
            raise ValueError(
                "head.start: centre is of a head on frozen features, and network trains more; "
                "leave head.start out"
            )
        if self.head.image_noise is not None and self.network is not None:
            raise ValueError(
                "head.image_noise is of a head on frozen features, and network trains more; leave "
                "head.image_noise out"
            )
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
        if self.network is not None and self.synthetic is not None:
            raise ValueError(
                "network does not mix in a synthetic set; pretrain on it and name that run as init"
            )
        if self.network is not None:
            self.privacy.refuse_discrete("network")
        self.privacy.refuse_missing_population()
        return self
