"""A package that the medigan library can run, made of a released generator, as a stage."""

import io
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from gan.config import ExportSettings
from gan.network.architectures import generator_parts
from gan.network.conditions import conditions_of, prior_of
from gan.package.medigan_metadata import (
    DEPENDENCIES,
    WEIGHTS_END,
    WEIGHTS_NAME,
    medigan_metadata,
)
from gan.package.model import WEIGHTS, model_settings
from gan.package.pretrained import resolve_run
from gan.package.single_file import single_file
from synthdp import __version__
from synthdp.checkpoint import load_weights
from synthdp.errors import InputError, RunError
from synthdp.evaluation.assessment import read_assessment
from synthdp.files import atomic_folder, read_json, sha256_file, write_atomic, write_json
from synthdp.privacy.statement import Statement, read_statement

ENTRY = ("gan.package.medigan_entry", "generate")


def plan_export(settings: ExportSettings) -> Statement:
    """What the package promises: what the generator does.

    Raises:
        InputError: when the run is not that of a finished generator.
    """
    model_settings(settings.run)
    return read_statement(resolve_run(settings.run))


def run_export(settings: ExportSettings) -> Path:
    """Write `out/<package_name>`, or return at once when it is there.

    Guarantee: it holds what a released run holds, and the package's own code.

    Raises:
        InputError: when the run was not released, the figures are of another generator, or `out`
            holds something else.
        RunError: when the network's code needs more than torch, numpy and Pillow.
    """
    statement = plan_export(settings)
    run = resolve_run(settings.run)
    if (run / "private").exists():
        raise InputError(
            f"{run}: has a private part; copy out what may leave first, with `synthdp privacy "
            "--release RUN OUT`, and name OUT"
        )
    described = model_settings(settings.run)
    name = settings.package_name or _package_name(described)
    assessment = None if settings.quality is None else read_assessment(settings.quality)
    told = medigan_metadata(
        settings,
        described,
        statement,
        package_name=name,
        weights_sha256=sha256_file(run / "model" / WEIGHTS),
        assessment=assessment,
    )
    if (settings.out / name / "metadata.json").is_file():
        if read_json(settings.out / name / "metadata.json") != told:
            raise InputError(f"{settings.out}: holds another package; name a new folder")
        return settings.out
    with atomic_folder(settings.out) as folder:
        _write(folder / name, run, described, settings)
        write_json(folder / name / "metadata.json", told)
    return settings.out


def _package_name(described: dict[str, Any]) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", str(described["data"]).lower()).strip("_")
    return f"mcgan_{words}"[:64]


def _write(package: Path, run: Path, described: dict[str, Any], settings: ExportSettings) -> None:
    """All files of the package but its metadata."""
    write_atomic(package / "__init__.py", package_source(described))
    write_atomic(package / f"{WEIGHTS_NAME}{WEIGHTS_END}", _weights(run, described))
    write_atomic(package / "LICENSE", _licence_text(settings))
    write_atomic(package / "requirements.txt", "\n".join(DEPENDENCIES) + "\n")
    for public in ("card.md", "privacy.json"):
        write_atomic(package / public, (run / public).read_bytes())


def package_source(described: dict[str, Any]) -> str:
    """The `__init__.py` of a package for a generator of this description."""
    network, _ = generator_parts(described)
    docstring = (
        f"A generator of {described['size_px']} px patches for medigan: `generate`.\n\n"
        f"Written by synthdp {__version__} from its own network code; needs torch, numpy and "
        "Pillow.\n"
    )
    source = single_file([(network.__module__, network.__name__), ENTRY], docstring)
    return f"{source}\n\nNETWORK = {network.__name__}\n"


def _weights(run: Path, described: dict[str, Any]) -> bytes:
    """Weights and the arguments of the network in one torch file of tensors and plain values."""
    _, arguments = generator_parts(described)
    conditions, target = conditions_of(described), str(described["target"])
    content = {
        "weights": load_weights(run / "model" / WEIGHTS),
        "arguments": arguments,
        "prior": prior_of(conditions) if conditions.names else [],
        "words": ["benign", "malignant"] if target == "malignant" else [f"no_{target}", target],
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def _licence_text(settings: ExportSettings) -> str:
    """What may be done with the code, which is ours, and with the weights, which are the user's."""
    found = metadata.distributions(name="synthdp")  # an old build beside the checkout has none
    text = next(filter(None, (one.read_text("licenses/LICENSE") for one in found)), None)
    if text is None:
        raise RunError("the licence text of synthdp is missing; install the package again")
    weights = settings.licence or "not stated; ask whoever made this package"
    return (
        f"The weights in this folder: {weights}.\n\n"
        f"The code in this folder, by synthdp {__version__}: Apache-2.0, as follows.\n\n{text}"
    )
