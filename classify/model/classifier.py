"""A trained classifier, from features to scores.

It is a head on features of one or more networks: raw features are centred, scaled to norm 1
(`classify.features.scaling`), go through a hidden layer if there is one, are multiplied with
`head_weight`, and `head_bias` is added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit
from torch import Tensor

from classify.features.extract import augmented_features
from classify.features.input_form import InputForm
from classify.features.scaling import Scaling, head_input_alone, plain_scaling
from synthdp.config.settings import Settings
from synthdp.data.dataset import Dataset, Row
from synthdp.networks.backbone import Backbone, build_backbone
from synthdp.networks.cache import made_among
from synthdp.networks.public.weight_files import found_weights
from synthdp.networks.public.weights import load_tensors
from synthdp.networks.settings import FeatureSettings, TrainableBlocks
from synthdp.privacy.noisy_sum.exact import ExactRows


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
    grain: float | None = None,
    finite: bool = True,
    among: Sequence[Row] | None = None,
) -> list[Tensor]:
    """Raw features of `rows` from each network, from the data set's cache.

    Args:
        classifier: whose networks are asked.
        dataset: the opened data set.
        rows: N of its rows.
        views: of each image, itself first, then random ones.
        grain: with it a copy with noise up to this share of the grey range is one more, the last.
        finite: refuse features that are not; False where patients are promised something, and a
            refusal would tell of one of them.
        among: these and more rows, for which features are made and kept together (`made_among`);
            `rows` themselves when None.

    Returns:
        For each network (N * V, D) float32, the V views of an image together.

    Raises:
        InputError: when an image is unreadable, or weights are missing.
        RunError: when a feature is not finite, unless these are allowed.
    """
    raws = []
    for one in classifier.feature_sources:
        backbone = None
        if one.trainable_blocks == 0 and not one.trained:
            backbone = _shared_backbone(one.backbone, one.seed)
        of_rows = partial(
            augmented_features,
            backbone or restore_backbone(one),
            dataset,
            views=views,
            grain=grain,
            finite=finite,
        )
        if among is None:
            of_views = of_rows(rows)
        else:
            of_everyone, places = made_among(of_rows, rows, among)
            of_views = of_everyone[torch.tensor(places, dtype=torch.int64)]
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
