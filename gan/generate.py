"""Draw a synthetic data set from a trained generator, as a stage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.architectures import AnyGenerator
from gan.conditions import attribute_cells, conditions_of, draw_conditions
from gan.config import GenerateSettings
from gan.finished import load_generator, model_settings
from gan.pretrained import resolve_run
from gan.train import chosen_device
from synthdp.cards import dataset_card
from synthdp.data.dataset import DatasetInfo, create_dataset, open_dataset
from synthdp.data.images import to_uint8
from synthdp.errors import InputError
from synthdp.privacy.statement import Statement, make_statement
from synthdp.progress import progress
from synthdp.runs import read_statement


def plan_generate(settings: GenerateSettings) -> Statement:
    """What the data set will promise: what its generator did, and nothing spent on top.

    Raises:
        InputError: when the run is not that of a finished generator.
    """
    model_settings(settings.run)
    of_generator = read_statement(resolve_run(settings.run))
    return make_statement(
        of_generator.lineage,
        subject="data set",
        delta=of_generator.delta,
        unit=of_generator.unit,
        population=of_generator.population,
    )


def run_generate(settings: GenerateSettings) -> Path:
    """Draw `per_class` images of each class into a data-set folder, or return at once.

    Raises:
        InputError: when the run is not that of a finished generator, or `out` holds something else.
    """
    statement = plan_generate(settings)
    described = model_settings(settings.run)
    info = _info(settings, described, statement)
    if (settings.out / "dataset.json").is_file():
        _refuse_other_set(settings, info)
        return settings.out
    generator = load_generator(settings.run, chosen_device(settings.device))
    card = dataset_card(
        title=f"Synthetic patches: {settings.per_class} of each class",
        summary=info.description,
        licence=info.licence,
        statement=statement,
    )
    with create_dataset(settings.out, info, card=card) as writer:
        labels = torch.arange(2 * settings.per_class) % 2
        conditions = conditions_of(described)
        attributes = draw_conditions(described, labels, settings.seed)
        drawn = draw_images(generator, labels, settings.seed, settings.batch, attributes)
        images = (image for images in drawn for image in images)
        for number, image in enumerate(
            progress(images, what="generating images", total=len(labels)), start=1
        ):
            writer.add(
                image,
                patient_id=f"synthetic-{number:06d}",
                split="train",
                targets=[float(labels[number - 1])],
                attributes=attribute_cells(conditions, attributes[number - 1].tolist()),
                compress_level=1,  # a third of the time of 6, for files a fifth larger
            )
    return settings.out


def draw_images(
    generator: AnyGenerator,
    labels: Tensor,
    seed: int,
    batch: int,
    attributes: Tensor | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Draw one image for each label, in batches.

    Each image has its own stream of randomness, so that it depends on the seed and its place alone.

    Args:
        generator: in evaluation, on any device.
        labels: (N,) int64, 1 malignant, 0 benign.
        seed: names the set.
        batch: how many are computed at a time.
        attributes: (N, A) int64 codes, for a generator that is conditioned on some.

    Yields:
        (at most `batch`, S, S) uint8.
    """
    device = generator.device
    size = generator.z_dim + generator.noise_dim
    for places in torch.arange(len(labels)).split(batch):
        latents = torch.stack([_latent(seed, int(place), size) for place in places])
        z, noise = latents.to(device).split([generator.z_dim, generator.noise_dim], dim=1)
        with torch.no_grad():
            told = None if attributes is None else attributes[places].to(device)
            images = generator(z, noise, labels[places].to(device), 1.0, told)
        yield to_uint8(images[:, 0].cpu().numpy())


def _latent(seed: int, place: int, size: int) -> Tensor:
    rng = np.random.default_rng((seed, place))
    return torch.from_numpy(rng.standard_normal(size, dtype=np.float32))


def _info(
    settings: GenerateSettings, described: dict[str, Any], statement: Statement
) -> DatasetInfo:
    return DatasetInfo(
        name=f"synthetic-{described['data']}"[:64],
        kind="synthetic",
        size_px=described["size_px"],
        targets=(described["target"],),
        description=(
            f"{settings.per_class} images of each class, seed {settings.seed}, drawn by a "
            f"generator trained on {described['data']}. Every image and every patient id is made "
            "up; one image stands for one made-up patient."
        ),
        lineage=statement.lineage,
    )


def _refuse_other_set(settings: GenerateSettings, info: DatasetInfo) -> None:
    if open_dataset(settings.out).info != info:
        raise InputError(
            f"{settings.out}: holds another data set; name a new folder or remove it first"
        )
