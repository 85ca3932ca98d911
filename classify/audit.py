"""The audit of classifiers: tries to break a finished run's promise, and says how far it came.

It trains again on the run's own features and mechanism with other noise: replays neighbours,
plants canaries, and asks who was in. What it finds is private.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from classify.auditing import network
from classify.auditing.canaries import many_runs, many_runs_bounds, one_run, one_run_bounds
from classify.auditing.membership import ATTACK, membership
from classify.auditing.replay import replay
from classify.auditing.subject import Subject
from classify.finetune import set_up_head, set_up_network
from classify.head.train import head_recipe
from classify.plans import finetuning_plan
from classify.settings.finetune import FinetuneSettings
from classify.settings.network import NetworkSettings
from synthdp.config.settings import AuditSettings, read_settings, validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.privacy.attacks.audit import Bound
from synthdp.privacy.promise.stated import written_statement
from synthdp.runs.audit_record import (
    CHECKS,
    FALSE_ALARM_RATES,
    Audited,
    AuditResult,
    Clock,
    audited_plan,
    broken_bounds,
    broken_records,
    keep_audit,
    refuse_unprotected,
)
from synthdp.status import read_status


def run_audit(settings: AuditSettings) -> Path:
    """Audit a finished run of finetune; at once when the same audit stands.

    Returns:
        `RUN/private/audit`, with audit.json and audit.md.

    Raises:
        InputError: when the run is not finished, promises nothing, or can't be attacked.
        RunError: when the promise is broken; the folder says how.
    """
    statement = written_statement(settings.run)

    def attacked() -> tuple[AuditResult, Audited]:
        asked = _auditable_settings(settings.run)
        patients = open_dataset(asked.data)
        broken = broken_records(settings.run, statement, asked.privacy.delta, patients)
        if asked.network is None:
            subject = subject_of(settings.run, asked)
            return attack(subject, settings, broken), audited(subject)
        trained = network_subject_of(settings.run, asked, asked.network)
        result = network.attack(trained, settings, broken, run=settings.run)
        return result, trained.audited

    return keep_audit(settings, attacked)


def audited(subject: Subject) -> Audited:
    """Whose promise is tried, for the record."""
    return Audited("head", subject.epsilon, subject.delta, subject.mu)


def _auditable_settings(run: Path) -> FinetuneSettings:
    """The settings of a run whose head can be audited.

    Raises:
        InputError: when the run is of another stage, promises nothing, or trains what the attacks
            do not know.
    """
    status = read_status(run)
    stage = status.stage if status is not None else "nothing"
    if stage != "finetune":
        raise InputError(
            f"{run}: a run of {stage}; audit takes one of finetune or train-gan with an epsilon"
        )
    values = read_settings(FinetuneSettings, run / "config.yaml")
    settings = validate_settings(FinetuneSettings, values, where=f"{run.name}/config.yaml")
    refuse_unprotected(run, settings.privacy)
    if settings.network is None and (
        settings.head.kind == "mlp" or settings.head.sampling_rate < 1
    ):
        raise InputError(
            f"{run}: the audit attacks linear heads that see all patients in each step; audit a "
            "run of another head.kind, with head.sampling_rate 1"
        )
    return settings


def subject_of(run: Path, settings: FinetuneSettings) -> Subject:
    """The training of a run's head, with the mechanism that stands in its ledger.

    Raises:
        InputError: when the data or an ancestor has changed since.
    """
    plan = audited_plan(run, finetuning_plan(settings))
    assert plan.mechanism is not None  # `audited_plan` has asked
    setup = set_up_head(settings, plan.dataset)
    return Subject(
        examples=setup.examples,
        recipe=head_recipe(settings.head, plan.stage_epsilon),
        mechanism=plan.mechanism,
        start=setup.start,
        delta=settings.privacy.delta,
        noise=settings.privacy.noise,
        public=setup.public,
    )


def network_subject_of(
    run: Path, settings: FinetuneSettings, recipe: NetworkSettings
) -> network.NetworkSubject:
    """The training of a run's network, or of its last blocks, as `subject_of`."""
    plan = audited_plan(run, finetuning_plan(settings))
    assert plan.mechanism is not None  # `audited_plan` has asked
    setup = set_up_network(settings, recipe, plan.dataset)
    return network.NetworkSubject(
        top=setup.trained,
        examples=setup.examples,
        recipe=recipe.at(plan.stage_epsilon),
        mechanism=plan.mechanism,
        delta=settings.privacy.delta,
        noise=settings.privacy.noise,
        seed=settings.seed,
        dataset=plan.dataset,
    )


def attack(
    subject: Subject, settings: AuditSettings, broken_before: Sequence[str] = ()
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
