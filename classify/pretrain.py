"""The pretrain stage: ordinary training of a classifier, on synthetic images or phantoms.

Backbone and head are trained together, or the head alone on cached features; the last iterate is
the model. On patients this is the baseline without privacy, and the statement says so.
"""

import math
import shutil
from pathlib import Path

import torch

from classify.config import PretrainSettings
from classify.features.extract import backbone_features
from classify.features.scaling import head_input, plain_scaling
from classify.head.logistic import fit_logistic
from classify.model import Classifier, FeatureSource, save_classifier
from classify.network.joint import train_jointly
from synthdp.cards import model_card
from synthdp.data.cohorts import cohort_of, cohort_rows
from synthdp.data.dataset import Dataset, Row, open_dataset, refuse_one_class, targets_array
from synthdp.errors import RunError
from synthdp.networks.backbone import Backbone, build_backbone
from synthdp.privacy.ledger import record_release
from synthdp.privacy.lineage import Release, new_release_id
from synthdp.privacy.statement import Statement, make_statement
from synthdp.runs import Run, open_run

UNPROTECTED_NOTE = "trained without differential privacy"


def plan_pretrain(settings: PretrainSettings) -> Statement:
    """The promise of the run, before any image is read.

    Raises:
        InputError: when the data set's folder does not fit, or units of privacy meet.
    """
    return _statement(settings, open_dataset(settings.data), new_release_id())


def run_pretrain(settings: PretrainSettings) -> Path:
    """Train a classifier, or resume or return a run that stands at `settings.out`.

    Raises:
        InputError: when settings and data don't fit together.
        RunError: when the loss is not finite; the last good checkpoint stands.
    """
    dataset = open_dataset(settings.data)
    info, rows = dataset.info, _rows(settings, dataset)
    refuse_one_class(f"{info.name}, train", info.targets, targets_array(rows))
    _statement(settings, dataset, new_release_id())
    if not (settings.out / "status.json").is_file():
        _backbone(settings)  # refuses before a folder is made, so that a mend needs no new one
    with open_run(settings.out, "pretrain", settings) as run:
        if not run.finished:
            _pretrain(settings, run, dataset)
    return settings.out


def _release(settings: PretrainSettings, dataset: Dataset, release_id: str) -> Release:
    return Release(
        id=release_id,
        stage="pretrain",
        data=dataset.info.name,
        unit=settings.privacy.unit,
        mu=math.inf,
        cohort=cohort_of(dataset, settings.cohort),
        note=UNPROTECTED_NOTE,
    )


def _statement(settings: PretrainSettings, dataset: Dataset, release_id: str) -> Statement:
    release = None
    lineage = dataset.info.lineage
    if dataset.info.protects_patients:
        release = _release(settings, dataset, release_id)
        lineage = lineage.with_release(release)
    return make_statement(
        lineage,
        subject="classifier",
        delta=settings.privacy.delta,
        unit=settings.privacy.unit,
        population=settings.privacy.population,
        stage=release,
    )


def _rows(settings: PretrainSettings, dataset: Dataset) -> tuple[Row, ...]:
    return cohort_rows(dataset, dataset.split("train"), settings.cohort)


def _pretrain(settings: PretrainSettings, run: Run, dataset: Dataset) -> None:
    if dataset.info.protects_patients:
        record_release(dataset.ledger_path, _release(settings, dataset, run.release_id))
    save_classifier(run.model, _trained(settings, run, dataset))
    statement = _statement(settings, dataset, run.release_id)
    run.finish(statement, _card(settings, dataset, statement))
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def _trained(settings: PretrainSettings, run: Run, dataset: Dataset) -> Classifier:
    """The classifier; its features are centred by the images that it was trained on."""
    rows = _rows(settings, dataset)
    backbone = _backbone(settings)
    head = None
    if settings.trainable_blocks != 0:
        head = train_jointly(settings, run, backbone, dataset, rows)
    raw = backbone_features(backbone, dataset, rows)
    scaling = plain_scaling(backbone).fitted(raw, settings.backbone.whiten)
    if head is None:
        fitted = fit_logistic(
            head_input([raw], [scaling]),
            torch.from_numpy(targets_array(rows)),
            l2=settings.weight_decay,
            smoothing=settings.label_smoothing,
        )
        if not math.isfinite(fitted.loss):
            raise RunError("the loss of the head is not finite; raise weight_decay")
        run.log(loss=fitted.loss)
        head = fitted.weight, fitted.bias
    feature_source = FeatureSource(
        backbone=settings.backbone,
        scaling=scaling,
        trainable_blocks=settings.trainable_blocks,
        trained=backbone.own_tensors(),
        seed=settings.seed,
    )
    return Classifier((feature_source,), dataset.info.targets, *head)


def _backbone(settings: PretrainSettings) -> Backbone:
    return build_backbone(
        settings.backbone, seed=settings.seed, trainable_blocks=settings.trainable_blocks
    )


def _card(settings: PretrainSettings, dataset: Dataset, statement: Statement) -> str:
    blocks = settings.trainable_blocks
    moved = {0: "head alone", "all": "whole network and head"}.get(
        blocks, f"last {blocks} blocks and head"
    )
    facts = {
        "data set": f"{dataset.info.name} ({dataset.info.kind})",
        "targets": ", ".join(dataset.info.targets),
        "transformer": f"{settings.backbone.name} at {settings.backbone.size_px} px",
        "weights": settings.backbone.sha256 or settings.backbone.weights or "random start",
        "trained": moved,
    }
    return model_card(
        title=f"Classifier pretrained on {dataset.info.name}",
        summary="A vision transformer with a linear head, trained without differential privacy.",
        statement=statement,
        settings=facts,
    )
