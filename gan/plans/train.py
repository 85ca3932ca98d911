"""What a training of a generator will spend and promise, and what it learns from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gan.package.conditions import Conditions
from gan.package.description import Description, TrainedShape
from gan.package.opened import open_generator
from gan.plans.conditions import (
    planned_conditions,
    published_table,
    refuse_certain,
    refuse_missing_shares,
)
from gan.private.pool import refuse_missing_conditions
from gan.settings.train import TrainGanSettings
from gan.training.classes import chosen_targets, refuse_missing_classes, refuse_several
from synthdp.data.dataset import (
    Dataset,
    Row,
    open_dataset,
    refuse_small_population,
    refuse_volumes,
    units_of,
)
from synthdp.data.description import DatasetInfo
from synthdp.data.people.cohorts import cohort_of, cohort_rows
from synthdp.data.people.folds import left_out_words, rows_outside_fold
from synthdp.data.people.units import (
    bounded_rows,
    refuse_fewer_than_imported,
    refuse_unknown_patients,
)
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.plan import PrivacyPlan, declared_units, plan_privacy
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.units import Unit
from synthdp.runs.to_come import AllToCome

if TYPE_CHECKING:
    from gan.plans.published import PublishedTable

UNPROTECTED_NOTE = "generator trained without differential privacy"


def plan_train_gan(settings: TrainGanSettings, to_come: AllToCome | None = None) -> Statement:
    """What the generator will promise; reads no image.

    Args:
        settings: of the run.
        to_come: runs that are only planned yet, where `init` may be one of them.

    Raises:
        InputError: when the data set or `init` cannot be used, the ancestors have spent the target
            already, or the set's budget does not allow the run.
    """
    return gan_plan(settings, to_come).privacy.statement_to_come(settings.out)


@dataclass(frozen=True)
class GanPlan:
    """What a run learns from, and what it will spend and promise.

    rows: of the train split; among: these and those that a fold or a share leaves out; units: for
    each row its patient, or itself where the unit is the image; conditions: what is known of each
    row beside the class; targets: what the generator is conditioned on, each with its place among
    the set's.
    """

    privacy: PrivacyPlan
    rows: tuple[Row, ...]
    among: tuple[Row, ...]
    units: tuple[str, ...]
    conditions: Conditions
    targets: Mapping[str, int]

    @property
    def public_shares(self) -> tuple[float, ...] | None:
        """Of several findings how often each is drawn; None of a single target."""
        return self.conditions.finding_shares or None


def gan_plan(settings: TrainGanSettings, to_come: AllToCome | None = None) -> GanPlan:
    """The plan of a run, from settings, cards and manifest; as `plan_train_gan`."""
    dataset = open_dataset(settings.data)
    refuse_volumes(dataset.info)
    targets = chosen_targets(dataset.info, settings.targets)
    if settings.method in {"dp_discriminator", "selection"}:
        refuse_several(targets, f"method: {settings.method}")
    elif settings.method == "embedding":
        refuse_missing_shares(settings, targets)
    elif settings.arch != "haar":
        refuse_several(targets, f"arch: {settings.arch}")
    # With a promise nothing is refused for who the patients are: that would tell of one of them.
    promised = settings.privacy.protects
    train = dataset.split("train", may_be_empty=promised)
    of_cohort = cohort_rows(dataset, train, settings.cohort, may_be_empty=promised)
    among = bounded_rows(of_cohort, settings.privacy.images_per_patient)
    rows = rows_outside_fold(among, settings.leave_out, settings.share, may_be_empty=promised)
    unit = settings.privacy.unit
    units = tuple(units_of(rows, unit))
    if not promised:
        refuse_missing_classes(dataset.info, rows, targets)
    table = published_table(settings.findings_table, list(targets))
    conditions = planned_conditions(settings, rows, targets, table)
    if settings.releases_conditions:
        refuse_missing_conditions(dataset, conditions.names)
    if settings.method != "adversarial":
        refuse_unknown_patients(dataset.info, unit)
        refuse_fewer_than_imported(
            dataset.info,
            settings.privacy.population,
            unit,
            of_a_part=bool(left_out_words(settings.leave_out, settings.share)),
        )
        if not promised:
            refuse_small_population(settings.privacy.population, len(set(units)), unit)
    if settings.method == "embedding":
        refuse_certain(conditions)
    ancestors = _ancestors(settings, dataset, conditions, table, to_come or {})
    if settings.method == "adversarial" and unit != "image":
        unit = _unit_without_promise(dataset.info, ancestors)
    steps, sampling_rate, clip_norm = 1, 1.0, 1.0
    if settings.method == "dp_discriminator":
        recipe = settings.dp_discriminator
        steps, sampling_rate, clip_norm = recipe.steps, recipe.sampling_rate, recipe.clip_norm
    privacy = plan_privacy(
        dataset,
        settings.privacy.model_copy(update={"unit": unit}),
        stage="train-gan",
        subject="generator",
        ancestors=ancestors,
        cohort=cohort_of(dataset, settings.cohort),
        n_units=declared_units(settings.privacy, settings.cohort),
        steps=steps,
        sampling_rate=sampling_rate,
        clip_norm=clip_norm,
        unprotected_note=UNPROTECTED_NOTE,
        charge_public_rows=True,
        note=", ".join(left_out_words(settings.leave_out, settings.share)),
    )
    return GanPlan(privacy, rows, among, units, conditions, targets)


def _ancestors(
    settings: TrainGanSettings,
    dataset: Dataset,
    conditions: Conditions,
    table: "PublishedTable | None",
    to_come: AllToCome,
) -> Lineage:
    """What a generator descends from beside its own training."""
    lineages = [dataset.info.lineage]
    if settings.init is not None:
        planned, shape = to_come.get(settings.init), settings.shape(conditions)
        lineages.append(planned.lineage if planned else _init_lineage(settings.init, shape))
    if table is not None:
        lineages.append(Lineage(public=(table.name,)))
    if settings.method == "embedding":
        assert settings.embedding is not None  # TrainGanSettings asks for it
        lineages.append(_public_lineage(settings.embedding.public))
    if settings.method == "selection":
        assert settings.selection is not None  # TrainGanSettings asks for it
        lineages += [open_dataset(path).info.lineage for path in settings.selection.pool]
    return Lineage().joined(lineages)


def _init_lineage(init: Path, shape: TrainedShape) -> Lineage:
    """What a generator to start from descends from.

    Raises:
        InputError: when it is of another shape, or knows other conditions; names what differs.
    """
    generator = open_generator(init)
    start = generator.description
    own, asked = start.as_json(), Description(shape, "", "").as_json()
    # class 1 may have another name: what it looks like is learned anew
    compared = asked.keys() - {"conditions", "data", "target"}
    differing = [key for key in compared if own.get(key) != asked[key]]
    known, wanted = start.shape.conditions, shape.conditions
    if (known.names, known.levels) != (wanted.names, wanted.levels):  # their prior may differ
        differing.append("conditions")
    if known.findings != wanted.findings:
        differing.append("targets")
    if differing:
        raise InputError(
            f"init: {init} is a generator of another shape: {', '.join(sorted(differing))} differ; "
            "give the settings that it was trained with, or start from another one"
        )
    return generator.statement.lineage


def _public_lineage(public: Path) -> Lineage:
    """What the public set of an embedding descends from; a set of patients is refused."""
    info = open_dataset(public).info
    if info.protects_patients:
        raise InputError(
            f"embedding.public: {info.name} holds patients, whose images would be read without "
            "noise; name a phantom or a synthetic set"
        )
    return info.lineage


def _unit_without_promise(info: DatasetInfo, ancestors: Lineage) -> Unit:
    """The unit where this run promises nothing: that of the data set, else of its ancestors."""
    if info.protects_patients:
        return info.unit
    return ancestors.unit
