"""The settings of a study, as its YAML file gives them."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, field_validator, model_validator

from synthdp.config.settings import ADDED_LATER, Names, Seed, Settings
from synthdp.config.typed_values import KeysOf
from synthdp.data.columns import where_words
from synthdp.evaluation.settings import Fairness
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.settings import EpsilonTarget, PrivacySettings
from synthdp.privacy.units import CROSS_VALIDATED
from synthdp.stages import STAGES, crosses_grid, strategy_names
from synthdp.study.compared import (
    ComparedGrid,
    CompareSettings,
    unfit_primary,
    unknown_reference,
)
from synthdp.study.private_generator import PrivateGeneratorSettings
from synthdp.study.sets import (
    CrossValidation,
    EvaluateOn,
    TrainingSet,
    TransferSettings,
    name_of,
    set_name,
    share_words,
)

# Where the runs of a study run.

Devices: TypeAlias = Literal["auto"] | tuple[Annotated[str | int, Field()], ...]


class EngineSettings(Settings):
    """Where a study runs. It changes no result, so a resume may change it."""

    engine: Literal["local", "ray", "dask"] = "local"
    """`ray` or `dask` use a cluster that is there; its workers see the same folders."""

    engine_address: str | None = None
    """Address of the cluster, or what its own environment names (RAY_ADDRESS,
    DASK_SCHEDULER_ADDRESS).
    Example: tcp://node1:8786
    """

    workers: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    """Runs at once; `all`: as many as fit."""

    threads: int = Field(default=1, ge=1)
    """Threads of each run."""

    devices: Devices = "auto"
    """Dealt out to the local workers in turn, as CUDA_VISIBLE_DEVICES; `auto` takes every GPU, `[]`
    none.
    """

    shard: str | None = Field(default=None, pattern=r"^[1-9][0-9]{0,4}/[1-9][0-9]{0,4}$")
    """Runs the i-th of n parts, for array jobs on a shared folder. Example: 1/4"""

    @model_validator(mode="after")
    def _an_address_is_of_a_cluster(self) -> "EngineSettings":
        if self.engine_address is not None and self.engine == "local":
            raise ValueError("engine_address: is of a cluster; set engine to ray or dask too")
        return self

    @model_validator(mode="after")
    def _a_shard_is_one_of_n(self) -> "EngineSettings":
        if self.shard is not None and self.parsed_shard[0] >= self.parsed_shard[1]:
            raise ValueError(f"shard: {self.shard}: of n parts name one from 1 to n, as in 1/4")
        return self

    @property
    def parsed_shard(self) -> tuple[int, int]:
        """The shard's index from 0, and the number of shards; (0, 1) is all."""
        index, n_parts = (int(word) for word in (self.shard or "1/1").split("/"))
        return index - 1, n_parts


#: Settings that a resume may change: where it runs, and what the report is called.
FREE = (*EngineSettings.model_fields, "title")


# What a study may tune.

TUNED_STAGES = ("finetune", "pretrain")
#: What the grid or the study gives to every run: sets, seeds and promises are not tuned.
GIVEN = ("data", "out", "seed", "privacy", "cohort", "init", "backbone", "synthetic", "centre")

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]{1,64}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
TunedValue: TypeAlias = bool | int | Number | Word


