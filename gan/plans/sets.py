"""What a synthetic set will promise, what it is drawn with, and how large it gets."""

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan.package.conditions import Conditions
from gan.package.description import AnyShape, BankShape, Description, PhantomBankShape
from gan.package.opened import GeneratorRun, open_generator
from gan.plans.conditions import published_table
from gan.settings.finished import GenerateSettings
from gan.settings.train import TrainGanSettings
from synthdp.data.description import DatasetInfo
from synthdp.errors import InputError
from synthdp.privacy.promise.statement import Statement, make_statement, passed_on
from synthdp.runs.to_come import AllToCome

if TYPE_CHECKING:
    from gan.plans.published import PublishedTable

#: A set's manifest is read whole, so that a larger set could be written, but not read.
MAX_PER_CLASS = 1_000_000
#: Files take whole blocks of most file systems; a line of the manifest takes a few of their bytes.
BLOCK_BYTES = 4096
MANIFEST_BYTES = 128


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


def plan_generate(settings: GenerateSettings, to_come: AllToCome | None = None) -> Statement:
    """What the data set will promise: what its generator did.

    Args:
        settings: of the stage.
        to_come: runs that are only planned yet, where `run` may be one of them.

    Raises:
        InputError: when the run is not that of a finished generator, it is asked for what it does
            not draw, or the images don't fit on the disk.
    """
    planned = (to_come or {}).get(settings.run)
    if planned is not None:
        made_by = planned.settings
        assert isinstance(made_by, TrainGanSettings)  # nothing else that is planned draws images
        _refuse_truncated_bank(settings, keeps_images=made_by.method == "selection")
        settings.refuse_other_classes(planned.targets if len(planned.targets) > 1 else ())
        return make_statement(
            planned.lineage,
            subject="data set",
            delta=made_by.privacy.delta,
            unit=planned.lineage.unit,
            population=made_by.privacy.population,
        )
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
    _refuse_truncated_bank(settings, keeps_images=isinstance(shape, BankShape | PhantomBankShape))
    description, promise = generator.description, generator.statement
    known = description.shape.conditions
    settings.refuse_other_classes(known.findings)
    table = published_table(settings.findings_table, known.findings)
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


def _refuse_truncated_bank(settings: GenerateSettings, *, keeps_images: bool) -> None:
    """Refuse to truncate a generator that keeps images.

    Raises:
        InputError: saying why it can't be.
    """
    if settings.truncation < 1 and keeps_images:
        raise InputError(
            f"truncation: {settings.run} keeps images and has no styles to bring nearer to their "
            "mean; leave truncation out"
        )


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


def repeats(settings: GenerateSettings, shape: AnyShape) -> str | None:
    """What is to be said where a set asks for more of a class than the generator keeps, or None."""
    most = max(settings.class_counts)
    if not isinstance(shape, BankShape | PhantomBankShape) or most <= shape.images:
        return None
    return (
        f"the generator keeps {shape.images:,} images of each class, so that of {most:,} some come "
        "again, mirrored by chance; ask for fewer, or keep more (selection.images)"
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
