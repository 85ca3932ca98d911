"""Joining finished generators into one that draws from each as often, as a stage."""

from collections.abc import Sequence
from pathlib import Path

import torch

from gan.config import MixGeneratorsSettings
from gan.package.description import Description, HaarShape, MixtureShape
from gan.package.model import GeneratorRun, open_generator, write_generator
from gan.package.pretrained import resolve_run
from synthdp.cards import model_card
from synthdp.errors import InputError
from synthdp.privacy.statement import Statement, joined_statement
from synthdp.runs import open_run

STAGE = "mix-generators"


def plan_mix_generators(settings: MixGeneratorsSettings) -> Statement:
    """What the mixture promises: to publish it is to publish all members, each release once.

    Raises:
        InputError: when a run is missing, or the generators do not fit together.
    """
    _, _, statement = _plan(settings.runs)
    return statement


def run_mix_generators(settings: MixGeneratorsSettings) -> Path:
    """Write a finished run whose model is the mixture, or return at once.

    Raises:
        InputError: as `plan_mix_generators`, or when `out` holds something else.
    """
    begun = (settings.out / "status.json").is_file()
    # What does not fit is refused before a folder is made; a finished run needs no plan.
    planned = None if begun else _plan(settings.runs)
    with open_run(settings.out, STAGE, settings, resolve=resolve_run) as run:
        if run.finished:
            return run.path
        members, description, statement = planned or _plan(settings.runs)
        size_px = description.shape.size_px
        weights: dict[str, torch.Tensor] = {}
        for index, member in enumerate(members):
            state = member.load(torch.device("cpu")).state_dict()
            weights |= {f"members.{index}.{name}": tensor for name, tensor in state.items()}
        write_generator(run.path, weights, description)
        card = model_card(
            title=f"Conditional generator of {size_px} px patches",
            summary=(
                f"Draws grey {size_px} px patches with {description.target} = 0 or "
                f"1. It is a mixture of {len(members)} generators, trained on the train "
                f"split of {description.data!r}, each of which draws as often. `synthdp generate` "
                "makes a data set with it."
            ),
            statement=statement,
            settings={"members": description.as_json()["members"]},
        )
        run.finish(statement, card)
    return settings.out


def _plan(runs: Sequence[Path]) -> tuple[list[GeneratorRun], Description, Statement]:
    """The generators of these runs, what their mixture is, and what it promises.

    Raises:
        InputError: when one is no `arch: haar` generator, or they differ in what they draw or in
            the unit of their promise.
    """
    generators = [open_generator(run) for run in runs]
    described = [generator.description for generator in generators]
    members = [one.shape for one in described if isinstance(one.shape, HaarShape)]
    if len(members) < len(described):
        raise InputError("runs: only generators of arch: haar are joined; leave the others out")
    first, first_shape = described[0], members[0]
    for name, values in (
        ("size_px", {shape.size_px for shape in members}),
        ("z_dim", {shape.z_dim for shape in members}),
        ("target", {one.target for one in described}),
        ("data", {one.data for one in described}),
    ):
        if len(values) > 1:
            raise InputError(
                f"runs: the generators differ in {name}; join generators that were trained alike"
            )
    if any(shape.conditions != first_shape.conditions for shape in members):
        raise InputError(
            "runs: the generators differ in their conditions, or how these are drawn; join "
            "generators that were trained alike"
        )
    statements = [generator.statement for generator in generators]
    if len({statement.unit for statement in statements}) > 1:
        raise InputError(
            "runs: some promise to patients, some to single images; join generators of one unit"
        )
    shape = MixtureShape(
        size_px=first_shape.size_px,
        z_dim=first_shape.z_dim,
        conditions=first_shape.conditions,
        members=tuple(members),
    )
    description = Description(shape, first.target, first.data)
    return generators, description, joined_statement(statements, subject="generator")
