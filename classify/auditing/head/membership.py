"""LiRA: is this patient in the head's training set? A likelihood ratio over shadow heads.

Shadow heads are trained by the audited recipe, noise and all, on random halves of the patients.
Each head in turn is attacked with what the others show of each patient, in and out (Carlini et
al., "Membership Inference Attacks From First Principles", arXiv 2112.03570, the online attack
with one variance for all). The attacker sees the head alone, not the steps that led to it.
"""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.auditing.head.subject import HeadSubject, in_processes, train_subject
from classify.head.examples import HeadExamples
from synthdp.privacy.attacks.membership import MembersFound, members_at_rates
from synthdp.privacy.attacks.rerun import scratch_folder
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.noisy_sum.clipping import unit_means
from synthdp.privacy.noisy_sum.noise import NoiseSource

ATTACK = "membership (LiRA) of the head"
_LEAST_PATIENTS = 2


def patient_scores(weights: Tensor, examples: HeadExamples) -> NDArray[np.float64]:
    """The confidence of a head in each patient's labels, (U,): logits towards them, averaged.

    The mean over a patient's images of the mean over known targets; a logit is the scaled
    confidence of the paper, which is near normal over heads.
    """
    signs = 2 * examples.targets - 1
    towards = torch.nan_to_num(signs * (examples.inputs @ weights.T)).mean(dim=1, keepdim=True)
    means = unit_means(towards.double(), examples.units, examples.n_units)
    scores: NDArray[np.float64] = means.squeeze(1).numpy()
    return scores


def _shadow(subject: HeadSubject, task: tuple[NDArray[np.bool_], bytes]) -> NDArray[np.float64]:
    members, key = task
    half = subject.examples.of(torch.from_numpy(np.flatnonzero(members)))
    with scratch_folder() as folder:
        weights = train_subject(subject.on(half), NoiseSource(key, subject.noise), folder)
    return patient_scores(weights, subject.examples)


def membership(
    subject: HeadSubject,
    generator: np.random.Generator,
    *,
    shadows: int,
    rates: tuple[float, ...],
    confidence: float,
    risk: float,
    workers: int,
) -> list[MembersFound]:
    """Attack the head by shadow heads on random halves of the patients.

    Args:
        subject: the training.
        generator: draws halves, keys and the patients of the intervals.
        shadows: how many heads, an even number.
        rates: of false alarms.
        confidence: of the intervals, two-sided.
        risk: chance that a sound training is called broken, for each rate.
        workers: processes.

    Returns:
        One for each rate; none where there are not two patients to tell apart.
    """
    subject = subject.on(_with_known_labels(subject.examples))
    n_units = subject.examples.n_units
    if n_units < _LEAST_PATIENTS:
        return []
    order = np.argsort(generator.random((shadows, n_units)), axis=0)
    members = order < shadows // 2  # each patient is in exactly half of the heads
    tasks = [(row, generator.bytes(KEY_BYTES)) for row in members]
    shadows_of = partial(_shadow, subject)
    scores = np.stack(in_processes(shadows_of, tasks, workers, what="shadow heads"))
    return members_at_rates(
        scores,
        members,
        promised=subject.mechanism.loss(),
        rates=rates,
        confidence=confidence,
        risk=risk,
        generator=generator,
    )


def _with_known_labels(examples: HeadExamples) -> HeadExamples:
    """The patients who have a known label; of the others the head shows nothing."""
    known = (~torch.isnan(examples.targets)).any(dim=1)
    return examples.of(torch.unique(examples.units[known]))
