"""The evaluate stage: scores and metrics of a finished run on a split of any data set."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from classify.features.input_form import refuse_unlike_images
from classify.model.classifier import (
    Classifier,
    SourceKey,
    features,
    logits,
    probabilities,
    sees_volumes,
    source_key,
)
from classify.model.folder import load_classifier
from classify.plans import evaluation_plan, plan_evaluate
from classify.settings.finished import EvaluateSettings
from synthdp.config.settings import dump_settings
from synthdp.data.columns import refuse_missing_column, rows_where
from synthdp.data.dataset import Dataset, Row, open_dataset, raise_problems, units_of
from synthdp.data.decoding import decode_pixels, refuse_narrow
from synthdp.data.importing.dicom import refuse_other_sources, run_dicom, settings_as_imported
from synthdp.data.importing.settings.dicom import DicomSettings
from synthdp.data.people.folds import rows_of_fold
from synthdp.errors import InputError, RunError
from synthdp.evaluation.fairness import judge_images
from synthdp.evaluation.groups import refuse_no_groups
from synthdp.evaluation.metrics import THRESHOLD
from synthdp.evaluation.noisy_counts import NoisyAuroc, NoisyAurocs, noisy_aurocs
from synthdp.evaluation.predictions import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    Predictions,
    ScoredImages,
    predictions_csv,
)
from synthdp.evaluation.summary import evaluate
from synthdp.machine.progress import progress
from synthdp.privacy.keys import new_key
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.promise.plan import PrivacyPlan
from synthdp.privacy.promise.stated import NOISY_FILE
from synthdp.runs.folder import is_written
from synthdp.runs.inputs import Input, named_inputs, read_inputs, write_inputs
from synthdp.storage.files import atomic_folder, short_lived_folder, write_atomic, write_json

#: The set that full images with a table were imported to, below an evaluation.
IMPORTED = Path("private") / "imported"


@dataclass(frozen=True)
class Repeats:
    """Images that occur more than once, to the pixel.

    duplicates: images that equal an earlier one; label_conflicts: pictures that occur with
    different known labels.
    """

    duplicates: int
    label_conflicts: int


def run_evaluate(settings: EvaluateSettings) -> Path:
    """Score a split and write `metrics.json` and `predictions.csv`; at once when they stand.

    A calibrated run decides at its own thresholds, any other at 0.5; the metrics say at which.
    Duplicates and label conflicts are counted in the metrics and stop nothing. A row whose label
    is unknown is scored and left out of the metrics. With `by` the folder also holds
    `fairness.json`: a list of the figures of groups (`synthdp.evaluation.fairness`).

    On patients all these files are exact functions of who they are, outside every promise. With
    `auroc_epsilon` the folder also holds `noisy_metrics.json`, which alone may be published under
    its promise: its release is recorded in the data set's ledger before the noise is drawn, and a
    folder that stands spends nothing again. Whether there is such a figure may not depend on a
    patient either: exact figures that can't be had of these images are then left out, and
    `metrics.json` says why.

    Raises:
        InputError: when the run is not finished, the data set lacks a target of the classifier or
            the split, its volumes are of another form than those of the training, an image is
            unreadable or uses too little of its range, `out` holds something else, or a noisy AUROC
            does not fit the data set.
    """
    if is_written(settings.out, settings, last=METRICS_FILE, what="an evaluation"):
        if settings.table is not None:
            refuse_other_sources(settings.out / IMPORTED, _import_settings(settings, Path("set")))
        return settings.out
    plan_evaluate(settings)  # refuses before an image is read
    inputs = read_inputs(named_inputs(settings))  # before they are read, so that an edit shows
    if settings.table is None:
        return _evaluate(settings, inputs, open_images(settings, open_dataset(settings.dataset)))
    with short_lived_folder(settings.out) as scratch:
        imported = run_dicom(_import_settings(settings, scratch / "set"))
        return _evaluate(settings, inputs, open_images(settings, open_dataset(imported)))


@dataclass(frozen=True, eq=False)
class ScoredSet:
    """Images on which runs are scored: what they share is read once.

    finite: whether an image may stop it by what it shows, since nothing is promised to these
    patients; among: as `classify.model.classifier.features` takes them.
    """

    dataset: Dataset
    rows: tuple[Row, ...]
    finite: bool
    among: tuple[Row, ...] | None = None
    _features: dict[SourceKey, Tensor] = field(default_factory=dict)
    _repeats: dict[tuple[str, ...], Repeats] = field(default_factory=dict)

    def repeats(self, names: tuple[str, ...], targets: NDArray[np.float64]) -> Repeats:
        """As `count_repeats`, with the labels of a classifier's targets, (N, T)."""
        if names not in self._repeats:
            self._repeats[names] = count_repeats(
                self.dataset, self.rows, targets, may_refuse_narrow=self.finite
            )
        return self._repeats[names]

    def scores(self, classifier: Classifier) -> NDArray[np.float32]:
        """As `classify.model.classifier.scores`; each network is asked once."""
        raws = []
        for source in classifier.feature_sources:
            key = source_key(source)
            if key not in self._features:
                alone = classifier.with_feature_sources([source])
                (self._features[key],) = features(
                    alone, self.dataset, self.rows, finite=self.finite, among=self.among
                )
            raws.append(self._features[key])
        return probabilities(classifier, logits(classifier, raws))


