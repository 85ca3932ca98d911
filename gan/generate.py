"""Draw a synthetic data set from a trained generator, as a stage.

The settings say how many images of each class; a set that is too large is refused with its size,
before anything is drawn. The description of a set, in its card and `dataset.json`, names everything
that decides the images, so that a command which is repeated recognises its own set.
"""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.config import GenerateSettings
from gan.network.sampling import AnyGenerator, draw_codes, sample_images
from gan.package.conditions import Conditions, attribute_cells
from gan.package.model import GeneratorRun, open_generator
from gan.package.pretrained import resolve_run
from synthdp.cards import dataset_card
from synthdp.data.dataset import DatasetInfo, DatasetWriter, create_dataset, holds_dataset
from synthdp.data.images import to_uint8, to_uint16
from synthdp.devices import chosen_device
from synthdp.errors import InputError, RunError
from synthdp.inputs import INPUTS_FILE, as_json, named_inputs, read_inputs, refuse_changed
from synthdp.interrupts import handled, interrupt
from synthdp.privacy.statement import Statement, passed_on
from synthdp.progress import progress

#: A set's manifest is read whole, so that a larger set could be written, but not read.
MAX_PER_CLASS = 1_000_000
#: Files take whole blocks of most file systems; a line of the manifest takes a few of their bytes.
BLOCK_BYTES = 4096
MANIFEST_BYTES = 128

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GeneratePlan:
    """What is decided before anything is drawn.

    facts: name and value of everything that decides the images.
    """

    generator: GeneratorRun
    facts: tuple[tuple[str, str], ...]
    info: DatasetInfo
    statement: Statement


def plan_generate(settings: GenerateSettings) -> Statement:
    """What the data set will promise: what its generator did.

    Raises:
        InputError: when the run is not that of a finished generator, or the images don't fit on the
            disk.
    """
    plan = _plan(settings)
    _checked_size(settings, plan.info.size_px)
    return plan.statement


def run_generate(settings: GenerateSettings) -> Path:
    """Draw images into a data-set folder, or return at once when it is there.

    The folder appears when it is whole: after a kill the same command starts anew, and removes
    what was left.

    Raises:
        InputError: as `plan_generate`, or when `out` holds something else.
        RunError: when the disk is full, or the generator draws pixels that are no numbers.
    """
    plan = _plan(settings)
    inputs = read_inputs(named_inputs(settings), resolve=resolve_run)
    if holds_dataset(settings.out, plan.info):
        refuse_changed(settings.out, lambda: inputs)
        return settings.out
    logger.info(_checked_size(settings, plan.info.size_px))
    generator = plan.generator.load(chosen_device(settings.device))
    with (
        handled((SIGTERM,), interrupt),
        create_dataset(settings.out, plan.info, card=_card(settings, plan)) as writer,
    ):
        _draw(settings, generator, plan.generator.description.shape.conditions, writer)
        writer.note(INPUTS_FILE.name, as_json(inputs))
    return settings.out


def _plan(settings: GenerateSettings) -> GeneratePlan:
    generator = open_generator(settings.run)
    description, promise = generator.description, generator.statement
    facts = _facts(settings, generator)
    statement = passed_on(promise, subject="data set")
    info = DatasetInfo(
        name=f"synthetic-{description.data}"[:64],
        kind="synthetic",
        size_px=description.shape.size_px,
        targets=(description.target,),
        licence=settings.licence,
        description=(
            f"Images drawn by a generator that was trained on {description.data}. Every image and "
            "every patient id is made up; one image stands for one made-up patient. Made with: "
            f"{'; '.join(f'{name} {value}' for name, value in facts)}."
        ),
        lineage=statement.lineage,
        delta=statement.delta if statement.lineage.releases else None,
    )
    return GeneratePlan(generator, facts, info, statement)


def _facts(settings: GenerateSettings, generator: GeneratorRun) -> tuple[tuple[str, str], ...]:
    """Name and value of everything that decides the images, in words that leave the house."""
    benign, malignant = settings.class_counts
    description, target = generator.description, generator.description.target
    return (
        ("generator", f"{description.shape.architecture} trained on {description.data}"),
        ("sha256 of its weights", generator.weights_sha256[:16]),
        (f"images with {target} 0", f"{benign:,}"),
        (f"images with {target} 1", f"{malignant:,}"),
        ("seed", str(settings.seed)),
        ("bits", str(settings.bits)),
        ("truncation", f"{settings.truncation:g}" if settings.truncation < 1 else "none"),
        # Sets could be filtered once. A set of then is known by its description, so this stays.
        ("filter", "none"),
    )


