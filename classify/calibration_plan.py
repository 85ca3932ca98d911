"""What a calibration will do and promise, decided before an image is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

from classify.config import CalibrateSettings
from classify.plan import FIXED_NOISE_NOTE, spent_before
from synthdp.data.cohorts import cohort_of
from synthdp.data.dataset import Dataset, open_dataset, refuse_unknown_patients
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.statement import Statement, make_statement
from synthdp.runs import read_statement

STAGE = "calibrate"
UNPROTECTED_NOTE = "calibrated without differential privacy"


@dataclass(frozen=True)
class CalibrationPlan:
    """What a calibration will do and promise.

    release: None on a set without patients; parent: what the run itself promises, None while it is
    only planned.
    """

    dataset: Dataset
    ancestors: Lineage
    release: Release | None
    parent: Statement | None
    statement: Statement

    @property
    def mechanism(self) -> Mechanism | None:
        """How the counts are released; None where the fit is exact."""
        return None if self.release is None else self.release.mechanism


def make_plan(
    settings: CalibrateSettings, release_id: str, to_come: Mapping[Path, Lineage] | None = None
) -> CalibrationPlan:
    """The plan of a run, whose release has the id `release_id`.

    Raises:
        InputError: when the ancestors have spent the target already, or a folder does not fit.
    """
    dataset = open_dataset(settings.data)
    info, privacy = dataset.info, settings.privacy
    refuse_unknown_patients(info, privacy.unit)
    if privacy.epsilon is not None and not info.protects_patients:
        raise InputError(
            f"privacy.epsilon: not needed, since {info.name} holds no patients and is calibrated "
            "on exactly, at no cost; leave it out"
        )
    planned = (to_come or {}).get(settings.run)
    parent = read_statement(settings.run) if planned is None else None
    start = planned if parent is None else parent.lineage
    assert start is not None  # one of the two is known
    ancestors = start.joined([info.lineage])
    release = None
    if info.protects_patients:
        release = _release(settings, dataset, ancestors, release_id)
    statement = statement_after(settings, ancestors, release, parent)
    return CalibrationPlan(dataset, ancestors, release, parent, statement)


def _release(
    settings: CalibrateSettings, dataset: Dataset, ancestors: Lineage, release_id: str
) -> Release:
    privacy, cohort = settings.privacy, cohort_of(dataset, settings.cohort)
    mechanism, note = None, UNPROTECTED_NOTE
    if privacy.epsilon is not None:
        assert privacy.population is not None  # CalibrateSettings asks for it
        mechanism, note = (
            Mechanism.reaching(
                epsilon=privacy.epsilon,
                delta=privacy.delta,
                steps=1,
                normaliser=privacy.population,
                before=spent_before(dataset, ancestors, cohort, privacy.delta),
                unit=privacy.unit,
            ),
            f"scores of the {settings.split} split, counted",
        )
    if privacy.fixed_noise_key is not None:
        note = FIXED_NOISE_NOTE
    unprotected = mechanism is None or privacy.fixed_noise_key is not None
    return Release(
        id=release_id,
        stage=STAGE,
        data=dataset.info.name,
        unit=privacy.unit,
        mu=inf if unprotected or mechanism is None else mechanism.mu,
        mechanism=mechanism,
        cohort=cohort,
        note=note,
    )


def statement_after(
    settings: CalibrateSettings,
    ancestors: Lineage,
    release: Release | None,
    parent: Statement | None,
) -> Statement:
    """The promise; a calibration that reads no patient leaves the run's delta as it is."""
    privacy = settings.privacy
    delta, unit = privacy.delta, privacy.unit
    if release is None and parent is not None and parent.lineage.releases:
        delta, unit = parent.delta, parent.unit
    return make_statement(
        ancestors if release is None else ancestors.with_release(release),
        subject="classifier",
        delta=delta,
        unit=unit,
        population=privacy.population or (parent.population if parent is not None else None),
        stage=release,
    )
