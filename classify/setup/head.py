"""What a head is trained on, and from: features of patients as examples, and its first weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from classify.head.examples import HeadExamples, MlpExamples, MlpShape, PublicExamples
from classify.head.prior import positive_weights, start_bias
from classify.head.train import HeadRecipe, train_head
from classify.model.classifier import Classifier, features, inputs_of
from classify.settings.finetune import FinetuneSettings
from classify.settings.head import HeadSettings
from classify.setup.patients import bound_on_units, rows_of_all_folds, training_rows
from classify.setup.start import centred, linear_start, starting_classifier
from synthdp.data.dataset import (
    Dataset,
    Row,
    labels_of,
    open_dataset,
    refuse_one_class,
    refuse_small_population,
    targets_array,
    units_of,
)
from synthdp.data.people.cohorts import patient_tags
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.units import Unit

#: How long a head learns the labels of the set `centre` that it starts from (`head.start`): longer,
#: it tells phantoms apart better and patients worse (configs/classify/CHOICES.md).
START_STEPS, START_LR_TIMES_STEPS = 200, 400.0


@dataclass(frozen=True, eq=False)
class HeadSetup:
    """What a head is trained on, and from: all that decides a training but recipe and noise.

    rows: the patients' images; classifier: with its centre, whose head is to be replaced; examples:
    of `rows`; public: images mixed in; start: the weights to begin with, (T, D + 1) of a linear
    head, whose last column is the bias's; bound_on_units: how many patients there are at most, by
    declaration, None where nothing bounds them.
    """

    rows: tuple[Row, ...]
    classifier: Classifier
    examples: HeadExamples
    public: PublicExamples | None
    start: Tensor
    bound_on_units: int | None

    def classifier_of(self, weights: Tensor, head: HeadSettings) -> Classifier:
        """The classifier with a head of trained weights, shaped as `start`."""
        norm, bias_input = head.norm, head.bias_input
        if not isinstance(self.examples, MlpExamples):
            return self.classifier.with_head(weights[:, :-1] * norm, weights[:, -1] * bias_input)
        first, second = self.examples.shape.split(weights)
        return replace(
            self.classifier,
            hidden=(first[:, :-1] * norm, first[:, -1] * bias_input),
            head_weight=second[:, :-1].contiguous(),
            head_bias=second[:, -1].contiguous(),
            points=(),
        )


def set_up_head(settings: FinetuneSettings, dataset: Dataset) -> HeadSetup:
    """What a run of these settings trains its head on.

    Raises:
        InputError: when an image or weights are missing; without privacy also when there are more
            patients than `privacy.population`, none, or the images are of one class.
    """
    head, privacy = settings.head, settings.privacy
    rows = training_rows(settings, dataset)
    classifier = centred(settings, starting_classifier(settings, dataset.info))
    promised = privacy.protects
    parts = settings.leave_out is not None or settings.share is not None
    examples = _head_examples(
        classifier,
        dataset,
        rows,
        head,
        privacy.unit,
        finite=not promised,
        among=rows_of_all_folds(settings, dataset) if parts else None,
    )
    bound = bound_on_units(privacy, dataset.info)
    if not promised:  # else the refusal itself would tell of the patients
        refuse_one_class(f"{dataset.info.name}, train", dataset.info.targets, targets_array(rows))
        refuse_small_population(bound, examples.n_units, privacy.unit)
    public = None
    if settings.synthetic is not None:
        synthetic = open_dataset(settings.synthetic)
        public = PublicExamples(
            _head_examples(
                classifier, synthetic, synthetic.split("train"), head, privacy.unit, finite=True
            ),
            settings.synthetic_weight,
            sampling_rate=head.sampling_rate,
            seed=settings.seed,
        )
    if isinstance(examples, MlpExamples):
        start = examples.shape.start(settings.seed, head.norm)
        _, last = examples.shape.split(start)
        last[:, -1] = start_bias(head.prior, classifier.targets)
    elif head.start == "centre":
        start = _learned_start(settings, classifier)
    else:
        start = linear_start(head, classifier)
    return HeadSetup(rows, classifier, examples, public, start, bound)


def _learned_start(settings: FinetuneSettings, classifier: Classifier) -> Tensor:
    """Weights of a linear head that learned the labels of the set `centre`, (T, D + 1).

    They are trained as those of patients are, without clipping and noise, and without noisy copies,
    which would blur what the set tells: the set's own promise, if it has any, stands in the
    lineage. Every process and every resumed run finds the same.
    """
    assert settings.centre is not None  # FinetuneSettings asks for it
    head = settings.head.model_copy(update={"image_noise": None})
    public = open_dataset(settings.centre)
    labels = labels_of(public, public.rows, classifier.targets)
    refuse_one_class(public.info.name, classifier.targets, labels)
    known = _head_examples(
        classifier, public, public.rows, head, settings.privacy.unit, finite=True
    )
    recipe = HeadRecipe(
        START_STEPS, START_LR_TIMES_STEPS / START_STEPS, average_from=0.5, block_steps=START_STEPS
    )
    everybody = Mechanism(noise_multiplier=0, steps=recipe.steps, normaliser=known.n_units)
    return train_head(linear_start(head, classifier), known, recipe, sampling=everybody)


def _head_examples(
    classifier: Classifier,
    dataset: Dataset,
    rows: Sequence[Row],
    head: HeadSettings,
    unit: Unit,
    *,
    finite: bool,
    among: Sequence[Row] | None = None,
) -> HeadExamples:
    """Images as a head takes them: inputs (N * shown, D + 1), the last column what the bias sees.

    Guarantee: inputs and targets of an image are a function of that image, its row and public
    numbers, whoever else is there.
    """
    raws = features(
        classifier,
        dataset,
        rows,
        views=head.views,
        grain=head.image_noise,
        finite=finite,
        among=among,
    )
    scaled = inputs_of(classifier, raws)
    inputs = scaled.new_empty(len(scaled), scaled.shape[1] + 1)
    torch.mul(scaled, head.norm, out=inputs[:, :-1])
    # the constant that the bias sees, so that the bias is clipped and noised as a weight
    inputs[:, -1] = head.bias_input
    del raws, scaled  # of many images they take as much memory again
    names, units = np.unique(units_of(rows, unit), return_inverse=True)
    own = dataset.info.targets
    # where both have one target it is the same, whatever the sets call it
    asked = own if len(own) == len(classifier.targets) == 1 else classifier.targets
    labels = torch.from_numpy(labels_of(dataset, rows, asked))
    targets = labels.repeat_interleave(head.shown, dim=0)
    owners = torch.from_numpy(units).repeat_interleave(head.shown)
    tags = patient_tags(dataset, [str(name) for name in names]) if head.sampling_rate < 1 else []
    weights = positive_weights(head.prior, classifier.targets)
    if head.kind != "mlp":
        return HeadExamples(inputs, targets, owners, head.kind, tags, weights)
    return MlpExamples(
        inputs,
        targets,
        owners,
        tags=tags,
        positive_weights=weights,
        shape=MlpShape(inputs.shape[1], head.hidden, targets.shape[1]),
        smoothing=head.label_smoothing,
    )
