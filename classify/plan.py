"""What a fine-tuning will do and promise, decided before an image is read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classify.config import FinetuneSettings
from classify.head.train import HeadRecipe
from synthdp.data.cohorts import cohort_of
from synthdp.data.columns import where_words
from synthdp.data.dataset import (
    Dataset,
    open_dataset,
    refuse_unknown_patients,
)
from synthdp.errors import InputError
from synthdp.privacy.accounting import PrivacyLoss
from synthdp.privacy.lineage import Cohort, Lineage, Release
from synthdp.privacy.mechanism import NO_LOSS, Mechanism
from synthdp.privacy.statement import Statement, make_statement, read_statement

#: epsilon -> learning rate x steps for unit-norm features, by the linear scaling rule of
#: arXiv 2212.04486. The points come from a feasibility probe on the public CBIS-DDSM patches.
LR_TIMES_STEPS = {1.0: 100.0, 6.0: 400.0, 12.0: 1000.0, 20.0: 2000.0}
UNPROTECTED_NOTE = "trained without differential privacy"
FIXED_NOISE_NOTE = "noise from a fixed key, for tests"


def lr_times_steps(epsilon: float, rule: float | Mapping[float, float] | None = None) -> float:
    """Learning rate x steps for a stage's epsilon.

    Args:
        epsilon: of the stage; inf for none.
        rule: one number for all, numbers by epsilon (log-linear between two, flat beyond; inf has
            its own or that of the largest), or None for `LR_TIMES_STEPS`.
    """
    if isinstance(rule, int | float):
        return float(rule)
    known = dict(sorted((rule or LR_TIMES_STEPS).items()))
    if math.isinf(epsilon):
        return float(list(known.values())[-1])
    finite = {point: value for point, value in known.items() if math.isfinite(point)} or known
    points, values = zip(*finite.items(), strict=True)
    if math.isinf(points[0]):
        return float(values[0])
    return float(np.exp(np.interp(np.log(epsilon), np.log(points), np.log(values))))


@dataclass(frozen=True)
class Plan:
    """What a run will do and promise, decided from settings and cards before an image is read."""

    dataset: Dataset
    ancestors: Lineage
    release: Release
    recipe: HeadRecipe
    statement: Statement


def _ancestors(
    settings: FinetuneSettings, dataset: Dataset, to_come: Mapping[Path, Lineage]
) -> Lineage:
    """What the model descends from, a synthetic set in the place of patients included."""
    sets = [path for path in (settings.synthetic, settings.centre) if path is not None]
    infos = [open_dataset(path).info for path in sets]
    for info in infos:
        if info.protects_patients:
            raise InputError(
                f"{info.name}: holds patients, so it may not stand as `synthetic` or `centre`, "
                "which get no noise; name a synthetic or a phantom set"
            )
    lineages = [info.lineage for info in (dataset.info, *infos)]
    if settings.init is not None:
        planned = to_come.get(settings.init)
        lineages.append(planned or read_statement(settings.init).lineage)
    return Lineage().joined(lineages)


def _mechanism(settings: FinetuneSettings, dataset: Dataset, ancestors: Lineage) -> Mechanism:
    """What the target leaves to this stage, after what ancestors spent on the same patients."""
    privacy = settings.privacy
    assert privacy.epsilon is not None  # the caller has asked
    assert privacy.population is not None  # FinetuneSettings asks for it with every epsilon
    cohort, share = cohort_of(dataset, settings.cohort), 1.0
    if settings.cohort is not None:
        share /= settings.cohort.of
    training = settings.network or settings.head
    rate = training.sampling_rate
    return Mechanism.reaching(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        steps=training.steps,
        sampling_rate=rate,
        normaliser=privacy.population * share * rate,
        before=spent_before(dataset, ancestors, cohort, privacy.delta),
        clip_norm=training.clip_norm,
        unit=privacy.unit,
    )


def spent_before(
    dataset: Dataset, ancestors: Lineage, cohort: Cohort | None, delta: float
) -> PrivacyLoss:
    """What is taken off a target: what ancestors spent on the patients of a stage.

    Nothing where the stage protects nobody further: its rows are no patients, or an ancestor has
    left them without protection, so that their epsilon is infinite whatever it spends.
    """
    if not dataset.info.protects_patients:
        return NO_LOSS
    before = ancestors.loss_on(cohort, delta)
    return NO_LOSS if before.unbounded else before


def _release(
    settings: FinetuneSettings, dataset: Dataset, ancestors: Lineage, release_id: str
) -> Release:
    mechanism, note = None, UNPROTECTED_NOTE
    if settings.privacy.epsilon is not None:
        mechanism, note = _mechanism(settings, dataset, ancestors), ""
    if settings.privacy.fixed_noise_key is not None:
        note = FIXED_NOISE_NOTE
    return Release(
        id=release_id,
        stage="finetune",
        data=dataset.info.name,
        unit=settings.privacy.unit,
        mu=math.inf if note or mechanism is None else mechanism.mu,
        mechanism=mechanism,
        cohort=cohort_of(dataset, settings.cohort),
        note=", ".join(filter(None, (note, _chosen_words(settings)))),
    )


def _chosen_words(settings: FinetuneSettings) -> str:
    """Which images are trained on, where not all are; the promise counts every patient."""
    return f"images of {where_words(settings.where)} alone" if settings.where else ""


def make_plan(
    settings: FinetuneSettings, release_id: str, to_come: Mapping[Path, Lineage] | None = None
) -> Plan:
    """The plan of a run, whose release has the id `release_id`.

    Raises:
        InputError: when the ancestors have spent the target already, or a folder does not fit.
    """
    dataset = open_dataset(settings.data)
    refuse_unknown_patients(dataset.info, settings.privacy.unit)
    ancestors = _ancestors(settings, dataset, to_come or {})
    release = _release(settings, dataset, ancestors, release_id)
    stage_epsilon = math.inf
    if release.mechanism is not None:
        stage_epsilon = release.mechanism.loss().epsilon(settings.privacy.delta)
    head = settings.head
    recipe = HeadRecipe(
        steps=head.steps,
        lr=lr_times_steps(stage_epsilon, head.lr_times_steps) / head.steps,
        average_from=head.average_from,
        block_steps=head.block_steps,
        optimizer=head.optimizer,
    )
    statement = statement_after(settings, dataset, ancestors, release)
    return Plan(dataset, ancestors, release, recipe, statement)


def statement_after(
    settings: FinetuneSettings, dataset: Dataset, ancestors: Lineage, release: Release
) -> Statement:
    """The statement of a run of these ancestors whose own release came out as `release`."""
    counted = dataset.info.protects_patients
    return make_statement(
        ancestors.with_release(release) if counted else ancestors,
        subject="classifier",
        delta=settings.privacy.delta,
        unit=settings.privacy.unit,
        population=settings.privacy.population,
        stage=release if counted else None,
    )
