"""The settings of a study, and its grid: strategy x epsilon x seed x tuned values."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from synthdp.config import EpsilonTarget, FeatureSettings, PrivacySettings, Settings
from synthdp.errors import InputError
from synthdp.evaluation.groups import Fairness
from synthdp.runs import StageCall
from synthdp.stages import crosses_grid, expand_strategy, strategy_names
from synthdp.study.tuning import Tune, combinations, refuse_idle_keys, tuned_text, with_tuned


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,)


class EvaluateOn(Settings):
    """A split of a data set that every model of the study is scored on."""

    data: Path
    split: str = "val"


class ShownPatches(Settings):
    """What the report may show: real patients' patches only where this says so."""

    show_real: bool = False


class StudySettings(Settings):
    """A study: the grid, what its recipes are made from, and where models are scored.

    `epsilons` are end-to-end targets for each unit, `none` the same recipe without privacy.
    `tune` gives the values to try for dotted settings of finetune and pretrain, on sets that cost
    no one anything (`synthdp.study.tuning`); the best are written to `defaults.yaml`.
    `workers` processes of `threads` threads each share the runs. `assessment` is a folder that
    `synthdp assess` made of the synthetic set: the report shows its figures. `fairness` names
    columns of the manifests by whose groups the models are judged too: a list, or for numbers cut
    points, as in `{view: null, age: [50, 70]}`.
    """

    title: str = "Privacy and utility"
    data: Path
    out: Path
    strategies: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(min_length=1)
    epsilons: tuple[EpsilonTarget, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    tune: Tune | None = None
    evaluate_on: tuple[EvaluateOn, ...] = Field(min_length=1)
    synthetic: Path | None = None
    private_synthetic: Path | None = None
    assessment: Path | None = None
    phantoms: Path | None = None
    privacy: PrivacySettings = PrivacySettings()
    backbone: FeatureSettings = FeatureSettings()
    beside: tuple[FeatureSettings, ...] = ()
    teacher: FeatureSettings | None = None
    pretrain: dict[str, Any] = Field(default_factory=dict)
    finetune: dict[str, Any] = Field(default_factory=dict)
    pretrain_seed: int | None = None
    fairness: Fairness = None
    engine: Literal["local"] = "local"
    workers: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    report: ShownPatches = ShownPatches()

    @field_validator("strategies")
    @classmethod
    def _known_strategies(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in strategy_names()]
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)}: no such strategy; known: {', '.join(strategy_names())}"
            )
        return names

    @model_validator(mode="after")
    def _an_assessment_is_of_a_synthetic_set(self) -> "StudySettings":
        if self.assessment is not None and self.synthetic is None:
            raise ValueError("assessment: is of a synthetic set; name that set as synthetic too")
        return self

    @property
    def sets(self) -> list[Path]:
        """Every data set that the study itself names."""
        made = (self.synthetic, self.private_synthetic, self.phantoms)
        named = (self.data, *made, *(on.data for on in self.evaluate_on))
        return [path for path in dict.fromkeys(named) if path is not None]


@dataclass(frozen=True)
class GridRow:
    """One row of the results to come: a cell and the stage calls that make its model.

    `tuned` is compact JSON of the tuned values that went into it, empty where none did.
    """

    strategy: str
    epsilon: float | None
    seed: int
    calls: tuple[StageCall, ...]
    tuned: str = ""


def expand_grid(settings: StudySettings) -> list[GridRow]:
    """All rows of the study; a recipe that does not depend on a grid axis has one row on it.

    Raises:
        InputError: when an ingredient is missing, a setting does not fit, a tuned value changes
            nothing, or no cell has a model.
    """
    sets = ("data", "synthetic", "private_synthetic", "phantoms")
    networks = ("backbone", "beside", "teacher")
    stages = ("privacy", "pretrain", "finetune", "pretrain_seed")
    ingredients = settings.model_dump(include={*sets, *networks, *stages})
    root, rows = settings.out / "runs", dict[tuple[str, str], GridRow]()
    for strategy in settings.strategies:
        epsilons = settings.epsilons if crosses_grid(strategy) else (None,)
        cells = product(epsilons, combinations(settings.tune), settings.seeds)
        for epsilon, tuned, seed in cells:
            values = with_tuned(ingredients, tuned)
            calls = expand_strategy(strategy, values, epsilon=epsilon, seed=seed, root=root)
            if not calls:
                continue
            row = GridRow(strategy, epsilon, seed, calls, tuned_text(tuned, calls))
            first = rows.setdefault((strategy, calls[-1].folder), row)
            if first.tuned != row.tuned:
                raise InputError(
                    f"tune: {row.tuned} gives {strategy} the same run as {first.tuned}, so there "
                    "is nothing to choose; leave one of them out"
                )
    if not rows:
        raise InputError(
            "strategies: what they start from has spent every epsilon of the study; ask for more"
        )
    refuse_idle_keys(settings.tune, (row.tuned for row in rows.values()))
    return list(rows.values())
