"""What each stage will promise, planned before any image is read or drawn.

A plan is made of settings, statements and manifests alone, and imports neither torch nor networks:
a dry run of one stage, or of a study of hundreds, says at once what it would spend.
"""

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gan.package.conditions import Conditions, read_conditions, read_findings
from gan.package.description import (
    BankShape,
    Description,
    HaarShape,
    MixtureShape,
    PhantomBankShape,
    TrainedShape,
)
from gan.package.opened import GeneratorRun, open_generator
from gan.private.pool import Pool, open_pool, refuse_missing_conditions
from gan.settings.finished import (
    ExportSettings,
    GenerateSettings,
    ImportGeneratorSettings,
    MixGeneratorsSettings,
)
from gan.settings.train import TrainGanSettings
from gan.training.classes import chosen_targets, refuse_missing_classes, refuse_several
from synthdp.data.dataset import Dataset, Row, open_dataset, refuse_small_population, units_of
from synthdp.data.description import DatasetInfo
from synthdp.data.people.cohorts import cohort_of, cohort_rows
from synthdp.data.people.folds import left_out_words, rows_outside_fold
from synthdp.data.people.units import (
    bounded_rows,
    refuse_fewer_than_imported,
    refuse_unknown_patients,
)
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.plan import PrivacyPlan, declared_units, plan_privacy
from synthdp.privacy.promise.statement import Statement, joined_statement, make_statement, passed_on
from synthdp.privacy.units import Unit

if TYPE_CHECKING:
    from gan.package.published import PublishedTable
    from gan.settings.parts import FindingsTable

UNPROTECTED_NOTE = "generator trained without differential privacy"
#: A set's manifest is read whole, so that a larger set could be written, but not read.
MAX_PER_CLASS = 1_000_000
#: Files take whole blocks of most file systems; a line of the manifest takes a few of their bytes.
BLOCK_BYTES = 4096
MANIFEST_BYTES = 128


# Training.


def plan_train_gan(
    settings: TrainGanSettings, to_come: Mapping[Path, Lineage] | None = None
) -> Statement:
    """What the generator will promise; reads no image.

    Args:
        settings: of the run.
        to_come: lineages of runs that are only planned yet, where `init` may be one of them.

    Raises:
        InputError: when the data set or `init` cannot be used, or the ancestors have spent the
            target already.
    """
    return gan_plan(settings, to_come).privacy.statement


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


def gan_plan(settings: TrainGanSettings, to_come: Mapping[Path, Lineage] | None = None) -> GanPlan:
    """The plan of a run, from settings, cards and manifest; as `plan_train_gan`."""
    dataset = open_dataset(settings.data)
    targets = chosen_targets(dataset.info, settings.targets)
    if settings.method in {"dp_discriminator", "selection"}:
        refuse_several(targets, f"method: {settings.method}")
    elif settings.method == "embedding":
        _refuse_missing_shares(settings, targets)
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
    table = _published(settings.findings_table, list(targets))
    conditions = _conditions(settings, rows, targets, table)
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
        _refuse_certain(conditions)
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
    to_come: Mapping[Path, Lineage],
) -> Lineage:
    """What a generator descends from beside its own training."""
    lineages = [dataset.info.lineage]
    if settings.init is not None:
        planned = to_come.get(settings.init)
        lineages.append(planned or _init_lineage(settings.init, settings.shape(conditions)))
    if table is not None:
        lineages.append(Lineage(public=(table.name,)))
    if settings.method == "embedding":
        assert settings.embedding is not None  # TrainGanSettings asks for it
        lineages.append(_public_lineage(settings.embedding.public))
    if settings.method == "selection":
        assert settings.selection is not None  # TrainGanSettings asks for it
        lineages += [open_dataset(path).info.lineage for path in settings.selection.pool]
    return Lineage().joined(lineages)


def _conditions(
    settings: TrainGanSettings,
    rows: Sequence[Row],
    targets: Mapping[str, int],
    table: "PublishedTable | None" = None,
) -> Conditions:
    """What is known of each row beside the class, or of several findings; and how it is drawn.

    Of a selection it is what is known of the pool's candidates: no cell of a patient decides it.

    Raises:
        InputError: as `read_conditions`, `read_findings` and `open_pool`.
    """
    prior = settings.condition_prior
    if len(targets) > 1:
        shares = settings.findings
        if table is None:
            return read_findings(rows, targets, settings.conditions, prior, shares)
        even = dict.fromkeys(targets, 0.5)  # in place of which the table's come
        return table.drawn_by(read_findings(rows, targets, settings.conditions, prior, even))
    (name, column), *_ = targets.items()
    if settings.findings is not None or table is not None:
        asked = "findings" if table is None else "findings_table"
        raise InputError(
            f"{asked}: the generator knows one target, {name}, of which `generate` draws as many "
            f"images with it as without; leave {asked} out, or name several targets"
        )
    if settings.method == "selection":
        return selected_pool(settings, name).conditions
    return read_conditions(rows, settings.conditions, prior, column)


