"""The named recipes that a study compares: lists of stages, of which the last makes the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classify.config import FinetuneSettings, PretrainSettings
from synthdp.config import FeatureSettings, PrivacySettings, Settings, validate_settings
from synthdp.errors import InputError
from synthdp.runs import StageCall


class Ingredients(Settings):
    """What recipes are made from; a recipe names what it misses.

    `pretrain` and `finetune` are settings of these stages that hold for every recipe;
    `pretrain_seed` makes all seeds share one pretraining (None: each seed has its own).
    """

    data: Path
    synthetic: Path | None = None
    phantoms: Path | None = None
    privacy: PrivacySettings = PrivacySettings()
    backbone: FeatureSettings = FeatureSettings()
    pretrain: Mapping[str, Any] = {}
    finetune: Mapping[str, Any] = {}
    pretrain_seed: int | None = None


@dataclass(frozen=True)
class Cell:
    """One place of the grid: ingredients, the epsilon asked for, the seed, where runs stand."""

    ingredients: Ingredients
    epsilon: float | None
    seed: int
    root: Path

    def needed(self, name: str, strategy: str) -> Path:
        """The path of an ingredient.

        Raises:
            InputError: when the study does not name it.
        """
        path: Path | None = getattr(self.ingredients, name)
        if path is None:
            raise InputError(f"strategy {strategy} needs `{name}`: name a data set in the study")
        return path

    def call(self, stage: str, settings: type[Settings], values: Mapping[str, Any]) -> StageCall:
        """A stage call with checked settings, and a folder of its own below the root."""
        draft = {**values, "out": Path("unnamed")}
        checked = validate_settings(settings, draft, where=f"{stage} of this study")
        plain = checked.model_dump(mode="json", exclude={"out"})
        call = StageCall(stage, plain)
        return StageCall(stage, {**plain, "out": str(self.root / call.folder)})


@dataclass(frozen=True)
class Strategy:
    """A recipe: its stages for a cell, and whether it is repeated for each epsilon."""

    stages: Callable[[Cell], tuple[StageCall, ...]]
    crosses_grid: bool = True


def _finetune(cell: Cell, **values: Any) -> StageCall:
    common = cell.ingredients.finetune
    privacy = {**cell.ingredients.privacy.model_dump(), "epsilon": cell.epsilon}
    settings = {
        "data": cell.ingredients.data,
        "seed": cell.seed,
        "privacy": privacy,
        **common,
        **values,
    }
    if "head" in common and "head" in values:
        settings["head"] = {**common["head"], **values["head"]}
    return cell.call("finetune", FinetuneSettings, settings)


def _pretrain(cell: Cell, data: Path) -> StageCall:
    shared = cell.ingredients.pretrain_seed
    settings = {
        "data": data,
        "seed": cell.seed if shared is None else shared,
        "privacy": {**cell.ingredients.privacy.model_dump(), "epsilon": None},
        "backbone": cell.ingredients.backbone,
        **cell.ingredients.pretrain,
    }
    return cell.call("pretrain", PretrainSettings, settings)


def _frozen(cell: Cell) -> dict[str, Any]:
    return {"backbone": cell.ingredients.backbone, "centre": cell.ingredients.phantoms}


def real_only(cell: Cell) -> tuple[StageCall, ...]:
    """The head on the frozen public backbone, on patients alone."""
    return (_finetune(cell, **_frozen(cell)),)


def synthetic_only(cell: Cell) -> tuple[StageCall, ...]:
    """The transformer trained on the synthetic set alone; it never meets a patient."""
    return (_pretrain(cell, cell.needed("synthetic", "synthetic_only")),)


def phantoms_only(cell: Cell) -> tuple[StageCall, ...]:
    """The transformer trained on phantoms alone: free of privacy cost."""
    return (_pretrain(cell, cell.needed("phantoms", "phantoms_only")),)


def pretrain_then_finetune(cell: Cell) -> tuple[StageCall, ...]:
    """Pretraining on the synthetic set, then the head on patients."""
    before = _pretrain(cell, cell.needed("synthetic", "pretrain_then_finetune"))
    return before, _finetune(cell, init=before.settings["out"])


def phantoms_then_finetune(cell: Cell) -> tuple[StageCall, ...]:
    """Pretraining on phantoms, then the head on patients: the whole promise is the head's."""
    before = _pretrain(cell, cell.needed("phantoms", "phantoms_then_finetune"))
    return before, _finetune(cell, init=before.settings["out"])


def real_and_synthetic(cell: Cell) -> tuple[StageCall, ...]:
    """The head on patients and, without noise, on synthetic images."""
    synthetic = cell.needed("synthetic", "real_and_synthetic")
    return (_finetune(cell, synthetic=synthetic, **_frozen(cell)),)


STRATEGIES: dict[str, Strategy] = {
    "real_only": Strategy(real_only),
    "synthetic_only": Strategy(synthetic_only, crosses_grid=False),
    "phantoms_only": Strategy(phantoms_only, crosses_grid=False),
    "pretrain_then_finetune": Strategy(pretrain_then_finetune),
    "phantoms_then_finetune": Strategy(phantoms_then_finetune),
    "real_and_synthetic": Strategy(real_and_synthetic),
}


def expand(
    name: str, ingredients: Mapping[str, Any], *, epsilon: float | None, seed: int, root: Path
) -> tuple[StageCall, ...]:
    """The stage calls of strategy `name` for one cell of the grid.

    Raises:
        InputError: when an ingredient is missing, or a stage's setting does not fit.
    """
    checked = validate_settings(Ingredients, ingredients, where="study")
    return STRATEGIES[name].stages(Cell(checked, epsilon, seed, root))
