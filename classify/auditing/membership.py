"""LiRA: is this patient in the head's training set? A likelihood ratio over shadow heads.

Shadow heads are trained by the audited recipe, noise and all, on random halves of the patients.
Each head in turn is attacked with what the others show of each patient, in and out (Carlini et
al., "Membership Inference Attacks From First Principles", arXiv 2112.03570, the online attack
with one variance for all). The attacker sees the head alone, not the steps that led to it.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from classify.auditing.subject import Subject, in_processes, scratch_folder, train_subject
from classify.head.examples import HeadExamples
from synthdp.privacy.clipping import unit_means
from synthdp.privacy.noise import KEY_BYTES, NoiseSource

ATTACK = "membership (LiRA) of the head"
_REDRAWS = 200
_LEAST_PATIENTS = 2


@dataclass(frozen=True)
class MembersFound:
    """How often members are found at a rate of false alarms, by the attack and at most.

    rate: over all members and shadow heads; low, high: its interval at the stated confidence, from
    redrawing patients; alarm: a lower limit that a sound training passes with the stated small
    chance; promised: the bound that the mechanism promises; people: how many false alarms the rate
    means in one head.
    """

    false_alarms: float
    rate: float
    low: float
    high: float
    alarm: float
    promised: float
    people: float

    @property
    def broken(self) -> bool:
        """Whether more are found than any attack can find where the promise is kept."""
        return self.alarm > self.promised


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


def _shadow(subject: Subject, task: tuple[NDArray[np.bool_], bytes]) -> NDArray[np.float64]:
    members, key = task
    half = subject.examples.of(torch.from_numpy(np.flatnonzero(members)))
    with scratch_folder() as folder:
        weights = train_subject(subject.on(half), NoiseSource(key, subject.noise), folder)
    return patient_scores(weights, subject.examples)


def likelihood_ratios(
    scores: NDArray[np.float64], members: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Log likelihood ratios, in against out, of each head and patient, (S, U).

    Means in and out are those of all other heads; the variance is one for all patients.

    Args:
        scores: (S, U) of S heads and U patients.
        members: (S, U), whose images a head was trained on.
    """

    def mean_of_others(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        # over the heads that are chosen for a patient, the attacked head left out: it may not be
        # judged by what it showed itself
        kept = np.where(chosen, scores, 0.0)
        number = chosen.sum(axis=0) - chosen
        mean: NDArray[np.float64] = (kept.sum(axis=0) - kept) / np.maximum(number, 1)
        return mean

    inside, outside = mean_of_others(members), mean_of_others(~members)
    own = np.where(members, inside, outside)  # one variance of all, about the mean that is true
    variance = max(float(((scores - own) ** 2).mean()), 1e-30)
    # log N(score; inside, variance) - log N(score; outside, variance)
    squares: NDArray[np.float64] = (scores - outside) ** 2 - (scores - inside) ** 2
    return squares / (2 * variance)


def members_found(
    ratios: NDArray[np.float64], members: NDArray[np.bool_], false_alarms: float
) -> float:
    """Share of members whose ratio is above all but a share `false_alarms` of the others'."""
    outside = np.sort(ratios[~members])
    passed = min(int(np.floor(false_alarms * len(outside))), len(outside) - 1)
    return float((ratios[members] > outside[len(outside) - 1 - passed]).mean())


def membership(
    subject: Subject,
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
    scores = np.stack(in_processes(partial(_shadow, subject), tasks, workers))
    ratios = likelihood_ratios(scores, members)
    redrawn = [generator.integers(n_units, size=n_units) for _ in range(_REDRAWS)]
    at_rates = []
    for false_alarms in rates:
        rate = members_found(ratios, members, false_alarms)
        again = [members_found(ratios[:, who], members[:, who], false_alarms) for who in redrawn]
        tails = np.quantile(again, [(1 - confidence) / 2, (1 + confidence) / 2])
        alarm = rate - float(norm.isf(risk)) * float(np.std(again))
        at_rates.append(
            MembersFound(
                false_alarms=false_alarms,
                rate=rate,
                low=float(tails[0]),
                high=float(tails[1]),
                alarm=alarm,
                promised=subject.mechanism.loss().true_positive_rate(false_alarms),
                people=false_alarms * n_units / 2,
            )
        )
    return at_rates


def _with_known_labels(examples: HeadExamples) -> HeadExamples:
    """The patients who have a known label; of the others the head shows nothing."""
    known = (~torch.isnan(examples.targets)).any(dim=1)
    return examples.of(torch.unique(examples.units[known]))
