"""Canaries: made-up patients whose vectors are the worst that clipping lets through.

A release takes milliseconds once the images' vectors are there, so that the tight attack is
affordable too: a worst-case patient in hundreds of releases.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from gan.auditing.subject import EmbeddingSubject, Vectors
from synthdp.machine.progress import progress
from synthdp.privacy.attacks.audit import (
    CANARY_IMAGE_NORMS,
    MANY_RUNS,
    MOST_BESIDE,
    ONE_RUN,
    Bound,
    CanaryScores,
    Scores,
    canary_fit,
    canary_refutes,
    worst_case_bounds,
)
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.runs.audit_record import broken_bounds


def _with_canaries(embedded: Vectors, inside: NDArray[np.bool_], clip_norm: float) -> Vectors:
    """Patients with one more number in their vectors for each canary, and those `inside` there.

    A canary's images lie all along its own number, which is zero in every real image.
    """
    present = np.flatnonzero(inside)
    canaries = _canaries(embedded, present, len(inside), clip_norm)
    real = replace(embedded, vectors=F.pad(embedded.vectors, (0, len(inside))))
    return real.joined(canaries)


def _canaries(
    embedded: Vectors, present: NDArray[np.int64], count: int, clip_norm: float
) -> Vectors:
    """The canaries of these numbers, out of `count`, without anybody else."""
    own = embedded.vectors.shape[1] + torch.from_numpy(present).repeat_interleave(
        len(CANARY_IMAGE_NORMS)
    )
    vectors = torch.zeros(len(own), embedded.vectors.shape[1] + count)
    norms = clip_norm * torch.tensor(CANARY_IMAGE_NORMS).repeat(len(present))
    vectors[torch.arange(len(vectors)), own] = norms
    units = torch.arange(len(present)).repeat_interleave(len(CANARY_IMAGE_NORMS))
    return embedded.made_up(vectors, [0] * len(own), units)


def _scores(
    subject: EmbeddingSubject, embedded: Vectors, inside: NDArray[np.bool_], key: bytes
) -> Scores:
    """What one release shows along each canary, in units of the noise."""
    planted = _with_canaries(embedded, inside, subject.mechanism.clip_norm)
    released = subject.released(planted, NoiseSource(key, subject.noise)).double()
    everyone = _canaries(embedded, np.arange(len(inside)), len(inside), 1.0).rows().double()
    if embedded.shares is not None:  # all patients stand in what is known, so it tells of none
        everyone[:, everyone.shape[1] - len(embedded.shares) :] = 0
    along = F.normalize(everyone, dim=1) @ released * subject.mechanism.normaliser
    scores: Scores = (along / subject.noise_scale).numpy()
    return scores


def one_run(
    subject: EmbeddingSubject, generator: np.random.Generator, canaries: int
) -> CanaryScores:
    """Scores of canaries in one release, each of which takes part by the flip of a fair coin."""
    inside = generator.random(canaries) < 0.5
    scores = _scores(subject, subject.embedded, inside, generator.bytes(KEY_BYTES))
    return CanaryScores(scores[inside], scores[~inside])


def many_runs(
    subject: EmbeddingSubject, generator: np.random.Generator, *, runs: int, dimensions: int
) -> CanaryScores:
    """Scores of one worst-case patient, who takes part in half of the releases.

    Beside up to `MOST_BESIDE` patients, whose vectors are cut to `dimensions`.
    """
    chosen = generator.permutation(subject.embedded.n_units)[:MOST_BESIDE]
    few = torch.isin(subject.units, torch.from_numpy(chosen))
    _, units = torch.unique(subject.units[few], return_inverse=True)
    kept = subject.embedded.of(few, units)
    small = replace(kept, vectors=kept.vectors[:, :dimensions])
    scores = np.array(
        [
            _scores(subject, small, np.array([number % 2 == 0]), generator.bytes(KEY_BYTES))[0]
            for number in progress(range(runs), what="many runs", public_unit="runs")
        ]
    )
    return CanaryScores(scores[0::2], scores[1::2])


def broken_promise(
    subject: EmbeddingSubject, one: CanaryScores, many: CanaryScores, risk: float
) -> list[str]:
    """In words, when scores refute the promise in a way that a sound release seldom shows."""
    broken = []
    if canary_refutes(one, subject.mechanism, risk):
        broken.append(f"{ONE_RUN} (f-DP) show more than the promised {subject.epsilon:.3g}")
    bounds: list[Bound] = [canary_fit(ONE_RUN, one, delta=subject.delta, confidence=1 - risk)]
    bounds += worst_case_bounds(
        MANY_RUNS, many, mu=subject.mechanism.mu, delta=subject.delta, confidence=1 - risk
    )
    return [*broken, *broken_bounds(bounds, subject.epsilon)]
