"""Draw a synthetic data set from a trained generator, as a stage."""

import logging
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.amount import class_counts, label_order, refuse_what_does_not_fit
from gan.architectures import AnyGenerator
from gan.conditions import attribute_cells, conditions_of, draw_conditions
from gan.config import GenerateSettings
from gan.drawing import Drawing
from gan.finished import load_generator, model_settings
from gan.pretrained import resolve_run
from gan.real_filter import RealFilter, distances_to_real, drawn_for, nearest_places, plan_filter
from gan.set_card import set_card, set_description
from synthdp.data.dataset import DatasetInfo, open_dataset
from synthdp.data.dataset_writer import DatasetWriter, create_dataset
from synthdp.data.images import to_uint8, to_uint16
from synthdp.devices import chosen_device
from synthdp.errors import InputError
from synthdp.interrupts import handled, interrupt
from synthdp.privacy.statement import Statement, make_statement
from synthdp.progress import progress
from synthdp.runs import read_statement

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is decided before anything is drawn: how much, from which model, at which promise."""

    described: dict[str, Any]
    size: str
    chosen: RealFilter | None
    statement: Statement
    info: DatasetInfo


def plan_generate(settings: GenerateSettings) -> Statement:
    """What the data set will promise: what its generator did, and what a filter spends on top.

    Raises:
        InputError: when the run is not that of a finished generator, the images don't fit on the
            disk, or a filter would break a promise.
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
    chosen = plan_filter(settings, of_generator.lineage)
    statement = make_statement(
        of_generator.lineage if chosen is None else chosen.joined(of_generator.lineage),
        subject="data set",
        delta=of_generator.delta,
        unit=of_generator.unit,
        population=of_generator.population,
        stage=None if chosen is None else chosen.release,
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
    return Plan(described, size, chosen, statement, info)


def _write(
    settings: GenerateSettings, plan: Plan, generator: AnyGenerator, made: DatasetWriter
) -> None:
    """Draw, filter where that is asked for, and write image by image."""
    benign, malignant = class_counts(settings)
    if plan.chosen is not None:
        benign = drawn_for(benign, settings.filter_share)
        malignant = drawn_for(malignant, settings.filter_share)
    labels = label_order(benign, malignant)
    attributes = draw_conditions(plan.described, labels, settings.seed)
    drawing = Drawing(
        generator, labels, attributes, settings.seed, settings.batch, settings.truncation
    )
    places = _places(settings, plan.chosen, drawing)
    conditions = conditions_of(plan.described)
    pixels = (image for batch in drawing.images(places) for image in _pixels(batch, settings.bits))
    shown = progress(pixels, what="generating images", total=len(places))
    for number, (place, image) in enumerate(zip(places.tolist(), shown, strict=True), start=1):
        made.add(
            image,
            patient_id=f"synthetic-{number:06d}",
            split="train",
            targets=[float(labels[place])],
            attributes=attribute_cells(conditions, attributes[place].tolist()),
            compress_level=1,  # a third of the time of 6, for files a fifth larger
        )


def _places(settings: GenerateSettings, chosen: RealFilter | None, drawing: Drawing) -> Tensor:
    """The places of the images that are kept, (M,): all of them without a filter."""
    if chosen is None:
        return torch.arange(len(drawing.labels))
    chosen.record()
    distances = distances_to_real(drawing.images(), chosen, settings)
    return nearest_places(distances, drawing.labels, class_counts(settings))


def _pixels(images: Tensor, bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Images (B, 1, S, S) in [-1, 1] as (B, S, S) of the depth that is asked for."""
    grey = images[:, 0].cpu().numpy()
    return to_uint16(grey) if bits == 16 else to_uint8(grey)


def _refuse_other_set(settings: GenerateSettings, info: DatasetInfo) -> None:
    if open_dataset(settings.out).info != info:
        raise InputError(
            f"{settings.out}: holds another data set; name a new folder or remove it first"
        )
