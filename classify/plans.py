"""What each stage will promise to patients, planned before any image is read.

A plan is made of settings, statements and manifests alone, and imports neither torch nor networks:
a dry run of one stage, or of a study of hundreds, says at once what it would spend.
"""

from collections.abc import Mapping
from pathlib import Path

from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import CalibrateSettings
from classify.settings.pretrain import PretrainSettings
from classify.setup.patients import chosen_words
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.people.cohorts import cohort_of
from synthdp.data.people.units import refuse_fewer_than_imported, refuse_unknown_patients
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.plan import (
    FIXED_NOISE_NOTE,
    UNPROTECTED_NOTE,
    PrivacyPlan,
    declared_units,
    plan_privacy,
)
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import Statement

EXACT_NOTE = "calibrated without differential privacy"


def plan_pretrain(settings: PretrainSettings) -> Statement:
    """The promise of the run, before any image is read.

    Raises:
        InputError: when the data set's folder does not fit, or units of privacy meet.
    """
    return pretraining_plan(settings, open_dataset(settings.data)).statement


def pretraining_plan(settings: PretrainSettings, dataset: Dataset) -> PrivacyPlan:
    """What the run will promise to the patients of its data set; raises as `plan_pretrain`."""
    return plan_privacy(
        dataset,
        settings.privacy,
        stage="pretrain",
        subject="classifier",
        ancestors=dataset.info.lineage,
        cohort=cohort_of(dataset, settings.cohort),
    )


def plan_finetune(
    settings: FinetuneSettings, to_come: Mapping[Path, Lineage] | None = None
) -> Statement:
    """The promise of the run, before any image is read.

    Args:
        settings: of the run.
        to_come: lineages of runs and sets that are only planned yet, where `init` or `synthetic`
            may be one of them.

    Raises:
        InputError: when the ancestors have spent the target already, or a folder does not fit.
    """
    return finetuning_plan(settings, to_come).statement


def finetuning_plan(
    settings: FinetuneSettings, to_come: Mapping[Path, Lineage] | None = None
) -> PrivacyPlan:
    """What the run will spend on its patients, and promise; raises as `plan_finetune`."""
    dataset, privacy = open_dataset(settings.data), settings.privacy
    refuse_unknown_patients(dataset.info, privacy.unit)
    refuse_fewer_than_imported(
        dataset.info,
        privacy.population,
        privacy.unit,
        of_a_part=bool(chosen_words(settings, where="{}")),
    )
    training = settings.network or settings.head
    fixed_noise = privacy.fixed_noise_key is not None
    return plan_privacy(
        dataset,
        privacy,
        stage="finetune",
        subject="classifier",
        ancestors=_ancestors(settings, dataset, to_come or {}),
        cohort=cohort_of(dataset, settings.cohort),
        n_units=declared_units(privacy, settings.cohort),
        steps=training.steps,
        sampling_rate=training.sampling_rate,
        clip_norm=training.clip_norm,
        unprotected_note=FIXED_NOISE_NOTE if fixed_noise else UNPROTECTED_NOTE,
        note=chosen_words(settings, where="images of {} alone"),
    )


def _ancestors(
    settings: FinetuneSettings, dataset: Dataset, to_come: Mapping[Path, Lineage]
) -> Lineage:
    """What the model descends from, a synthetic set in the place of patients included."""
    sets = [path for path in (settings.synthetic, settings.centre) if path is not None]
    planned_sets = [to_come[path] for path in sets if path in to_come]
    infos = [open_dataset(path).info for path in sets if path not in to_come]
    for info in infos:
        if info.protects_patients:
            raise InputError(
                f"{info.name}: holds patients, so it may not stand as `synthetic` or `centre`, "
                "which get no noise; name a synthetic or a phantom set"
            )
    lineages = [*(info.lineage for info in (dataset.info, *infos)), *planned_sets]
    if settings.init is not None:
        planned = to_come.get(settings.init)
        lineages.append(planned or read_statement(settings.init).lineage)
    return Lineage().joined(lineages)


def plan_calibrate(
    settings: CalibrateSettings, to_come: Mapping[Path, Lineage] | None = None
) -> Statement:
    """The promise of the run, before any image is read.

    Args:
        settings: of the run.
        to_come: lineages of runs that are only planned yet, where `run` may be one of them.

    Raises:
        InputError: when the ancestors have spent the target already, or a folder does not fit.
    """
    return calibration_plan(settings, to_come).statement


def calibration_plan(
    settings: CalibrateSettings, to_come: Mapping[Path, Lineage] | None = None
) -> PrivacyPlan:
    """What the run will spend on its patients, and promise; raises as `plan_calibrate`."""
    dataset, privacy = open_dataset(settings.data), settings.privacy
    refuse_unknown_patients(dataset.info, privacy.unit)
    if privacy.protects and not dataset.info.protects_patients:
        raise InputError(
            f"{privacy.asked_by}: not needed, since {dataset.info.unprotected_words} and it is "
            "calibrated on exactly, at no cost; leave it out"
        )
    ancestors = (to_come or {}).get(settings.run)
    stated = privacy
    if ancestors is None:
        parent = read_statement(settings.run)
        ancestors = parent.lineage
        changes: dict[str, object] = {"population": privacy.population or parent.population}
        # a set without patients adds nothing to what the run promised
        if ancestors.releases and not dataset.info.protects_patients:
            changes |= {"delta": parent.delta, "unit": parent.unit}
        stated = privacy.model_copy(update=changes)
    fixed_noise = privacy.fixed_noise_key is not None
    counted = f"scores of the {settings.split} split, counted"
    return plan_privacy(
        dataset,
        stated,
        stage="calibrate",
        subject="classifier",
        ancestors=ancestors.joined([dataset.info.lineage]),
        cohort=cohort_of(dataset, settings.cohort),
        n_units=privacy.population,
        unprotected_note=FIXED_NOISE_NOTE if fixed_noise else EXACT_NOTE,
        note="" if not privacy.protects or fixed_noise else counted,
    )
