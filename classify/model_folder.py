"""A classifier's folder: settings that name its public weights, and a file with all else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from classify.classifier import Classifier, OperatingPoint, Source
from classify.scaling import Scaling
from synthdp.checkpoint import load_weights, save_weights
from synthdp.config import FeatureSettings, Settings, TrainableBlocks, validate_settings
from synthdp.errors import InputError
from synthdp.files import read_json, sha256_file, write_json
from synthdp.public_weights import HUB
from synthdp.runs import read_statement

SETTINGS_FILE, WEIGHTS_FILE = "settings.json", "weights.safetensors"
SCHEMA_VERSION: Literal[2] = 2


class _SourceDescription(Settings):
    """What `model/settings.json` says of one network."""

    backbone: FeatureSettings
    parts: tuple[int, ...]
    trainable_blocks: TrainableBlocks
    seed: int


class _Description(Settings):
    """What `model/settings.json` holds."""

    schema_version: Literal[2] = SCHEMA_VERSION
    sources: tuple[_SourceDescription, ...]
    targets: tuple[str, ...]
    points: tuple[OperatingPoint, ...] = ()
    weights_sha256: str


def save_classifier(folder: Path, classifier: Classifier) -> None:
    """Write `settings.json` and `weights.safetensors` into `folder`, a run's `model/`.

    Frozen public weights are not copied: the settings name their file by its sha256.
    """
    tensors = {"head.weight": classifier.head_weight, "head.bias": classifier.head_bias}
    if classifier.hidden is not None:
        tensors["hidden.weight"], tensors["hidden.bias"] = classifier.hidden
    for index, source in enumerate(classifier.sources):
        tensors |= {f"{index}.backbone.{name}": value for name, value in source.trained.items()}
        if source.scaling.centre is not None:
            tensors[f"{index}.centre"] = source.scaling.centre
        for part, matrix in enumerate(source.scaling.whitening):
            tensors[f"{index}.whitening.{part}"] = matrix.contiguous()
    save_weights(folder / WEIGHTS_FILE, tensors)
    description = _Description(
        sources=tuple(
            _SourceDescription(
                backbone=source.backbone,
                parts=source.scaling.parts,
                trainable_blocks=source.trainable_blocks,
                seed=source.seed,
            )
            for source in classifier.sources
        ),
        targets=classifier.targets,
        points=classifier.points,
        weights_sha256=sha256_file(folder / WEIGHTS_FILE),
    )
    write_json(folder / SETTINGS_FILE, description.model_dump(mode="json"))


def load_classifier(run_folder: Path) -> Classifier:
    """The classifier of a finished run.

    Public weights are looked for where the settings say, then beside the run's own weights.

    Raises:
        InputError: when the run is not finished, holds no classifier, or its weights or the
            public ones are missing or damaged.
    """
    read_statement(run_folder)  # refuses what is not a finished run
    folder = run_folder / "model"
    where = f"{run_folder.name}/model/{SETTINGS_FILE}"
    about = validate_settings(_Description, _settings_in(folder), where=where)
    try:
        tensors = load_weights(folder / WEIGHTS_FILE, about.weights_sha256)
    except InputError as error:
        raise InputError(
            f"{run_folder.name}: its own weights are damaged; put them back, or delete the folder "
            f"and make the run again ({error})"
        ) from error
    try:
        weight, bias = tensors["head.weight"], tensors["head.bias"]
    except KeyError as error:
        raise InputError(f"{run_folder}: its weights hold no head; make the run again") from error
    return Classifier(
        sources=tuple(
            _source(one, index, tensors, folder) for index, one in enumerate(about.sources)
        ),
        targets=about.targets,
        head_weight=weight,
        head_bias=bias,
        hidden=_hidden(tensors),
        points=about.points,
    )


def _hidden(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    if "hidden.weight" not in tensors:
        return None
    return tensors["hidden.weight"], tensors["hidden.bias"]


def _source(
    about: _SourceDescription, index: int, tensors: Mapping[str, Tensor], folder: Path
) -> Source:
    prefix = f"{index}.backbone."
    whitening = [tensors.get(f"{index}.whitening.{part}") for part in range(len(about.parts))]
    scaling = Scaling(
        parts=about.parts,
        weights=(about.backbone.weight,) * len(about.parts),
        centre=tensors.get(f"{index}.centre"),
        whitening=tuple(matrix for matrix in whitening if matrix is not None),
    )
    return Source(
        backbone=_found_weights(about.backbone, folder),
        scaling=scaling,
        trainable_blocks=about.trainable_blocks,
        trained={
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        },
        seed=about.seed,
    )


def _settings_in(folder: Path) -> dict[str, Any]:
    if not (folder / SETTINGS_FILE).is_file():
        raise InputError(
            f"{folder.parent}: a run without a classifier; name one of pretrain, finetune or "
            "calibrate"
        )
    content = read_json(folder / SETTINGS_FILE)
    if not isinstance(content, dict):
        raise InputError(f"{folder}/{SETTINGS_FILE}: not an object; make the run again")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{folder.parent}: its model was written by another version of synthdp; make the run "
            "again with this one"
        )
    return content


def _found_weights(backbone: FeatureSettings, folder: Path) -> FeatureSettings:
    """The same settings, with the path of the public weights beside the model if they are there."""
    if backbone.weights in (None, HUB) or backbone.weights.is_file():
        return backbone
    beside = folder / backbone.weights.name
    if not beside.is_file():
        raise InputError(
            f"{backbone.weights}: the public weights that this classifier stands on are missing; "
            f"put the file with sha256 {backbone.sha256} there, or into {folder}"
        )
    return backbone.model_copy(update={"weights": beside})
