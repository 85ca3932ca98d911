"""What a training of a generator will do and promise, decided before an image is read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gan.config import TrainGanSettings
from gan.network.architectures import describe
from gan.network.conditions import Conditions, conditions_of, read_conditions
from gan.package.model import model_settings
from gan.package.pretrained import resolve_run
from gan.training.examples import refuse_missing_classes, refuse_other_targets
from synthdp.data.cohorts import cohort_of, cohort_rows
from synthdp.data.dataset import (
    Dataset,
    Row,
    open_dataset,
    refuse_small_population,
    refuse_unknown_patients,
)
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import NO_LOSS, Mechanism, Unit
from synthdp.privacy.statement import Statement, make_statement, read_statement

STAGE = "train-gan"
UNPROTECTED_NOTE = "generator trained without differential privacy"
FIXED_NOISE_NOTE = "noise from a fixed key, for tests"


@dataclass(frozen=True)
class GanPlan:
    """What a run will do and promise, decided from settings, cards and manifest.

    rows: what it learns from, with `conditions` told beside the class; release: of this run alone,
    with a mechanism where it is private.
    """

    dataset: Dataset
    rows: tuple[Row, ...]
    conditions: Conditions
    ancestors: Lineage
    release: Release
    statement: Statement

    @property
    def counted(self) -> bool:
        """Whether the rows are patients, so that the release is counted."""
        return self.dataset.info.protects_patients


def make_plan(
    settings: TrainGanSettings, release_id: str, to_come: Mapping[Path, Lineage] | None = None
) -> GanPlan:
    """The plan of a run, whose release has the id `release_id`.

    Args:
        settings: of the run.
        release_id: of the run.
        to_come: lineages of runs that are only planned yet, where `init` may be one of them.

    Raises:
        InputError: when the data set or `init` cannot be used, or the ancestors have spent the
            target already.
    """
    dataset = open_dataset(settings.data)
    refuse_other_targets(dataset.info)
    rows = cohort_rows(dataset, dataset.split("train"), settings.cohort)
    refuse_missing_classes(dataset.info, rows)
    conditions = read_conditions(rows, settings.conditions, settings.condition_prior)
    if settings.method != "adversarial":
        refuse_unknown_patients(dataset.info, settings.privacy.unit)
        n_units, unit = len(set(units_of(settings, rows))), settings.privacy.unit
        refuse_small_population(settings.privacy.population, n_units, unit)
    planned = (to_come or {}).get(settings.init) if settings.init is not None else None
    if settings.init is not None and planned is None:
        refuse_other_shape(settings.init, settings, conditions, dataset.info.targets[0])
    ancestors = _ancestors(settings, dataset, planned)
    release = _release(settings, dataset, ancestors, release_id)
    statement = statement_after(settings, dataset, ancestors, release)
    return GanPlan(dataset, rows, conditions, ancestors, release, statement)


def units_of(settings: TrainGanSettings, rows: tuple[Row, ...]) -> list[str]:
    """The name of the unit that each row belongs to: its patient, or itself."""
    by_image = settings.privacy.unit == "image"
    return [row.image if by_image else row.patient_id for row in rows]


def refuse_other_shape(
    init: Path, settings: TrainGanSettings, conditions: Conditions, target: str
) -> None:
    """Refuse to start from a generator of another shape, or one that knows other conditions.

    Raises:
        InputError: naming what differs.
    """
    found = model_settings(init)
    asked = {**describe(settings, conditions), "target": target}
    told = conditions_of(found)
    differing = [key for key in asked if key != "conditions" and found.get(key) != asked[key]]
    if (told.names, told.levels) != (conditions.names, conditions.levels):
        differing.append("conditions")
    if differing:
        raise InputError(
            f"init: {init} is a generator of another shape: {', '.join(sorted(differing))} differ; "
            "give the settings that it was trained with, or start from another one"
        )


def _ancestors(settings: TrainGanSettings, dataset: Dataset, planned: Lineage | None) -> Lineage:
    lineages = [dataset.info.lineage]
    if settings.init is not None:
        lineages.append(planned or read_statement(resolve_run(settings.init)).lineage)
    if settings.method == "embedding":
        assert settings.embedding is not None  # TrainGanSettings asks for it
        lineages.append(_public_lineage(settings.embedding.public))
    return Lineage().joined(lineages)


def _public_lineage(public: Path) -> Lineage:
    info = open_dataset(public).info
    if info.protects_patients:
        raise InputError(
            f"embedding.public: {info.name} holds patients, whose images would be read without "
            "noise; name a phantom or a synthetic set"
        )
    return info.lineage


def _unit(settings: TrainGanSettings, dataset: Dataset, ancestors: Lineage) -> Unit:
    """What the promise is to; where there is none, what the data set or its ancestors know."""
    if settings.method != "adversarial" or settings.privacy.unit == "image":
        return settings.privacy.unit
    if dataset.info.protects_patients:
        return dataset.info.unit
    return ancestors.releases[0].unit if ancestors.releases else "patient"


def _release(
    settings: TrainGanSettings, dataset: Dataset, ancestors: Lineage, release_id: str
) -> Release:
    mechanism, note = None, UNPROTECTED_NOTE
    if settings.privacy.epsilon is not None:
        mechanism, note = _mechanism(settings, dataset, ancestors), ""
        if settings.privacy.fixed_noise_key is not None:
            note = FIXED_NOISE_NOTE
    return Release(
        id=release_id,
        stage=STAGE,
        data=dataset.info.name,
        unit=_unit(settings, dataset, ancestors),
        mu=math.inf if note or mechanism is None else mechanism.mu,
        mechanism=mechanism,
        cohort=cohort_of(dataset, settings.cohort),
        note=note,
    )


def _mechanism(settings: TrainGanSettings, dataset: Dataset, ancestors: Lineage) -> Mechanism:
    """What the target leaves to this run, after what ancestors spent on the same patients."""
    privacy, steps, rate, clip_norm = settings.privacy, 1, 1.0, 1.0
    assert privacy.epsilon is not None  # the caller has asked
    if settings.method == "dp_discriminator":
        recipe = settings.dp_discriminator
        steps, rate, clip_norm = recipe.steps, recipe.sampling_rate, recipe.clip_norm
    before = ancestors.loss_on(cohort_of(dataset, settings.cohort), privacy.delta)
    return Mechanism.reaching(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        steps=steps,
        sampling_rate=rate,
        normaliser=declared_units(settings) * rate,
        before=NO_LOSS if before.unbounded else before,
        clip_norm=clip_norm,
        unit=privacy.unit,
    )


def declared_units(settings: TrainGanSettings) -> float:
    """The declared number of patients, or of those of the cohort: what a mean is taken over."""
    assert settings.privacy.population is not None  # TrainGanSettings asks for it with an epsilon
    share = 1.0 if settings.cohort is None else 1.0 / settings.cohort.of
    return settings.privacy.population * share


def statement_after(
    settings: TrainGanSettings, dataset: Dataset, ancestors: Lineage, release: Release
) -> Statement:
    """The statement of a run of these ancestors whose own release came out as `release`."""
    counted = dataset.info.protects_patients
    return make_statement(
        ancestors.with_release(release) if counted else ancestors,
        subject="generator",
        delta=settings.privacy.delta,
        unit=release.unit,
        population=settings.privacy.population,
        stage=release if counted else None,
    )