def selected_pool(settings: TrainGanSettings, target: str) -> Pool:
    """The pool that `method: selection` names, and the conditions of its candidates.

    Raises:
        InputError: as `open_pool`.
    """
    selection = settings.selection
    assert selection is not None  # TrainGanSettings asks for it
    return open_pool(
        selection.pool, target, selection.images, settings.conditions, settings.condition_prior
    )


def _published(asked: "FindingsTable | None", findings: Sequence[str]) -> "PublishedTable | None":
    """The published table that findings are drawn by, where one is asked for.

    Raises:
        InputError: as `read_published`.
    """
    if asked is None:
        return None
    from gan.package.published import read_published  # noqa: PLC0415 (few ask for a table)

    return read_published(asked, findings)


def _refuse_missing_shares(settings: TrainGanSettings, targets: Mapping[str, int]) -> None:
    """Refuse a private training on several findings that doesn't say how often they are drawn.

    Raises:
        InputError: with what to set.
    """
    if len(targets) > 1 and settings.findings is None and settings.findings_table is None:
        raise InputError(
            f"findings: method: embedding draws {len(targets)} findings ({', '.join(targets)}), "
            "and reads in no patient how often; give a public share for each, as in "
            f"findings: {{{next(iter(targets))}: 0.1, ...}}, a published findings_table, or name "
            "one in `targets`"
        )


def _refuse_certain(conditions: Conditions) -> None:
    """Refuse findings that are drawn always or never: nothing is to be learned of them.

    Raises:
        InputError: naming them.
    """
    shares = zip(conditions.findings, conditions.finding_shares, strict=True)
    if certain := [name for name, share in shares if share in (0, 1)]:
        raise InputError(
            f"findings: {', '.join(certain)}: method: embedding learns how images with a finding "
            "differ from those without, and draws both; give a share between 0 and 1, or leave it "
            "out of `targets`"
        )


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


# Other generators.


def plan_mix_generators(settings: MixGeneratorsSettings) -> Statement:
    """What the mixture promises: to publish it is to publish all members, each release once.

    Raises:
        InputError: when a run is missing, or the generators do not fit together.
    """
    _, _, statement = mixture_plan(settings.runs)
    return statement


def mixture_plan(runs: Sequence[Path]) -> tuple[list[GeneratorRun], Description, Statement]:
    """The generators of these runs, what their mixture is, and what it promises.

    Raises:
        InputError: when one is no `arch: haar` generator, or they differ in what they draw or in
            the unit of their promise.
    """
    generators = [open_generator(run) for run in runs]
    described = [generator.description for generator in generators]
    members = [one.shape for one in described if isinstance(one.shape, HaarShape)]
    if len(members) < len(described):
        raise InputError("runs: only generators of arch: haar are joined; leave the others out")
    first, first_shape = described[0], members[0]
    for name, values in (
        ("size_px", {shape.size_px for shape in members}),
        ("z_dim", {shape.z_dim for shape in members}),
        ("target", {one.target for one in described}),
        ("data", {one.data for one in described}),
    ):
        if len(values) > 1:
            raise InputError(
                f"runs: the generators differ in {name}; join generators that were trained alike"
            )
    if any(shape.conditions != first_shape.conditions for shape in members):
        raise InputError(
            "runs: the generators differ in their conditions, or how these are drawn; join "
            "generators that were trained alike"
        )
    statements = [generator.statement for generator in generators]
    if len({statement.unit for statement in statements}) > 1:
        raise InputError(
            "runs: some promise to patients, some to single images; join generators of one unit"
        )
    shape = MixtureShape(
        size_px=first_shape.size_px,
        z_dim=first_shape.z_dim,
        conditions=first_shape.conditions,
        members=tuple(members),
    )
    description = Description(shape, first.target, first.data)
    return generators, description, joined_statement(statements, subject="generator")


def plan_import_generator(settings: ImportGeneratorSettings) -> Statement:
    """What the generator promises: nothing, because it was trained without DP on those patients."""
    origin = f"{settings.trained_on}|{settings.sha256}"
    release = Release(
        id=hashlib.sha256(origin.encode()).hexdigest()[:16],
        stage="train-gan",
        data=settings.trained_on,
        mu=math.inf,
        note="imported generator, trained without differential privacy",
    )
    return make_statement(Lineage(releases=(release,)), subject="generator", stage=release)


def plan_export(settings: ExportSettings) -> Statement:
    """What the package promises: what the generator does.

    Raises:
        InputError: when the run is not that of a finished generator.
    """
    return open_generator(settings.run).statement


# Synthetic sets.


@dataclass(frozen=True)
class GeneratePlan:
    """What is decided before anything is drawn.

    facts: name and value of everything that decides the images; drawn: how several findings are.
    """

    generator: GeneratorRun
    facts: tuple[tuple[str, str], ...]
    drawn: Conditions
    info: DatasetInfo
    statement: Statement


