"""A package that the medigan library can run, made of a released generator, as a stage.

The package is a folder to import: a copy of `gan/network`, whose `medigan.generate` is what medigan
calls, the weights, and metadata that say how it is run, how good and how private it is.
TorchScript would need no code beside the weights, but is bound to versions of torch in both
directions; plain tensor operations run on old and new ones, and can be read before one trusts them.
"""

import io
import math
import re
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import gan.network
from gan.package.description import AnyShape, Description
from gan.package.model import whole_weights
from gan.package.opened import GeneratorRun, open_generator
from gan.settings.finished import ExportSettings
from synthdp import __version__
from synthdp.config.card_file import CARD, card_file
from synthdp.data.manifest.classes import class_words
from synthdp.errors import InputError, RunError
from synthdp.evaluation.assessment import Assessment, Figure, Value, read_assessment
from synthdp.networks.exported.card import base_card
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.promise.uncovered import with_uncovered
from synthdp.privacy.promise.words import headline
from synthdp.runs.cards import (
    FILES,
    LICENCE,
    RUNS,
    listed,
    one_line,
    privacy_header,
    restated,
    with_section,
)
from synthdp.storage.files import atomic_folder, read_json, write_atomic, write_json

WEIGHTS_NAME, WEIGHTS_END = "weights", ".pt"
DEPENDENCIES = ("numpy>=1.24", "torch>=2.0", "pillow>=9.4")
BASE_ARGUMENTS = ["model_file", "num_samples", "output_path", "save_images"]

#: What the card says of how a package is run.
_USE = """\
In the folder above the one that this file stands in; synthdp is not needed:

```sh
pip install {needs}
```

```python
import {name}

pairs = {name}.generate(
    model_file="{name}/weights.pt", num_samples=4, output_path="images", save_images=False
)
print(len(pairs), "images of shape", pairs[0][0].shape, "and a class, such as", pairs[0][1])
```

medigan calls the same function; `metadata.json` is the entry of its list."""
_FILES = {
    CARD: "this card: Markdown, with a header in YAML",
    "privacy.json": "the promise, for programs: every figure of the text above",
    "metadata.json": "the model's entry in medigan's list",
    f"{WEIGHTS_NAME}{WEIGHTS_END}": "the weights, and what the network is built by (torch)",
    "network": "the code of the network, with `generate`",
    "requirements.txt": "what the code needs",
    "LICENSE": "of the weights and of the code",
}


def run_export(settings: ExportSettings) -> Path:
    """Write `out/<package_name>`, or return at once when it is there.

    Guarantee: it holds what a released run holds, the package's own code, and figures of the
    assessment that was named, which its statement names where they are of patients.

    Raises:
        InputError: when the run was not released, the figures are of another generator, or `out`
            holds something else.
        RunError: when the licence text of synthdp is missing.
    """
    generator = open_generator(settings.run)
    run, description = generator.folder, generator.description
    if (run / "private").exists():
        raise InputError(
            f"{run}: has a private part; copy out what may leave first, with `synthdp privacy "
            "--release RUN OUT`, and name OUT"
        )
    words = re.sub(r"[^a-z0-9]+", "_", description.data.lower()).strip("_")
    name = settings.package_name or f"mcgan_{words}"[:64]
    assessment = None if settings.quality is None else read_assessment(settings.quality)
    about = medigan_metadata(settings, generator, package_name=name, assessment=assessment)
    if (settings.out / name / "metadata.json").is_file():
        if read_json(settings.out / name / "metadata.json") != about:
            raise InputError(f"{settings.out}: holds another package; name a new folder")
        return settings.out
    with atomic_folder(settings.out) as folder:
        package = folder / name
        write_code(package, description.shape.size_px)
        weights = _weights(description.target, *whole_weights(generator))
        write_atomic(package / f"{WEIGHTS_NAME}{WEIGHTS_END}", weights)
        write_atomic(package / "LICENSE", _licence_text(settings.licence))
        write_atomic(package / "requirements.txt", "\n".join(DEPENDENCIES) + "\n")
        card = card_file(run)
        statement = with_uncovered(read_statement(run, sender=None), _figures_words(assessment))
        if card is not None:
            write_atomic(package / CARD, _card(run, statement, name, settings.licence))
        write_json(package / "privacy.json", statement.model_dump(mode="json"))
        write_json(package / "metadata.json", about)
    return settings.out


