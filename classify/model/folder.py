"""The folder of a trained classifier, a run's `model/`: what is written, and read again.

It holds settings that name the public weights, and a file with all else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from classify.features.input_form import InputForm
from classify.features.scaling import Scaling
from classify.model.classifier import Classifier, FeatureSource, OperatingPoint
from classify.settings.head import MAX_TARGETS
from synthdp.checkpoint import load_weights, save_weights
from synthdp.config.settings import Settings, validate_settings
from synthdp.errors import InputError
from synthdp.networks.frozen import refuse_large_network
from synthdp.networks.public.carried import find_public_weights
from synthdp.networks.public.weight_files import HUB
from synthdp.networks.public.weights import refuse_download
from synthdp.networks.settings import FeatureSettings, TrainableBlocks
from synthdp.privacy.promise.stated import read_statement
from synthdp.storage.files import read_json, sha256_file, write_json

SETTINGS_FILE, WEIGHTS_FILE = "settings.json", "weights.safetensors"
SCHEMA_VERSION: Literal[2] = 2
#: Public bounds of what `settings.json` may hold.
MAX_SOURCES, MAX_NAME = 8, 256


class _FeatureSourceSettings(Settings):
    """What `model/settings.json` says of one network."""

    backbone: FeatureSettings
    parts: Annotated[
        tuple[Annotated[int, Field(ge=1, le=2**16)], ...], Field(min_length=1, max_length=256)
    ]
    trainable_blocks: TrainableBlocks
    seed: int = Field(ge=-(2**63), lt=2**63)


class _ModelSettings(Settings):
    """What `model/settings.json` holds."""

    schema_version: Literal[2] = SCHEMA_VERSION
    sources: tuple[_FeatureSourceSettings, ...] = Field(min_length=1, max_length=MAX_SOURCES)
    targets: tuple[Annotated[str, Field(min_length=1, max_length=MAX_NAME)], ...] = Field(
        min_length=1, max_length=MAX_TARGETS
    )
    points: tuple[OperatingPoint, ...] = Field(default=(), max_length=MAX_TARGETS)
    input_form: InputForm | None = None
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _points_fit_targets(self) -> "_ModelSettings":
        if len(set(self.targets)) < len(self.targets):
            raise ValueError("targets: a name stands twice")
        if self.points and len(self.points) != len(self.targets):
            raise ValueError("points: one for each target, or none")
        return self


def save_classifier(folder: Path, classifier: Classifier) -> None:
    """Write `settings.json` and `weights.safetensors` into `folder`, a run's `model/`.

    Frozen public weights are not copied: the settings name their file by its sha256.
    """
    tensors = {"head.weight": classifier.head_weight, "head.bias": classifier.head_bias}
    if classifier.hidden is not None:
        tensors["hidden.weight"], tensors["hidden.bias"] = classifier.hidden
    for index, one in enumerate(classifier.feature_sources):
        tensors |= {f"{index}.backbone.{name}": value for name, value in one.trained.items()}
        if one.scaling.centre is not None:
            tensors[f"{index}.centre"] = one.scaling.centre
        for part, matrix in enumerate(one.scaling.whitening):
            tensors[f"{index}.whitening.{part}"] = matrix.contiguous()
    save_weights(folder / WEIGHTS_FILE, tensors)
    settings = _ModelSettings(
        sources=tuple(
            _FeatureSourceSettings(
                backbone=one.backbone,
                parts=one.scaling.parts,
                trainable_blocks=one.trainable_blocks,
                seed=one.seed,
            )
            for one in classifier.feature_sources
        ),
        targets=classifier.targets,
        points=classifier.points,
        weights_sha256=sha256_file(folder / WEIGHTS_FILE),
    )
    content = settings.model_dump(mode="json", exclude={"input_form"})
    if classifier.input_form is not None:  # of others nothing is said, as ever
        content["input_form"] = classifier.input_form.as_json()
    write_json(folder / SETTINGS_FILE, content)


def load_classifier(run_folder: Path) -> Classifier:
    """The classifier of a finished run.

    Public weights are looked for beside the run's own, then where the settings say, then among
    what was fetched from the hub before (`synthdp.networks.public.carried`). The run may be
    somebody else's: nothing is downloaded, and no network is built that is larger than
    `refuse_large_network` allows, because its settings say so.

    Raises:
        InputError: when the run is not finished, holds no classifier, its weights or the public
            ones are missing or damaged, or it asks for a download or a large network.
    """
    read_statement(run_folder)  # refuses what is not a finished run
    folder = run_folder / "model"
    settings = _read_settings(folder)
    try:
        tensors = load_weights(folder / WEIGHTS_FILE, settings.weights_sha256)
    except InputError as error:
        raise InputError(
            f"{run_folder.name}: its own weights are damaged; put them back, or delete the folder "
            f"and make the run again ({error})"
        ) from error
    problem = _misfit(settings, tensors)
    if problem is not None:
        raise InputError(
            f"{run_folder.name}: {problem}; its weights and settings must come from one run, so "
            "restore both, or make the run again"
        )
    hidden = None
    if "hidden.weight" in tensors:
        hidden = tensors["hidden.weight"], tensors["hidden.bias"]
    return Classifier(
        feature_sources=tuple(
            FeatureSource(
                backbone=_at_hand(one.backbone, folder),
                scaling=_scaling(one, index, tensors),
                trainable_blocks=one.trainable_blocks,
                trained={
                    name.removeprefix(f"{index}.backbone."): tensor
                    for name, tensor in tensors.items()
                    if name.startswith(f"{index}.backbone.")
                },
                seed=one.seed,
            )
            for index, one in enumerate(settings.sources)
        ),
        targets=settings.targets,
        head_weight=tensors["head.weight"],
        head_bias=tensors["head.bias"],
        hidden=hidden,
        points=settings.points,
        input_form=settings.input_form,
    )


def _misfit(settings: _ModelSettings, tensors: Mapping[str, Tensor]) -> str | None:
    """What of the weights is missing, unknown, of another shape, or no finite number."""
    n_features = sum(sum(one.parts) for one in settings.sources)
    n_inputs, n_targets = n_features, len(settings.targets)
    wanted: dict[str, tuple[int, ...]] = {}
    if "hidden.weight" in tensors:
        n_inputs = len(tensors["hidden.weight"]) if tensors["hidden.weight"].ndim else 0
        wanted |= {"hidden.weight": (n_inputs, n_features), "hidden.bias": (n_inputs,)}
    wanted |= {"head.weight": (n_targets, n_inputs), "head.bias": (n_targets,)}
    for index, one in enumerate(settings.sources):
        if f"{index}.centre" in tensors:
            wanted[f"{index}.centre"] = (sum(one.parts),)
        if any(name.startswith(f"{index}.whitening.") for name in tensors):
            wanted |= {f"{index}.whitening.{n}": (p, p) for n, p in enumerate(one.parts)}
    of_networks = tuple(f"{index}.backbone." for index in range(len(settings.sources)))
    own = {name: t for name, t in tensors.items() if not name.startswith(of_networks)}
    if {name: tuple(tensor.shape) for name, tensor in own.items()} != wanted:
        return "its tensors are not those that its settings describe"
    if not all(t.is_floating_point() and bool(torch.isfinite(t).all()) for t in own.values()):
        return "a weight is no finite number"
    return None


def _read_settings(folder: Path) -> _ModelSettings:
    path = folder / SETTINGS_FILE
    if not path.is_file():
        raise InputError(
            f"{folder.parent}: a run without a classifier; name one of pretrain, finetune or "
            "calibrate"
        )
    content = read_json(path)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{folder.parent}: its model was written by another version of synthdp; make the run "
            "again with this one"
        )
    where = f"{folder.parent.name}/model/{SETTINGS_FILE}"
    return validate_settings(_ModelSettings, content, where=where)


def _scaling(one: _FeatureSourceSettings, index: int, tensors: Mapping[str, Tensor]) -> Scaling:
    """The scaling of the features of network `index`, whose tensors are in the weights file."""
    whitening = [tensors.get(f"{index}.whitening.{part}") for part in range(len(one.parts))]
    return Scaling(
        parts=one.parts,
        weights=(one.backbone.weight,) * len(one.parts),
        centre=tensors.get(f"{index}.centre"),
        whitening=tuple(matrix for matrix in whitening if matrix is not None),
    )


def _at_hand(backbone: FeatureSettings, folder: Path) -> FeatureSettings:
    """The same settings, with the path at which the public weights stand on this machine."""
    if backbone.weights == HUB:
        refuse_download(backbone.name)
    else:
        file = find_public_weights(backbone, folder)
        backbone = backbone.model_copy(update={"weights": file})
    refuse_large_network(backbone)
    return backbone
