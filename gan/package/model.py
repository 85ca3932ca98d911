"""The generator of a finished run: its weights and description, written and read again."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gan.network.sampling import AnyGenerator
from gan.package.description import (
    DESCRIPTION,
    Description,
    build_generator,
    read_description,
    tensors_of,
)
from gan.package.pretrained import PREFIX, WEIGHTS, known_names, resolve_run
from synthdp.checkpoint import load_weights, save_weights, weight_shapes
from synthdp.errors import InputError
from synthdp.files import sha256_file, write_json
from synthdp.privacy.stated import read_statement
from synthdp.privacy.statement import OnRecord, Statement

#: On whom the statements of generators that come with the package rest.
AUTHORS = "the authors of synthdp"


def write_generator(run: Path, weights: Mapping[str, Tensor], description: Description) -> None:
    """Write the weights of a finished generator and what they are of, into the run's folder."""
    save_weights(run / WEIGHTS, weights)
    write_json(run / DESCRIPTION, description.as_json())


@dataclass(frozen=True)
class GeneratorRun:
    """A finished generator as it lies on the disk: its folder, what it is, and what it promises."""

    folder: Path
    description: Description
    statement: Statement

    def load(self, device: torch.device) -> AnyGenerator:
        """The generator itself, in evaluation, on a device.

        Raises:
            InputError: when its weights are missing or do not fit its description.
        """
        return _load(self.folder, self.description, device)

    @property
    def weights_sha256(self) -> str:
        """The SHA-256 of the file of its weights."""
        return sha256_file(self.folder / WEIGHTS)


def open_generator(run: Path) -> GeneratorRun:
    """Open a generator by its run or `pretrained:NAME`; its weights are not read.

    Raises:
        InputError: when the run is not finished, or is of another kind.
    """
    folder = resolve_run(run)
    statement = read_statement(folder)
    if str(run).startswith(PREFIX):
        statement = packaged_statement(run)
    return GeneratorRun(folder, generator_description(folder), statement)


def packaged_statement(run: Path) -> Statement:
    """The statement of `pretrained:NAME`, with what all generators of the package promise jointly.

    They saw patients of the same data set, so that whoever has one has what the others tell, too:
    the private ones together, and all of them.

    Raises:
        InputError: when the package has no generator of that name.
    """
    folder = resolve_run(run)
    own = read_statement(folder, sender=AUTHORS)
    others = [read_statement(folder.parent / name) for name in known_names(folder.parent)]
    shared = {release.data for release in own.lineage.releases}
    alike = [
        other
        for other in others
        if other.unit == own.unit and shared & {release.data for release in other.lineage.releases}
    ]
    private = [other for other in alike if math.isfinite(other.epsilon)]
    records = []
    for which, of_them in (("the private generators", private), ("all generators", alike)):
        together = own.lineage.joined(other.lineage for other in of_them)
        if which == "all generators" or math.isfinite(own.epsilon):
            records.append(
                OnRecord(
                    data=", ".join(sorted(shared)),
                    held_by=f"{which} that come with synthdp",
                    other_releases=len(together.releases) - len(own.lineage.releases),
                    epsilon=together.epsilon(own.delta),
                )
            )
    return own.model_copy(update={"on_record": tuple(one for one in records if one.other_releases)})


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
    weights = load_weights(folder / WEIGHTS)
    generator = build_generator(description.shape)
    generator.load_state_dict(weights)
    frozen: AnyGenerator = generator.eval().requires_grad_(False).to(device)
    return frozen.to(memory_format=torch.channels_last)
