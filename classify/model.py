"""A trained classifier, from features to scores, and the folder that it is kept in.

The model is a head on features of one or more networks: raw features are centred, scaled to norm 1
(`classify.features.scaling`), go through a hidden layer if there is one, are multiplied with
`head_weight`, and `head_bias` is added. A run's `model/` holds settings that name the public
weights, and a file with all else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import expit
from torch import Tensor

from classify.features.extract import augmented_features, features_on_arrays
from classify.features.input_form import InputForm
from classify.features.scaling import Scaling, head_input_alone, plain_scaling
from classify.settings.head import MAX_TARGETS
from synthdp.checkpoint import load_weights, save_weights
from synthdp.config.settings import Settings, validate_settings
from synthdp.data.dataset import Dataset, Row
from synthdp.data.images import resize_pixels
from synthdp.data.phantoms.phantoms import draw_patient
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.networks.alone import BATCH
from synthdp.networks.backbone import Backbone, build_backbone
from synthdp.networks.frozen import refuse_large_network
from synthdp.networks.public.carried import find_public_weights
from synthdp.networks.public.weight_files import HUB, found_weights
from synthdp.networks.public.weights import load_tensors, refuse_download
from synthdp.networks.settings import FeatureSettings, TrainableBlocks
from synthdp.privacy.noisy_sum.exact import ExactRows
from synthdp.privacy.promise.stated import read_statement
from synthdp.storage.files import read_json, sha256_file, write_json

SETTINGS_FILE, WEIGHTS_FILE = "settings.json", "weights.safetensors"
SCHEMA_VERSION: Literal[2] = 2
#: Public bounds of what `settings.json` may hold.
MAX_SOURCES, MAX_NAME = 8, 256


@dataclass(frozen=True, eq=False)
class FeatureSource:
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
    """Everything that decides a score, T targets from the D features of all feature sources.

    feature_sources: the networks; targets: T names; head_weight: (T, D), or (T, H) after a hidden
    layer; head_bias: (T,); hidden: weight (H, D) and bias (H,) of a layer of rectified units, or
    none; points: how logits become decisions, one for each target, or none; input_form: that of the
    images of its training, where it is kept.
    """

    feature_sources: tuple[FeatureSource, ...]
    targets: tuple[str, ...]
    head_weight: Tensor
    head_bias: Tensor
    hidden: tuple[Tensor, Tensor] | None = None
    points: tuple[OperatingPoint, ...] = ()
    input_form: InputForm | None = None

    def with_head(self, weight: Tensor, bias: Tensor) -> "Classifier":
        """The same features under another head: weight (T, D), bias (T,)."""
        if weight.shape != self.head_weight.shape or bias.shape != self.head_bias.shape:
            raise ValueError(f"a head of {tuple(weight.shape)}, {tuple(bias.shape)} does not fit")
        return replace(self, head_weight=weight.detach(), head_bias=bias.detach(), points=())

    def of_targets(self, names: Sequence[str]) -> "Classifier":
        """The same head for these of its targets, in this order; points go along.

        Raises:
            ValueError: when it has no such target.
        """
        chosen = [self.targets.index(name) for name in names]
        return replace(
            self,
            targets=tuple(names),
            head_weight=self.head_weight[chosen],
            head_bias=self.head_bias[chosen],
            points=tuple(self.points[index] for index in chosen) if self.points else (),
        )

    def with_feature_sources(self, feature_sources: Sequence[FeatureSource]) -> "Classifier":
        """The same head on other networks of as many features."""
        return replace(self, feature_sources=tuple(feature_sources))


def sees_volumes(classifier: Classifier) -> bool:
    """Whether its networks see slices of volumes, and no flat images."""
    return any(one.backbone.axes is not None for one in classifier.feature_sources)


def new_feature_source(
    backbone: FeatureSettings, *, seed: int, trainable_blocks: TrainableBlocks = 0
) -> FeatureSource:
    """A network with public (or random) weights, neither centred nor whitened.

    Raises:
        InputError: as `build_backbone`.
    """
    network = _shared_backbone(backbone, seed)
    if network is None or trainable_blocks != 0:
        network = build_backbone(backbone, seed=seed, trainable_blocks=trainable_blocks)
    return FeatureSource(backbone, plain_scaling(network), trainable_blocks, seed=seed)


def new_classifier(
    feature_sources: Sequence[FeatureSource], targets: tuple[str, ...]
) -> Classifier:
    """A classifier with a head of zeros."""
    n_features = sum(sum(one.scaling.parts) for one in feature_sources)
    return Classifier(
        feature_sources=tuple(feature_sources),
        targets=targets,
        head_weight=torch.zeros(len(targets), n_features),
        head_bias=torch.zeros(len(targets)),
    )


def restore_backbone(feature_source: FeatureSource) -> Backbone:
    """The network of a feature source with its trained tensors in place.

    Raises:
        InputError: as `build_backbone`, or when the trained tensors are of another network.
    """
    backbone = build_backbone(
        feature_source.backbone,
        seed=feature_source.seed,
        trainable_blocks=feature_source.trainable_blocks,
    )
    state = {**backbone.network.state_dict(), **feature_source.trained}
    load_tensors(backbone.network, state, what="the classifier's trained weights")
    return backbone


#: Identity of a file's content as the file system tells it: path, size, change, inode.
_FileIdentity = tuple[str, int, int, int]


def _shared_backbone(backbone: FeatureSettings, seed: int) -> Backbone | None:
    """A network that nothing trains, kept in this process; None where its file is not at hand.

    The heads of a study stand on the same networks, and building them takes longer than a head's
    training. Callers only read it.
    """
    if backbone.weights is None:
        return _kept_backbone(backbone, seed, None)
    file = found_weights(backbone)
    if file is None:  # the hub's, or missing
        return None
    state, path = file.stat(), str(file.resolve())
    # the file gives every tensor, whatever the seed
    return _kept_backbone(backbone, 0, (path, state.st_size, state.st_mtime_ns, state.st_ino))


@lru_cache(maxsize=3)
def _kept_backbone(backbone: FeatureSettings, seed: int, _: _FileIdentity | None) -> Backbone:
    return build_backbone(backbone, seed=seed)


def features(
    classifier: Classifier,
    dataset: Dataset,
    rows: Sequence[Row],
    *,
    views: int = 1,
    finite: bool = True,
) -> list[Tensor]:
    """Raw features of `rows` from each network, from the data set's cache.

    Args:
        classifier: whose networks are asked.
        dataset: the opened data set.
        rows: N of its rows.
        views: of each image, itself first, then random ones.
        finite: refuse features that are not; False where patients are promised something, and a
            refusal would tell of one of them.

    Returns:
        For each network (N * views, D) float32, the views of an image together.

    Raises:
        InputError: when an image is unreadable, or weights are missing.
        RunError: when a feature is not finite, unless these are allowed.
    """
    raws = []
    for one in classifier.feature_sources:
        backbone = None
        if one.trainable_blocks == 0 and not one.trained:
            backbone = _shared_backbone(one.backbone, one.seed)
        backbone = backbone or restore_backbone(one)
        of_views = augmented_features(backbone, dataset, rows, views, finite=finite)
        raws.append(of_views.flatten(0, 1))
    return raws


#: What decides the raw features of a network: settings, cut, seed of a random start, own tensors.
SourceKey = tuple[FeatureSettings, TrainableBlocks, int, str]


def source_key(source: FeatureSource) -> SourceKey:
    """What decides the raw features of a network: equal for two sources that give the same."""
    digest = sha256()
    for name, tensor in sorted(source.trained.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().data)
    seed = source.seed if source.backbone.weights is None else 0
    return source.backbone, source.trainable_blocks, seed, digest.hexdigest()


def inputs_of(classifier: Classifier, raws: Sequence[Tensor]) -> Tensor:
    """Raw features of each network to the head's inputs, (N, D) of norm at most 1.

    Each row is a function of its own features alone, whoever else is there.
    """
    return head_input_alone(raws, [one.scaling for one in classifier.feature_sources])


def logits(classifier: Classifier, raws: Sequence[Tensor]) -> Tensor:
    """Raw features of each network to logits (N, T), float32."""
    return head_logits(classifier, inputs_of(classifier, raws))


def head_logits(classifier: Classifier, inputs: Tensor) -> Tensor:
    """The head's inputs (N, D) to logits (N, T), float32; nan for a row that is not finite.

    An image's logits are a function of its own inputs alone, to the last bit: counts of scores are
    released (`synthdp.evaluation.noisy_counts`), and one bit puts a score into another bin.
    """
    values = inputs
    if classifier.hidden is not None:
        weight, bias = classifier.hidden
        values = (ExactRows.of(values).products(weight) + bias).relu()
    return (ExactRows.of(values).products(classifier.head_weight) + classifier.head_bias).float()


def probabilities(classifier: Classifier, raw_logits: Tensor) -> NDArray[np.float32]:
    """Logits (N, T) to probabilities of each target, (N, T) in [0, 1], calibrated where known."""
    values = raw_logits
    if classifier.points:
        slopes = values.new_tensor([point.slope for point in classifier.points])
        offsets = values.new_tensor([point.offset for point in classifier.points])
        values = values * slopes + offsets
    # not torch.sigmoid, which may take the last elements of a tensor by other code than the rest
    calibrated: NDArray[np.float32] = expit(values.double().numpy()).astype(np.float32)
    return calibrated


def scores(
    classifier: Classifier, dataset: Dataset, rows: Sequence[Row], *, finite: bool = True
) -> NDArray[np.float32]:
    """Probabilities of each target for `rows`, (N, T) in [0, 1]; nan where that is allowed.

    Raises:
        InputError, RunError: as `features`.
    """
    raws = features(classifier, dataset, rows, finite=finite)
    return probabilities(classifier, logits(classifier, raws))


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


#: Public images on which two classifiers are laid side by side, and of how many phantom patients.
_COMPARED = PhantomSettings(out=Path("never-written"), size_px=128)
_N_COMPARED = 4


def score_difference(run: Path, other: Path) -> float:
    """The largest difference between the scores of two classifiers on public phantoms.

    Raises:
        InputError: as `load_classifier`.
    """
    patients = (draw_patient(_COMPARED, index) for index in range(_N_COMPARED))
    images = [
        patch.pixels.astype(np.float32) / 127.5 - 1 for one in patients for patch in one.patches
    ]
    first, second = (_scores_of(load_classifier(folder), images) for folder in (run, other))
    return float(np.abs(first - second).max())


def _scores_of(
    classifier: Classifier, images: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Probabilities of each target, (N, T), for images (S, S) in [-1, 1]."""
    raws = []
    for one in classifier.feature_sources:
        compute = features_on_arrays(restore_backbone(one))
        side = one.backbone.size_px
        pixels = np.stack([resize_pixels(image, side) for image in images])[:, None]
        parts = [compute(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        raws.append(torch.from_numpy(np.concatenate(parts)))
    return probabilities(classifier, logits(classifier, raws))
