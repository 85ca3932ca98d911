"""A trained classifier: frozen description and tensors, from features to scores.

The model is a head on features of one or more networks: raw features are centred, scaled to norm 1
(`classify.features.scaling`), go through a hidden layer if there is one, are multiplied with
`head_weight`, and `head_bias` is added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from classify.features.cache import backbone_features
from classify.features.scaling import Scaling, head_input
from synthdp.checkpoint import load_weights, save_weights
from synthdp.config import FeatureSettings, Settings, TrainableBlocks, validate_settings
from synthdp.data.dataset import Dataset, Row
from synthdp.errors import InputError
from synthdp.files import read_json, sha256_file, write_json
from synthdp.networks.backbones import build_backbone
from synthdp.networks.feature_network import FeatureNetwork
from synthdp.networks.weights import HUB, load_tensors
from synthdp.runs import read_statement


@dataclass(frozen=True, eq=False)
class Source:
    """One network that features come from, and how they are scaled.

    backbone: the network, its public weights and readout; scaling: of its features;
    trainable_blocks: where the frozen trunk ends; trained: the tensors that differ from the
    public weights, all of them after a random start; seed: of the random start, if any.
    """

    backbone: FeatureSettings
    scaling: Scaling
    trainable_blocks: TrainableBlocks = 0
    trained: Mapping[str, Tensor] = field(default_factory=dict)
    seed: int = 0


class OperatingPoint(Settings):
    """What turns a logit z into a calibrated probability and a decision.

    The probability is sigmoid(slope z + offset), Platt's scaling; an image is called positive from
    `threshold` on, a probability. `sensitivity` is what the threshold was chosen for, and
    `fitted_on` the name of the set.
    """

    slope: float = Field(gt=0)
    offset: float
    threshold: float = Field(ge=0, le=1)
    sensitivity: float = Field(gt=0, lt=1)
    fitted_on: str


@dataclass(frozen=True, eq=False)
class Classifier:
    """Everything that decides a score, T targets from the D features of all sources.

    sources: the networks; targets: T names; head_weight: (T, D), or (T, H) after a hidden layer;
    head_bias: (T,); hidden: weight (H, D) and bias (H,) of a layer of rectified units, or none;
    points: how logits become decisions, one for each target, or none.
    """

    sources: tuple[Source, ...]
    targets: tuple[str, ...]
    head_weight: Tensor
    head_bias: Tensor
    hidden: tuple[Tensor, Tensor] | None = None
    points: tuple[OperatingPoint, ...] = ()

    def with_head(self, weight: Tensor, bias: Tensor) -> "Classifier":
        """The same features under another head: weight (T, D), bias (T,)."""
        if weight.shape != self.head_weight.shape or bias.shape != self.head_bias.shape:
            raise ValueError(f"a head of {tuple(weight.shape)}, {tuple(bias.shape)} does not fit")
        return replace(self, head_weight=weight.detach(), head_bias=bias.detach(), points=())

    def with_sources(self, sources: Sequence[Source]) -> "Classifier":
        """The same head on other networks of as many features."""
        return replace(self, sources=tuple(sources))


def new_source(
    backbone: FeatureSettings, *, seed: int, trainable_blocks: TrainableBlocks = 0
) -> Source:
    """A source with public (or random) weights, neither centred nor whitened.

    Raises:
        InputError: as `build_backbone`.
    """
    network = _frozen(backbone, seed)
    if network is None or trainable_blocks != 0:
        network = build_backbone(backbone, seed=seed, trainable_blocks=trainable_blocks)
    return Source(backbone, plain_scaling(network), trainable_blocks, seed=seed)


def plain_scaling(network: FeatureNetwork) -> Scaling:
    """The scaling of a network's features without a public set."""
    return Scaling(network.parts, (network.settings.weight,) * len(network.parts))