def _refuse_other_keys(tune: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in tune:
        stage, *path = key.split(".")
        if stage not in TUNED_STAGES or not path or not all(path):
            raise ValueError(
                f"{key}: name a setting of {' or '.join(TUNED_STAGES)}, such as "
                "finetune.head.lr_times_steps"
            )
        if path[0] in GIVEN:
            raise ValueError(
                f"{key}: the study itself gives {path[0]} to its runs, so it can't be tuned; nor "
                f"can any of {', '.join(GIVEN)}"
            )
    return tune


#: A dotted setting of a stage -> the values to try.
Tune = Annotated[
    dict[str, Annotated[tuple[TunedValue, ...], Field(min_length=1)]],
    Field(min_length=1),
    AfterValidator(_refuse_other_keys),
]


# The study.

#: The title of a study that was given none: the report is then called after the data set.
UNTITLED = "Privacy and utility"


def _key(value: Any) -> Hashable:
    """What makes two entries of the grid the same."""
    if isinstance(value, EvaluateOn):
        return value.data.resolve(), value.split, where_words(value.where or {})
    return value if isinstance(value, Hashable) else repr(value)


def shown_entry(key: Any) -> str:
    """An entry of the grid for people."""
    if isinstance(key, tuple):
        part = f" ({key[2]})" if key[2] else ""
        return f"split {key[1]} of {key[0].name}{part}"
    return "none" if key is None else f"{key:g}" if isinstance(key, float) else str(key)


class ShownPatches(Settings):
    """What the report may show."""

    show_real: bool = False
    """Shows patches of real patients."""


#: Some settings of a stage, which are checked when the recipes are made.
_KeysOfPretrain = Annotated[dict[str, Any], KeysOf(STAGES["pretrain"].settings_class, "pretrain")]
_KeysOfFinetune = Annotated[dict[str, Any], KeysOf(STAGES["finetune"].settings_class, "finetune")]


#: What the rows of the grid say of their runs: a stage's own settings would make it untrue.
OF_THE_GRID = ("data", "out", "seed", "privacy", "leave_out", "share")


def _refuse_what_rows_say(where: str, values: Mapping[str, Any]) -> None:
    if given := [key for key in values if key in OF_THE_GRID]:
        raise ValueError(
            f"{where}.{given[0]}: the study itself gives {', '.join(OF_THE_GRID)} to its runs, or "
            "its rows would say what their models are not; set data, epsilons, privacy or seeds of "
            "the study"
        )


#: What a study may set for one strategy alone.
OF_ONE_STRATEGY = ("pretrain", "finetune", "network")


def _refuse_other_parts(by_strategy: Mapping[str, Any]) -> Mapping[str, Any]:
    for strategy, parts in by_strategy.items():
        for part, values in parts.items():
            if part not in OF_ONE_STRATEGY or not isinstance(values, dict):
                raise ValueError(
                    f"{strategy}.{part}: name settings of {', '.join(OF_ONE_STRATEGY)}, as in "
                    "{network: {lr: 0.05}}"
                )
            if part != "network":
                _refuse_what_rows_say(f"{strategy}.{part}", values)
    return by_strategy


#: A strategy -> settings of its stages, which are checked when the recipes are made.
ByStrategy = Annotated[dict[str, dict[str, Any]], AfterValidator(_refuse_other_parts)]


class StudySettings(EngineSettings):
    """A study: the grid, what its recipes are made from, and where models are scored.

    Where it runs is said by `EngineSettings`.
    """

    title: str = UNTITLED
    """Heading of the report; when not set, the name of the data set and what is compared."""

    data: Path
    """The data set of the patients. Example: data/cbis-ddsm"""

    out: Path
    """The study's folder, which is made. Example: studies/cbis-ddsm"""

    strategies: Names = Field(min_length=1)
    """The recipes to compare, by their names. Example: [real_only, synthetic_pretrained]"""

    epsilons: tuple[EpsilonTarget, ...] = Field(min_length=1)
    """End-to-end targets for each unit; `none`: the same recipe without privacy.
    Example: [none, 6, 1]
    """

    seeds: tuple[Seed, ...] = Field(min_length=1)
    """Each recipe is repeated with each. Example: [0, 1]"""

    tune: Tune | None = None
    """Values to try for dotted settings of finetune and pretrain, on sets that cost no one
    anything; the best are written to `defaults.yaml`.
    Example: {finetune.head.lr_times_steps: [30, 60]}
    """

    evaluate_on: tuple[EvaluateOn, ...] = ()
    """Splits of data sets that every model is scored on; needed without `cross_validation`.
    Example: [{data: data/cbis-ddsm, split: val}]
    """

    cross_validation: Annotated[CrossValidation | None, ADDED_LATER] = None
    """In place of `evaluate_on`: scores all patients of the train split of `data`, each by a model
    that was trained on others.
    Example: {folds: 5}
    """

    synthetic: Path | None = None
    """A synthetic set without a guarantee, for the recipes that take one.
    Example: data/synthetic
    """

    private_synthetic: Path | None = None
    """A synthetic set with a guarantee, for the recipes that take one.
    Example: data/private-synthetic
    """

    private_generator: Annotated[PrivateGeneratorSettings | None, ADDED_LATER] = None
    """In place of `private_synthetic`: trains a private generator for each epsilon, fold and share,
    whose images the recipes take that take a private set.
    Example: {train: {method: embedding}, mu_share: 0.3}
    """

    assessment: Path | None = None
    """A folder that `synthdp assess` made of the synthetic set: the report shows its figures.
    Example: assessments/synthetic
    """

    phantoms: Path | None = None
    """A phantom set, for the recipes that take one. Example: data/phantoms"""

    public: Path | None = None
    """A set that was declared public at its import, for the recipes that pretrain on one.
    Example: data/children-cxr
    """

    published: Path | None = None
    """A file of others' figures to set beside. Example: published.yaml"""

    privacy: PrivacySettings = PrivacySettings()
    """The promise of each run, without its epsilon, which the grid gives."""

    backbone: FeatureSettings = FeatureSettings()
    """The network of every run."""

    beside: tuple[FeatureSettings, ...] = ()
    """Frozen networks whose features are put beside those.
    Example: [{name: convnext_small, weights: hub, size_px: 128}]
    """

    trained_backbone: FeatureSettings | None = None
    """The network of the recipes that train one whole; `backbone` when not set.
    Example: {name: resnet9, size_px: 64}
    """

    teacher: FeatureSettings | None = None
    """A frozen public network that pretraining learns to reproduce.
    Example: {name: vit_small_patch14_dinov2, weights: hub}
    """

    pretrain: _KeysOfPretrain = Field(default_factory=dict)
    """Settings of the stage pretrain for every run. Example: {epochs: 5}"""

    finetune: _KeysOfFinetune = Field(default_factory=dict)
    """Settings of the stage finetune for every run. Example: {head: {steps: 200}}"""

    network: dict[str, Any] = Field(default_factory=dict)
    """Settings of `network` of the stage finetune, for the recipes that train one: the others train
    a head, whatever stands here. Example: {steps: 300, optimizer: nadam, lr: 0.02}
    """

    by_strategy: ByStrategy = Field(default_factory=dict)
    """Settings of `pretrain`, `finetune` and `network` for one strategy alone, over those above.
    Example: {whole_from_random: {network: {lr: 0.05}}}
    """

    pretrain_seed: Seed | None = None
    """One seed for all pretraining; that of each run when not set. Example: 0"""

    fairness: Fairness = None
    """Columns of the manifests by whose groups the models are judged too: a list, or for numbers
    cut points.
    Example: {age: [50, 70]}
    """

    transfer: TransferSettings | None = None
    """Trains every strategy at several sites and scores it at each. Example: {sites: [A, B]}"""

    shortcut: bool = False
    """Compares the models with a logistic regression on 16 x 16 pixels of each image, which learns
    from no patient that a promise is for; the report says where it does as well.
    """

    report: ShownPatches = ShownPatches()
    """What the report may show."""

    compare: CompareSettings | None = None
    """What recipes are compared with. Example: {reference: [real_only]}"""

    @field_validator("strategies")
    @classmethod
    def _known_strategies(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in strategy_names()]
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)}: no such strategy; known: {', '.join(strategy_names())}"
            )
        return names

    @field_validator("strategies", "epsilons", "seeds", "evaluate_on")
    @classmethod
    def _nothing_twice(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [
            shown_entry(value) for value, count in Counter(map(_key, values)).items() if count > 1
        ]
        if twice:
            raise ValueError(f"{', '.join(twice)}: named twice; keep one")
        return values

    @model_validator(mode="after")
    def _rows_say_what_their_runs_are(self) -> "StudySettings":
        _refuse_what_rows_say("pretrain", self.pretrain)
        _refuse_what_rows_say("finetune", self.finetune)
        return self

    @model_validator(mode="after")
    def _private_images_come_from_one_place(self) -> "StudySettings":
        if self.private_generator is None:
            return self
        _refuse_what_rows_say("private_generator.train", self.private_generator.train)
        for name in ("private_synthetic", "transfer"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name}: the study trains its own private generators "
                    "(`private_generator`); leave one of the two out"
                )
        return self

    @model_validator(mode="after")
    def _an_assessment_is_of_a_synthetic_set(self) -> "StudySettings":
        if self.assessment is not None and self.synthetic is None:
            raise ValueError("assessment: is of a synthetic set; name that set as synthetic too")
        return self

    @model_validator(mode="after")
    def _comparisons_are_within_the_study(self) -> "StudySettings":
        if self.compare is None:
            return self
        problem = unknown_reference(self.compare.reference, self.strategies) or unfit_primary(
            self.compare.primary, self._compared_grid
        )
        if problem:
            raise ValueError(problem)
        fixed_on = self.compare.threshold_on
        if fixed_on is not None and _key(fixed_on) not in map(_key, self.evaluate_on):
            raise ValueError(
                "compare.threshold_on: models are not scored there; add it to evaluate_on too"
            )
        return self

    @model_validator(mode="after")
    def _own_settings_are_of_own_strategies(self) -> "StudySettings":
        if unknown := [name for name in self.by_strategy if name not in self.strategies]:
            raise ValueError(
                f"by_strategy: {', '.join(unknown)}: not among this study's strategies "
                f"({', '.join(self.strategies)})"
            )
        return self

    @model_validator(mode="after")
    def _epsilons_say_what_is_asked(self) -> "StudySettings":
        self.privacy.refuse_risk()
        return self

    @model_validator(mode="after")
    def _tuning_has_one_training_set(self) -> "StudySettings":
        if self.tune is not None and self.transfer is not None:
            raise ValueError("transfer: one study tunes or trains at several sites, not both")
        return self

    @model_validator(mode="after")
    def _models_are_scored_somewhere(self) -> "StudySettings":
        if self.cross_validation is None:
            if not self.evaluate_on:
                raise ValueError(
                    "evaluate_on: name a split that models are scored on, as in [{data: "
                    f"{self.data}, split: val}}], or set cross_validation"
                )
            return self
        apart = {
            "evaluate_on": bool(self.evaluate_on),
            "transfer": self.transfer is not None,
            "tune": self.tune is not None,
        }
        if also := [name for name, given in apart.items() if given]:
            raise ValueError(
                f"cross_validation: scores models on the patients of `data` that they never met, "
                f"and on nothing else; leave {', '.join(also)} out, or make two studies"
            )
        return self

    @property
    def _compared_grid(self) -> ComparedGrid:
        """What there is to compare; the sites of a transfer count as one part."""
        shares = self.cross_validation.shares if self.cross_validation is not None else ()
        return ComparedGrid(
            strategies=self.strategies,
            level=frozenset(name for name in self.strategies if not crosses_grid(name)),
            epsilons=self.epsilons,
            parts=tuple(map(share_words, shares)) or ("",),
        )

    @property
    def shown_synthetic(self) -> Path | None:
        """The synthetic set whose patches the report shows."""
        return self.synthetic or self.private_synthetic

    @property
    def evaluation_sets(self) -> tuple[EvaluateOn, ...]:
        """What models are scored on: as `evaluate_on` says, the study's own data site by site; of a
        cross-validation the patients that they never met."""
        if self.cross_validation is not None:
            return (EvaluateOn(data=self.data, split=CROSS_VALIDATED),)
        transfer = self.transfer
        if transfer is None or not transfer.sites:
            return self.evaluate_on
        sets = list[EvaluateOn]()
        for on in self.evaluate_on:
            if on.data.resolve() == self.data.resolve() and on.where is None:
                sites = ({transfer.column: (site,)} for site in transfer.sites)
                sets += [on.model_copy(update={"where": site}) for site in sites]
            else:
                sets.append(on)
        return tuple(sets)

    def training_sets(self, strategy: str) -> tuple[TrainingSet, ...]:
        """What a strategy is trained on; nothing is named where it is always the study's data.

        A strategy that is not repeated for each epsilon never meets `data`.
        """
        transfer = self.transfer
        if transfer is None or not crosses_grid(strategy):
            return (TrainingSet(self.data),)
        parts = list[tuple[Path, Mapping[str, Sequence[str]] | None]]()
        parts += [(self.data, {transfer.column: (site,)}) for site in transfer.sites]
        parts += [(self.data, None)] * transfer.whole
        parts += [(data, None) for data in transfer.data]
        return tuple(
            TrainingSet(data, where, set_name(name_of(data), where)) for data, where in parts
        )

    @property
    def sets(self) -> list[Path]:
        """Every data set that the study itself names."""
        made = (self.synthetic, self.private_synthetic, self.phantoms, self.public)
        trained = self.transfer.data if self.transfer is not None else ()
        named = (self.data, *trained, *made, *(on.data for on in self.evaluate_on))
        by_path = dict[Path, Path]()
        for path in named:
            if path is not None:
                by_path.setdefault(path.resolve(), path)
        return list(by_path.values())
