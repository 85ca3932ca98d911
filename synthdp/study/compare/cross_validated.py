"""The scores of a cross-validated study: those of all folds of a cell laid together as one model's.

Each fold has a model of its own, whose logits have an offset and a spread of their own, by chance
and by noise. They are brought to the mean offset and the mean spread of all folds, target by
target, which reads no label: what is compared is then how each model ranks the patients of its
fold, and scores stay about as calibrated as they were.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dataset import Dataset, open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.predictions import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    Predictions,
    predictions_csv,
    read_predictions,
)
from synthdp.evaluation.summary import evaluate
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.units import CROSS_VALIDATED
from synthdp.runs.folder import StageCall
from synthdp.storage.files import atomic_folder, read_json, sha256_file, write_atomic, write_json
from synthdp.study.compare.results import CellKey, cell_key
from synthdp.study.sweep.grid import Evaluation, evaluation_folder

#: In the folder of scores that were laid together: of what they were made.
FOLDS_FILE = "folds.json"
#: Probabilities are kept so far from 0 and 1, where they have no logit.
_LEAST = 1e-7


def laid_together(
    study: Path, evaluations: Sequence[Evaluation], failures: Mapping[str, str]
) -> tuple[list[Evaluation], dict[str, str]]:
    """One evaluation for each model and set, those of folds laid together in a folder of their own.

    Args:
        study: the study's folder.
        evaluations: of every model, all made but those that failed.
        failures: errors by the folder of the model's run.

    Returns:
        Evaluations of which each stands for all folds of its cell, under the run of the one that
        promises least (the first of equals, and where a fold is lost), and the failures by these
        runs.

    Raises:
        InputError: when an evaluation is damaged, or does not fit its data set any more.
    """
    cells: dict[tuple[CellKey, int, str, str], list[Evaluation]] = {}
    for one in evaluations:
        key = (cell_key(one.row), one.row.seed, one.data_set, one.split)
        cells.setdefault(key, []).append(one)
    together, failed = list[Evaluation](), dict[str, str]()
    for folds in cells.values():
        first = folds[0]
        lost = [(one, failures[name]) for one in folds if (name := one.row.model.name) in failures]
        if lost:
            where, error = lost[0]
            told = f"fold {where.row.fold}: {error}" if where.row.fold is not None else error
            failed[first.row.model.name] = told
        if first.row.fold is None:
            together.append(first)
            continue
        named = first if lost else _promising_least(folds)
        run = named.row.model.name
        out = evaluation_folder(study, run, first.data_set, CROSS_VALIDATED)
        settings = named.call.settings.model_copy(update={"out": out, "fold": None})
        whole = replace(named, call=StageCall("evaluate", settings))
        if not lost:
            _lay_together(whole, [one.folder for one in folds])
        together.append(whole)
    return together, failed


def _promising_least(folds: Sequence[Evaluation]) -> Evaluation:
    """Of a cell's folds the one whose run promises least, for the row has to hold for each of them.

    They are asked for the same, but one that was killed has spent what it had reserved. Of a fold
    whose statement can't be read no promise is known: it is given, so that its row says so.
    """
    promises = []
    for one in folds:
        try:
            statement = read_statement(one.row.model)
        except InputError:
            return one
        odds = statement.odds.found_at_1_percent
        promises.append((statement.epsilon, statement.epsilon_stage, odds))
    return folds[promises.index(max(promises))]


def _lay_together(whole: Evaluation, folds: Sequence[Path]) -> None:
    """Write the folder of one cell, where it does not stand already, made of these folds."""
    made_of = [sha256_file(fold / PREDICTIONS_FILE) for fold in folds]
    if _is_made_of(whole.folder, made_of):
        return
    dataset = open_dataset(whole.call.setting("dataset"))
    predictions = pooled_predictions([read_predictions(fold) for fold in folds], dataset)
    figures = evaluate(
        predictions.labels,
        predictions.scores[0],
        predictions.patients,
        names=predictions.targets,
        redraws=whole.call.setting("redraws"),
        seed=whole.call.setting("seed"),
    )
    about = {"data_set": dataset.info.name, "split": CROSS_VALIDATED, "folds": len(folds)}
    _remove(whole.folder)
    with atomic_folder(whole.folder, closed=dataset.info.protects_patients) as folder:
        write_json(folder / METRICS_FILE, {**about, **figures.to_json()})
        write_atomic(folder / PREDICTIONS_FILE, predictions_csv(predictions))
        write_json(folder / FOLDS_FILE, {"sha256": made_of})


def _is_made_of(folder: Path, digests: Sequence[str]) -> bool:
    try:
        noted = read_json(folder / FOLDS_FILE)
    except InputError:
        return False
    return bool(noted == {"sha256": list(digests)})


def _remove(folder: Path) -> None:
    """Remove scores that were laid together of other models."""
    for name in (METRICS_FILE, PREDICTIONS_FILE, FOLDS_FILE):
        (folder / name).unlink(missing_ok=True)


def pooled_predictions(folds: Sequence[Predictions], dataset: Dataset) -> Predictions:
    """The predictions of models of several folds as one model's, in the order of the manifest.

    Args:
        folds: of one model each, of different images of `dataset`, with the same targets.
        dataset: the set.

    Raises:
        InputError: when the set has an image no more, or folds have other targets or share images.
    """
    if len({one.targets for one in folds}) > 1:
        raise InputError(f"{dataset.info.name}: folds were scored for other targets; score again")
    images = [image for one in folds for image in one.images]
    order = {row.image: index for index, row in enumerate(dataset.rows)}
    if len(set(images)) < len(images) or not order.keys() >= set(images):
        raise InputError(
            f"{dataset.info.name}: folds share an image, or have one that the set has no more; "
            "delete the study's evaluations and run it again"
        )
    sorted_by = np.argsort([order[image] for image in images])
    logits = _aligned([_logits(one.scores[0]) for one in folds])
    patients = [patient for one in folds for patient in one.patients]
    return Predictions(
        images=tuple(images[index] for index in sorted_by),
        patients=tuple(patients[index] for index in sorted_by),
        targets=folds[0].targets,
        labels=np.concatenate([one.labels for one in folds])[sorted_by],
        scores=(1 / (1 + np.exp(-logits)))[None, sorted_by],
    )


def _logits(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    probabilities = np.clip(np.asarray(scores, dtype=np.float64), _LEAST, 1 - _LEAST)
    logits: NDArray[np.float64] = np.log(probabilities / (1 - probabilities))
    return logits


def _aligned(folds: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Logits of folds, (N_f, T) each, brought to the mean offset and spread: (N, T)."""
    offsets = np.stack([one.mean(axis=0) for one in folds])
    spreads = np.stack([one.std(axis=0) for one in folds])
    offset, spread = offsets.mean(axis=0), spreads.mean(axis=0)
    parts = [
        (one - own) / np.where(wide > 0, wide, 1.0) * spread + offset
        for one, own, wide in zip(folds, offsets, spreads, strict=True)
    ]
    return np.concatenate(parts)
