"""The audit stage: tries to break the promise of a finished head, and says how far it came.

It trains the head again many times, on the run's own features and mechanism with other noise:
replays neighbours, plants canaries, and asks who was in. What it finds is private.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from classify.auditing.canaries import (
    many_runs,
    many_runs_bounds,
    one_run,
    one_run_bounds,
)
from classify.auditing.membership import ATTACK, MembersFound, membership
from classify.auditing.replay import Replay, replay
from classify.auditing.subject import Subject
from classify.config import AuditSettings, FinetuneSettings
from classify.finetune import finetuning_plan, set_up_head
from classify.head.train import head_recipe
from synthdp.config import read_yaml, validate_settings
from synthdp.errors import InputError, RunError
from synthdp.files import read_json, write_atomic, write_json
from synthdp.privacy.audit import Bound
from synthdp.privacy.bounds import at_least, at_most, epsilon_text, percent
from synthdp.privacy.ledger import Ledger
from synthdp.privacy.noise import KEY_FILE
from synthdp.privacy.stated import written_statement
from synthdp.privacy.statement import Statement
from synthdp.runs import versions
from synthdp.status import read_status

SCHEMA_VERSION = 1
FALSE_ALARM_RATES = (0.01, 0.001)
#: Tests that share the risk of a false alarm: noise, five bounds, two rates of membership.
_CHECKS = 8
_EXACT = 1e-6
Result = TypeVar("Result")


@dataclass(frozen=True)
class AuditResult:
    """All that an audit showed.

    bounds: at the stated confidence; members: for each of `FALSE_ALARM_RATES`; broken: in words,
    none where the promise holds; seconds: of each part.
    """

    replayed: Replay
    bounds: tuple[Bound, ...]
    members: tuple[MembersFound, ...]
    broken: tuple[str, ...]
    seconds: dict[str, float]


def run_audit(settings: AuditSettings) -> Path:
    """Audit a finished run of finetune; at once when the same audit stands.

    Returns:
        `RUN/private/audit`, with audit.json and audit.md.

    Raises:
        InputError: when the run is not finished, promises nothing, or has no head to audit.
        RunError: when the promise is broken; the folder says how.
    """
    out = settings.run / "private" / "audit"
    statement = written_statement(settings.run)
    asked = {  # what decides an audit of a run: workers don't
        "schema_version": SCHEMA_VERSION,
        "settings": settings.model_dump(mode="json", exclude={"run", "workers"}),
        "versions": versions(),
    }
    stored = _stored(out)
    if not asked.items() <= stored.items():
        subject = subject_of(settings.run, _auditable_settings(settings.run))
        broken = broken_records(settings.run, statement, subject)
        result = attack(subject, settings, broken)
        date = datetime.now(UTC).date().isoformat()  # a dossier says when it was attacked
        stored = {**asked, "date": date, **as_json(result, subject)}
        write_atomic(out / "audit.md", report(result, settings, subject))
        write_json(out / "audit.json", stored)
    if stored["broken"]:
        raise RunError(
            "the promise is broken: " + "; ".join(stored["broken"]) + f". See {out}/audit.md"
        )
    return out


def _stored(out: Path) -> dict[str, Any]:
    """The audit that stands in a folder; empty where there is none, or a damaged one."""
    try:
        stored = read_json(out / "audit.json") if (out / "audit.json").is_file() else {}
    except InputError:  # it is made again
        return {}
    broken = stored.get("broken") if isinstance(stored, dict) else None
    known = isinstance(broken, list) and all(isinstance(one, str) for one in broken)
    return stored if known else {}


def _auditable_settings(run: Path) -> FinetuneSettings:
    """The settings of a run whose head can be audited.

    Raises:
        InputError: when the run is of another stage, promises nothing, or trains what the attacks
            do not know.
    """
    status = read_status(run)
    stage = status.stage if status is not None else "nothing"
    if stage != "finetune":
        raise InputError(f"{run}: a run of {stage}; audit takes one of finetune with an epsilon")
    values = read_yaml(run / "config.yaml")
    settings = validate_settings(FinetuneSettings, values, where=f"{run.name}/config.yaml")
    if not settings.privacy.protects:
        raise InputError(
            f"{run}: trained without differential privacy, so there is no promise to audit; audit "
            "a run with privacy.epsilon or privacy.risk"
        )
    if settings.privacy.fixed_noise_key is not None:
        raise InputError(
            f"{run}: its noise comes from a fixed key, so nothing is promised; audit a run without "
            "privacy.fixed_noise_key"
        )
    if settings.network is not None:
        raise InputError(
            f"{run}: trains the network's last blocks, and the audit's attacks need the hundreds "
            "of trainings that a head alone allows; audit a run without `network`"
        )
    if settings.head.kind == "mlp" or settings.head.sampling_rate < 1:
        raise InputError(
            f"{run}: the audit attacks linear heads that see all patients in each step; audit a "
            "run of another head.kind, with head.sampling_rate 1"
        )
    return settings


def subject_of(run: Path, settings: FinetuneSettings) -> Subject:
    """The training of a run, with the mechanism that stands in its ledger.

    Raises:
        InputError: when the data or an ancestor has changed since.
    """
    release = Ledger(run / "private" / "ledger.jsonl").release
    if release is None or release.mechanism is None:
        raise InputError(f"{run}: its ledger holds no release with a mechanism; restore it")
    plan = finetuning_plan(settings).with_release_id(release.id)
    if not plan.release.same_but_for_rounding(release):
        raise InputError(
            f"{run}: its data set or an ancestor has changed since it was trained; make the run "
            "again"
        )
    plan = replace(plan, release=release)
    setup = set_up_head(settings, plan.dataset)
    return Subject(
        examples=setup.examples,
        recipe=head_recipe(settings.head, plan.stage_epsilon),
        mechanism=release.mechanism,
        start=setup.start,
        delta=settings.privacy.delta,
        noise=settings.privacy.noise,
        public=setup.public,
    )


def broken_records(run: Path, statement: Statement, subject: Subject) -> list[str]:
    """What is wrong in the run's own folder: ledger against statement, and a key left behind."""
    broken = []
    spent = Ledger(run / "private" / "ledger.jsonl").spent()
    epsilon = spent.loss.epsilon(subject.delta)
    own = [release for release in statement.lineage.releases if release.id == spent.id]
    if own and (statement.epsilon_stage < epsilon * (1 - _EXACT) or own[0].mu < spent.mu):
        broken.append("the statement promises less than the ledger counts")
    if (run / "private" / KEY_FILE).exists():
        broken.append("the noise key of a finished run is still there")
    return broken


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
    risk = settings.false_alarms / _CHECKS
    seconds: dict[str, float] = {}

    def timed(part: str, work: Callable[[], Result]) -> Result:
        began = perf_counter()
        result = work()
        seconds[part] = round(perf_counter() - began, 1)
        return result

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
    broken += broken_bounds(bounds(1 - risk), subject)
    broken += [f"{ATTACK} finds more than is possible" for rate in members if rate.broken]
    return AuditResult(
        replayed=replayed,
        bounds=tuple(bounds(settings.confidence)),
        members=tuple(members),
        broken=tuple(dict.fromkeys(broken)),
        seconds=seconds,
    )