def open_images(settings: EvaluateSettings, dataset: Dataset) -> ScoredSet:
    """The images of a set that an evaluation scores.

    Raises:
        InputError: when the set lacks the split or a column, or no image is left.
    """
    promised = settings.auroc_epsilon is not None
    for attribute in settings.by.attributes if settings.by is not None else ():
        refuse_missing_column(dataset, attribute)
    rows = rows_where(
        dataset,
        dataset.split(settings.split, may_be_empty=promised),
        settings.where,
        may_be_empty=promised,
    )
    own = rows_of_fold(rows, settings.fold, may_be_empty=promised)
    return ScoredSet(dataset, own, finite=not promised, among=rows if settings.fold else None)


def run_evaluations(all_settings: Sequence[EvaluateSettings]) -> list[Exception | None]:
    """Score several runs on the same images (`classify.alike.evaluations_alike`).

    Returns:
        For each what `run_evaluate` raised; None where its folder stands.

    Raises:
        InputError: when the data set lacks the split or a column.
    """
    first, known = all_settings[0], dict[Path, Input | None]()
    images, ended = open_images(first, open_dataset(first.dataset)), list[Exception | None]()
    for settings in all_settings:
        try:
            if not is_written(settings.out, settings, last=METRICS_FILE, what="an evaluation"):
                _evaluate(settings, read_inputs(named_inputs(settings), known=known), images)
            ended.append(None)
        except (InputError, RunError, OSError) as error:
            ended.append(error)
    return ended


def _import_settings(settings: EvaluateSettings, out: Path) -> DicomSettings:
    """How full images with a table are imported for an evaluation."""
    return settings_as_imported(
        settings.as_imported,
        src=settings.dataset,
        metadata=settings.table,
        out=out,
        name="evaluated",
        split=settings.split,
        crop=settings.crop,
        dicom=settings.dicom,
        bits=settings.bits,
        size_px=settings.size_px,
    )


