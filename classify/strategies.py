"""The named recipes that a study compares: lists of stages, of which the last makes the model."""

from __future__ import annotations  # of calls of stages the types alone are named

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import model_validator

from classify.settings.finetune import FinetuneSettings
from classify.settings.pretrain import PretrainSettings
from synthdp.config.settings import Seed, Settings, validate_settings
from synthdp.errors import InputError
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.settings import PrivacySettings

if TYPE_CHECKING:
    from synthdp.runs.folder import StageCall


class Ingredients(Settings):
    """What recipes are made from; a recipe names what it misses.

    `backbone` is the transformer that is pretrained or not, `beside` frozen networks whose features
    some recipes put beside its own, and `teacher` one whose features it may learn.
    `trained_backbone` is the network that some train whole, `backbone` where it is None.
    `private_synthetic` is a synthetic set whose generator keeps a promise, `public` one whose
    patients nobody protects. `pretrain` and `finetune` are settings of these stages that hold for
    every recipe, `network` those of `finetune.network` for the recipes that train one;
    `pretrain_seed` makes all seeds share one pretraining (None: each seed has its own).
    """

    data: Path
    synthetic: Path | None = None
    private_synthetic: Path | None = None
    phantoms: Path | None = None
    public: Path | None = None
    privacy: PrivacySettings = PrivacySettings()
    backbone: FeatureSettings = FeatureSettings()
    beside: tuple[FeatureSettings, ...] = ()
    trained_backbone: FeatureSettings | None = None
    teacher: FeatureSettings | None = None
    pretrain: Mapping[str, Any] = {}
    finetune: Mapping[str, Any] = {}
    network: Mapping[str, Any] = {}
    pretrain_seed: Seed | None = None

    @model_validator(mode="after")
    def _epsilons_say_what_is_asked(self) -> Ingredients:
        self.privacy.refuse_risk()
        return self


@dataclass(frozen=True)
class StageMaker:
    """Makes stages of one strategy, from ingredients, for an epsilon and a seed, below `root`."""

    strategy: str
    ingredients: Ingredients
    epsilon: float | None
    seed: int
    root: Path

    def ingredient(self, name: str) -> Any:
        """An ingredient.

        Raises:
            InputError: when the study does not name it.
        """
        value = getattr(self.ingredients, name)
        if value is None:
            raise InputError(f"strategy {self.strategy} needs `{name}`: name it in the study")
        return value

    def _call(self, stage: str, settings: type[Settings], values: Mapping[str, Any]) -> StageCall:
        """A stage call with checked settings, and a folder of its own below the root."""
        from synthdp.runs.folder import placed_call  # noqa: PLC0415 (names of recipes need no run)

        return placed_call(stage, settings, values, self.root)

    def finetune(self, **values: Any) -> StageCall:
        """The finetune stage for this epsilon and seed; a strategy's values win."""
        common = dict(self.ingredients.finetune)
        privacy = {**self.ingredients.privacy.model_dump(), "epsilon": self.epsilon}
        if "head" in values:
            values["head"] = {**common.get("head", {}), **values["head"]}
        if "network" in values:
            of_study = {**self.ingredients.network, **(common.get("network") or {})}
            values["network"] = {**of_study, **values["network"]}
        settings = {"data": self.ingredients.data, "seed": self.seed, "privacy": privacy}
        merged = {**settings, **common, **values}
        if "head" in merged and ("centre" not in values or "network" in values):
            merged["head"] = _without_start_at_centre(merged["head"])
        if "head" in merged and "network" in values:
            merged["head"] = {**merged["head"], "image_noise": None}
        return self._call("finetune", FinetuneSettings, merged)

    def pretrain(self, data: Path, **values: Any) -> StageCall:
        """The pretrain stage on `data`; a strategy's values win."""
        shared = self.ingredients.pretrain_seed
        settings = {
            "data": data,
            "seed": self.seed if shared is None else shared,
            "privacy": {**self.ingredients.privacy.model_dump(), "epsilon": None},
            "backbone": _as_trained(self.ingredients.backbone),
        }
        merged = {**settings, **self.ingredients.pretrain, **values}
        return self._call("pretrain", PretrainSettings, merged)

    @property
    def trained_backbone(self) -> FeatureSettings:
        """The network that is trained whole."""
        return _as_trained(self.ingredients.trained_backbone or self.ingredients.backbone)

    def frozen(self, *, beside: bool) -> dict[str, Any]:
        """Settings for features of frozen public networks, centred by phantoms."""
        more = self.ingredients.beside if beside else ()
        backbone, phantoms = self.ingredients.backbone, self.ingredients.phantoms
        return {"backbone": backbone, "beside": more, "centre": phantoms}

    def whole(self, backbone: FeatureSettings) -> dict[str, Any]:
        """Settings for a network that is trained whole, its features centred by phantoms."""
        return {"backbone": backbone, "centre": self.ingredients.phantoms}


