"""What an audit leaves in `private/audit`: audit.json for programs, audit.md for people."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGTERM
from time import perf_counter
from typing import Any, TypeVar

from synthdp.data.dataset import Dataset
from synthdp.errors import InputError, RunError
from synthdp.machine.interrupts import handled, interrupt
from synthdp.machine.progress import at_work
from synthdp.privacy.accounting.bounds import (
    at_least,
    at_most,
    epsilon_text,
    percent,
    percent_interval,
)
from synthdp.privacy.attacks.audit import Bound
from synthdp.privacy.attacks.membership import MembersFound
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.noisy_sum.noise import KEY_FILE
from synthdp.privacy.promise.plan import PrivacyPlan
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.settings import PrivacySettings
from synthdp.runs.folder import versions
from synthdp.runs.inputs import noted_paths, read_inputs, refuse_changed
from synthdp.storage.files import read_json, write_atomic, write_json

SCHEMA_VERSION = 1
FALSE_ALARM_RATES = (0.01, 0.001)
#: Tests that share the risk of a false alarm: noise, five bounds, two rates of membership.
CHECKS = 8
_EXACT = 1e-6
Result = TypeVar("Result")


@dataclass(frozen=True)
class Replay:
    """What a replay compared, and what it showed.

    neighbours: how many neighbouring sets; largest_move: of a clipped sum, in clip norms; draws:
    Gaussian values that were tested; broken: broken promises, in words; none when sound.
    """

    neighbours: int
    largest_move: float
    draws: int
    broken: tuple[str, ...]


@dataclass(frozen=True)
class Audited:
    """Whose promise is tried. what: "head", "network" ...; the rest is of this training alone."""

    what: str
    epsilon: float
    delta: float
    mu: float


@dataclass(frozen=True)
class AuditResult:
    """All that an audit showed.

    bounds: at the stated confidence; members: for each of `FALSE_ALARM_RATES`; broken: in words,
    none where the promise holds; seconds: of each part; replay_words, members_title and
    members_words: how far these two went, for people.
    """

    replayed: Replay
    bounds: tuple[Bound, ...]
    members: tuple[MembersFound, ...]
    broken: tuple[str, ...]
    seconds: dict[str, float]
    replay_words: str
    members_title: str
    members_words: str


class Clock:
    """Times the parts of an audit."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, part: str, work: Callable[[], Result]) -> Result:
        """What `work` gives; its time is kept as that of `part`."""
        began = perf_counter()
        with at_work(part):
            result = work()
        self.seconds[part] = round(perf_counter() - began, 1)
        return result


def keep_audit(settings: AuditSettings, attack: Callable[[], tuple[AuditResult, Audited]]) -> Path:
    """The folder of an audit: attacked now, or at once when the same audit stands.

    Raises:
        InputError: when what the run was made from has changed since: it can't be trained again.
        RunError: when the promise is broken; the folder says how.
    """
    refuse_changed(settings.run, lambda: read_inputs(noted_paths(settings.run)))
    out = settings.run / "private" / "audit"
    asked = {  # what decides an audit of a run: workers don't
        "schema_version": SCHEMA_VERSION,
        "settings": settings.model_dump(mode="json", exclude={"run", "workers"}),
        "versions": versions(),
    }
    stored = _stored(out)
    if not asked.items() <= stored.items():
        with handled((SIGTERM,), interrupt):  # so that scratch folders go
            result, audited = attack()
        date = datetime.now(UTC).date().isoformat()
        stored = {**asked, "date": date, **as_json(result, audited)}
        write_atomic(out / "audit.md", report(result, settings, audited))
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


def refuse_unprotected(run: Path, privacy: PrivacySettings, *, instead: str = "") -> None:
    """Refuse a run that promises nothing, since there is nothing to break.

    Args:
        run: its folder.
        privacy: its settings.
        instead: what looks at such a run, for the error.

    Raises:
        InputError: when its training had no noise, or noise that anybody can draw again.
    """
    if not privacy.protects:
        raise InputError(
            f"{run}: trained without differential privacy, so there is no promise to audit; audit "
            f"a run with privacy.epsilon or privacy.risk{instead}"
        )
    if privacy.fixed_noise_key is not None:
        raise InputError(
            f"{run}: its noise comes from a fixed key, so nothing is promised; audit a run without "
            "privacy.fixed_noise_key"
        )


def audited_plan(run: Path, planned: PrivacyPlan) -> PrivacyPlan:
    """The plan of a finished run, with the release that stands in its ledger.

    Args:
        run: its folder.
        planned: from its settings.

    Raises:
        InputError: when the ledger holds no release with a mechanism, or the data or an ancestor
            has changed since.
    """
    release = Ledger(run / "private" / "ledger.jsonl").release
    if release is None or release.mechanism is None:
        raise InputError(f"{run}: its ledger holds no release with a mechanism; restore it")
    if not planned.with_release_id(release.id).release.same_but_for_rounding(release):
        raise InputError(
            f"{run}: its data set or an ancestor has changed since it was trained; make the run "
            "again"
        )
    return replace(planned, release=release)


