"""What comes of generators that stand already will promise: mixtures, imports, packages."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

from gan.package.description import Description, HaarShape, MixtureShape
from gan.package.opened import GeneratorRun, open_generator
from gan.settings.finished import ExportSettings, ImportGeneratorSettings, MixGeneratorsSettings
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.statement import Statement, joined_statement, make_statement


def plan_mix_generators(settings: MixGeneratorsSettings) -> Statement:
    """What the mixture promises: to publish it is to publish all members, each release once.

    Raises:
        InputError: when a run is missing, or the generators do not fit together.
    """
    _, _, statement = mixture_plan(settings.runs)
    return statement


def mixture_plan(runs: Sequence[Path]) -> tuple[list[GeneratorRun], Description, Statement]:
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


def plan_import_generator(settings: ImportGeneratorSettings) -> Statement:
    """What the generator promises: nothing, because it was trained without DP on those patients."""
    origin = f"{settings.trained_on}|{settings.sha256}"
    release = Release(
        id=hashlib.sha256(origin.encode()).hexdigest()[:16],
        stage="train-gan",
        data=settings.trained_on,
        mu=math.inf,
        note="imported generator, trained without differential privacy",
    )
    return make_statement(Lineage(releases=(release,)), subject="generator", stage=release)


def plan_export(settings: ExportSettings) -> Statement:
    """What the package promises: what the generator does.

    Raises:
        InputError: when the run is not that of a finished generator.
    """
    return open_generator(settings.run).statement
