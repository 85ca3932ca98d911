"""Canaries in one training of a network: one training is what an audit can pay for."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from classify.auditing.network.planted import TAG_BYTES, PlantedGradients, no_input, planted_among
from classify.auditing.network.subject import NetworkSubject, train_subject
from synthdp.privacy.attacks.audit import ONE_RUN, CanaryScores, canary_fit, canary_refutes
from synthdp.privacy.attacks.rerun import scratch_folder
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.runs.audit_record import broken_bounds

#: Norm of a canary's one image, in clip norms.
_NORM = 50.0


def one_run(subject: NetworkSubject, generator: np.random.Generator, canaries: int) -> CanaryScores:
    """Scores of canaries in one whole training, each of which takes part by a fair coin.

    A canary has one image and a weight of its own, along which its gradient lies; its score is the
    sum of all that was released there, in units of the noise.
    """
    size = len(subject.top.flat())
    canaries = min(canaries, size)
    inside = generator.random(canaries) < 0.5
    own = torch.from_numpy(generator.permutation(size)[:canaries])
    present = torch.from_numpy(np.flatnonzero(inside))
    # one picture for all: what the network makes of it is replaced
    none = no_input(subject.examples)
    images = none.new_zeros(1, *none.shape[1:]).expand(len(present), *none.shape[1:])
    lengths = torch.full((len(present),), _NORM * subject.mechanism.clip_norm)
    planted = planted_among(
        subject.examples,
        [generator.bytes(TAG_BYTES) for _ in present],
        images,
        torch.arange(len(present)),
        (own[present], lengths),
    )
    total = torch.zeros(canaries, dtype=torch.float64)

    def observe(step: int, weights: Tensor, released: Tensor) -> None:
        total.add_(released.cpu()[own].double())

    with scratch_folder() as folder:
        train_subject(
            replace(subject, examples=planted.examples),
            NoiseSource(generator.bytes(KEY_BYTES), subject.noise),
            folder,
            observe=observe,
            gradients=partial(PlantedGradients, planted=planted),
        )
    mechanism = subject.mechanism
    unit = subject.noise_scale * mechanism.steps**0.5
    scores = (total * mechanism.normaliser / unit).numpy()
    return CanaryScores(scores[inside], scores[~inside])


def broken_promise(subject: NetworkSubject, scores: CanaryScores, risk: float) -> list[str]:
    """In words, when canaries refute the promise in a way that a sound training seldom shows."""
    broken = []
    if canary_refutes(scores, subject.mechanism, risk):
        broken.append(f"{ONE_RUN} (f-DP) show more than the promised {subject.epsilon:.3g}")
    fit = canary_fit(ONE_RUN, scores, delta=subject.delta, confidence=1 - risk)
    return [*broken, *broken_bounds([fit], subject.epsilon)]
