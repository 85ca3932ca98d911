"""The training of a network, or its last blocks, under attack: replay, canaries, membership.

A training takes minutes here, not a tenth of a second, so the attacks are those that one training
and a few of its steps allow.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.auditing.network_replay import replay
from classify.auditing.network_subject import (
    TAG_BYTES,
    AuditedGradients,
    NetworkSubject,
    no_input,
    plant,
    train_subject,
)
from classify.model import features, load_classifier, logits
from synthdp.config.settings import AuditSettings
from synthdp.data.dataset import Row, targets_array, units_of
from synthdp.privacy.attacks.audit import CanaryScores, canary_bounds, canary_fit, canary_refutes
from synthdp.privacy.attacks.membership import MembersFound, members_of_one_model
from synthdp.privacy.attacks.rerun import scratch_folder
from synthdp.privacy.noisy_sum.clipping import unit_means
from synthdp.privacy.noisy_sum.noise import KEY_BYTES, NoiseSource
from synthdp.runs.audit_record import CHECKS, FALSE_ALARM_RATES, AuditResult, Clock, broken_bounds

ONE_RUN = "canaries in one run"
#: The norm of the one image of a canary of the one run, in clip norms.
_NORM = 50.0


# Canaries in one run.


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
    planted = plant(
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
            gradients=partial(AuditedGradients, planted=planted),
        )
    mechanism = subject.mechanism
    unit = subject.noise_scale * mechanism.steps**0.5
    scores = (total * mechanism.normaliser / unit).numpy()
    return CanaryScores(scores[inside], scores[~inside])


# Membership, from the finished model.


def held_out_membership(
    run: Path,
    subject: NetworkSubject,
    generator: np.random.Generator,
    *,
    rates: Sequence[float],
    confidence: float,
) -> list[MembersFound]:
    """How many patients of train the finished model tells from those of val and test.

    By its confidence in the labels, the mean over a patient's images; one threshold for all. Both
    sides may differ in more than membership, so that no verdict follows from it. None where nobody
    was held out.
    """
    if subject.dataset is None:
        return []
    dataset, classifier = subject.dataset, load_classifier(run)

    def scores(rows: Sequence[Row]) -> NDArray[np.float64]:
        values = logits(classifier, features(classifier, dataset, rows, finite=False))
        targets = torch.from_numpy(targets_array(rows, len(dataset.info.targets)))
        towards = torch.nan_to_num((2 * targets - 1) * values).mean(dim=1, keepdim=True)
        names, units = np.unique(units_of(rows, subject.mechanism.unit), return_inverse=True)
        means = unit_means(towards.double(), torch.from_numpy(units), len(names))
        result: NDArray[np.float64] = means[:, 0].numpy()
        return result

    members = dataset.split("train", may_be_empty=True)
    strangers = [
        row for split in ("val", "test") for row in dataset.split(split, may_be_empty=True)
    ]
    if not members or not strangers:
        return []
    return members_of_one_model(
        scores(members),
        scores(strangers),
        promised=subject.mechanism.loss(),
        rates=rates,
        confidence=confidence,
        generator=generator,
    )


def attack(
    subject: NetworkSubject,
    settings: AuditSettings,
    broken_before: Sequence[str] = (),
    *,
    run: Path,
) -> AuditResult:
    """All parts of the audit, one after the other.

    Args:
        subject: the training to attack.
        settings: how hard.
        broken_before: what is known to be broken already, in words.
        run: the finished run, whose model is asked who was in.
    """
    seeds = np.random.SeedSequence(settings.seed).spawn(3)
    for_replay, for_one, for_members = (np.random.default_rng(seed) for seed in seeds)
    risk, clock = settings.false_alarms / CHECKS, Clock()
    replayed = clock.timed(
        "replay",
        lambda: replay(
            subject,
            for_replay,
            steps=settings.replayed_steps,
            patients=settings.replayed,
            risk=risk,
        ),
    )
    scores = clock.timed("one run", lambda: one_run(subject, for_one, settings.canaries))
    members = clock.timed(
        "membership",
        lambda: held_out_membership(
            run,
            subject,
            for_members,
            rates=FALSE_ALARM_RATES,
            confidence=settings.confidence,
        ),
    )
    bounds = canary_bounds(
        ONE_RUN,
        scores,
        subject.mechanism,
        delta=subject.delta,
        confidence=settings.confidence,
    )
    broken = [*broken_before, *replayed.broken, *broken_promise(subject, scores, risk)]
    return AuditResult(
        replayed=replayed,
        bounds=tuple(bounds),
        members=tuple(members),
        broken=tuple(dict.fromkeys(broken)),
        seconds=clock.seconds,
        replay_words=f"the first {settings.replayed_steps} steps, and a crash resumed.",
        members_title="Members found by the finished model's confidence",
        members_words="Patients of train against those held out, who may differ otherwise too.",
    )


def broken_promise(subject: NetworkSubject, scores: CanaryScores, risk: float) -> list[str]:
    """In words, when canaries refute the promise in a way that a sound training seldom shows."""
    broken = []
    if canary_refutes(scores, subject.mechanism, risk):
        broken.append(f"{ONE_RUN} (f-DP) show more than the promised {subject.epsilon:.3g}")
    fit = canary_fit(ONE_RUN, scores, delta=subject.delta, confidence=1 - risk)
    return [*broken, *broken_bounds([fit], subject.epsilon)]
