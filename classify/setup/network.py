"""What a network, or its last blocks, is trained on, and from: patients' images and weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from classify.features.extract import kept_views, on_arrays, refuse_damaged
from classify.features.input_form import refuse_other_form
from classify.head.prior import positive_weights
from classify.model.classifier import Classifier, FeatureSource, restore_backbone
from classify.network.gradients import Examples, TokenExamples
from classify.network.images import ImageExamples
from classify.network.top import (
    TrainedNetwork,
    asked_precision,
    merge_low_rank,
    trained_network,
)
from classify.settings.finetune import FinetuneSettings
from classify.settings.head import HeadSettings
from classify.settings.network import NetworkSettings
from classify.setup.patients import bound_on_units, training_rows
from classify.setup.start import centred, linear_start, starting_classifier
from synthdp.data.dataset import Dataset, Row, refuse_small_population, targets_array, units_of
from synthdp.data.packed import packed_images
from synthdp.data.people.cohorts import patient_tags
from synthdp.machine.devices import auto_device
from synthdp.networks.backbone import Backbone


@dataclass(frozen=True, eq=False)
class NetworkSetup:
    """What a network, or its last blocks, is trained on, and from.

    rows: the patients' images; classifier: before training, with its centre; backbone: its network,
    of which `trained` moves what is open; examples: of `rows`; trained: network and head where the
    training begins, moved in place by it; bound_on_units: as in `HeadSetup`.
    """

    rows: tuple[Row, ...]
    classifier: Classifier
    backbone: Backbone
    examples: Examples
    trained: TrainedNetwork
    bound_on_units: int | None

    def trained_classifier(self, head: HeadSettings) -> Classifier:
        """The classifier with network and head as they stand in `trained` now."""
        merge_low_rank(self.trained)
        weight = self.trained.head.weight.detach().cpu()
        source = _only_source(self.classifier)
        moved = replace(source, trained={**source.trained, **self.backbone.own_tensors()})
        trained = self.classifier.with_feature_sources([moved])
        return trained.with_head(weight[:, :-1], weight[:, -1] * head.bias_input)


def set_up_network(
    settings: FinetuneSettings, network: NetworkSettings, dataset: Dataset
) -> NetworkSetup:
    """What a run of these settings trains its network on.

    Raises:
        InputError: when an image or weights are missing; without privacy also when there are more
            patients than `privacy.population`, or none.
    """
    unit, promised = settings.privacy.unit, settings.privacy.protects
    rows = training_rows(settings, dataset)
    bound = bound_on_units(settings.privacy, dataset.info)
    if not promised:  # else the refusal itself would tell of the patients
        refuse_small_population(bound, len(set(units_of(rows, unit))), unit)
    start = starting_classifier(settings, dataset.info)
    cut = replace(_only_source(start), trainable_blocks=network.trainable_blocks)
    classifier = centred(settings, start.with_feature_sources([cut]))
    feature_source = _only_source(classifier)
    backbone = restore_backbone(feature_source).to(auto_device())
    examples = _network_examples(settings, network, dataset, rows, backbone)
    trained = trained_network(
        backbone,
        linear_start(settings.head, classifier).to(auto_device()),
        scaling=feature_source.scaling,
        bias_input=settings.head.bias_input,
        scale=network.scale,
        precision=asked_precision(backbone),
        tune=network.tune,
        lora_rank=network.lora_rank,
        seed=settings.seed,
    ).to(auto_device())
    return NetworkSetup(rows, classifier, backbone, examples, trained, bound)


def _network_examples(
    settings: FinetuneSettings,
    network: NetworkSettings,
    dataset: Dataset,
    rows: tuple[Row, ...],
    backbone: Backbone,
) -> Examples:
    """The patients' images: as kept tokens of the frozen trunk, or read and augmented as they come.

    Guarantee: what is shown of a patient is a function of that patient's rows, tag and public
    numbers. Tokens of images that are shown once each may be kept; those of random views, drawn
    anew in each step, are computed by the trunk when they are asked for, each by itself.
    """
    finite = not settings.privacy.protects
    names, units = np.unique(units_of(rows, settings.privacy.unit), return_inverse=True)
    targets = torch.from_numpy(targets_array(rows, len(dataset.info.targets)))
    owners, tags = torch.from_numpy(units), patient_tags(dataset, [str(name) for name in names])
    weights = positive_weights(settings.head.prior, dataset.info.targets)
    refuse_other_form(backbone.settings, dataset.info)
    if backbone.cuts_tokens and network.augment is None:
        own, others = kept_views(backbone, dataset, rows, network.views, finite=finite)
        return TokenExamples(own[:, None], targets, owners, tags, weights, others)
    if not finite:
        refuse_damaged(backbone)
    of_volumes = dataset.info.depth is not None  # slices are made of the whole volume
    return ImageExamples(
        packed_images(
            dataset,
            rows,
            dataset.info.size_px if of_volumes else backbone.settings.size_px,
            bits=network.packed_bits or 8,
        ),
        targets,
        owners,
        tags,
        n_views=network.views,
        augmentation=network.augment,
        seed=settings.seed,
        trunk=_streamed(backbone) if backbone.cuts_tokens else None,
        positive_weights=weights,
    )


def _streamed(backbone: Backbone) -> Callable[[Tensor], Tensor]:
    """The frozen trunk for images as they come, each by itself; through float16 as kept tokens."""
    compute = on_arrays(backbone.trunk, backbone)
    return lambda images: torch.from_numpy(compute(images.numpy()).astype(np.float16))


def _only_source(classifier: Classifier) -> FeatureSource:
    # FinetuneSettings allows no network beside one that is trained
    (feature_source,) = classifier.feature_sources
    return feature_source