def _as_trained(backbone: FeatureSettings) -> FeatureSettings:
    """The settings of a network that is trained, which sees images as they are."""
    return backbone.model_copy(update={"denoise": None})


def _without_start_at_centre(head: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a head without a start that only recipes with a `centre` have."""
    return {key: value for key, value in head.items() if (key, value) != ("start", "centre")}


Stages: TypeAlias = "tuple[StageCall, ...]"


@dataclass(frozen=True)
class Strategy:
    """A recipe: its stages, and whether it is repeated for each epsilon.

    One that gives no stage has nothing for an epsilon: what it starts from has spent it already.
    """

    stages: Callable[[StageMaker], Stages]
    crosses_grid: bool = True


def real_only(make: StageMaker) -> Stages:
    """The head on frozen public features, on patients alone."""
    return (make.finetune(**make.frozen(beside=True)),)


def transformer_only(make: StageMaker) -> Stages:
    """As `real_only`, on the transformer's features alone: what pretraining is compared with."""
    return (make.finetune(**make.frozen(beside=False)),)


def synthetic_only(make: StageMaker) -> Stages:
    """The transformer trained on the synthetic set alone; it never meets a patient."""
    return (make.pretrain(make.ingredient("synthetic")),)


def phantoms_only(make: StageMaker) -> Stages:
    """The transformer trained on phantoms alone: free of privacy cost."""
    return (make.pretrain(make.ingredient("phantoms")),)


def public_only(make: StageMaker) -> Stages:
    """A network trained whole on the public set alone; it never meets a patient of `data`."""
    whole = {"backbone": make.trained_backbone, "trainable_blocks": "all"}
    return (make.pretrain(make.ingredient("public"), **whole),)


def _pretrained(ingredient: str, **finetune: Any) -> Callable[[StageMaker], Stages]:
    """Pretraining on a set, then fine-tuning on patients with these settings."""

    def stages(make: StageMaker) -> Stages:
        data = make.ingredient(ingredient)
        if ingredient == "private_synthetic" and _has_spent(data, make):
            return ()
        before = make.pretrain(data)
        return before, make.finetune(init=before.out, **finetune)

    return stages


#: Share of an epsilon from which on it counts as spent: what is left would be all noise.
_SPENT = 0.99


def _has_spent(data: Path, make: StageMaker) -> bool:
    """Whether the set's generator leaves nothing of the epsilon; one to come leaves a part."""
    from synthdp.data.description import is_dataset, read_info  # noqa: PLC0415 (as above)

    if not is_dataset(data):
        return False
    spent = read_info(data).lineage.epsilon(make.ingredients.privacy.delta)
    return make.epsilon is not None and spent >= _SPENT * make.epsilon


#: All of a network is trained, as the study's own `network` says else.
_WHOLE = {"trainable_blocks": "all"}


def blocks_only(make: StageMaker) -> Stages:
    """The last blocks of the study's backbone and a head, from the weights that it names."""
    frozen = make.frozen(beside=False)
    return (make.finetune(**{**frozen, "backbone": _as_trained(frozen["backbone"])}, network={}),)


def whole_only(make: StageMaker) -> Stages:
    """All of a network and a head, from the weights that the study names."""
    return (make.finetune(**make.whole(make.trained_backbone), network=_WHOLE),)


def whole_backbone(make: StageMaker) -> Stages:
    """As `whole_only`, of the backbone whose features `real_only` takes, and nothing beside it."""
    return (make.finetune(**make.whole(_as_trained(make.ingredients.backbone)), network=_WHOLE),)


def whole_from_random(make: StageMaker) -> Stages:
    """As `whole_only`, from random weights whatever the study names."""
    unset = {"weights": None, "sha256": None}
    backbone = make.trained_backbone.model_copy(update=unset)
    return (make.finetune(**make.whole(backbone), network=_WHOLE),)


def _pretrained_whole(ingredient: str, **finetune: Any) -> Callable[[StageMaker], Stages]:
    """All of a network trained on a set, then on patients with these settings."""

    def stages(make: StageMaker) -> Stages:
        data = make.ingredient(ingredient)
        if ingredient == "private_synthetic" and _has_spent(data, make):
            return ()
        whole = {"backbone": make.trained_backbone, "trainable_blocks": "all"}
        before = make.pretrain(data, **whole)
        return before, make.finetune(init=before.out, **finetune)

    return stages


def distilled_then_finetune(make: StageMaker) -> Stages:
    """The transformer learns to reproduce the teacher's features of phantoms, without labels."""
    before = make.pretrain(make.ingredient("phantoms"), teacher=make.ingredient("teacher"))
    return before, make.finetune(init=before.out)


def real_and_synthetic(make: StageMaker) -> Stages:
    """The head on patients and, without noise, on synthetic images."""
    synthetic = make.ingredient("synthetic")
    return (make.finetune(synthetic=synthetic, **make.frozen(beside=True)),)


def real_and_private_synthetic(make: StageMaker) -> Stages:
    """As `real_and_synthetic`, the set's own promise taken off the target first."""
    synthetic = make.ingredient("private_synthetic")
    if _has_spent(synthetic, make):
        return ()
    return (make.finetune(synthetic=synthetic, **make.frozen(beside=True)),)


def real_and_phantoms(make: StageMaker) -> Stages:
    """As `real_and_synthetic`, with phantoms, which cost no privacy."""
    phantoms = make.ingredient("phantoms")
    return (make.finetune(synthetic=phantoms, **make.frozen(beside=True)),)


def phantoms_start(make: StageMaker) -> Stages:
    """As `real_only`, the head beginning with what tells phantoms' classes apart."""
    return (make.finetune(**make.frozen(beside=True), head={"start": "centre"}),)


def private_synthetic_start(make: StageMaker) -> Stages:
    """As `phantoms_start`, with the images of a private generator in place of phantoms."""
    synthetic = make.ingredient("private_synthetic")
    if _has_spent(synthetic, make):
        return ()
    frozen = {**make.frozen(beside=True), "centre": synthetic}
    return (make.finetune(**frozen, head={"start": "centre"}),)


#: What the paper trains its heads with (arXiv 2407.12669 and its code): AdamW at 1e-5, 300 epochs
#: of Poisson batches of a ninth of the set, the last iterate. Its unit is the image. Features are
#: as long as DINOv2's mean token of a phantom is in the mean, since the paper's are not normalised
#: and Adam's steps are as long whatever the gradient.
_PAPER_STEPS = 2700
_PAPER_TRAINING = {
    "optimizer": "adamw",
    "steps": _PAPER_STEPS,
    "lr_times_steps": 1e-5 * _PAPER_STEPS,
    "sampling_rate": 1 / 9,
    "average_from": 1.0,
    "clip_norm": 1.0,
    "bias_input": 1.0,
    "input_norm": 39.0,
    "image_noise": None,
}
_PAPER_HEAD = {"kind": "mlp", "hidden": 384, "label_smoothing": 0.1}


def _plain_readout(make: StageMaker) -> FeatureSettings:
    """The transformer read as the paper reads its own: after the last layer, one view."""
    plain = {"layers": (), "pools": ("mean",), "views": 1, "view_order": None, "whiten": 0.0}
    plain["denoise"] = None
    return make.ingredients.backbone.model_copy(update=plain)


def paper(make: StageMaker) -> Stages:
    """The paper's DP arm: its two-layer head and its optimizer, on features as they come."""
    head = {**_PAPER_TRAINING, **_PAPER_HEAD}
    return (make.finetune(backbone=_plain_readout(make), head=head),)


def paper_real_and_synthetic(make: StageMaker) -> Stages:
    """As `paper`, on synthetic images too, which meet no noise here."""
    head = {**_PAPER_TRAINING, **_PAPER_HEAD}
    synthetic = make.ingredient("synthetic")
    return (make.finetune(backbone=_plain_readout(make), head=head, synthetic=synthetic),)


def paper_synthetic_only(make: StageMaker) -> Stages:
    """The paper's head on synthetic images alone, without noise."""
    head = {**_PAPER_TRAINING, **_PAPER_HEAD}
    synthetic = make.ingredient("synthetic")
    return (make.finetune(data=synthetic, backbone=_plain_readout(make), head=head),)


def paper_pretrained(make: StageMaker) -> Stages:
    """The paper's best arm: pretrained on synthetic images, with its linear head kept."""
    before = make.pretrain(make.ingredient("synthetic"), backbone=_plain_readout(make))
    head = {**_PAPER_TRAINING, "start": "pretrained"}
    return before, make.finetune(init=before.out, head=head)


STRATEGIES: dict[str, Strategy] = {
    "real_only": Strategy(real_only),
    "transformer_only": Strategy(transformer_only),
    "synthetic_only": Strategy(synthetic_only, crosses_grid=False),
    "phantoms_only": Strategy(phantoms_only, crosses_grid=False),
    "pretrain_then_finetune": Strategy(_pretrained("synthetic")),
    "pretrain_keep_head": Strategy(_pretrained("synthetic", head={"start": "pretrained"})),
    "pretrain_then_blocks": Strategy(_pretrained("synthetic", network={"tune": "blocks"})),
    "pretrain_then_lora": Strategy(_pretrained("synthetic", network={"tune": "lora"})),
    "private_pretrain_then_finetune": Strategy(_pretrained("private_synthetic")),
    "private_pretrain_keep_head": Strategy(
        _pretrained("private_synthetic", head={"start": "pretrained"})
    ),
    "phantoms_then_finetune": Strategy(_pretrained("phantoms")),
    "phantoms_keep_head": Strategy(_pretrained("phantoms", head={"start": "pretrained"})),
    "phantoms_then_lora": Strategy(_pretrained("phantoms", network={"tune": "lora"})),
    "blocks_only": Strategy(blocks_only),
    "whole_only": Strategy(whole_only),
    "whole_backbone": Strategy(whole_backbone),
    "whole_from_random": Strategy(whole_from_random),
    "phantoms_then_whole": Strategy(_pretrained_whole("phantoms", network=_WHOLE)),
    "pretrain_then_whole": Strategy(_pretrained_whole("synthetic", network=_WHOLE)),
    "private_pretrain_then_whole": Strategy(_pretrained_whole("private_synthetic", network=_WHOLE)),
    "public_only": Strategy(public_only, crosses_grid=False),
    "public_then_finetune": Strategy(_pretrained_whole("public")),
    "public_then_whole": Strategy(_pretrained_whole("public", network=_WHOLE)),
    "distilled_then_finetune": Strategy(distilled_then_finetune),
    "real_and_synthetic": Strategy(real_and_synthetic),
    "real_and_private_synthetic": Strategy(real_and_private_synthetic),
    "real_and_phantoms": Strategy(real_and_phantoms),
    "phantoms_start": Strategy(phantoms_start),
    "private_synthetic_start": Strategy(private_synthetic_start),
    "paper": Strategy(paper),
    "paper_real_and_synthetic": Strategy(paper_real_and_synthetic),
    "paper_synthetic_only": Strategy(paper_synthetic_only, crosses_grid=False),
    "paper_pretrained": Strategy(paper_pretrained),
}


def expand(
    name: str, ingredients: Mapping[str, Any], *, epsilon: float | None, seed: int, root: Path
) -> Stages:
    """The stage calls of strategy `name` for one cell of the grid; none where it has none.

    Raises:
        InputError: when an ingredient is missing, or a stage's setting does not fit.
    """
    checked = validate_settings(Ingredients, ingredients, where="study")
    return STRATEGIES[name].stages(StageMaker(name, checked, epsilon, seed, root))