def _evaluate(settings: EvaluateSettings, inputs: Mapping[str, Input], images: ScoredSet) -> Path:
    """Score the images and write what `run_evaluate` says."""
    dataset, rows = images.dataset, images.rows
    classifier = _of_targets(load_classifier(settings.run), settings.targets)
    refuse_unlike_images(
        None if settings.other_form else classifier.input_form,
        dataset.info,
        of_volumes=sees_volumes(classifier),
        mend=", or set other_form: true, where the difference is meant",
    )
    plan = evaluation_plan(settings)
    promised = plan is not None
    targets = known_targets(dataset, rows, classifier.targets)
    # Under a promise nothing may depend on one patient's image; its import has refused such ones.
    repeats = vars(images.repeats(classifier.targets, targets))
    scored = images.scores(classifier)
    predictions = Predictions(
        images=tuple(row.image for row in rows),
        patients=tuple(row.patient_id for row in rows),
        targets=classifier.targets,
        labels=targets,
        scores=scored[None],
    )
    try:
        exact = _exact_figures(settings, classifier, dataset, rows, predictions)
    except InputError as error:
        if not promised:
            raise
        exact = {METRICS_FILE: {"left_out": str(error)}}
    about = {"data_set": dataset.info.name, "split": settings.split}
    exact[METRICS_FILE] = {**about, **exact[METRICS_FILE], **repeats}
    with atomic_folder(settings.out, closed=dataset.info.protects_patients) as folder:
        write_atomic(folder / "config.yaml", dump_settings(settings))
        for name, content in exact.items():
            write_json(folder / name, content)
        write_atomic(folder / PREDICTIONS_FILE, predictions_csv(predictions))
        write_inputs(folder, inputs)
        if settings.table is not None:  # the set tells when the files have changed since
            shutil.copytree(dataset.root, folder / IMPORTED)
        if plan is not None:  # last, since from here on it is spent
            noisy = _released(
                settings,
                plan,
                rows,
                folder,
                names=classifier.targets,
                targets=targets,
                scored=scored,
            )
            write_json(folder / NOISY_FILE, noisy)
    return settings.out


def _exact_figures(
    settings: EvaluateSettings,
    classifier: Classifier,
    dataset: Dataset,
    rows: Sequence[Row],
    predictions: Predictions,
) -> dict[str, Any]:
    """What the files of exact figures hold, by their names; `rows` are those of the predictions.

    Raises:
        InputError: when no target is known, a score is no number, or a column makes no groups.
    """
    if not rows:
        raise InputError("no image is left, so there is nothing to evaluate")
    if settings.by is not None:
        refuse_no_groups(dataset, rows, settings.by, setting="by")
    contents: dict[str, Any] = {
        METRICS_FILE: evaluate(
            predictions.labels,
            predictions.scores[0],
            predictions.patients,
            names=classifier.targets,
            threshold=thresholds(classifier),
            at_sensitivity=settings.at_sensitivity,
            redraws=settings.redraws,
            seed=settings.seed,
        ).to_json()
    }
    if settings.by is not None:
        images = ScoredImages(predictions, [thresholds(classifier)], dataset, rows)
        figures = judge_images(images, settings.by)
        contents["fairness.json"] = [figure.model_dump(mode="json") for figure in figures]
    return contents


def _released(
    settings: EvaluateSettings,
    plan: PrivacyPlan,
    rows: Sequence[Row],
    folder: Path,
    *,
    names: Sequence[str],
    targets: NDArray[np.float64],
    scored: NDArray[np.float32],
) -> dict[str, Any]:
    """Charge the patients, then release the AUROCs of targets and scores, (N, T) each.

    What their statement is made of stands in a ledger in the evaluation's `folder`.
    """
    units = units_of(rows, settings.auroc_unit)
    mechanism = plan.mechanism
    assert mechanism is not None  # an epsilon is asked for
    plan.record(Ledger(folder / "private" / "ledger.jsonl"))
    aurocs = noisy_aurocs(
        targets, scored, units, mechanism=mechanism, noise_source=NoiseSource(new_key(), "shake256")
    )
    return {
        "schema_version": 1 if len(names) == 1 else 2,
        "data_set": plan.dataset.info.name,
        "split": settings.split,
        **_noisy_figures(names, aurocs),
        "weights": f"each {mechanism.unit} counts once, spread over its images",
        "epsilon": plan.stage_epsilon,
        "delta": settings.auroc_delta,
        "unit": mechanism.unit,
        "neighbours": f"add or remove one {mechanism.unit}",
        "population": settings.population,
        "release": plan.release.model_dump(mode="json"),
    }


