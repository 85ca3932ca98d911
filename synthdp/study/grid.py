"""The settings of a study, and its grid: strategy x epsilon x seed x tuned values."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from synthdp.config import EpsilonTarget, FeatureSettings, PrivacySettings, Settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.runs import StageCall
from synthdp.stages import crosses_grid, expand_strategy, strategy_names
from synthdp.study.engine import EngineSettings
from synthdp.study.tuning import Tune, combinations, refuse_idle_keys, tuned_text, with_tuned


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,)


def _key(value: Any) -> Hashable:
    """What makes two entries of the grid the same."""
    if isinstance(value, EvaluateOn):
        return value.data.resolve(), value.split
    return value if isinstance(value, Hashable) else repr(value)


def _shown(key: Any) -> str:
    if isinstance(key, tuple):
        return f"split {key[1]} of {key[0].name}"
    return "none" if key is None else f"{key:g}" if isinstance(key, float) else str(key)


class EvaluateOn(Settings):
    """A split of a data set that every model of the study is scored on."""

    data: Path
    split: str = "val"


class ShownPatches(Settings):
    """What the report may show: real patients' patches only where this says so."""

    show_real: bool = False


class StudySettings(EngineSettings):
    """A study: the grid, what its recipes are made from, and where models are scored.

    `epsilons` are end-to-end targets for each unit, `none` the same recipe without privacy.
    `tune` gives the values to try for dotted settings of finetune and pretrain, on sets that cost
    no one anything (`synthdp.study.tuning`); the best are written to `defaults.yaml`.
    `assessment` is a folder that `synthdp assess` made of the synthetic set: the report shows its
    figures. Where it runs is said by the settings of `synthdp.study.engine`.
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

    @field_validator("strategies", "epsilons", "seeds", "evaluate_on")
    @classmethod
    def _nothing_twice(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [_shown(value) for value, count in Counter(map(_key, values)).items() if count > 1]
        if twice:
            raise ValueError(f"{', '.join(twice)}: named twice; keep one")
        return values

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
            nothing, or no cell has a model; of several errors all are told.
    """
    rows, problems = dict[tuple[str, str], GridRow](), list[str]()
    for strategy in settings.strategies:
        try:
            for row in _rows_of(strategy, settings):
                first = rows.setdefault((strategy, row.calls[-1].folder), row)
                if first.tuned != row.tuned:
                    raise InputError(
                        f"tune: {row.tuned} gives {strategy} the same run as {first.tuned}, so "
                        "there is nothing to choose; leave one of them out"
                    )
        except InputError as error:
            problems.append(str(error))
    refuse_problems(problems)
    if not rows:
        raise InputError(
            "strategies: what they start from has spent every epsilon of the study; ask for more"
        )
    refuse_idle_keys(settings.tune, (row.tuned for row in rows.values()))
    return list(rows.values())


def _rows_of(strategy: str, settings: StudySettings) -> Iterator[GridRow]:
    sets = ("data", "synthetic", "private_synthetic", "phantoms")
    networks = ("backbone", "beside", "teacher")
    stages = ("privacy", "pretrain", "finetune", "pretrain_seed")
    ingredients = settings.model_dump(include={*sets, *networks, *stages})
    epsilons = settings.epsilons if crosses_grid(strategy) else (None,)
    for epsilon, tuned, seed in product(epsilons, combinations(settings.tune), settings.seeds):
        values = with_tuned(ingredients, tuned)
        root = settings.out / "runs"
        calls = expand_strategy(strategy, values, epsilon=epsilon, seed=seed, root=root)
        if calls:
            yield GridRow(strategy, epsilon, seed, calls, tuned_text(tuned, calls))


def refuse_contradictions(settings: StudySettings, rows: Sequence[GridRow]) -> None:
    """Refuse a grid that asks for what it cannot give, before anything runs.

    Raises:
        InputError: with every contradiction: a set that stands for two things, a split that is not
            there, two sets of one name to score on, an epsilon that no strategy uses.
    """
    refuse_problems([*_sets_twice(settings), *_unscorable(settings), *_unused(settings, rows)])


def refuse_problems(problems: Sequence[str]) -> None:
    """Raise one InputError with all of these, each told once; none, none raised."""
    told = list(dict.fromkeys(problems))
    if told:
        raise InputError(told[0] if len(told) == 1 else "\n  ".join(["study:", *told]))


def _sets_twice(settings: StudySettings) -> Iterator[str]:
    roles = ("data", "synthetic", "private_synthetic", "phantoms")
    named: dict[Path, str] = {}
    for role in roles:
        path = getattr(settings, role)
        if path is not None:
            first = named.setdefault(path.resolve(), role)
            if first != role:
                yield f"{role}: {path.name} is named as {first} already; keep one of the two"


def _unscorable(settings: StudySettings) -> Iterator[str]:
    names: dict[tuple[str, str], EvaluateOn] = {}
    for number, where in enumerate(settings.evaluate_on):
        try:
            dataset = open_dataset(where.data)
            dataset.split(where.split)
        except InputError as error:
            yield f"evaluate_on.{number}: {error}"
            continue
        first = names.setdefault((dataset.info.name, where.split), where)
        if first is not where:
            yield (
                f"evaluate_on.{number}: another set is called {dataset.info.name} too, so results "
                "could not tell them apart; import one under another name"
            )


def _unused(settings: StudySettings, rows: Sequence[GridRow]) -> Iterator[str]:
    crossed = {row.epsilon for row in rows if crosses_grid(row.strategy)}
    unused: list[float | None]
    if not any(crosses_grid(name) for name in settings.strategies):
        unused = [epsilon for epsilon in settings.epsilons if epsilon is not None]
        why = "no strategy of this study meets a patient again, so none is repeated for it"
    else:
        unused = [epsilon for epsilon in settings.epsilons if epsilon not in crossed]
        why = "what its strategies start from has spent it already"
    if unused:
        yield f"epsilons: {', '.join(map(_shown, unused))}: {why}; leave it out"
