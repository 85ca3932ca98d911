"""What each stage will promise to patients, planned before any image is read.

A plan is made of settings, statements and manifests alone, and imports neither torch nor networks:
a dry run of one stage, or of a study of hundreds, says at once what it would spend.
"""

from classify.features.input_form import (
    refuse_attention,
    refuse_kept_views,
    refuse_other_form,
    refuse_views_for_head,
)
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import CalibrateSettings, EvaluateSettings
from classify.settings.pretrain import PretrainSettings
from classify.setup.patients import chosen_words, training_rows
from classify.setup.targets import (
    refuse_nothing_shared,
    refuse_other_targets,
    refuse_unlabelled,
)
from synthdp.data.columns import refuse_missing_column
from synthdp.data.dataset import (
    Dataset,
    labels_of,
    open_dataset,
    refuse_one_class,
    targets_array,
)
from synthdp.data.description import DatasetInfo
from synthdp.data.people.cohorts import cohort_of, cohort_rows
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
from synthdp.privacy.promise.stated import NOISY_FILE, read_statement
from synthdp.privacy.promise.statement import Statement, make_statement
from synthdp.privacy.settings import PrivacySettings
from synthdp.runs.to_come import AllToCome

EXACT_NOTE = "calibrated without differential privacy"


def plan_pretrain(settings: PretrainSettings, to_come: AllToCome | None = None) -> Statement:
    """The promise of the run, before any image is read.

    Args:
        settings: of the run.
        to_come: sets that are only planned yet, where `data` may be one of them.

    Raises:
        InputError: when the data set's folder does not fit, units of privacy meet, or the set's
            budget does not allow the run.
    """
    planned = (to_come or {}).get(settings.data)
    if planned is not None:  # what is trained on drawn images alone promises what these do
        return make_statement(
            planned.lineage,
            subject="classifier",
            delta=settings.privacy.delta,
            unit=planned.lineage.unit,
            population=settings.privacy.population,
        )
    return pretraining_plan(settings, open_dataset(settings.data)).statement_to_come(settings.out)


def pretraining_plan(settings: PretrainSettings, dataset: Dataset) -> PrivacyPlan:
    """What the run will promise to the patients of its data set; raises as `plan_pretrain`."""
    info = dataset.info
    if not info.protects_patients:  # of patients a plan tells nothing that only their labels say
        rows = cohort_rows(dataset, dataset.split("train"), settings.cohort)
        refuse_one_class(f"{info.name}, train", info.targets, targets_array(rows), tells=False)
    for one in (settings.backbone, *([] if settings.teacher is None else [settings.teacher])):
        refuse_other_form(one, info)
    if settings.trainable_blocks == 0:
        refuse_attention(settings.backbone)
    elif settings.augment is None:
        refuse_kept_views(info, settings.views)
    if settings.teacher is not None:
        refuse_attention(settings.teacher)
    return plan_privacy(
        dataset,
        settings.privacy,
        stage="pretrain",
        subject="classifier",
        ancestors=dataset.info.lineage,
        cohort=cohort_of(dataset, settings.cohort),
    )


def plan_finetune(settings: FinetuneSettings, to_come: AllToCome | None = None) -> Statement:
    """The promise of the run, before any image is read.

    Args:
        settings: of the run.
        to_come: runs and sets that are only planned yet, where `init`, `synthetic` or `centre` may
            be one of them.

    Raises:
        InputError: when the ancestors have spent the target already, the set's budget does not
            allow the run, or a folder does not fit.
    """
    return finetuning_plan(settings, to_come).statement_to_come(settings.out)


def finetuning_plan(settings: FinetuneSettings, to_come: AllToCome | None = None) -> PrivacyPlan:
    """What the run will spend on its patients, and promise; raises as `plan_finetune`."""
    dataset, privacy, planned = open_dataset(settings.data), settings.privacy, to_come or {}
    refuse_unknown_patients(dataset.info, privacy.unit)
    refuse_fewer_than_imported(
        dataset.info,
        privacy.population,
        privacy.unit,
        of_a_part=bool(chosen_words(settings, where="{}")),
    )
    training = settings.network or settings.head
    fixed_noise = privacy.fixed_noise_key is not None
    plan = plan_privacy(
        dataset,
        privacy,
        stage="finetune",
        subject="classifier",
        ancestors=_ancestors(settings, dataset, planned),
        cohort=cohort_of(dataset, settings.cohort),
        n_units=declared_units(privacy, settings.cohort),
        steps=training.steps,
        sampling_rate=training.sampling_rate,
        clip_norm=training.clip_norm,
        unprotected_note=FIXED_NOISE_NOTE if fixed_noise else UNPROTECTED_NOTE,
        note=chosen_words(settings, where="images of {} alone"),
    )
    _refuse_unfit_sets(settings, dataset, planned)
    _refuse_unfit_form(settings, dataset.info, planned)
    return plan


