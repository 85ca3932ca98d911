"""The generator of a finished run as it lies on the disk: what it is, and what it promises."""

import math
from dataclasses import dataclass
from pathlib import Path

from gan.package.description import DESCRIPTION, Description, read_description
from gan.package.pretrained import PREFIX, WEIGHTS, known_names, resolve_run
from synthdp.errors import InputError
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import OnRecord, Statement
from synthdp.storage.files import sha256_file

#: On whom the statements of generators that come with the package rest.
AUTHORS = "the authors of synthdp"


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
