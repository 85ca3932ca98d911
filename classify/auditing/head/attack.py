"""All attacks on the training of a head, one after the other."""

from collections.abc import Sequence

import numpy as np

from classify.auditing.head.canaries import many_runs, many_runs_bounds, one_run, one_run_bounds
from classify.auditing.head.membership import ATTACK, membership
from classify.auditing.head.replay import replay
from classify.auditing.head.subject import HeadSubject
from synthdp.privacy.attacks.audit import Bound
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.runs.audit_record import CHECKS, FALSE_ALARM_RATES, AuditResult, Clock, broken_bounds


def attack_head(
    subject: HeadSubject, settings: AuditSettings, broken_before: Sequence[str] = ()
) -> AuditResult:
    """All parts of the audit, one after the other.

    Args:
        subject: the training to attack.
        settings: how hard.
        broken_before: what is known to be broken already, in words.
    """
    seeds = np.random.SeedSequence(settings.seed).spawn(4)
    for_replay, for_one, for_many, for_halves = (np.random.default_rng(seed) for seed in seeds)
    risk, clock = settings.false_alarms / CHECKS, Clock()
    timed = clock.timed

    workers = settings.workers
    replayed = timed(
        "replay",
        lambda: replay(subject, for_replay, patients=settings.replayed, risk=risk, workers=workers),
    )
    one = timed("one run", lambda: one_run(subject, for_one, settings.canaries))
    many = timed(
        "many runs",
        lambda: many_runs(
            subject,
            for_many,
            runs=settings.runs,
            dimensions=settings.dimensions,
            workers=workers,
        ),
    )
    members = timed(
        "membership",
        lambda: membership(
            subject,
            for_halves,
            shadows=settings.shadows,
            rates=FALSE_ALARM_RATES,
            confidence=settings.confidence,
            risk=risk,
            workers=workers,
        ),
    )

    def bounds(confidence: float) -> list[Bound]:
        return one_run_bounds(one, subject, confidence) + many_runs_bounds(
            many, subject, confidence
        )

    broken = [*broken_before, *replayed.broken]
    broken += broken_bounds(bounds(1 - risk), subject.epsilon)
    broken += [f"{ATTACK} finds more than is possible" for rate in members if rate.broken]
    return AuditResult(
        replayed=replayed,
        bounds=tuple(bounds(settings.confidence)),
        members=tuple(members),
        broken=tuple(dict.fromkeys(broken)),
        seconds=clock.seconds,
        replay_words="two crashes and a clean stop resumed.",
        members_title="Members found by LiRA on the finished head",
        members_words=f"{settings.shadows} shadow heads on halves of the patients.",
    )
