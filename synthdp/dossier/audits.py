"""Audits that a dossier may count: each is of a training that the statement names."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synthdp.config.settings import Settings, validate_settings
from synthdp.errors import InputError
from synthdp.privacy.lineage import Release, Spent
from synthdp.privacy.promise.statement import Statement
from synthdp.status import read_status
from synthdp.storage.files import read_json

AUDIT_FILE = "private/audit/audit.json"
_SAME_MU = 1e-6


class Promised(Settings, extra="ignore"):
    """What an audit was held against: the training alone, at its delta."""

    epsilon: Spent
    delta: float
    mu: Spent | None = None


class Replayed(Settings, extra="ignore"):
    """What a replay of neighbours compared."""

    neighbours: int
    draws: int


class LowerBound(Settings, extra="ignore"):
    """An empirical lower bound on epsilon."""

    attack: str
    method: str
    epsilon: Spent


class MemberRate(Settings, extra="ignore"):
    """How often members were found at a rate of false alarms, and at most as promised.

    attack: by what; empty in audits of older versions, which knew LiRA on heads alone.
    """

    attack: str = ""
    false_alarms: float
    rate: float
    low: float
    high: float
    promised: float


class AuditExtent(Settings, extra="ignore"):
    """How far an audit went, of its settings; None where it has no such setting."""

    confidence: float | None = None
    canaries: int | None = None
    runs: int | None = None
    dimensions: int | None = None
    shadows: int | None = None
    replayed_steps: int | None = None


class AuditRecord(Settings, extra="ignore"):
    """What `synthdp audit` wrote in `audit.json`; versions add to it, so more is read past.

    audited: what was trained again, such as a head or a network; date: the day on which the attacks
    ended; empty in audits of older versions.
    """

    settings: AuditExtent
    versions: dict[str, str]
    promise: Promised
    broken: tuple[str, ...]
    audited: str = "head"
    date: str = ""
    replay: Replayed | None = None
    bounds: tuple[LowerBound, ...] = ()
    membership: tuple[MemberRate, ...] = ()


@dataclass(frozen=True)
class Audit:
    """An audit of one run's training: whose, and what it wrote."""

    run: str
    stage: str
    record: AuditRecord


def read_audits(
    runs: Sequence[Path], statement: Statement
) -> tuple[tuple[Audit, ...], tuple[str, ...]]:
    """Audits of trainings that the statement counts, and runs whose audit is of another one.

    Raises:
        InputError: when an audit is damaged.
    """
    counted = {release.id: release for release in statement.lineage.releases}
    audits, stale = {}, {}
    for run in dict.fromkeys(path.resolve() for path in runs):
        release = counted.get(release_of(run))
        if release is None or not (run / AUDIT_FILE).is_file():
            continue
        content = read_json(run / AUDIT_FILE)
        if not isinstance(content, dict):
            raise InputError(f"{run.name}/{AUDIT_FILE}: no audit; run `synthdp audit` again")
        record = validate_settings(AuditRecord, content, where=f"{run.name}/{AUDIT_FILE}")
        if _is_of(record, release):
            audits[run] = Audit(run.name, release.stage, record)
        else:
            stale[run] = run.name
    return tuple(audits.values()), tuple(stale.values())


def release_of(run: Path) -> str:
    """The id of the release that a run made; empty where it made none."""
    status = read_status(run)
    return "" if status is None else status.release


def _is_of(record: AuditRecord, release: Release) -> bool:
    """Whether an audit attacked this release's mechanism, by what it was held against."""
    mechanism, mu = release.mechanism, record.promise.mu
    if mechanism is None:
        return False
    return mu is None or math.isclose(mu, mechanism.mu, rel_tol=_SAME_MU)
