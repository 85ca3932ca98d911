"""Which images of which patients a training takes, and how many patients there may be."""

from classify.settings.finetune import FinetuneSettings
from synthdp.data.columns import rows_where, where_words
from synthdp.data.dataset import Dataset, Row
from synthdp.data.description import DatasetInfo
from synthdp.data.people.cohorts import cohort_rows
from synthdp.data.people.folds import left_out_words, rows_outside_fold
from synthdp.data.people.units import bounded_rows
from synthdp.privacy.settings import PrivacySettings


def bound_on_units(privacy: PrivacySettings, info: DatasetInfo) -> int | None:
    """How many units there are at most, by declaration; None where nothing bounds them.

    Rows that are no patients, trained on without noise, may be as many as there are.
    """
    bounds = info.protects_patients or privacy.protects
    return privacy.population if bounds else None


def training_rows(settings: FinetuneSettings, dataset: Dataset) -> tuple[Row, ...]:
    """The images of patients that a run is trained on.

    Guarantee: a patient's rows stay or go by hashes of the id, by public columns of each row and by
    a public bound on how many there are, whoever else is in the set. With a promise there may be
    none.

    Raises:
        InputError: when none is left, and nothing is promised.
    """
    return rows_outside_fold(
        rows_of_all_folds(settings, dataset),
        settings.leave_out,
        settings.share,
        may_be_empty=settings.privacy.protects,
    )


def rows_of_all_folds(settings: FinetuneSettings, dataset: Dataset) -> tuple[Row, ...]:
    """As `training_rows`, those that a fold or a share leaves out as well.

    Raises:
        InputError: when there is none, and nothing is promised.
    """
    promised = settings.privacy.protects
    rows = rows_where(
        dataset,
        dataset.split("train", may_be_empty=promised),
        settings.where,
        may_be_empty=promised,
    )
    of_cohort = cohort_rows(dataset, rows, settings.cohort, may_be_empty=promised)
    return bounded_rows(of_cohort, settings.privacy.images_per_patient)


def chosen_words(settings: FinetuneSettings, *, where: str) -> str:
    """Which images of the train split a run is trained on, in words; empty for all of them.

    Args:
        settings: of the run.
        where: what to say of a choice by columns, with `{}` for that choice.
    """
    chosen = [] if settings.where is None else [where.format(where_words(settings.where))]
    return ", ".join([*chosen, *left_out_words(settings.leave_out, settings.share)])
