"""The generator of a finished run: its weights and description, written and read again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gan.config import TrainGanSettings
from gan.network.architectures import (
    ARCHITECTURES,
    MIXTURE,
    AnyGenerator,
    TrainedGenerator,
    build_generator,
    describe,
)
from gan.network.conditions import Conditions
from gan.network.film import without_film
from gan.package.pretrained import resolve_run
from synthdp.cards import model_card
from synthdp.checkpoint import load_weights, save_weights
from synthdp.data.dataset import DatasetInfo
from synthdp.errors import InputError
from synthdp.files import read_json, write_json
from synthdp.privacy.statement import Statement, read_statement
from synthdp.runs import Run

_DISCRIMINATOR = "Its discriminator is not part of it."
_OF_METHOD = {
    "adversarial": _DISCRIMINATOR,
    "embedding": "It saw patients through one noisy mean of public features alone.",
    "dp_discriminator": (
        "EXPERIMENTAL: it learned from a discriminator that was trained on patients by DP-SGD. "
        f"{_DISCRIMINATOR}"
    ),
}
WEIGHTS, DESCRIPTION = "generator.safetensors", "settings.json"


def write_generator(
    run: Run,
    generator: TrainedGenerator,
    settings: TrainGanSettings,
    conditions: Conditions,
    info: DatasetInfo,
) -> None:
    """Write the weights of the finished generator and what shape they are of."""
    save_weights(run.model / WEIGHTS, generator.state_dict())
    write_json(
        run.model / DESCRIPTION,
        {
            **describe(settings, conditions),
            **({"film": True} if getattr(generator, "film", None) is not None else {}),
            "target": info.targets[0],
            "data": info.name,
        },
    )


def generator_card(
    settings: TrainGanSettings, conditions: Conditions, info: DatasetInfo, statement: Statement
) -> str:
    """The card of a trained generator; it names files and folders without their place."""
    told = f", of given {', '.join(conditions.names)}" if conditions.names else ""
    film = (
        " Its opaque marks and grain come from a formula, not a network." if settings.film else ""
    )
    unused = {"dp_discriminator", "embedding"} - {settings.method}
    facts = settings.model_dump(exclude={"data", "out", "device", *unused})
    return model_card(
        title=f"Conditional generator of {settings.size_px} px patches",
        summary=(
            f"Draws grey {settings.size_px} px patches with {info.targets[0]} = 0 or 1{told}. It "
            f"was trained on the train split of {info.name!r} ({info.kind}). `synthdp generate` "
            f"makes a data set with it. {_OF_METHOD[settings.method]}{film}"
        ),
        statement=statement,
        settings={name: _placeless(value) for name, value in facts.items()},
    )


def _placeless(value: Any) -> Any:
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Mapping):
        return {name: _placeless(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_placeless(part) for part in value]
    return value


def model_settings(run: Path) -> dict[str, Any]:
    """The description of a generator, `model/settings.json` of its run or `pretrained:NAME`.

    Raises:
        InputError: when there is none, or it is of another kind.
    """
    run = resolve_run(run)
    path = run / "model" / DESCRIPTION
    if not path.is_file():
        read_statement(run)  # says what state the run is in
        raise InputError(f"{run}: not a run of train-gan (no model/settings.json)")
    described: dict[str, Any] = read_json(path)
    if described.get("architecture") not in {*ARCHITECTURES.values(), MIXTURE}:
        raise InputError(f"{run}: its model is no generator; name a run of train-gan")
    return described


def load_generator(run: Path, device: torch.device) -> AnyGenerator:
    """Load the generator of a finished run.

    Raises:
        InputError: when its files are missing or do not fit together.
    """
    run = resolve_run(run)
    generator = build_generator(model_settings(run))
    weights = load_weights(run / "model" / WEIGHTS)
    try:
        generator.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"{run}: model/generator.safetensors does not fit model/settings.json; both must come "
            "from the same run"
        ) from error
    placed: AnyGenerator = generator.eval().requires_grad_(False).to(device)
    return placed.to(memory_format=torch.channels_last)


def start_from(init: Path | None, *generators: TrainedGenerator) -> None:
    """Put the weights of a finished generator of the same shape in place; None leaves them.

    Its film, if any, stays behind: a training goes on without, and fits another.
    """
    if init is not None:
        weights = without_film(load_generator(init, torch.device("cpu")).state_dict())
        for generator in generators:
            generator.load_state_dict(weights)