def broken_bounds(bounds: list[Bound], subject: Subject) -> list[str]:
    """The bounds, at a confidence that makes false alarms rare, that are above the promise."""
    return [
        f"{bound.attack} ({bound.method}) shows epsilon >= "
        f"{at_least(bound.epsilon, digits=4)}, and "
        f"{at_most(subject.epsilon, digits=4)} is promised"
        for bound in bounds
        if bound.epsilon > subject.epsilon
    ]


def as_json(result: AuditResult, subject: Subject) -> dict[str, Any]:
    """The result for `audit.json`; an infinite number is the word "inf"."""

    def plain(value: Any) -> dict[str, Any]:
        return {
            key: "inf" if isinstance(entry, float) and math.isinf(entry) else entry
            for key, entry in asdict(value).items()
        }

    replayed = plain(result.replayed)
    replayed["findings"] = replayed.pop("broken")  # as audits are stored
    return {
        "promise": {"epsilon": subject.epsilon, "delta": subject.delta, "mu": subject.mu},
        "broken": list(result.broken),
        "replay": replayed,
        "bounds": [plain(bound) for bound in result.bounds],
        "membership": [plain(rate) for rate in result.members],
        "seconds": result.seconds,
    }


def report(result: AuditResult, settings: AuditSettings, subject: Subject) -> str:
    """The text for people, in Markdown."""
    confidence = f"{100 * settings.confidence:g} %"
    bounds = [
        [
            bound.attack,
            bound.method,
            "-" if bound.mu is None else at_least(bound.mu, digits=3),
            at_least(bound.epsilon, digits=3),
            epsilon_text(subject.epsilon),
            f"{100 * bound.epsilon / subject.epsilon:.0f} %"
            if math.isfinite(bound.epsilon)
            else "inf",
        ]
        for bound in result.bounds
    ]
    members = [
        [
            f"{100 * at.false_alarms:g} % ({at.people:.1f} people a head)",
            f"{100 * at.rate:.2f} %",
            f"{100 * at.low:.2f} to {100 * at.high:.2f} %",
            percent(at.promised),
        ]
        for at in result.members
    ]
    verdict = ["**The promise held against every attack of this audit.**"]
    if result.broken:
        verdict = ["**THE PROMISE IS BROKEN:**", "", *(f"- {words}" for words in result.broken)]
    lines = [
        "# Audit of a private head",
        "",
        *verdict,
        "",
        f"Promised by this training alone: epsilon = {epsilon_text(subject.epsilon)} at delta = "
        f"{subject.delta:g} (mu = {at_most(subject.mu, digits=4)}).",
        "",
        "## Lower bounds on epsilon",
        "",
        f"One-sided, {confidence} confidence each. f-DP and Clopper-Pearson assume nothing of the "
        "scores; the Gaussian fit takes them as normal. A sound training is called broken in fewer "
        f"than {settings.false_alarms:g} of audits.",
        "",
        *_table(["attack", "method", "mu >=", "epsilon >=", "promise", "share"], bounds),
        "",
        "## Members found by LiRA on the finished head",
        "",
        f"{settings.shadows} shadow heads on halves of the patients; two-sided {confidence} "
        "interval from redrawing patients.",
        "",
        *_table(["false alarms", "members found", "interval", "at most, as promised"], members),
        "",
        "## Replay",
        "",
        f"{result.replayed.neighbours} neighbouring sets, step by step: one patient moves a sum by "
        f"at most {result.replayed.largest_move:.4f} clip norms; {result.replayed.draws} draws of "
        "noise tested; two crashes and a clean stop resumed.",
        "",
        "## Time",
        "",
        ", ".join(f"{part} {seconds:.0f} s" for part, seconds in result.seconds.items()) + ".",
        "",
        "This report rests on private data and is outside the promise: it stays in `private/`.",
    ]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return "| " + " | ".join(padded) + " |"

    return [line(head), line(["-" * width for width in widths]), *(line(row) for row in rows)]
