"""Draw a synthetic data set from a trained generator, as a stage.

The settings say how many images of each class; a set that is too large is refused with its size,
before anything is drawn. The description of a set, in its card and `dataset.json`, names everything
that decides the images, so that a command which is repeated recognises its own set.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from signal import SIGTERM

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.library.generator import Generator
from gan.package.conditions import Conditions, attribute_cells
from gan.package.description import BankShape, PhantomBankShape
from gan.package.pretrained import resolve_run
from gan.plans.sets import GeneratePlan, checked_size, generation_plan, repeats
from gan.settings.finished import GenerateSettings
from synthdp.data.images import to_uint8, to_uint16
from synthdp.data.looks.contact_sheet import CONTACT_SHEET_FILE, contact_sheet, sheet_rows
from synthdp.data.looks.sameness import compared_rows, sameness
from synthdp.data.writer import DatasetWriter, create_dataset, holds_dataset
from synthdp.machine.interrupts import handled, interrupt
from synthdp.machine.progress import progress
from synthdp.runs.cards import dataset_card
from synthdp.runs.inputs import INPUTS_FILE, as_json, named_inputs, read_inputs, refuse_changed

logger = logging.getLogger(__name__)


def run_generate(settings: GenerateSettings) -> Path:
    """Draw images into a data-set folder, or return at once when it is there.

    The folder appears when it is whole: after a kill the same command starts anew, and removes
    what was left.

    Raises:
        InputError: as `plan_generate`, or when `out` holds something else.
        RunError: when the disk is full, or the generator draws pixels that are no numbers.
    """
    plan = generation_plan(settings)
    inputs = read_inputs(named_inputs(settings), resolve=resolve_run)
    if holds_dataset(settings.out, plan.info):
        refuse_changed(settings.out, lambda: inputs)
        return settings.out
    logger.info(checked_size(settings, plan.info))
    generator = Generator.of(plan.generator, settings.device)
    with (
        handled((SIGTERM,), interrupt),
        create_dataset(settings.out, plan.info) as writer,
    ):
        seen = _draw(settings, generator, plan.drawn, writer)
        warnings = [*sameness(seen.compared, seen.classes).findings]
        if (again := repeats(settings, plan.generator.description.shape)) is not None:
            warnings.append(again)
        writer.show(CONTACT_SHEET_FILE, contact_sheet(seen.shown))
        writer.describe(_card(settings, plan, warnings))
        writer.note(INPUTS_FILE.name, as_json(inputs))
    for finding in warnings:
        logger.warning("warning: %s", finding)
    logger.info("%s shows some of them, by class", settings.out / CONTACT_SHEET_FILE)
    return settings.out


# What is said of a set.


def _card(settings: GenerateSettings, plan: GeneratePlan, warnings: Sequence[str]) -> str:
    """The card of a set: what it is, how it was made, its columns, and what it promises.

    `warnings` say how its images are alike, where they are too much so.
    """
    targets, counts = plan.info.targets, settings.class_counts
    classes = f"{counts[0]:,} with {targets[0]} 0, {counts[1]:,} with {targets[0]} 1"
    if len(targets) > 1:
        classes = f"{settings.count:,} with findings ({', '.join(targets)}) or without"
    description = plan.generator.description
    conditions = description.shape.conditions
    either = "either class" if len(targets) == 1 else "each finding, and without any"
    asked = "1 or 0, as the generator was asked for; no reader has looked at the image"
    if len(targets) > 1:
        asked = asked.replace(";", ", empty where it was asked for neither;")
    levels = zip(conditions.names, conditions.levels, strict=True)
    of_pool = ""
    if isinstance(description.shape, BankShape | PhantomBankShape):
        of_pool = (
            "All are images of the generator's pool, such as phantoms, which were kept as what it "
            "learned of patients asks for, each mirrored by chance. "
        )
    return dataset_card(
        title=f"Synthetic patches: {classes}",
        summary=(
            f"Grey {plan.info.size_px} x {plan.info.size_px} px patches in {settings.bits} bits, "
            f"drawn by a generator that was trained on {description.data}. Every image and "
            "every patient id is made up; one image stands for one made-up patient. "
            f"{of_pool}`{CONTACT_SHEET_FILE}` shows some of {either}, evenly spaced, below "
            "its name." + "".join(f" **Warning:** {finding}." for finding in warnings)
        ),
        licence=plan.info.licence,
        statement=plan.statement,
        n_images=settings.count,
        made=dict(plan.facts),
        columns={
            "image": "path of the PNG below this folder",
            "patient_id": "a made-up patient, one an image",
            "split": "always train",
            **dict.fromkeys(targets, asked),
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


@dataclass(frozen=True)
class _Seen:
    """Images that were kept while a set was written: those compared, with their classes, and those
    shown, by what stands above them."""

    compared: list[NDArray[np.uint8]]
    classes: list[float]
    shown: dict[str, list[NDArray[np.uint8]]]


def _draw(
    settings: GenerateSettings,
    generator: Generator,
    drawn: Conditions,
    writer: DatasetWriter,
) -> _Seen:
    """Draw the set and write it image by image.

    Raises:
        RunError: when a pixel is not a number.
    """
    conditions = generator.known
    if conditions.findings:
        labels, attributes = generator.prior_findings(settings.count, settings.seed, drawn)
    else:
        labels = label_order(*settings.class_counts)
        attributes = generator.prior_codes(labels, settings.seed)
    batches = generator.draw(
        labels,
        attributes,
        settings.seed,
        batch=settings.batch,
        truncation=settings.truncation,
    )
    to_pixels = to_uint16 if settings.bits == 16 else to_uint8

    def pixels() -> Iterator[NDArray[np.uint8] | NDArray[np.uint16]]:
        for images in batches:
            yield from to_pixels(images)

    targets = labels.double().reshape(len(labels), -1)
    targets[targets < 0] = float("nan")
    classes = targets[:, 0].tolist()  # of several findings the first
    compared, sheet = compared_rows(classes), sheet_rows(generator.targets, targets.tolist())
    wanted, kept = {*compared, *chain.from_iterable(sheet.values())}, dict[int, NDArray[np.uint8]]()
    shown = progress(pixels(), what="generating", total=len(labels), public_unit="images")
    for index, image in enumerate(shown):
        writer.add(
            image,
            patient_id=f"synthetic-{index + 1:06d}",
            split="train",
            targets=targets[index].tolist(),
            attributes=attribute_cells(conditions, attributes[index].tolist()),
            compress_level=1,  # a third of the time of 6, for files a fifth larger
        )
        if index in wanted:
            kept[index] = (image if image.dtype == np.uint8 else image >> 8).astype(np.uint8)
    return _Seen(
        [kept[index] for index in compared],
        [classes[index] for index in compared],
        {name: [kept[index] for index in rows] for name, rows in sheet.items()},
    )
