"""Draw a synthetic data set from a trained generator, as a stage."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.config import GenerateSettings
from gan.network.architectures import AnyGenerator
from gan.network.conditions import attribute_cells, conditions_of, draw_conditions
from gan.network.sampling import Drawing
from gan.package.model import WEIGHTS, load_generator, model_settings
from gan.package.pretrained import resolve_run
from synthdp.cards import dataset_card
from synthdp.data.dataset import DatasetInfo, DatasetWriter, create_dataset, open_dataset
from synthdp.data.images import to_uint8, to_uint16
from synthdp.devices import chosen_device
from synthdp.errors import InputError
from synthdp.files import sha256_file
from synthdp.interrupts import handled, interrupt
from synthdp.privacy.statement import Statement, make_statement, read_statement
from synthdp.progress import progress

# How many images of each class a set is asked for, in which order, and the room that they take.

MAX_PER_CLASS = 1_000_000
#: Files take whole blocks of most file systems; a line of the manifest takes a few of their bytes.
BLOCK_BYTES = 4096
MANIFEST_BYTES = 128


def class_counts(settings: GenerateSettings) -> tuple[int, int]:
    """How many benign and how many malignant images are asked for."""
    if settings.per_class is not None:
        return settings.per_class, settings.per_class
    assert settings.total is not None
    share = 0.5 if settings.malignant_share is None else settings.malignant_share
    malignant = round(settings.total * share)
    return settings.total - malignant, malignant


def label_order(benign: int, malignant: int) -> Tensor:
    """The labels (N,) int64 of a set, the classes spread evenly: 0, 1, 0, 1 when balanced."""
    places = torch.arange(benign + malignant + 1)
    before = places * malignant // max(benign + malignant, 1)
    return before[1:] - before[:-1]


def bytes_on_disk(images: int, size_px: int, bits: int) -> int:
    """The most that a set takes on a disk: images that can't be compressed, in whole blocks."""
    blocks = -(-(size_px * size_px * bits // 8) // BLOCK_BYTES) + 1
    return images * (blocks * BLOCK_BYTES + MANIFEST_BYTES)


def refuse_what_does_not_fit(settings: GenerateSettings, size_px: int) -> str:
    """Say how much a set is; refuse one of more than a million of a class, or than the disk takes.

    Larger ones could be written, but not read: a set's manifest is read whole.

    Returns:
        Its size in words.

    Raises:
        InputError: with these words.
    """
    counts = class_counts(settings)
    needed = bytes_on_disk(sum(counts), size_px, settings.bits)
    free = shutil.disk_usage(_nearest_folder(settings.out)).free
    words = (
        f"{counts[0]:,} benign and {counts[1]:,} malignant images of {size_px} px in "
        f"{settings.bits} bits, at most {_size_words(needed)} on the disk"
    )
    if max(counts) > MAX_PER_CLASS:
        raise InputError(
            f"{words} ({_size_words(free)} are free): more than {MAX_PER_CLASS:,} of a class in "
            "one set is refused, for its manifest is read whole; make several sets, each with its "
            "own seed"
        )
    if needed > free:
        raise InputError(
            f"{words}, but {_size_words(free)} are free; ask for fewer, or name a folder on a "
            "larger disk"
        )
    return words


def _nearest_folder(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _size_words(count: int) -> str:
    """Bytes for people: 49 MB."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}" if size < 999.5 else f"{size:.0f} {unit}"


# What is said about a synthetic set: in a line of `dataset.json`, and on its card.


def set_description(settings: GenerateSettings, described: Mapping[str, Any]) -> str:
    """One paragraph that tells this set from every other: what it is made of, and how."""
    made = "; ".join(f"{name} {value}" for name, value in how_it_was_made(settings, described))
    return (
        f"Images drawn by a generator that was trained on {described['data']}. Every image and "
        f"every patient id is made up; one image stands for one made-up patient. Made with: {made}."
    )


def how_it_was_made(
    settings: GenerateSettings, described: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Name and value of everything that decides the images; no place of this machine."""
    benign, malignant = class_counts(settings)
    target = described["target"]
    weights = resolve_run(settings.run) / "model" / WEIGHTS
    made = [
        ("generator", f"{described['architecture']} trained on {described['data']}"),
        ("sha256 of its weights", sha256_file(weights)[:16]),
        (f"images with {target} 0", f"{benign:,}"),
        (f"images with {target} 1", f"{malignant:,}"),
        ("seed", str(settings.seed)),
        ("bits", str(settings.bits)),
        ("truncation", f"{settings.truncation:g}" if settings.truncation < 1 else "none"),
    ]
    # Sets could be filtered once. A set is known again by its description, so this stays in it.
    return [*made, ("filter", "none")]


def set_card(
    settings: GenerateSettings,
    described: Mapping[str, Any],
    info: DatasetInfo,
    statement: Statement,
) -> str:
    """The card of a set: what it is, how it was made, its columns, and what it promises."""
    target = described["target"]
    counts = class_counts(settings)
    told = {
        name: f"what the generator was asked for: {', '.join(levels)}; empty is unknown"
        for name, levels in _levels(described).items()
    }
    return dataset_card(
        title=f"Synthetic patches: {counts[0]:,} with {target} 0, {counts[1]:,} with {target} 1",
        summary=(
            f"Grey {info.size_px} x {info.size_px} px patches in {settings.bits} bits, drawn by a "
            f"generator that was trained on {described['data']}. Every image and every patient id "
            "is made up; one image stands for one made-up patient."
        ),
        licence=info.licence,
        statement=statement,
        n_images=sum(counts),
        made=dict(how_it_was_made(settings, described)),
        columns={
            "image": "path of the PNG below this folder",
            "patient_id": "a made-up patient, one an image",
            "split": "always train",
            target: "1 or 0, as the generator was asked for; no reader has looked at the image",
            **told,
        },
    )


def _levels(described: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    conditions = conditions_of(described)
    return dict(zip(conditions.names, conditions.levels, strict=True))


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is decided before anything is drawn: how much, from which model, at which promise."""

    described: dict[str, Any]
    size: str
    statement: Statement
    info: DatasetInfo


def plan_generate(settings: GenerateSettings) -> Statement:
    """What the data set will promise: what its generator did.

    Raises:
        InputError: when the run is not that of a finished generator, or the images don't fit on the
            disk.
    """
    return _plan(settings).statement


def run_generate(settings: GenerateSettings) -> Path:
    """Draw images into a data-set folder, or return at once when it is there.

    The folder appears when it is whole: after a kill the same command starts anew, and removes
    what was left.

    Raises:
        InputError: as `plan_generate`, or when `out` holds something else.
        RunError: when the disk is full.
    """
    if (settings.out / "dataset.json").is_file():
        _refuse_other_set(settings, _plan(settings, new=False).info)
        return settings.out
    plan = _plan(settings)
    logger.info(plan.size)
    generator = load_generator(settings.run, chosen_device(settings.device))
    card = set_card(settings, plan.described, plan.info, plan.statement)
    with handled((SIGTERM,), interrupt), create_dataset(settings.out, plan.info, card=card) as made:
        _write(settings, plan, generator, made)
    return settings.out


def _plan(settings: GenerateSettings, *, new: bool = True) -> Plan:
    described = model_settings(settings.run)
    of_generator = read_statement(resolve_run(settings.run))
    size = refuse_what_does_not_fit(settings, described["size_px"]) if new else ""
    statement = make_statement(
        of_generator.lineage,
        subject="data set",
        delta=of_generator.delta,
        unit=of_generator.unit,
        population=of_generator.population,
    )
    info = DatasetInfo(
        name=f"synthetic-{described['data']}"[:64],
        kind="synthetic",
        size_px=described["size_px"],
        targets=(described["target"],),
        licence=settings.licence,
        description=set_description(settings, described),
        lineage=statement.lineage,
    )
    return Plan(described, size, statement, info)


def _write(
    settings: GenerateSettings, plan: Plan, generator: AnyGenerator, made: DatasetWriter
) -> None:
    """Draw and write image by image."""
    labels = label_order(*class_counts(settings))
    conditions = conditions_of(plan.described)
    attributes = draw_conditions(conditions, labels, settings.seed)
    drawing = Drawing(
        generator, labels, attributes, settings.seed, settings.batch, settings.truncation
    )
    pixels = (image for batch in drawing.images() for image in _pixels(batch, settings.bits))
    shown = progress(pixels, what="generating images", total=len(labels))
    for index, image in enumerate(shown):
        made.add(
            image,
            patient_id=f"synthetic-{index + 1:06d}",
            split="train",
            targets=[float(labels[index])],
            attributes=attribute_cells(conditions, attributes[index].tolist()),
            compress_level=1,  # a third of the time of 6, for files a fifth larger
        )


def _pixels(images: Tensor, bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Images (B, 1, S, S) in [-1, 1] as (B, S, S) of the depth that is asked for."""
    grey = images[:, 0].cpu().numpy()
    return to_uint16(grey) if bits == 16 else to_uint8(grey)


def _refuse_other_set(settings: GenerateSettings, info: DatasetInfo) -> None:
    if open_dataset(settings.out).info != info:
        raise InputError(
            f"{settings.out}: holds another data set; name a new folder or remove it first"
        )
