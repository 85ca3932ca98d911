"""What medigan lists of a model: how it is run, how good it is, and, for once, how private."""

import math
from collections.abc import Mapping
from typing import Any

from gan.config import ExportSettings
from synthdp import __version__
from synthdp.cards import privacy_header
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Assessment, Figure, Value
from synthdp.privacy.statement import Statement

WEIGHTS_NAME, WEIGHTS_END = "weights", ".pt"
DEPENDENCIES = ("numpy>=1.24", "torch>=2.0", "pillow>=9.4")
BASE_ARGUMENTS = ["model_file", "num_samples", "output_path", "save_images"]


def medigan_metadata(
    settings: ExportSettings,
    described: Mapping[str, Any],
    statement: Statement,
    *,
    package_name: str,
    weights_sha256: str,
    assessment: Assessment | None,
) -> dict[str, Any]:
    """The entry of the model in medigan's list; what is not known is null, or left out.

    Args:
        settings: of the export.
        described: the content of `model/settings.json`.
        statement: what the generator promises.
        package_name: the folder that is imported.
        weights_sha256: of the generator's own weights, before they were packed.
        assessment: figures of a set that it drew.
    """
    model_id = settings.model_id or f"00000_{package_name.upper().replace('_', '-')}"
    selection = _selection(settings, described, statement)
    figures = None if assessment is None else performance(assessment, statement)
    return {
        model_id: {
            "execution": _execution(described, package_name),
            "selection": {"performance": figures, **selection},
            "description": _description(settings, statement, weights_sha256),
        }
    }


def _execution(described: Mapping[str, Any], package_name: str) -> dict[str, Any]:
    return {
        "package_name": package_name,
        "package_link": None,
        "model_name": WEIGHTS_NAME,
        "extension": WEIGHTS_END,
        "image_size": [described["size_px"], described["size_px"]],
        "dependencies": [words.partition(">")[0] for words in DEPENDENCIES],
        "generate_method": {
            "name": "generate",
            "args": {
                "base": BASE_ARGUMENTS,
                "custom": {"condition": None, "z": None, "seed": None},
            },
            "input_latent_vector_size": described["z_dim"],
        },
    }


def _selection(
    settings: ExportSettings, described: Mapping[str, Any], statement: Statement
) -> dict[str, Any]:
    private = 0 < statement.epsilon < math.inf
    target = described["target"]
    return {
        "use_cases": ["classification"],
        "organ": [settings.organ],
        "modality": [settings.modality],
        "vendors": [],
        "centres": [],
        "function": ["noise to image", "class to image"],
        "condition": [target, *described.get("conditions", {}).get("names", [])],
        "dataset": [described["data"]],
        "augmentations": None,
        "generates": [f"{settings.modality} patches with {target} 0 or 1"],
        "height": described["size_px"],
        "width": described["size_px"],
        "depth": None,
        "type": described["architecture"],
        "license": settings.licence or None,
        "dataset_type": None,
        "privacy_preservation": privacy_header(statement),
        "tags": ["synthetic data", *(["differential privacy"] * private)],
        "year": None,
    }


def _description(
    settings: ExportSettings, statement: Statement, weights_sha256: str
) -> dict[str, Any]:
    releases = ", ".join(one.id for one in statement.lineage.releases) or "none"
    headline = statement.to_text().splitlines()[0].replace("**", "")
    return {
        "title": settings.title or "Class-conditional generator, exported by synthdp",
        "provided_date": None,
        "trained_date": None,
        "provided_after_epoch": None,
        "version": f"synthdp {__version__}",
        "publication": None,
        "doi": [],
        "inputs": [
            "condition: default=None, 0 malignant, 1 benign, None balances both",
            "z: default=None, latent vectors, one an image",
            "seed: default=None, of one call: every call with the same seed draws the same images",
        ],
        "comment": (
            f"{headline} Releases on patients: {releases}. Sha256 of the weights in the run: "
            f"{weights_sha256}. Python 3.10 or newer."
        ),
    }


def performance(assessment: Assessment, statement: Statement) -> dict[str, Any]:
    """The main figures of an assessment that may leave, by measure and features.

    An exact figure on patients that a generator was trained on is outside its promise: it leaves
    only where there is none to them (as `synthdp.release` has it).

    Raises:
        InputError: when the assessed images are not of this lineage.
    """
    if assessment.info.lineage != statement.lineage:
        raise InputError(
            "quality: the assessed set descends from other releases than this generator (drawn by "
            "another one, or filtered once); assess a set that this generator drew"
        )
    open_to_all = assessment.real.name in {one.data for one in statement.lineage.unprotected}
    found: dict[str, Any] = {}
    for figure in assessment.main_figures:
        told = _told(figure, open_to_all=open_to_all)
        if told:
            found.setdefault(figure.measure, {})[figure.features] = told
    return found


def _told(figure: Figure, *, open_to_all: bool) -> dict[str, Any]:
    """A figure with what it is compared with; empty when it has to stay."""
    values = {"synthetic": figure.synthetic, "baseline": figure.baseline, "real": figure.real}
    leaving = {
        name: _number(value)
        for name, value in values.items()
        if value is not None and value.value is not None and (open_to_all or _held_out(value))
    }
    return {"comparison": figure.comparison, **leaving} if "synthetic" in leaving else {}


def _held_out(value: Value) -> bool:
    return "train" not in value.split


def _number(value: Value) -> dict[str, Any]:
    return {"n": list(value.n), **value.model_dump(exclude={"n", "why"}, exclude_none=True)}
