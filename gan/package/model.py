"""The generator of a finished run: its weights, description and card, written and read again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan.config import TrainGanSettings
from gan.network.sampling import AnyGenerator
from gan.package.description import (
    DESCRIPTION,
    Description,
    TrainedGenerator,
    build_generator,
    read_description,
)
from gan.package.pretrained import WEIGHTS, resolve_run
from synthdp.cards import model_card
from synthdp.checkpoint import load_weights, save_weights
from synthdp.data.dataset import DatasetInfo
from synthdp.errors import InputError
from synthdp.files import sha256_file, write_json
from synthdp.privacy.statement import Statement, read_statement

_DISCRIMINATOR = "Its discriminator is not part of it."
_OF_METHOD = {
    "adversarial": _DISCRIMINATOR,
    "embedding": "It saw patients through one noisy mean of public features alone.",
    "dp_discriminator": (
        "EXPERIMENTAL: it learned from a discriminator that was trained on patients by DP-SGD. "
        f"{_DISCRIMINATOR}"
    ),
}


def write_generator(run: Path, weights: Mapping[str, Tensor], description: Description) -> None:
    """Write the weights of a finished generator and what they are of, into the run's folder."""
    save_weights(run / WEIGHTS, weights)
    write_json(run / DESCRIPTION, description.as_json())


def generator_card(settings: TrainGanSettings, info: DatasetInfo, statement: Statement) -> str:
    """The card of a trained generator; of files and folders it gives the names alone."""
    given = f", of given {', '.join(settings.conditions)}" if settings.conditions else ""
    film = (
        " Its opaque marks and grain come from a formula, not a network." if settings.film else ""
    )
    unused = {"dp_discriminator", "embedding"} - {settings.method}
    facts = settings.model_dump(exclude={"data", "out", "device", *unused})
    return model_card(
        title=f"Conditional generator of {settings.size_px} px patches",
        summary=(
            f"Draws grey {settings.size_px} px patches with {info.targets[0]} = 0 or 1{given}. It "
            f"was trained on the train split of {info.name!r} ({info.kind}). `synthdp generate` "
            f"makes a data set with it. {_OF_METHOD[settings.method]}{film}"
        ),
        statement=statement,
        settings={name: _names_alone(value) for name, value in facts.items()},
    )


def _names_alone(value: Any) -> Any:
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Mapping):
        return {name: _names_alone(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_names_alone(part) for part in value]
    return value


@dataclass(frozen=True)
class GeneratorRun:
    """A finished generator as it lies on the disk: its folder, what it is, and what it promises."""

    folder: Path
    description: Description
    statement: Statement

    @property
    def weights_sha256(self) -> str:
        """The SHA-256 of the file of its weights."""
        return sha256_file(self.folder / WEIGHTS)


def open_generator(run: Path) -> GeneratorRun:
    """Open a generator by its run or `pretrained:NAME`; its weights are not read.

    Raises:
        InputError: when the run is not finished, or is of another kind.
    """
    description = generator_description(run)
    folder = resolve_run(run)
    return GeneratorRun(folder, description, read_statement(folder))


def generator_description(run: Path) -> Description:
    """The description of a generator, of its run or `pretrained:NAME`.

    Raises:
        InputError: when there is none, or it is of another kind.
    """
    run = resolve_run(run)
    if not (run / DESCRIPTION).is_file():
        read_statement(run)  # says what state the run is in
        raise InputError(f"{run}: not a run of train-gan (no model/settings.json)")
    return read_description(run)


def load_generator(run: Path, device: torch.device) -> AnyGenerator:
    """Load the generator of a finished run.

    Raises:
        InputError: when its files are missing or do not fit together.
    """
    run = resolve_run(run)
    generator = build_generator(generator_description(run).shape)
    weights = load_weights(run / WEIGHTS)
    try:
        generator.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"{run}: model/generator.safetensors does not fit model/settings.json; both must come "
            "from the same run"
        ) from error
    frozen: AnyGenerator = generator.eval().requires_grad_(False).to(device)
    return frozen.to(memory_format=torch.channels_last)


def start_from(init: Path | None, *generators: TrainedGenerator) -> None:
    """Give generators the weights of a finished one of the same shape; None leaves them.

    Its film, if any, stays behind: a training goes on without, and fits another.
    """
    if init is not None:
        weights = load_generator(init, torch.device("cpu")).state_dict()
        unfilmed = {k: tensor for k, tensor in weights.items() if not k.startswith("film.")}
        for generator in generators:
            generator.load_state_dict(unfilmed)