def _noisy_figures(names: Sequence[str], aurocs: NoisyAurocs) -> dict[str, Any]:
    """The figures of `noisy_metrics.json`: of one target its own; of several their mean and each.

    Version 1 of the file has one target, version 2 several.
    """
    each = dict(zip(names, map(_noisy_figure, aurocs.targets), strict=True))
    if len(names) == 1:
        return {"auroc": each[names[0]]}
    over = [names[index] for index in aurocs.over]
    return {
        "auroc": {**_noisy_figure(aurocs.macro), "over": over},
        "targets": each,
        "budget": f"shared by {len(names)} targets in one release: the noise on the counts of each "
        f"is {math.sqrt(len(names)):.2f} times that of one alone",
    }


def _noisy_figure(auroc: NoisyAuroc) -> dict[str, float | None]:
    figure = {"value": auroc.value, "noise_standard_error": auroc.standard_error}
    return {key: None if math.isnan(value) else value for key, value in figure.items()}


def thresholds(classifier: Classifier) -> list[float]:
    """The probability from which each target is called positive."""
    if classifier.points:
        return [point.threshold for point in classifier.points]
    return [THRESHOLD] * len(classifier.targets)


def _of_targets(classifier: Classifier, names: Sequence[str] | None) -> Classifier:
    """The classifier for some of its targets; for all of them where none is named.

    Raises:
        InputError: when it has no such target.
    """
    if names is None:
        return classifier
    unknown = [name for name in names if name not in classifier.targets]
    if unknown or len(set(names)) < len(names):
        raise InputError(
            f"targets: {', '.join(unknown) or 'one stands twice'}: name some of those that the "
            f"run scores, each once: {', '.join(classifier.targets)}"
        )
    return classifier.of_targets(names)


def known_targets(
    dataset: Dataset, rows: Sequence[Row], names: Sequence[str]
) -> NDArray[np.float64]:
    """The labels of a classifier's targets, (N, T), nan unknown.

    Raises:
        InputError: when the data set lacks one of them.
    """
    missing = [name for name in names if name not in dataset.info.targets]
    if missing:
        shared = ", ".join(name for name in names if name not in missing)
        others = f", or evaluate what both have: targets=[{shared}]" if shared else ""
        raise InputError(
            f"{dataset.info.name}: has no target {', '.join(missing)}, which the classifier scores "
            f"(it has {', '.join(dataset.info.targets)}); name the columns of both alike{others}"
        )
    columns = [dataset.info.targets.index(name) for name in names]
    known = [[row.targets[column] for column in columns] for row in rows]
    return np.array(known, dtype=np.float64).reshape(len(rows), len(names))


def count_repeats(
    dataset: Dataset,
    rows: Sequence[Row],
    targets: NDArray[np.float64],
    *,
    may_refuse_narrow: bool = True,
) -> Repeats:
    """Count images that occur again, by a hash of their pixels.

    Args:
        dataset: the opened data set.
        rows: N of its rows.
        targets: (N, T), nan unknown.
        may_refuse_narrow: whether an image may stop it by what it shows.

    Raises:
        InputError: with all images that are unreadable, or use too little of their range.
    """
    labels: dict[bytes, list[NDArray[np.float64]]] = {}
    problems = []
    checked = progress(rows, what="checking images")
    for row, label in zip(checked, targets, strict=True):
        try:
            pixels = decode_pixels(dataset.root / row.image)
            if may_refuse_narrow:
                refuse_narrow(pixels)
        except InputError as error:
            problems.append(f"row {dataset.rows.index(row) + 2}: {error}")
            continue
        digest = sha256(f"{pixels.shape} {pixels.dtype}".encode() + pixels.tobytes()).digest()
        labels.setdefault(digest, []).append(label)
    where = f"{dataset.info.name}: nothing was evaluated (rows are those of manifest.csv)"
    raise_problems(where, problems)
    return Repeats(
        duplicates=sum(len(same) - 1 for same in labels.values()),
        label_conflicts=sum(_conflict(np.array(same)) for same in labels.values()),
    )


def _conflict(labels: NDArray[np.float64]) -> bool:
    """Whether equal images, (K, T), have both labels of some target."""
    return bool(((labels == 0).any(axis=0) & (labels == 1).any(axis=0)).any())
