"""All attacks on the training of a network, one after the other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from classify.auditing.network.canaries import broken_promise, one_run
from classify.auditing.network.membership import held_out_membership
from classify.auditing.network.replay import replay
from classify.auditing.network.subject import NetworkSubject
from synthdp.privacy.attacks.audit import ONE_RUN, canary_bounds
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.runs.audit_record import CHECKS, FALSE_ALARM_RATES, AuditResult, Clock


def attack_network(
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
