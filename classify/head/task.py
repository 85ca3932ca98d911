"""What a head is trained on and from, and the classifier that its weights make."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from classify.config import FinetuneSettings, HeadSettings
from classify.head.examples import HeadExamples, MlpExamples, MlpShape, PublicExamples
from classify.head.train import HeadRecipe
from classify.model import (
    Classifier,
    features,
    inputs_of,
    load_classifier,
    new_classifier,
    new_feature_source,
)
from synthdp.data.cohorts import cohort_rows, patient_tags
from synthdp.data.columns import rows_where
from synthdp.data.dataset import (
    Dataset,
    DatasetInfo,
    Row,
    open_dataset,
    refuse_one_class,
    refuse_small_population,
    targets_array,
)
from synthdp.errors import InputError
from synthdp.privacy.noise import NoiseSource


@dataclass(frozen=True, eq=False)
class HeadTask:
    """What a head is trained on, and from: all that decides a training but recipe and noise.

    rows: the patients' images; classifier: with its centre, whose head is to be replaced; examples:
    of `rows`; public: images mixed in; start: the weights to begin with, (T, D + 1) of a linear
    head, whose last column is the bias's.
    """

    rows: tuple[Row, ...]
    classifier: Classifier
    examples: HeadExamples
    public: PublicExamples | None
    start: Tensor

    def classifier_of(self, weights: Tensor, head: HeadSettings) -> Classifier:
        """The classifier with a head of trained weights, shaped as `start`."""
        norm, bias_input = head.norm, head.bias_input
        if not isinstance(self.examples, MlpExamples):
            return self.classifier.with_head(weights[:, :-1] * norm, weights[:, -1] * bias_input)
        assert self.examples.shape is not None  # `head_task` has given it
        first, second = self.examples.shape.split(weights)
        return replace(
            self.classifier,
            hidden=(first[:, :-1] * norm, first[:, -1] * bias_input),
            head_weight=second[:, :-1].contiguous(),
            head_bias=second[:, -1].contiguous(),
            points=(),
        )


#: epsilon -> learning rate x steps for unit-norm features, by the linear scaling rule of
#: arXiv 2212.04486. The points come from a feasibility probe on the public CBIS-DDSM patches.
LR_TIMES_STEPS = {1.0: 100.0, 6.0: 400.0, 12.0: 1000.0, 20.0: 2000.0}


def lr_times_steps(epsilon: float, rule: float | Mapping[float, float] | None = None) -> float:
    """Learning rate x steps for a stage's epsilon.

    Args:
        epsilon: of the stage; inf for none.
        rule: one number for all, numbers by epsilon (log-linear between two, flat beyond; inf has
            its own or that of the largest), or None for `LR_TIMES_STEPS`.
    """
    if isinstance(rule, int | float):
        return float(rule)
    known = dict(sorted((rule or LR_TIMES_STEPS).items()))
    if math.isinf(epsilon):
        return float(list(known.values())[-1])
    finite = {point: value for point, value in known.items() if math.isfinite(point)} or known
    points, values = zip(*finite.items(), strict=True)
    if math.isinf(points[0]):
        return float(values[0])
    return float(np.exp(np.interp(np.log(epsilon), np.log(points), np.log(values))))


def head_recipe(head: HeadSettings, stage_epsilon: float) -> HeadRecipe:
    """How a head is trained at the epsilon of its stage alone; inf for none."""
    return HeadRecipe(
        steps=head.steps,
        lr=lr_times_steps(stage_epsilon, head.lr_times_steps) / head.steps,
        average_from=head.average_from,
        block_steps=head.block_steps,
        optimizer=head.optimizer,
    )


def head_task(settings: FinetuneSettings, dataset: Dataset) -> HeadTask:
    """What a run of these settings trains its head on.

    Raises:
        InputError: when there are more patients than `privacy.population`, an image or weights are
            missing, or without privacy the images are of one class.
    """
    rows = training_rows(settings, dataset)
    if settings.privacy.epsilon is None:  # else the refusal itself would tell of the patients
        refuse_one_class(f"{dataset.info.name}, train", dataset.info.targets, targets_array(rows))
    classifier = centred(settings, starting_classifier(settings, dataset.info))
    examples = _examples(classifier, dataset, rows, settings)
    bound = bound_on_units(settings, dataset.info)
    refuse_small_population(bound, examples.n_units, settings.privacy.unit)
    public = _public_examples(settings, classifier)
    start = start_weights(settings, classifier)
    if isinstance(examples, MlpExamples) and examples.shape is not None:
        start = examples.shape.start(settings.seed, settings.head.norm)
    return HeadTask(rows, classifier, examples, public, start)


def bound_on_units(settings: FinetuneSettings, info: DatasetInfo) -> int | None:
    """The most units that may be trained on: `privacy.population`; None where nothing bounds them.

    Rows that are no patients, trained on without noise, may be as many as there are.
    """
    bounds = info.protects_patients or settings.privacy.epsilon is not None
    return settings.privacy.population if bounds else None


def training_rows(settings: FinetuneSettings, dataset: Dataset) -> tuple[Row, ...]:
    """The images of patients that a run is trained on.

    Guarantee: a patient's rows stay or go by a keyed hash of the id and by public columns of each
    row alone, whoever else is in the set.

    Raises:
        InputError: when none is left.
    """
    rows = rows_where(dataset, dataset.split("train"), settings.where)
    return cohort_rows(dataset, rows, settings.cohort)


def sample_source(seed: int) -> NoiseSource:
    """What samples of patients are drawn from where nothing is promised: the seed."""
    return NoiseSource(hashlib.sha256(f"samples {seed}".encode()).digest())


def units_of(settings: FinetuneSettings, rows: Sequence[Row]) -> list[str]:
    """The name of the unit that each row belongs to: its patient, or itself."""
    by_image = settings.privacy.unit == "image"
    return [row.image if by_image else row.patient_id for row in rows]


def starting_classifier(settings: FinetuneSettings, info: DatasetInfo) -> Classifier:
    """The classifier before training, on the networks that the settings name.

    Raises:
        InputError: when `init` was trained for other targets, or weights are missing.
    """
    beside = [new_feature_source(one, seed=settings.seed) for one in settings.beside]
    if settings.init is None:
        assert settings.backbone is not None  # FinetuneSettings asks for one of the two
        first = new_feature_source(settings.backbone, seed=settings.seed)
        return new_classifier([first, *beside], info.targets)
    classifier = load_classifier(settings.init)
    if classifier.targets != info.targets:
        raise InputError(
            f"{settings.init}: trained for {', '.join(classifier.targets)}, but the data set has "
            f"{', '.join(info.targets)}"
        )
    if settings.head.start == "zero":
        return new_classifier([*classifier.feature_sources, *beside], info.targets)
    if classifier.hidden is not None:
        raise InputError(
            f"{settings.init}: its head has a hidden layer, which training can't start from; "
            "leave head.start out"
        )
    return replace(classifier, points=())


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


def _with_bias(inputs: Tensor, bias_input: float) -> Tensor:
    """Append the constant that the bias sees, so that it is clipped and noised as a weight."""
    return torch.cat([inputs, inputs.new_full((len(inputs), 1), bias_input)], dim=1)


def _examples(
    classifier: Classifier, dataset: Dataset, rows: Sequence[Row], settings: FinetuneSettings
) -> HeadExamples:
    head = settings.head
    raws = features(classifier, dataset, rows, views=head.views)
    inputs = head.norm * inputs_of(classifier, raws)
    inputs = _with_bias(inputs, head.bias_input)
    ids, units = np.unique(units_of(settings, rows), return_inverse=True)
    targets = torch.from_numpy(targets_array(rows)).repeat_interleave(head.views, dim=0)
    owners = torch.from_numpy(units).repeat_interleave(head.views)
    tags = patient_tags(dataset, [str(name) for name in ids]) if head.sampling_rate < 1 else []
    if head.kind != "mlp":
        return HeadExamples(inputs, targets, owners, head.kind, tags)
    shape = MlpShape(inputs.shape[1], head.hidden, targets.shape[1])
    return MlpExamples(
        inputs, targets, owners, tags=tags, shape=shape, smoothing=head.label_smoothing
    )


def _public_examples(settings: FinetuneSettings, classifier: Classifier) -> PublicExamples | None:
    if settings.synthetic is None:
        return None
    dataset = open_dataset(settings.synthetic)
    examples = _examples(classifier, dataset, dataset.split("train"), settings)
    return PublicExamples(
        examples,
        settings.synthetic_weight,
        sampling_rate=settings.head.sampling_rate,
        seed=settings.seed,
    )


def start_weights(settings: FinetuneSettings, classifier: Classifier) -> Tensor:
    """Weights of a linear head to begin with, (T, D + 1), the last column the bias's."""
    weight, bias = classifier.head_weight, classifier.head_bias
    if settings.head.start == "zero":
        return weight.new_zeros(weight.shape[0], weight.shape[1] + 1)
    scale = settings.head.bias_input
    column = bias / scale if scale else torch.zeros_like(bias)
    return torch.cat([weight / settings.head.norm, column.unsqueeze(1)], dim=1)
