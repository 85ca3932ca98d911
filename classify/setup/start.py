"""The classifier before training: its networks, their centre, the first weights of its head."""

from dataclasses import replace

import torch
from torch import Tensor

from classify.head.prior import start_bias
from classify.model.classifier import Classifier, features, new_classifier, new_feature_source
from classify.model.folder import load_classifier
from classify.settings.finetune import FinetuneSettings
from classify.settings.head import HeadSettings
from classify.setup.targets import refuse_other_targets
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.errors import InputError


def starting_classifier(settings: FinetuneSettings, info: DatasetInfo) -> Classifier:
    """The classifier before training, on the networks that the settings name.

    Raises:
        InputError: when the head of `init` is kept and was trained for other targets, or weights
            are missing.
    """
    beside = [new_feature_source(one, seed=settings.seed) for one in settings.beside]
    if settings.init is None:
        assert settings.backbone is not None  # FinetuneSettings asks for one of the two
        first = new_feature_source(settings.backbone, seed=settings.seed)
        return new_classifier([first, *beside], info.targets)
    classifier = load_classifier(settings.init)
    if settings.head.start != "pretrained":  # features alone, whatever they were learned for
        return new_classifier([*classifier.feature_sources, *beside], info.targets)
    refuse_other_targets(settings.init, classifier.targets, info)
    if classifier.hidden is not None:
        raise InputError(
            f"{settings.init}: its head has a hidden layer, which training can't start from; "
            "leave head.start out"
        )
    return replace(classifier.of_targets(info.targets), points=())


def centred(settings: FinetuneSettings, classifier: Classifier) -> Classifier:
    """The classifier whose new networks are centred and whitened by the set `centre`."""
    if settings.centre is None:
        return classifier
    public = open_dataset(settings.centre)
    n_kept = 0 if settings.init is None else len(classifier.feature_sources) - len(settings.beside)
    kept, new = classifier.feature_sources[:n_kept], classifier.feature_sources[n_kept:]
    raws = features(classifier.with_feature_sources(new), public, public.rows)
    fitted = [
        replace(one, scaling=one.scaling.fitted(raw, one.backbone.whiten))
        for one, raw in zip(new, raws, strict=True)
    ]
    return classifier.with_feature_sources([*kept, *fitted])


def linear_start(head: HeadSettings, classifier: Classifier) -> Tensor:
    """Weights of a linear head to begin with, (T, D + 1), the last column the bias's."""
    weight, bias = classifier.head_weight, classifier.head_bias
    if head.start == "zero":
        weight, bias = torch.zeros_like(weight), start_bias(head.prior, classifier.targets)
    column = bias / head.bias_input if head.bias_input else torch.zeros_like(bias)
    return torch.cat([weight / head.norm, column.unsqueeze(1)], dim=1)
