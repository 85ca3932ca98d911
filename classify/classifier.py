"""A trained classifier: frozen description and tensors; features, scores, and its folder.

The model is a linear head on features of a transformer: the raw features less a centre, scaled to
unit norm, times `head_weight`, plus `head_bias`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from classify.backbones import (
    Backbone,
    build_backbone,
    identity,
    trained_state,
    trunk_identity,
)
from classify.config import TrainableBlocks
from synthdp.checkpoint import load_weights, save_weights
from synthdp.config import BackboneSettings, Settings, validate_settings
from synthdp.data.dataset import Dataset, Row
from synthdp.errors import InputError
from synthdp.features import cached_array, cached_features
from synthdp.files import read_json, sha256_file, write_json
from synthdp.progress import progress
from synthdp.public_weights import HUB, load_tensors
from synthdp.runs import read_statement

SETTINGS_FILE, WEIGHTS_FILE = "settings.json", "weights.safetensors"
_BATCH = 32


@dataclass(frozen=True, eq=False)
class Classifier:
    """Everything that decides a score, T targets from D features.

    backbone: the transformer and its public weights; targets: T names; trainable_blocks: where
    the frozen trunk ends; trained: the backbone's tensors that differ from the public weights,
    all of them after a random start; centre: (D,) or None; head_weight: (T, D); head_bias: (T,);
    seed: of the random start, if any.
    """

    backbone: BackboneSettings
    targets: tuple[str, ...]
    head_weight: Tensor
    head_bias: Tensor
    centre: Tensor | None = None
    trainable_blocks: TrainableBlocks = 0
    trained: Mapping[str, Tensor] = field(default_factory=dict)
    seed: int = 0

    def with_head(self, weight: Tensor, bias: Tensor) -> "Classifier":
        """The same features under another head: weight (T, D), bias (T,)."""
        if weight.shape != self.head_weight.shape or bias.shape != self.head_bias.shape:
            raise ValueError(f"a head of {tuple(weight.shape)}, {tuple(bias.shape)} does not fit")
        return replace(self, head_weight=weight.detach(), head_bias=bias.detach())


class _Description(Settings):
    """What `model/settings.json` holds."""

    schema_version: Literal[1] = 1
    backbone: BackboneSettings
    targets: tuple[str, ...]
    trainable_blocks: TrainableBlocks
    seed: int
    weights_sha256: str


def new_classifier(
    backbone: BackboneSettings,
    targets: tuple[str, ...],
    *,
    seed: int,
    centre: Tensor | None = None,
    trainable_blocks: TrainableBlocks = 0,
) -> Classifier:
    """A classifier with public (or random) weights and a head of zeros.

    Raises:
        InputError: as `build_backbone`.
    """
    network = build_backbone(backbone, seed=seed, trainable_blocks=trainable_blocks)
    return Classifier(
        backbone=backbone,
        targets=targets,
        head_weight=torch.zeros(len(targets), network.n_features),
        head_bias=torch.zeros(len(targets)),
        centre=centre,
        trainable_blocks=trainable_blocks,
        seed=seed,
    )


def restore_backbone(classifier: Classifier) -> Backbone:
    """The classifier's transformer with its trained tensors in place.

    Raises:
        InputError: as `build_backbone`, or when the trained tensors are of another network.
    """
    backbone = build_backbone(
        classifier.backbone, seed=classifier.seed, trainable_blocks=classifier.trainable_blocks
    )
    state = {**backbone.network.state_dict(), **classifier.trained}
    load_tensors(backbone.network, state, what="the classifier's trained weights")
    return backbone


def trained_tensors(backbone: Backbone) -> dict[str, Tensor]:
    """The tensors to keep of a backbone: those that training moved, all after a random start."""
    kept = backbone.network.state_dict()
    if backbone.settings.weights is not None:
        kept = trained_state(backbone)
    return {name: tensor.detach().cpu().clone() for name, tensor in kept.items()}


def auto_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_arrays(module: Callable[[Tensor], Tensor]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """`module`, for arrays in and out, without gradients."""
    device = auto_device()

    def compute(values: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            result = module(torch.from_numpy(values).to(device, torch.float32))
        computed: NDArray[Any] = result.cpu().numpy()
        return computed

    return compute


def trunk_tokens(backbone: Backbone, dataset: Dataset, rows: Sequence[Row]) -> NDArray[np.float16]:
    """What the frozen trunk gives for `rows`, (N, ...) float16, from the data set's cache.

    Every classifier with the same frozen trunk shares it.
    """
    return cached_features(
        dataset,
        rows,
        extractor_id=trunk_identity(backbone),
        size_px=backbone.settings.size_px,
        compute=on_arrays(backbone.to(auto_device()).trunk),
        batch=_BATCH,
        what="trunk tokens",
        dtype="float16",
    )


def backbone_features(backbone: Backbone, dataset: Dataset, rows: Sequence[Row]) -> Tensor:
    """Pooled features of `rows`, (N, D) float32 on the CPU, from the data set's cache.

    Where some blocks are trained, they run on the cached tokens of the frozen trunk; these pass
    through float16 whether or not they can be kept, so that scores don't depend on it.
    """
    backbone = backbone.to(auto_device())
    if backbone.trainable_blocks in (0, "all"):
        values = cached_features(
            dataset,
            rows,
            extractor_id=identity(backbone),
            size_px=backbone.settings.size_px,
            compute=on_arrays(backbone),
            batch=_BATCH,
        )
        return torch.from_numpy(values)

    def from_tokens() -> NDArray[np.float32]:
        tokens = trunk_tokens(backbone, dataset, rows)
        top = on_arrays(backbone.top)
        starts = progress(range(0, len(rows), _BATCH), what=f"features of {dataset.info.name}")
        return np.concatenate([top(tokens[start : start + _BATCH]) for start in starts])

    name = f"{identity(backbone)} after tokens"
    return torch.from_numpy(
        cached_array(dataset, rows, name=name, dtype="float32", compute=from_tokens)
    )


def features(classifier: Classifier, dataset: Dataset, rows: Sequence[Row]) -> Tensor:
    """Raw pooled features of `rows`, (N, D) float32, from the data set's cache where it stands.

    Raises:
        InputError: when an image is unreadable, or weights are missing.
        RunError: when a feature is not finite.
    """
    return backbone_features(restore_backbone(classifier), dataset, rows)


def head_input(raw: Tensor, centre: Tensor | None) -> Tensor:
    """Features less the centre, scaled to norm 1.

    Args:
        raw: (N, D) features.
        centre: (D,), or None for no shift.

    Returns:
        (N, D) with rows of norm 1; a row of zeros stays zero.
    """
    shifted = raw if centre is None else raw - centre.to(raw)
    return F.normalize(shifted, dim=1, eps=1e-12)


def logits(classifier: Classifier, raw: Tensor) -> Tensor:
    """Raw features (N, D) to logits (N, T)."""
    inputs = head_input(raw, classifier.centre)
    return inputs @ classifier.head_weight.T + classifier.head_bias


def scores(classifier: Classifier, dataset: Dataset, rows: Sequence[Row]) -> NDArray[np.float32]:
    """Probabilities of each target for `rows`, (N, T) in [0, 1].

    Raises:
        InputError, RunError: as `features`.
    """
    found = torch.sigmoid(logits(classifier, features(classifier, dataset, rows)))
    probabilities: NDArray[np.float32] = found.numpy()
    return probabilities


def save_classifier(folder: Path, classifier: Classifier) -> None:
    """Write `settings.json` and `weights.safetensors` into `folder`, a run's `model/`.

    Frozen public weights are not copied: the settings name their file by its sha256.
    """
    tensors = {f"backbone.{name}": tensor for name, tensor in classifier.trained.items()}
    tensors |= {"head.weight": classifier.head_weight, "head.bias": classifier.head_bias}
    if classifier.centre is not None:
        tensors["centre"] = classifier.centre
    save_weights(folder / WEIGHTS_FILE, tensors)
    description = _Description(
        backbone=classifier.backbone,
        targets=classifier.targets,
        trainable_blocks=classifier.trainable_blocks,
        seed=classifier.seed,
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
    tensors = load_weights(folder / WEIGHTS_FILE, about.weights_sha256)
    try:
        weight, bias = tensors["head.weight"], tensors["head.bias"]
    except KeyError as error:
        raise InputError(f"{run_folder}: its weights hold no head; make the run again") from error
    return Classifier(
        backbone=_found_weights(about.backbone, folder),
        targets=about.targets,
        head_weight=weight,
        head_bias=bias,
        centre=tensors.get("centre"),
        trainable_blocks=about.trainable_blocks,
        trained={
            name.removeprefix("backbone."): tensor
            for name, tensor in tensors.items()
            if name.startswith("backbone.")
        },
        seed=about.seed,
    )


def _settings_in(folder: Path) -> dict[str, Any]:
    if not (folder / SETTINGS_FILE).is_file():
        raise InputError(
            f"{folder.parent}: a run without a classifier; name one of pretrain or finetune"
        )
    content = read_json(folder / SETTINGS_FILE)
    if not isinstance(content, dict):
        raise InputError(f"{folder}/{SETTINGS_FILE}: not an object; make the run again")
    return content


def _found_weights(backbone: BackboneSettings, folder: Path) -> BackboneSettings:
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