def plan_generate(settings: GenerateSettings) -> Statement:
    """What the data set will promise: what its generator did.

    Raises:
        InputError: when the run is not that of a finished generator, or the images don't fit on the
            disk.
    """
    plan = generation_plan(settings)
    checked_size(settings, plan.info)
    return plan.statement


def generation_plan(settings: GenerateSettings) -> GeneratePlan:
    """What a set is drawn with, and is.

    Raises:
        InputError: when the run is not that of a finished generator, or a bank is to be truncated.
    """
    generator = open_generator(settings.run)
    shape = generator.description.shape
    if settings.truncation < 1 and isinstance(shape, BankShape | PhantomBankShape):
        raise InputError(
            f"truncation: {settings.run} keeps images and has no styles to bring nearer to their "
            "mean; leave truncation out"
        )
    description, promise = generator.description, generator.statement
    known = description.shape.conditions
    settings.refuse_other_classes(known.findings)
    table = _published(settings.findings_table, known.findings)
    drawn = known if settings.findings is None else known.with_shares(settings.findings)
    if table is not None:
        drawn = table.drawn_by(known)
    facts = _facts(settings, generator, table)
    public = () if table is None else (table.name,)
    statement = passed_on(promise, subject="data set", public=public)
    info = DatasetInfo(
        name=f"synthetic-{description.data}"[:64],
        kind="synthetic",
        size_px=description.shape.size_px,
        targets=description.targets,
        licence=settings.licence,
        description=(
            f"Images drawn by a generator that was trained on {description.data}. Every image and "
            "every patient id is made up; one image stands for one made-up patient. Made with: "
            f"{'; '.join(f'{name} {value}' for name, value in facts)}."
        ),
        lineage=statement.lineage,
        delta=statement.delta if statement.lineage.releases else None,
    )
    return GeneratePlan(generator, facts, drawn, info, statement)


def _facts(
    settings: GenerateSettings, generator: GeneratorRun, table: "PublishedTable | None"
) -> tuple[tuple[str, str], ...]:
    """Name and value of everything that decides the images, in words that leave the house."""
    description = generator.description
    return (
        ("generator", f"{description.shape.architecture} trained on {description.data}"),
        ("sha256 of its weights", generator.weights_sha256[:16]),
        *_class_facts(settings, description, table),
        ("seed", str(settings.seed)),
        ("bits", str(settings.bits)),
        ("truncation", f"{settings.truncation:g}" if settings.truncation < 1 else "none"),
        # Sets could be filtered once. A set of then is known by its description, so this stays.
        ("filter", "none"),
    )


def _class_facts(
    settings: GenerateSettings, description: Description, table: "PublishedTable | None"
) -> tuple[tuple[str, str], tuple[str, str]]:
    if description.shape.conditions.findings:
        drawn = "as they stand in the generator"
        if table is not None:
            drawn = table.words
        elif (shares := settings.findings) is not None:
            drawn = "each apart, " + ", ".join(
                f"{name} {shares[name]:g}" for name in description.targets
            )
        return ("images", f"{settings.count:,}"), ("findings", drawn)
    (benign, malignant), target = settings.class_counts, description.target
    return (
        (f"images with {target} 0", f"{benign:,}"),
        (f"images with {target} 1", f"{malignant:,}"),
    )


def bytes_on_disk(images: int, size_px: int, bits: int) -> int:
    """The most that a set takes on a disk: images that can't be compressed, in whole blocks."""
    blocks = -(-(size_px * size_px * bits // 8) // BLOCK_BYTES) + 1
    return images * (blocks * BLOCK_BYTES + MANIFEST_BYTES)


def checked_size(settings: GenerateSettings, info: DatasetInfo) -> str:
    """How large the set will be, in words; a set that is too large is refused.

    Raises:
        InputError: with these words, when it has more than a million images of a class, or more
            than the disk takes.
    """
    counts = settings.class_counts
    needed = bytes_on_disk(settings.count, info.size_px, settings.bits)
    out = settings.out.absolute()
    nearest = next(folder for folder in (out, *out.parents) if folder.exists())
    free = shutil.disk_usage(nearest).free
    each = f"{counts[0]:,} benign and {counts[1]:,} malignant images"
    words = (
        f"{f'{settings.count:,} images' if len(info.targets) > 1 else each} of {info.size_px} px "
        f"in {settings.bits} bits, at most {_readable(needed)} on the disk"
    )
    if max(counts) > MAX_PER_CLASS:
        raise InputError(
            f"{words} ({_readable(free)} are free): more than {MAX_PER_CLASS:,} of a class in "
            "one set is refused, for its manifest is read whole; make several sets, each with its "
            "own seed"
        )
    if needed > free:
        raise InputError(
            f"{words}, but {_readable(free)} are free; ask for fewer, or name a folder on a "
            "larger disk"
        )
    return words


def _readable(count: int) -> str:
    """Bytes for people: 49 MB."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}" if size < 999.5 else f"{size:.0f} {unit}"
