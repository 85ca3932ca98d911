"""All attacks on the one noisy release of an embedding, one after the other."""

from collections.abc import Sequence

import numpy as np

from gan.auditing.canaries import broken_promise, many_runs, one_run
from gan.auditing.membership import ATTACK, membership
from gan.auditing.replay import replay
from gan.auditing.subject import EmbeddingSubject
from synthdp.privacy.attacks.audit import MANY_RUNS, ONE_RUN, canary_bounds, worst_case_bounds
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.runs.audit_record import CHECKS, FALSE_ALARM_RATES, AuditResult, Clock


def attack_embedding(
    subject: EmbeddingSubject, settings: AuditSettings, broken_before: Sequence[str] = ()
) -> AuditResult:
    """All parts of the audit, one after the other.

    Args:
        subject: the release to attack.
        settings: how hard.
        broken_before: what is known to be broken already, in words.
    """
    seeds = np.random.SeedSequence(settings.seed).spawn(4)
    for_replay, for_one, for_many, for_halves = (np.random.default_rng(seed) for seed in seeds)
    risk, clock = settings.false_alarms / CHECKS, Clock()
    replayed = clock.timed(
        "replay",
        lambda: replay(subject, for_replay, patients=settings.replayed, risk=risk),
    )
    one = clock.timed("one run", lambda: one_run(subject, for_one, settings.canaries))
    many = clock.timed(
        "many runs",
        lambda: many_runs(subject, for_many, runs=settings.runs, dimensions=settings.dimensions),
    )
    members = clock.timed(
        "membership",
        lambda: membership(
            subject,
            for_halves,
            shadows=settings.shadows,
            rates=FALSE_ALARM_RATES,
            confidence=settings.confidence,
            risk=risk,
        ),
    )
    mechanism, delta, confidence = subject.mechanism, subject.delta, settings.confidence
    bounds = canary_bounds(ONE_RUN, one, mechanism, delta=delta, confidence=confidence)
    bounds += worst_case_bounds(
        MANY_RUNS, many, mu=mechanism.mu, delta=delta, confidence=confidence
    )
    broken = [*broken_before, *replayed.broken]
    broken += broken_promise(subject, one, many, risk)
    broken += [f"{ATTACK} finds more than is possible" for rate in members if rate.broken]
    return AuditResult(
        replayed=replayed,
        bounds=tuple(bounds),
        members=tuple(members),
        broken=tuple(dict.fromkeys(broken)),
        seconds=clock.seconds,
        replay_words="the run's own release compared with what it declares.",
        members_title="Members found by a likelihood ratio on the release",
        members_words=f"{settings.shadows} releases of halves of the patients.",
    )
