"""Canaries: made-up patients whose gradients are the worst that clipping lets through.

Each has a direction of its own in gradient space, in coordinates that no real patient reaches, so
that the sum of the released means along it is all that an attacker could want: N(mu, 1) for a
patient who took part and N(0, 1) for one who did not, when the promise is kept exactly.
"""

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from classify.auditing.head.subject import HeadSubject, in_processes, train_subject
from classify.head.examples import HeadExamples
from synthdp.privacy.attacks.audit import (
    CANARY_IMAGE_NORMS,
    MANY_RUNS,
    MOST_BESIDE,
    ONE_RUN,
    Bound,
    CanaryScores,
    canary_fit,
    correct_guesses,
    gaussian_bound,
    one_run_mu,
    planned_guesses,
    worst_case_bounds,
)
from synthdp.privacy.attacks.rerun import scratch_folder
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.noisy_sum.lattice import on_lattice
from synthdp.privacy.noisy_sum.noise import NoiseSource


@dataclass(frozen=True, eq=False)
class CanaryExamples(HeadExamples):
    """Real images, and the canaries' gradients, (K, T * D), after theirs; `units` has both."""

    planted: Tensor = field(kw_only=True)

    def patient_sum(self, weights: Tensor, clip_norm: float | None) -> Tensor:
        """As `private_sum`, over gradients that are all made."""
        assert clip_norm is not None  # the training that is attacked is a private one
        return on_lattice(self.made_sum(weights, clip_norm), clip_norm)

    def gradients(self, weights: Tensor) -> Tensor:
        """Per-image gradients: the real ones at `weights`, then the canaries', always the same."""
        return torch.cat([super().gradients(weights), self.planted])


def with_canaries(subject: HeadSubject, inside: NDArray[np.bool_]) -> HeadSubject:
    """The training with one more feature for each canary, and those `inside` taking part.

    Args:
        subject: the training.
        inside: (m,), who takes part.
    """
    n_targets, n_features = subject.start.shape
    width = n_features + len(inside)
    present = torch.from_numpy(np.flatnonzero(inside))
    n_images = len(CANARY_IMAGE_NORMS)
    # A canary's gradient is all along one weight of a feature that is zero in every real image, so
    # that no one else's gradient reaches it, whatever the weights.
    rows = torch.zeros(len(present) * n_images, n_targets * width)
    own_feature = (n_features + present).repeat_interleave(n_images)
    norms = subject.mechanism.clip_norm * torch.tensor(CANARY_IMAGE_NORMS).repeat(len(present))
    rows[torch.arange(len(rows)), own_feature] = norms
    real = subject.examples
    canary_units = real.n_units + torch.arange(len(present)).repeat_interleave(n_images)
    public = subject.public
    return replace(
        subject,
        start=F.pad(subject.start, (0, len(inside))),
        examples=CanaryExamples(
            _padded(real, len(inside)).inputs,
            real.targets,
            torch.cat([real.units, canary_units]),
            loss=real.loss,
            positive_weights=real.positive_weights,
            planted=rows,
        ),
        public=public and replace(public, examples=_padded(public.examples, len(inside))),
    )


def _padded(examples: HeadExamples, extra: int) -> HeadExamples:
    return replace(examples, inputs=F.pad(examples.inputs, (0, extra)))


def _released_along(subject: HeadSubject, n_canaries: int, key: bytes) -> NDArray[np.float64]:
    """The sum of all released means along each canary's direction, in units of its noise."""
    total = torch.zeros(n_canaries, dtype=torch.float64)

    def observe(step: int, weights: Tensor, released: Tensor) -> None:
        total.add_(released[0, -n_canaries:].double())

    with scratch_folder() as folder:
        train_subject(subject, NoiseSource(key, subject.noise), folder, observe=observe)
    mechanism = subject.mechanism
    unit = subject.noise_scale * mechanism.steps**0.5
    scores: NDArray[np.float64] = (total * mechanism.normaliser / unit).numpy()
    return scores


def one_run(subject: HeadSubject, generator: np.random.Generator, canaries: int) -> CanaryScores:
    """Scores of canaries in one training, each of which takes part by the flip of a fair coin."""
    inside = generator.random(canaries) < 0.5
    attacked = with_canaries(subject, inside)
    scores = _released_along(attacked, canaries, generator.bytes(KEY_BYTES))
    return CanaryScores(scores[inside], scores[~inside])


def one_run_bounds(scores: CanaryScores, subject: HeadSubject, confidence: float) -> list[Bound]:
    """The f-DP bound, which assumes nothing, and the Gaussian fit.

    The f-DP bound is the better of two numbers of guesses, both fixed beforehand: the one that is
    best where the promise holds exactly, and all; each at half the risk.
    """
    inside = np.repeat([True, False], [len(scores.inside), len(scores.outside)])
    values = np.concatenate([scores.inside, scores.outside])
    shared = 1 - (1 - confidence) / 2
    mu = max(
        one_run_mu(correct_guesses(values, inside, guesses), guesses, len(values), shared)
        for guesses in (planned_guesses(subject.mu, len(values), shared), len(values))
    )
    return [
        gaussian_bound(ONE_RUN, "f-DP", mu, subject.delta),
        canary_fit(ONE_RUN, scores, delta=subject.delta, confidence=confidence),
    ]


def made_small(
    subject: HeadSubject, generator: np.random.Generator, dimensions: int
) -> HeadSubject:
    """The same training of `MOST_BESIDE` patients at most, on a random projection of their inputs.

    It starts from zero and has no public images; the last input, which the bias sees, stays. A
    step is then fast, and its mechanism the same.
    """
    chosen = generator.permutation(subject.examples.n_units) < MOST_BESIDE
    some = subject.examples.of(torch.from_numpy(np.flatnonzero(chosen)))
    features, bias = some.inputs[:, :-1], some.inputs[:, -1:]
    if features.shape[1] > dimensions:
        directions = torch.from_numpy(generator.normal(size=(features.shape[1], dimensions)))
        features = F.normalize(features @ directions.to(features.dtype), dim=1, eps=1e-12)
    inputs = torch.cat([features, bias], dim=1)
    return replace(
        subject,
        examples=replace(some, inputs=inputs),
        start=torch.zeros(len(subject.start), inputs.shape[1]),
        public=None,
    )


def _one_score(subject: HeadSubject, task: tuple[bool, bytes]) -> float:
    inside, key = task
    return float(_released_along(with_canaries(subject, np.array([inside])), 1, key)[0])


def many_runs(
    subject: HeadSubject,
    generator: np.random.Generator,
    *,
    runs: int,
    dimensions: int,
    workers: int,
) -> CanaryScores:
    """Scores of one worst-case patient, who takes part in half of the trainings."""
    small = made_small(subject, generator, dimensions)
    tasks = [(number % 2 == 0, generator.bytes(KEY_BYTES)) for number in range(runs)]
    scores = np.array(in_processes(partial(_one_score, small), tasks, workers, what="many runs"))
    return CanaryScores(scores[0::2], scores[1::2])


def many_runs_bounds(scores: CanaryScores, subject: HeadSubject, confidence: float) -> list[Bound]:
    """As `worst_case_bounds`."""
    return worst_case_bounds(
        MANY_RUNS, scores, mu=subject.mu, delta=subject.delta, confidence=confidence
    )