# How large a set is, and what is said of it.


def bytes_on_disk(images: int, size_px: int, bits: int) -> int:
    """The most that a set takes on a disk: images that can't be compressed, in whole blocks."""
    blocks = -(-(size_px * size_px * bits // 8) // BLOCK_BYTES) + 1
    return images * (blocks * BLOCK_BYTES + MANIFEST_BYTES)


def _checked_size(settings: GenerateSettings, size_px: int) -> str:
    """How large the set will be, in words; a set that is too large is refused.

    Raises:
        InputError: with these words, when it has more than a million images of a class, or more
            than the disk takes.
    """
    counts = settings.class_counts
    needed = bytes_on_disk(sum(counts), size_px, settings.bits)
    out = settings.out.absolute()
    nearest = next(folder for folder in (out, *out.parents) if folder.exists())
    free = shutil.disk_usage(nearest).free
    words = (
        f"{counts[0]:,} benign and {counts[1]:,} malignant images of {size_px} px in "
        f"{settings.bits} bits, at most {_readable(needed)} on the disk"
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


def _card(settings: GenerateSettings, plan: GeneratePlan) -> str:
    """The card of a set: what it is, how it was made, its columns, and what it promises."""
    (target,), counts = plan.info.targets, settings.class_counts
    description = plan.generator.description
    conditions = description.shape.conditions
    levels = zip(conditions.names, conditions.levels, strict=True)
    return dataset_card(
        title=f"Synthetic patches: {counts[0]:,} with {target} 0, {counts[1]:,} with {target} 1",
        summary=(
            f"Grey {plan.info.size_px} x {plan.info.size_px} px patches in {settings.bits} bits, "
            f"drawn by a generator that was trained on {description.data}. Every image and "
            "every patient id is made up; one image stands for one made-up patient."
        ),
        licence=plan.info.licence,
        statement=plan.statement,
        n_images=sum(counts),
        made=dict(plan.facts),
        columns={
            "image": "path of the PNG below this folder",
            "patient_id": "a made-up patient, one an image",
            "split": "always train",
            target: "1 or 0, as the generator was asked for; no reader has looked at the image",
            **{
                name: f"what the generator was asked for: {', '.join(known)}; empty is unknown"
                for name, known in levels
            },
        },
    )


# The images.


def label_order(benign: int, malignant: int) -> Tensor:
    """The labels (N,) int64 of a set, the classes spread evenly: 0, 1, 0, 1 when balanced."""
    counts = torch.arange(benign + malignant + 1)
    malignant_before = counts * malignant // max(benign + malignant, 1)
    return malignant_before[1:] - malignant_before[:-1]


def _draw(
    settings: GenerateSettings,
    generator: AnyGenerator,
    conditions: Conditions,
    writer: DatasetWriter,
) -> None:
    """Draw the set and write it image by image.

    Raises:
        RunError: when a pixel is not a number.
    """
    labels = label_order(*settings.class_counts)
    attributes = draw_codes(conditions.tables, labels, settings.seed)
    batches = sample_images(
        generator,
        labels,
        attributes,
        settings.seed,
        batch=settings.batch,
        truncation=settings.truncation,
    )
    to_pixels = to_uint16 if settings.bits == 16 else to_uint8

    def pixels() -> Iterator[NDArray[np.uint8] | NDArray[np.uint16]]:
        for images in batches:
            if not torch.isfinite(images).all():
                raise RunError(
                    "the generator draws pixels that are no numbers: its weights have diverged or "
                    "are damaged; restore them, or train it again"
                )
            yield from to_pixels(images[:, 0].cpu().numpy())

    shown = progress(pixels(), what="generating images", total=len(labels))
    for index, image in enumerate(shown):
        writer.add(
            image,
            patient_id=f"synthetic-{index + 1:06d}",
            split="train",
            targets=[float(labels[index])],
            attributes=attribute_cells(conditions, attributes[index].tolist()),
            compress_level=1,  # a third of the time of 6, for files a fifth larger
        )