def broken_records(run: Path, statement: Statement, delta: float, dataset: Dataset) -> list[str]:
    """What is wrong with what is on record of a run, in its own folder and beside its patients.

    Its ledger is held against its statement, and both against what the data set says of itself: a
    release on patients who are protected is counted, and one on others (public images, phantoms)
    is none. A key left behind is found too.
    """
    broken = []
    spent = Ledger(run / "private" / "ledger.jsonl").spent()
    epsilon = spent.loss.epsilon(delta)
    own = [release for release in statement.lineage.releases if release.id == spent.id]
    if own and (statement.epsilon_stage < epsilon * (1 - _EXACT) or own[0].mu < spent.mu):
        broken.append("the statement promises less than the ledger counts")
    if dataset.info.protects_patients:
        recorded = recorded_releases(dataset.ledger_path, dataset.info.ledger)
        if not own or spent.id not in {release.id for release in recorded}:
            broken.append("a release on patients is not counted in the statement and beside them")
    elif own:
        broken.append("the statement counts a release on images of which no patient is protected")
    if (run / "private" / KEY_FILE).exists():
        broken.append("the noise key of a finished run is still there")
    return broken


def broken_bounds(bounds: Sequence[Bound], promised: float) -> list[str]:
    """The bounds, at a confidence that makes false alarms rare, that are above the promise."""
    return [
        f"{bound.attack} ({bound.method}) shows epsilon >= "
        f"{at_least(bound.epsilon, digits=4)}, and {at_most(promised, digits=4)} is promised"
        for bound in bounds
        if bound.epsilon > promised
    ]


def as_json(result: AuditResult, audited: Audited) -> dict[str, Any]:
    """The result for `audit.json`; an infinite number is the word "inf"."""

    def plain(value: Any) -> dict[str, Any]:
        return {
            key: "inf" if isinstance(entry, float) and math.isinf(entry) else entry
            for key, entry in asdict(value).items()
        }

    replayed = plain(result.replayed)
    replayed["findings"] = replayed.pop("broken")  # as audits are stored
    return {
        "audited": audited.what,
        "promise": {"epsilon": audited.epsilon, "delta": audited.delta, "mu": audited.mu},
        "broken": list(result.broken),
        "replay": replayed,
        "bounds": [plain(bound) for bound in result.bounds],
        "membership": [{**plain(rate), "attack": result.members_title} for rate in result.members],
        "seconds": result.seconds,
    }


def report(result: AuditResult, settings: AuditSettings, audited: Audited) -> str:
    """The text for people, in Markdown."""
    confidence = f"{100 * settings.confidence:g} %"
    bounds = [
        [
            bound.attack,
            bound.method,
            "-" if bound.mu is None else at_least(bound.mu, digits=3),
            at_least(bound.epsilon, digits=3),
            epsilon_text(audited.epsilon),
            f"{100 * bound.epsilon / audited.epsilon:.0f} %"
            if math.isfinite(bound.epsilon)
            else "inf",
        ]
        for bound in result.bounds
    ]
    members = [
        [
            f"{100 * at.false_alarms:g} % ({at.people:.1f} people)",
            f"{100 * at.rate:.2f} %",
            percent_interval(at.low, at.high),
            percent(at.promised),
        ]
        for at in result.members
    ]
    verdict = ["**The promise held against every attack of this audit.**"]
    if result.broken:
        verdict = ["**THE PROMISE IS BROKEN:**", "", *(f"- {words}" for words in result.broken)]
    lines = [
        f"# Audit of a private {audited.what}",
        "",
        *verdict,
        "",
        f"Promised by this training alone: epsilon = {epsilon_text(audited.epsilon)} at delta = "
        f"{audited.delta:g} (mu = {at_most(audited.mu, digits=4)}).",
        "",
        "## Lower bounds on epsilon",
        "",
        f"One-sided, {confidence} confidence each. f-DP and Clopper-Pearson assume nothing of the "
        "scores; the Gaussian fit takes them as normal. A sound training is called broken in fewer "
        f"than {settings.false_alarms:g} of audits.",
        "",
        *_table(["attack", "method", "mu >=", "epsilon >=", "promise", "share"], bounds),
        "",
        f"## {result.members_title}",
        "",
        f"{result.members_words} Two-sided {confidence} interval from redrawing patients.",
        "",
        *_table(["false alarms", "members found", "interval", "at most, as promised"], members),
        "",
        "## Replay",
        "",
        f"{result.replayed.neighbours} neighbouring sets, step by step: one patient moves a sum by "
        f"at most {at_most(result.replayed.largest_move, digits=7)} clip norms; "
        f"{result.replayed.draws} draws of noise tested; {result.replay_words}",
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
