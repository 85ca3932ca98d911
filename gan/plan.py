"""What a training of a generator will do and promise, decided before an image is read."""

import math
from dataclasses import dataclass

from gan.conditions import Conditions, read_conditions
from gan.config import TrainGanSettings
from gan.examples import refuse_missing_classes, refuse_other_targets
from synthdp.data.cohorts import cohort_of, cohort_rows
from synthdp.data.dataset import Dataset, Row, open_dataset
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.statement import Statement, make_statement

STAGE = "train-gan"
UNPROTECTED_NOTE = "generator trained without differential privacy"


@dataclass(frozen=True)
class GanPlan:
    """What a run will do and promise, decided from settings, cards and manifest.

    rows: what it learns from, with `conditions` told beside the class; release: None where no
    patient is involved.
    """

    dataset: Dataset
    rows: tuple[Row, ...]
    conditions: Conditions
    release: Release | None
    statement: Statement


def make_plan(settings: TrainGanSettings, release_id: str) -> GanPlan:
    """The plan of a run, whose release has the id `release_id`.

    Raises:
        InputError: when the data set cannot be used.
    """
    dataset = open_dataset(settings.data)
    refuse_other_targets(dataset.info)
    rows = cohort_rows(dataset, dataset.split("train"), settings.cohort)
    refuse_missing_classes(dataset.info, rows)
    conditions = read_conditions(rows, settings.conditions, settings.condition_prior)
    release = _release(dataset, settings, release_id)
    return GanPlan(dataset, rows, conditions, release, _statement(dataset, release))


def _release(dataset: Dataset, settings: TrainGanSettings, release_id: str) -> Release | None:
    if not dataset.info.protects_patients:
        return None
    return Release(
        id=release_id,
        stage=STAGE,
        data=dataset.info.name,
        unit=dataset.info.unit,
        mu=math.inf,
        cohort=cohort_of(dataset, settings.cohort),
        note=UNPROTECTED_NOTE,
    )


def _statement(dataset: Dataset, release: Release | None) -> Statement:
    lineage: Lineage = dataset.info.lineage
    if release is not None:
        lineage = lineage.with_release(release)
    unit = lineage.releases[0].unit if lineage.releases else "patient"
    return make_statement(lineage, subject="generator", unit=unit, stage=release)
