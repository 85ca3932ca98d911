"""Joining finished generators into one that draws from each as often, as a stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from gan.network.architectures import ARCHITECTURES, MIXTURE
from gan.network.conditions import conditions_of
from gan.package.model import DESCRIPTION, WEIGHTS, load_generator, model_settings
from gan.package.pretrained import resolve_run
from synthdp.cards import model_card
from synthdp.checkpoint import save_weights
from synthdp.config import Settings
from synthdp.errors import InputError
from synthdp.files import write_json
from synthdp.privacy.statement import Statement, joined_statement, read_statement
from synthdp.runs import open_run

STAGE = "mix-generators"
MAX_MEMBERS = 8


class MixGeneratorsSettings(Settings):
    """Which finished generators are joined: runs of train-gan (arch: haar) or `pretrained:NAME`."""

    runs: tuple[Path, ...] = Field(min_length=2, max_length=MAX_MEMBERS)
    out: Path


def plan_mix_generators(settings: MixGeneratorsSettings) -> Statement:
    """What the mixture promises: to publish it is to publish all members, each release once.

    Raises:
        InputError: when a run is missing, or the generators do not fit together.
    """
    _joined_description(settings.runs)
    statements = [read_statement(resolve_run(run)) for run in settings.runs]
    units = {statement.unit for statement in statements}
    if len(units) > 1:
        raise InputError("runs: promise to patients and to single images; join those of one kind")
    return joined_statement(statements, subject="generator")


def run_mix_generators(settings: MixGeneratorsSettings) -> Path:
    """Write a finished run whose model is the mixture, or return at once.

    Raises:
        InputError: as `plan_mix_generators`, or when `out` holds something else.
    """
    if not (settings.out / "status.json").is_file():
        plan_mix_generators(settings)  # what does not fit is refused before a folder is made
    with open_run(settings.out, STAGE, settings) as run:
        if run.finished:
            return run.path
        statement = plan_mix_generators(settings)
        described = _joined_description(settings.runs)
        weights: dict[str, torch.Tensor] = {}
        for place, source in enumerate(settings.runs):
            state = load_generator(source, torch.device("cpu")).state_dict()
            weights |= {f"members.{place}.{name}": tensor for name, tensor in state.items()}
        save_weights(run.model / WEIGHTS, weights)
        write_json(run.model / DESCRIPTION, described)
        card = model_card(
            title=f"Conditional generator of {described['size_px']} px patches",
            summary=(
                f"Draws grey {described['size_px']} px patches with {described['target']} = 0 or "
                f"1. It is a mixture of {len(settings.runs)} generators, trained on the train "
                f"split of {described['data']!r}, each of which draws as often. `synthdp generate` "
                "makes a data set with it."
            ),
            statement=statement,
            settings={"members": described["members"]},
        )
        run.finish(statement, card)
    return settings.out


def _joined_description(runs: Sequence[Path]) -> dict[str, Any]:
    """The description of the mixture of these runs.

    Raises:
        InputError: when one is no `arch: haar` generator, or they differ in what they draw.
    """
    found = [model_settings(run) for run in runs]
    if any(one["architecture"] != ARCHITECTURES["haar"] for one in found):
        raise InputError("runs: only generators of arch: haar are joined; leave the others out")
    first, *others = found
    for name in ("size_px", "z_dim", "target", "data"):
        if any(one[name] != first[name] for one in others):
            raise InputError(
                f"runs: the generators differ in {name}; join such as were trained alike"
            )
    if any(conditions_of(one) != conditions_of(first) for one in others):
        raise InputError(
            "runs: the generators differ in their conditions, or how these are drawn; join such as "
            "were trained alike"
        )
    shared = ("size_px", "z_dim", "target", "data", "conditions")
    return {
        "architecture": MIXTURE,
        **{name: first[name] for name in shared if name in first},
        "members": [
            {key: value for key, value in one.items() if key not in {"target", "data"}}
            for one in found
        ],
    }