def new_classifier(sources: Sequence[Source], targets: tuple[str, ...]) -> Classifier:
    """A classifier with a head of zeros."""
    n_features = sum(sum(source.scaling.parts) for source in sources)
    return Classifier(
        sources=tuple(sources),
        targets=targets,
        head_weight=torch.zeros(len(targets), n_features),
        head_bias=torch.zeros(len(targets)),
    )


def restore_backbone(source: Source) -> FeatureNetwork:
    """The source's network with its trained tensors in place.

    Raises:
        InputError: as `build_backbone`, or when the trained tensors are of another network.
    """
    backbone = build_backbone(
        source.backbone, seed=source.seed, trainable_blocks=source.trainable_blocks
    )
    state = {**backbone.network.state_dict(), **source.trained}
    load_tensors(backbone.network, state, what="the classifier's trained weights")
    return backbone


#: Identity of a file's content as the file system tells it: path, size, change, inode.
_FileIdentity = tuple[str, int, int, int]


def _frozen(backbone: FeatureSettings, seed: int) -> FeatureNetwork | None:
    """A network that nothing trains, kept in this process; None where its file is not at hand.

    The heads of a study stand on the same networks, and building them takes longer than a head's
    training. Callers only read it.
    """
    if backbone.weights is None:
        return _kept(backbone, seed, None)
    if not backbone.weights.is_file():  # the hub's, or missing
        return None
    about = backbone.weights.stat()
    path = str(backbone.weights.resolve())
    # the file gives every tensor, whatever the seed
    return _kept(backbone, 0, (path, about.st_size, about.st_mtime_ns, about.st_ino))


@lru_cache(maxsize=3)
def _kept(backbone: FeatureSettings, seed: int, _: _FileIdentity | None) -> FeatureNetwork:
    return build_backbone(backbone, seed=seed)


def _network_of(source: Source) -> FeatureNetwork:
    """A source's network to read features with, not to train."""
    if source.trainable_blocks == 0 and not source.trained:
        return _frozen(source.backbone, source.seed) or restore_backbone(source)
    return restore_backbone(source)


def features(classifier: Classifier, dataset: Dataset, rows: Sequence[Row]) -> list[Tensor]:
    """Raw features of `rows` from each source, (N, D) float32 each, from the data set's cache.

    Raises:
        InputError: when an image is unreadable, or weights are missing.
        RunError: when a feature is not finite.
    """
    return [backbone_features(_network_of(source), dataset, rows) for source in classifier.sources]


def inputs_of(classifier: Classifier, raws: Sequence[Tensor]) -> Tensor:
    """Raw features of each source to the head's inputs, (N, D) of norm at most 1."""
    return head_input(raws, [source.scaling for source in classifier.sources])


def logits(classifier: Classifier, raws: Sequence[Tensor]) -> Tensor:
    """Raw features of each source to logits (N, T), float32."""
    return head_logits(classifier, inputs_of(classifier, raws))


def head_logits(classifier: Classifier, inputs: Tensor) -> Tensor:
    """The head's inputs (N, D) to logits (N, T)."""
    values = inputs
    if classifier.hidden is not None:
        weight, bias = classifier.hidden
        values = (values @ weight.T + bias).relu()
    return values @ classifier.head_weight.T + classifier.head_bias


def probabilities(classifier: Classifier, raw_logits: Tensor) -> NDArray[np.float32]:
    """Logits (N, T) to probabilities of each target, (N, T) in [0, 1], calibrated where known."""
    values = raw_logits
    if classifier.points:
        slopes = values.new_tensor([point.slope for point in classifier.points])
        offsets = values.new_tensor([point.offset for point in classifier.points])
        values = values * slopes + offsets
    found: NDArray[np.float32] = torch.sigmoid(values).numpy()
    return found


def scores(classifier: Classifier, dataset: Dataset, rows: Sequence[Row]) -> NDArray[np.float32]:
    """Probabilities of each target for `rows`, (N, T) in [0, 1].

    Raises:
        InputError, RunError: as `features`.
    """
    return probabilities(classifier, logits(classifier, features(classifier, dataset, rows)))


# A classifier's folder: settings that name its public weights, and a file with all else.

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
