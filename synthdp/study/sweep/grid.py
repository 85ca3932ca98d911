"""The grid of a study: strategy x epsilon x seed x tuned values x site, and what scores it.

A row of the grid is one model, made by a list of stage calls; an evaluation scores one model on one
split. Both name the folders that they are to write, below the folder of the study.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from synthdp.config import validate_settings
from synthdp.errors import InputError
from synthdp.runs import StageCall
from synthdp.stages import STAGES, crosses_grid, expand_strategy
from synthdp.study.settings import StudySettings, TrainingSet, TransferSettings
from synthdp.study.sweep.tuning import combinations, refuse_idle_keys, tuned_text, with_tuned

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class GridRow:
    """One model of the study, and the stage calls that make it.

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
        """The folder of the run that makes the model."""
        return self.calls[-1].out


@dataclass(frozen=True)
class Evaluation:
    """The call that scores a row's model on one split; `data_set` is what results call the set."""

    row: GridRow
    data_set: str
    split: str
    call: StageCall

    @property
    def folder(self) -> Path:
        """Where the scores are written."""
        return self.call.out


def expand_grid(settings: StudySettings) -> list[GridRow]:
    """All rows of the study; a recipe that does not depend on a grid axis has one row on it.

    Raises:
        InputError: when an ingredient is missing, a setting does not fit, a tuned value changes
            nothing, or no cell has a model; all errors are given at once.
    """
    rows, problems = dict[tuple[str, str], GridRow](), list[str]()
    for strategy in settings.strategies:
        try:
            for row in _strategy_rows(strategy, settings):
                first = rows.setdefault((strategy, row.model.name), row)
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


def _strategy_rows(strategy: str, settings: StudySettings) -> Iterator[GridRow]:
    sets = ("data", "synthetic", "private_synthetic", "phantoms")
    networks = ("backbone", "beside", "teacher")
    stages = ("privacy", "pretrain", "finetune", "pretrain_seed")
    ingredients = settings.model_dump(include={*sets, *networks, *stages})
    epsilons = settings.epsilons if crosses_grid(strategy) else (None,)
    trained_on, root = settings.training_sets(strategy), settings.out / "runs"
    cells = product(trained_on, epsilons, combinations(settings.tune), settings.seeds)
    for training_set, epsilon, tuned, seed in cells:
        values = with_tuned(_trained_on(ingredients, training_set, settings.transfer), tuned)
        calls = expand_strategy(strategy, values, epsilon=epsilon, seed=seed, root=root)
        if calls:
            words = tuned_text(tuned, calls)
            yield GridRow(strategy, epsilon, seed, calls, words, training_set.name)


def _trained_on(
    ingredients: Mapping[str, Any], training_set: TrainingSet, transfer: TransferSettings | None
) -> dict[str, Any]:
    """The ingredients of a recipe for one training set; what does not name it stays."""
    if transfer is None or not training_set.name:
        return dict(ingredients)
    changed = {**ingredients, "data": training_set.data}
    if training_set.where is not None:
        finetune = dict(ingredients["finetune"])
        where = {**(finetune.get("where") or {}), **training_set.where}
        changed["finetune"] = {**finetune, "where": where}
    one_site = training_set.where is not None or training_set.data != ingredients["data"]
    if one_site and transfer.population is not None:
        changed["privacy"] = {**ingredients["privacy"], "population": transfer.population}
    return changed


def expand_evaluations(settings: StudySettings, rows: Sequence[GridRow]) -> list[Evaluation]:
    """Every scoring of a row's model on a split, row by row."""
    # a set's name is in its folder, so it is opened once for all rows
    sets = [(on.name, on) for on in settings.evaluation_sets]
    evaluations = []
    for row in rows:
        for name, on in sets:
            values = {
                "run": row.model,
                "dataset": on.data,
                "split": on.split,
                "out": evaluation_folder(settings.out, row.model.name, name, on.split),
                "where": on.where,
            }
            checked = validate_settings(
                STAGES["evaluate"].settings_class(), values, where="evaluate"
            )
            evaluations.append(Evaluation(row, name, on.split, StageCall("evaluate", checked)))
    return evaluations


def evaluation_folder(study: Path, run: str, data_set: str, split: str) -> Path:
    """Where a study keeps what a run gave on a split of a set."""
    name = f"{run}-{data_set}-{split}".replace(" ", "-")
    if _PLAIN_NAME.fullmatch(name) is None:  # a part of a set is named after cells of its manifest
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
        name = f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"
    return study / "evaluations" / name


def shard_rows(rows: Sequence[GridRow], index: int, n_shards: int) -> list[GridRow]:
    """The rows of shard `index` (from 0): models in the order of their hashes, dealt out in turn.

    Every model is in one shard; a run that models of several shards start from is made by
    whichever needs it first, and the others wait.
    """
    models = sorted({row.model.name for row in rows})
    own = set(models[index::n_shards])
    return [row for row in rows if row.model.name in own]


def refuse_problems(problems: Sequence[str]) -> None:
    """Raise one InputError with all of these, each once.

    Raises:
        InputError: when there are any.
    """
    different = list(dict.fromkeys(problems))
    if different:
        text = different[0] if len(different) == 1 else "\n  ".join(["study:", *different])
        raise InputError(text)
