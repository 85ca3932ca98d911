"""Cross-validation of a fine-tuning recipe by patient: a figure for whoever develops a recipe.

What comes out is an exact function of the patients, outside every promise: nothing of it is kept or
recorded, and a recipe chosen by it owes that to these patients. On a hospital's own patients tune
on phantoms instead (`tune` of a study).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.auditing.head.subject import HeadSubject, train_subject
from classify.finetune import train_plain_head
from classify.head.examples import HeadExamples
from classify.head.train import head_recipe
from classify.model.classifier import head_logits
from classify.plans import finetuning_plan
from classify.settings.finetune import FinetuneSettings
from classify.setup.head import HeadSetup, set_up_head
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.metrics import auroc
from synthdp.privacy.attacks.rerun import scratch_folder
from synthdp.privacy.keys import new_key
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.promise.plan import PrivacyPlan


@dataclass(frozen=True)
class CrossValidated:
    """The AUROC of one assignment of patients to folds and one seed of initialisation and noise.

    auroc: of the target, or the mean over those of several of which both classes are there;
    by_target: that of each, nan of one class.
    """

    repeat: int
    seed: int
    auroc: float
    by_target: Mapping[str, float]


def cross_validate(
    settings: FinetuneSettings, *, folds: int, repeats: int, seeds: int
) -> Iterator[CrossValidated]:
    """Train on all folds but one and score that one, for each fold; all scores pooled.

    The scores of a fold are brought to mean 0 and spread 1, target by target, before they are
    pooled, since each fold has a head of its own. Random views of training images are not scored.

    Args:
        settings: the recipe; its noise is that of the whole set, its `out` is not written to.
        folds: how many parts the patients are split into, at random.
        repeats: how many times they are split anew.
        seeds: trainings of each fold, each with noise of its own; one without privacy, where a
            linear head from zero has nothing random.

    Raises:
        InputError: when blocks of the network are to be trained.
    """
    dataset = open_dataset(settings.data)
    if settings.network is not None:
        raise InputError("cross-validation is of a head; leave `network` out")
    plan = finetuning_plan(settings)
    setup = set_up_head(settings, dataset)
    for repeat in range(repeats):
        fold_of = _folds(setup.examples.n_units, folds, repeat)
        for seed in range(seeds):
            aurocs = _pooled(settings, plan, setup, fold_of, seed)
            defined = [value for value in aurocs if not math.isnan(value)]
            yield CrossValidated(
                repeat,
                seed,
                auroc=float(np.mean(defined)) if defined else math.nan,
                by_target=dict(zip(dataset.info.targets, aurocs, strict=True)),
            )


def _folds(n_units: int, folds: int, repeat: int) -> NDArray[np.intp]:
    """The fold of each patient, (U,)."""
    return np.random.default_rng([repeat, folds]).permutation(n_units) % folds


def _pooled(
    settings: FinetuneSettings,
    plan: PrivacyPlan,
    setup: HeadSetup,
    fold_of: NDArray[np.intp],
    seed: int,
) -> list[float]:
    """The AUROC of each target, all patients scored by the head of the folds they are not in."""
    examples = setup.examples
    own = torch.zeros(len(examples.inputs), dtype=torch.bool)
    own[:: settings.head.shown] = True
    pooled = torch.zeros(examples.targets.shape)
    for fold in range(int(fold_of.max()) + 1):
        held_out = torch.from_numpy(np.flatnonzero(fold_of == fold))
        others = torch.from_numpy(np.flatnonzero(fold_of != fold))
        weights = _trained(settings, plan, setup, examples.of(others), seed)
        classifier = setup.classifier_of(weights, settings.head)
        scored = own & torch.isin(examples.units, held_out)
        for index, logits in enumerate(head_logits(classifier, examples.inputs[scored][:, :-1]).T):
            pooled[scored, index] = (logits - logits.mean()) / logits.std().clamp(min=1e-12)
    labels, scores = examples.targets[own].numpy(), pooled[own].numpy()
    return [auroc(*column) for column in zip(labels.T, scores.T, strict=True)]


def _trained(
    settings: FinetuneSettings,
    plan: PrivacyPlan,
    setup: HeadSetup,
    examples: HeadExamples,
    seed: int,
) -> Tensor:
    """The weights of a head trained on some of the patients, with noise that is kept nowhere."""
    mechanism = plan.mechanism
    recipe = head_recipe(settings.head, plan.stage_epsilon, plan.n_units)
    if mechanism is None:
        some, rate = replace(setup, examples=examples), settings.head.sampling_rate
        return train_plain_head(some, recipe, sampling_rate=rate, seed=seed)
    subject = HeadSubject(
        examples=examples,
        recipe=replace(recipe, block_steps=recipe.steps),
        mechanism=mechanism,
        start=setup.start,
        delta=settings.privacy.delta,
        public=setup.public,
    )
    with scratch_folder() as folder:
        return train_subject(subject, NoiseSource(new_key(), "philox"), folder)