def _refuse_unfit_sets(settings: FinetuneSettings, dataset: Dataset, to_come: AllToCome) -> None:
    """Refuse columns and targets that the sets do not have; of patients it reads the header alone.

    Raises:
        InputError: naming the setting, and what the set has.
    """
    info, head = dataset.info, settings.head
    for column in settings.where or ():
        refuse_missing_column(dataset, column, setting="where")
    if unknown := [name for name in head.prior or {} if name not in info.targets]:
        raise InputError(
            f"head.prior: {info.name} has no target {', '.join(unknown)} (it has "
            f"{', '.join(info.targets)})"
        )
    if not (settings.privacy.protects or info.protects_patients):
        learned = targets_array(training_rows(settings, dataset))
        refuse_one_class(f"{info.name}, train", info.targets, learned, tells=False)
    if head.start == "centre" and settings.centre is not None:
        if settings.centre in to_come:
            refuse_unlabelled("the set to come", to_come[settings.centre].targets, info)
        else:
            centre = open_dataset(settings.centre)
            refuse_unlabelled(centre.info.name, centre.info.targets, info)
            labels = labels_of(centre, centre.rows, info.targets)
            refuse_one_class(centre.info.name, info.targets, labels, tells=False)
    if settings.init is not None and settings.init in to_come and head.start == "pretrained":
        refuse_other_targets(settings.init, to_come[settings.init].targets, info)
    if settings.synthetic is None:
        return
    if settings.synthetic in to_come:
        refuse_nothing_shared("the set to come", to_come[settings.synthetic].targets, info)
    else:
        mixed = open_dataset(settings.synthetic)
        refuse_nothing_shared(mixed.info.name, mixed.info.targets, info)
        mixed.split("train")  # refuses a set that has none


def _refuse_unfit_form(settings: FinetuneSettings, info: DatasetInfo, to_come: AllToCome) -> None:
    """Refuse networks of flat images for volumes, the other way round, and what volumes lack.

    Raises:
        InputError: naming the setting.
    """
    planned = None if settings.init is None else to_come.get(settings.init)
    first = settings.backbone if planned is None else getattr(planned.settings, "backbone", None)
    for one in (*([] if first is None else [first]), *settings.beside):
        refuse_other_form(one, info)
    if settings.network is not None:
        return
    for one in (settings.backbone, *settings.beside):
        if one is not None:
            refuse_attention(one)
    refuse_views_for_head(info, views=settings.head.views, grain=settings.head.image_noise)


def _ancestors(settings: FinetuneSettings, dataset: Dataset, to_come: AllToCome) -> Lineage:
    """What the model descends from, a synthetic set in the place of patients included."""
    sets = [path for path in (settings.synthetic, settings.centre) if path is not None]
    planned_sets = [to_come[path].lineage for path in sets if path in to_come]
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
        lineages.append(planned.lineage if planned else read_statement(settings.init).lineage)
    return Lineage().joined(lineages)


def plan_calibrate(settings: CalibrateSettings, to_come: AllToCome | None = None) -> Statement:
    """The promise of the run, before any image is read.

    Args:
        settings: of the run.
        to_come: runs that are only planned yet, where `run` may be one of them.

    Raises:
        InputError: when the ancestors have spent the target already, the set's budget does not
            allow the run, or a folder does not fit.
    """
    return calibration_plan(settings, to_come).statement_to_come(settings.out)


def calibration_plan(settings: CalibrateSettings, to_come: AllToCome | None = None) -> PrivacyPlan:
    """What the run will spend on its patients, and promise; raises as `plan_calibrate`."""
    dataset, privacy = open_dataset(settings.data), settings.privacy
    refuse_unknown_patients(dataset.info, privacy.unit)
    if privacy.protects and not dataset.info.protects_patients:
        raise InputError(
            f"{privacy.asked_by}: not needed, since {dataset.info.unprotected_words} and it is "
            "calibrated on exactly, at no cost; leave it out"
        )
    planned = (to_come or {}).get(settings.run)
    stated = privacy
    if planned is not None:
        ancestors = planned.lineage
    else:
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


def plan_evaluate(settings: EvaluateSettings) -> Statement | None:
    """The promise of a noisy AUROC, before any image is read; None where none is asked for.

    Raises:
        InputError: when it does not fit the data set, or the set's budget does not allow it.
    """
    plan = evaluation_plan(settings)
    if plan is None:
        return None
    stands = (settings.out / NOISY_FILE).is_file()  # what it cost is on record
    return plan.statement if stands else plan.statement_to_come(settings.out)


def evaluation_plan(settings: EvaluateSettings) -> PrivacyPlan | None:
    """How AUROCs are released, None when they aren't; nothing is spent yet."""
    if settings.auroc_epsilon is None:
        return None
    dataset = open_dataset(settings.dataset)
    info = dataset.info
    if not info.protects_patients:
        raise InputError(
            f"auroc_epsilon: not needed, since {info.unprotected_words} and its exact figures may "
            "be published; leave it out"
        )
    refuse_unknown_patients(info, settings.auroc_unit)
    privacy = PrivacySettings(
        epsilon=settings.auroc_epsilon,
        delta=settings.auroc_delta,
        unit=settings.auroc_unit,
        population=settings.population,
    )
    return plan_privacy(
        dataset,
        privacy,
        stage="evaluate",
        subject="AUROC",
        ancestors=Lineage(),  # the epsilon is that of the figure alone
        cohort=None,
        n_units=settings.population,
        note=f"a noisy AUROC of the {settings.split} split",
    )