def _card(run: Path, statement: Statement, name: str, licence: str) -> str:
    """The card of a package: that of the run, but for what tells of the run's own files."""
    text = restated(base_card(run, statement), statement)
    sections = {
        LICENCE: f"- the weights: {one_line(licence) or 'not stated'}\n- the code: Apache-2.0\n\n"
        "`LICENSE` has both.",
        RUNS: _USE.replace("{name}", name).replace("{needs}", " ".join(DEPENDENCIES)),
        FILES: listed(_FILES),
    }
    for section, body in sections.items():
        text = with_section(text, section, body, before="Use")
    return text


def write_code(package: Path, size_px: int) -> None:
    """Write what is imported: the folder of the networks, and an entry that names its function."""
    shutil.copytree(
        Path(gan.network.__file__).parent,
        package / "network",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    write_atomic(
        package / "__init__.py",
        f'"""A generator of {size_px} px patches for medigan: `generate`.\n\n'
        f"Written by synthdp {__version__} with its own network code; needs torch, numpy and "
        'Pillow.\n"""\n\nfrom .network.medigan import generate as generate\n',
    )


def _weights(target: str, shape: AnyShape, weights: dict[str, torch.Tensor]) -> bytes:
    """Weights and what the network is built by, as a torch file of tensors and plain values."""
    findings = list(shape.conditions.findings)
    content: dict[str, Any] = {
        "weights": weights,
        "arguments": {"architecture": shape.architecture, **shape.arguments},
        "prior": shape.conditions.tables,
        **({"findings": findings} if findings else {"words": list(class_words(target))}),
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def _licence_text(of_weights: str) -> str:
    """What may be done with the code, which is ours, and with the weights, which are the user's."""
    installed = metadata.distributions(name="synthdp")  # an old build beside the checkout has none
    text = next(filter(None, (one.read_text("licenses/LICENSE") for one in installed)), None)
    if text is None:
        raise RunError("the licence text of synthdp is missing; install the package again")
    return (
        f"The weights in this folder: {of_weights or 'not stated; ask whoever made this package'}."
        f"\n\nThe code in this folder, by synthdp {__version__}: Apache-2.0, as follows.\n\n{text}"
    )


def _figures_words(assessment: Assessment | None) -> list[str]:
    """What the statement says of an assessment's figures in the package; nothing of phantoms'."""
    if assessment is None:
        return []
    real, releases = assessment.real, assessment.info.lineage.releases
    if real.kind == "phantom" and real.name not in {one.data for one in releases}:
        return []
    return [
        f"exact figures of the patients of {real.name}, and how many images they are of, which are "
        "in this package because their assessment was named"
    ]


# What medigan lists of a model.


def medigan_metadata(
    settings: ExportSettings,
    generator: GeneratorRun,
    *,
    package_name: str,
    assessment: Assessment | None,
) -> dict[str, Any]:
    """The entry of the model in medigan's list; what is not known is null, or left out.

    Args:
        settings: of the export.
        generator: what it is, and what it promises.
        package_name: the folder that is imported.
        assessment: figures of a set that it drew.
    """
    model_id = settings.model_id or f"00000_{package_name.upper().replace('_', '-')}"
    description, statement = generator.description, generator.statement
    selection = _selection(settings, description, statement)
    figures = None if assessment is None else performance(assessment, statement)
    return {
        model_id: {
            "execution": _execution(description.shape, package_name),
            "selection": {"performance": figures, **selection},
            "description": _description(
                settings,
                statement,
                generator.weights_sha256,
                description.shape.conditions.findings,
            ),
        }
    }


def _execution(shape: AnyShape, package_name: str) -> dict[str, Any]:
    return {
        "package_name": package_name,
        "package_link": None,
        "model_name": WEIGHTS_NAME,
        "extension": WEIGHTS_END,
        "image_size": [shape.size_px, shape.size_px],
        "dependencies": [words.partition(">")[0] for words in DEPENDENCIES],
        "generate_method": {
            "name": "generate",
            "args": {
                "base": BASE_ARGUMENTS,
                "custom": {"condition": None, "z": None, "seed": None},
            },
            "input_latent_vector_size": shape.z_dim,
        },
    }


def _selection(
    settings: ExportSettings, description: Description, statement: Statement
) -> dict[str, Any]:
    private = 0 < statement.epsilon < math.inf
    shape = description.shape
    return {
        "use_cases": ["classification"],
        "organ": [settings.organ],
        "modality": [settings.modality],
        "vendors": [],
        "centres": [],
        "function": ["noise to image", "class to image"],
        "condition": [*description.targets, *shape.conditions.names],
        "dataset": [description.data],
        "augmentations": None,
        "generates": [
            f"{settings.modality} patches with {target} 0 or 1" for target in description.targets
        ],
        "height": shape.size_px,
        "width": shape.size_px,
        "depth": None,
        "type": shape.architecture,
        "license": settings.licence or None,
        "dataset_type": None,
        "privacy_preservation": privacy_header(statement),
        "tags": ["synthetic data", *(["differential privacy"] * private)],
        "year": None,
    }


def _description(
    settings: ExportSettings,
    statement: Statement,
    weights_sha256: str,
    findings: Sequence[str],
) -> dict[str, Any]:
    releases = ", ".join(one.id for one in statement.lineage.releases) or "none"
    return {
        "title": settings.title or "Class-conditional generator, exported by synthdp",
        "provided_date": None,
        "trained_date": None,
        "provided_after_epoch": None,
        "version": f"synthdp {__version__}",
        "publication": None,
        "doi": [],
        "inputs": [
            "condition: default=None, which alone is taken: findings stand together as in training"
            if findings
            else "condition: default=None, 0 malignant, 1 benign, None balances both",
            "z: default=None, latent vectors, one an image",
            "seed: default=None, of one call: every call with the same seed draws the same images",
        ],
        "comment": (
            f"{headline(statement)} Releases on patients: {releases}. Sha256 of the weights in the "
            f"run: {weights_sha256}. Python 3.10 or newer."
        ),
    }


def performance(assessment: Assessment, statement: Statement) -> dict[str, Any]:
    """The main figures of an assessment that may leave, by measure and features.

    An exact figure on the patients that a generator was trained on is outside its promise. It
    leaves only where these patients have no promise (as with `synthdp.release`).

    Raises:
        InputError: when the assessed images are not of this lineage.
    """
    if assessment.info.lineage.releases != statement.lineage.releases:
        raise InputError(
            "quality: the assessed set descends from other releases than this generator (drawn by "
            "another one, or filtered once); assess a set that this generator drew"
        )
    unprotected = assessment.real.name in {one.data for one in statement.lineage.unprotected}
    figures: dict[str, Any] = {}
    for figure in assessment.main_figures:
        released = _released_values(figure, exact_on_train=unprotected)
        if released:
            figures.setdefault(figure.measure, {})[figure.features] = released
    return figures


def _released_values(figure: Figure, *, exact_on_train: bool) -> dict[str, Any]:
    """The values of a figure that may leave, by what they are of; empty when it has to stay.

    Args:
        figure: of an assessment.
        exact_on_train: whether values may leave that were computed on train patients.
    """
    values = {"synthetic": figure.synthetic, "baseline": figure.baseline, "real": figure.real}
    released = {
        name: _number(value)
        for name, value in values.items()
        if value is not None
        and value.value is not None
        and (exact_on_train or "train" not in value.split)
    }
    return {"comparison": figure.comparison, **released} if "synthetic" in released else {}


def _number(value: Value) -> dict[str, Any]:
    return {"n": list(value.n), **value.model_dump(exclude={"n", "why"}, exclude_none=True)}
