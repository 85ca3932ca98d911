"""The weights of a finished generator, written with their description and loaded again."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gan.network.sampling import AnyGenerator
from gan.package.description import DESCRIPTION, AnyShape, Description, PhantomBankShape
from gan.package.kept_phantoms import PhantomBank, read_kept
from gan.package.networks import build_generator, tensors_of
from gan.package.opened import GeneratorRun, generator_description
from gan.package.pretrained import WEIGHTS, resolve_run
from synthdp.checkpoint import load_weights, save_weights, weight_shapes
from synthdp.errors import InputError
from synthdp.storage.files import sha256_file, write_json


def write_generator(run: Path, weights: Mapping[str, Tensor], description: Description) -> None:
    """Write the weights of a finished generator and what they are of, into the run's folder."""
    save_weights(run / WEIGHTS, weights)
    write_json(run / DESCRIPTION, description.as_json())


def load_opened(generator: GeneratorRun, device: torch.device) -> AnyGenerator:
    """The network of a generator that was opened, in evaluation, on a device.

    A bank of phantoms draws its images when they are first asked for (`PhantomBank`).

    Raises:
        InputError: when its weights are missing or do not fit its description.
    """
    return _load(generator.folder, generator.description, device)


def load_whole(generator: GeneratorRun) -> AnyGenerator:
    """As `load_opened`, on the CPU and with all that it draws with: for a copy that stands alone.

    Raises:
        InputError: as there, or when phantoms are drawn otherwise here than where they were kept.
    """
    network = load_opened(generator, torch.device("cpu"))
    return network.whole() if isinstance(network, PhantomBank) else network


def whole_weights(generator: GeneratorRun) -> tuple[AnyShape, dict[str, Tensor]]:
    """The shape and the weights of a generator for a copy that stands alone; as they are stored.

    Raises:
        InputError: as `load_whole`.
    """
    shape = generator.description.shape
    if isinstance(shape, PhantomBankShape):
        return shape.whole, load_whole(generator).state_dict()
    return shape, load_weights(generator.folder / WEIGHTS)


def load_generator(run: Path, device: torch.device) -> AnyGenerator:
    """The generator of a run or `pretrained:NAME`, where nothing else of it is wanted.

    Raises:
        InputError: when its files are missing or do not fit together.
    """
    folder = resolve_run(run)
    return _load(folder, generator_description(folder), device)


def _load(folder: Path, description: Description, device: torch.device) -> AnyGenerator:
    wanted = {name: tuple(t.shape) for name, t in tensors_of(description.shape).items()}
    if weight_shapes(folder / WEIGHTS) != wanted:  # before anything of that size is built
        raise InputError(
            f"{folder}: model/generator.safetensors does not fit model/settings.json; both must "
            "come from the same run"
        )
    shape = description.shape
    if isinstance(shape, PhantomBankShape):
        phantoms = read_kept(folder / WEIGHTS, sha256_file(folder / WEIGHTS), shape)
        return PhantomBank(shape, phantoms).eval().to(device)
    weights = load_weights(folder / WEIGHTS)
    generator = build_generator(shape)
    generator.load_state_dict(weights)
    frozen: AnyGenerator = generator.eval().requires_grad_(False).to(device)
    return frozen.to(memory_format=torch.channels_last)
