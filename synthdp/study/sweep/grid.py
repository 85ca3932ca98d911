"""The grid of a study: strategy x epsilon x seed x tuned values x site of training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from synthdp.errors import InputError
from synthdp.runs import StageCall
from synthdp.stages import crosses_grid, expand_strategy
from synthdp.study.settings import StudySettings, TrainedAt, TransferSettings
from synthdp.study.sweep.tuning import combinations, refuse_idle_keys, tuned_text, with_tuned


@dataclass(frozen=True)
class GridRow:
    """One row of the results to come: a cell and the stage calls that make its model.

    `tuned` is compact JSON of the tuned values that went into it, empty where none did;
    `trained_on` names its training set, where the study has several.
    """

    strategy: str
    epsilon: float | None
    seed: int
    calls: tuple[StageCall, ...]
    tuned: str = ""
    trained_on: str = ""

    @property
    def model(self) -> Path:
        """The folder of the run that makes the row's model."""
        return self.calls[-1].out


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


def _at(
    ingredients: Mapping[str, Any], trained_at: TrainedAt, transfer: TransferSettings | None
) -> dict[str, Any]:
    """The ingredients of a recipe that is trained at one site; the rest stays as it is."""
    if transfer is None or not trained_at.name:
        return dict(ingredients)
    changed = {**ingredients, "data": trained_at.data}
    if trained_at.where is not None:
        finetune = dict(ingredients["finetune"])
        where = {**(finetune.get("where") or {}), **trained_at.where}
        changed["finetune"] = {**finetune, "where": where}
    one_site = trained_at.where is not None or trained_at.data != ingredients["data"]
    if one_site and transfer.population is not None:
        changed["privacy"] = {**ingredients["privacy"], "population": transfer.population}
    return changed


def _rows_of(strategy: str, settings: StudySettings) -> Iterator[GridRow]:
    sets = ("data", "synthetic", "private_synthetic", "phantoms")
    networks = ("backbone", "beside", "teacher")
    stages = ("privacy", "pretrain", "finetune", "pretrain_seed")
    ingredients = settings.model_dump(include={*sets, *networks, *stages})
    epsilons = settings.epsilons if crosses_grid(strategy) else (None,)
    at, root = settings.trained_at(strategy), settings.out / "runs"
    cells = product(at, epsilons, combinations(settings.tune), settings.seeds)
    for trained_at, epsilon, tuned, seed in cells:
        values = with_tuned(_at(ingredients, trained_at, settings.transfer), tuned)
        calls = expand_strategy(strategy, values, epsilon=epsilon, seed=seed, root=root)
        if calls:
            words = tuned_text(tuned, calls)
            yield GridRow(strategy, epsilon, seed, calls, words, trained_at.name)


def refuse_problems(problems: Sequence[str]) -> None:
    """Raise one InputError with all of these, each told once; none, none raised."""
    told = list(dict.fromkeys(problems))
    if told:
        raise InputError(told[0] if len(told) == 1 else "\n  ".join(["study:", *told]))
