"""What was attacked, when, how far, and how it ended: by kind, as EDPB opinion 28/2024 lists them.

What an audit found are exact functions of patients, outside every promise. A dossier shows how an
attack ended, and its figures where they are asked for by name.
"""

import math
from collections.abc import Iterator, Sequence

from synthdp.dossier.audits import Audit, AuditExtent, AuditRecord
from synthdp.dossier.evidence import Evidence
from synthdp.evaluation.assessment import Assessment, Figure, Section
from synthdp.privacy.accounting.bounds import epsilon_text, exactly, percent
from synthdp.privacy.attacks.audit import MANY_RUNS, ONE_RUN
from synthdp.privacy.promise.dossier import AttackFigure, AttackKind, AttackTest
from synthdp.privacy.promise.statement import Statement

_NIST_AUDIT = "NIST SP 800-226, 2 (auditing)"
_TESTS = "EDPB 28/2024, 55"
_NO_COMMAND = "not run; no command of synthdp does"
_AUDIT = "not run; `synthdp audit RUN` does"
_AUDIT_ANCESTOR = "not run; `synthdp audit RUN` does, of the run that this one goes on from"
_ASSESS = "not run; `synthdp assess SET --real DIR` does, on a set that it made"
_AUDIT_OR_ASSESS = (
    "not run; `synthdp audit RUN` does for a run of `method: embedding`, and "
    "`synthdp assess SET --real DIR` on a set that it made"
)
_ASSESS_SET = "not run; `synthdp assess SET --real DIR` does"
_ASSESSED: dict[Section, str] = {
    "Membership": "closeness to synthetic images, of patients in and out",
    "Memorisation": "search for copies of patients among the images",
    "Disclosure": "guesses of what stands beside a patient's image, by the nearest synthetic image",
}
#: Stages whose result draws images.
_GENERATORS = ("train-gan", "mix-generators", "import-generator")


def attacks_on(evidence: Evidence, *, with_figures: bool) -> tuple[AttackKind, ...]:
    """Every kind of attack: its bound by the promise, what was run of it, or what would run it.

    Args:
        evidence: what commands wrote down.
        with_figures: show the exact figures of attacks, which are outside every promise.
    """
    audits = evidence.audits
    of_sets = evidence.assessments
    promised = _odds_bounds(evidence.statement)
    return (
        AttackKind(
            kind="membership inference",
            texts=(_TESTS, _NIST_AUDIT),
            bound=promised["membership"],
            tests=(
                *(test for audit in audits for test in _membership_tests(audit, with_figures)),
                *_assessed(of_sets, "Membership", with_figures),
            ),
            not_run=_membership_not_run(evidence),
        ),
        AttackKind(
            kind="attribute inference",
            texts=(_TESTS,),
            bound=promised["attribute"],
            tests=tuple(_assessed(of_sets, "Disclosure", with_figures)),
            not_run=_regurgitation_not_run(evidence),
        ),
        AttackKind(
            kind="reconstruction and model inversion",
            texts=(_TESTS,),
            bound=promised["reconstruction"],
            not_run=_NO_COMMAND,
        ),
        AttackKind(
            kind="regurgitation of training images",
            texts=(_TESTS,),
            bound="as for reconstruction",
            tests=tuple(_assessed(of_sets, "Memorisation", with_figures)),
            not_run=_regurgitation_not_run(evidence),
        ),
        AttackKind(
            kind="exfiltration",
            texts=(_TESTS,),
            bound="the promise is made against whoever holds all that is released; it says nothing "
            "of what stays in the house, should that be stolen",
            not_run=_NO_COMMAND,
        ),
        AttackKind(
            kind="faults of the implementation",
            texts=(_NIST_AUDIT, "NIST SP 800-226, 4 (side channels)"),
            bound="no patient moves a sum by more than the clip norm",
            tests=tuple(test for audit in audits for test in _fault_tests(audit)),
            not_run=faults_not_run(evidence),
        ),
    )


def _odds_bounds(statement: Statement) -> dict[str, str]:
    """At most how far an attacker comes, by what he is after: of the statement's odds."""
    if not statement.lineage.releases:
        none = (
            "nothing that a record shows: what went into it is declared alone"
            if statement.lineage.declared
            else f"nothing for the patients of {' and '.join(statement.lineage.public)}, which was "
            "declared public; no release on any other is counted"
            if statement.lineage.public
            else "no release on any patient is counted, so there is nobody to find"
        )
        return {"membership": none, "attribute": none, "reconstruction": none}
    if math.isinf(statement.epsilon):
        none = "nothing: an attacker may find out all there is to find"
        return {"membership": none, "attribute": none, "reconstruction": none}
    odds = statement.odds
    return {
        "membership": "an attacker who knows everybody else's images finds at most "
        f"{percent(odds.found_at_1_percent)} of those who were in, while 1 % of others are falsely "
        f"accused; {percent(odds.found_at_01_percent)} at 0.1 %",
        "attribute": "none stated by itself"
        if odds.attribute_even is None or odds.attribute_of_ten is None
        else f"at most {percent(odds.attribute_even)} of guesses of an even yes/no fact come right "
        f"(blind: 50 %), {percent(odds.attribute_of_ten)} of one of ten values (blind: 10 %)",
        "reconstruction": "none stated by itself"
        if odds.reconstructed is None
        else f"at most {percent(odds.reconstructed)} of attempts, at an image that a blind guess "
        "hits once in a million",
    }


def faults_not_run(evidence: Evidence) -> str:
    """What would look for faults of the training: an audit of it, or of an ancestor's."""
    known = {
        "finetune": _AUDIT,
        "study": _AUDIT,
        "calibrate": _AUDIT_ANCESTOR,
        "train-gan": "not run; `synthdp audit RUN` does for a run of `method: embedding`",
    }
    ancestor = f"{_AUDIT_ANCESTOR}, and `--evidence RUN` reads it"
    no_training = ancestor if evidence.releases else _NO_COMMAND
    return known.get(evidence.subject.stage, no_training)


def _membership_not_run(evidence: Evidence) -> str:
    if evidence.stale:
        return (
            "the audit in the folder is of another training, so it is left out; "
            "`synthdp audit RUN` attacks this one"
        )
    if evidence.subject.kind == "data set":
        return _ASSESS_SET
    if evidence.subject.stage in _GENERATORS:
        return _AUDIT_OR_ASSESS if evidence.subject.stage == "train-gan" else _ASSESS
    return faults_not_run(evidence)


def _regurgitation_not_run(evidence: Evidence) -> str:
    if evidence.subject.kind == "data set":
        return _ASSESS_SET
    if evidence.subject.stage in _GENERATORS:
        return _ASSESS
    return f"{_NO_COMMAND}: a classifier gives scores, and draws no image"


def _membership_tests(audit: Audit, with_figures: bool) -> Iterator[AttackTest]:
    """The attacks of an audit that ask who was in: lower bounds on epsilon, and members found."""
    record, settings = audit.record, audit.record.settings
    sure = settings.confidence
    confidence = "" if sure is None else f"; {100 * sure:g} % confidence each"
    within = (
        f"Found no more than epsilon {epsilon_text(record.promise.epsilon)} at delta "
        f"{exactly(record.promise.delta)} of this training allows."
    )
    for attack in dict.fromkeys(bound.attack for bound in record.bounds):
        figures = [
            AttackFigure(
                name=f"epsilon at least ({bound.method})",
                value=bound.epsilon,
                promised=record.promise.epsilon,
            )
            for bound in record.bounds
            if bound.attack == attack
        ]
        extent = f"{_extent(attack, settings)}{confidence}"
        yield _audit_test(audit, attack, extent, within, figures if with_figures else ())
    for title in dict.fromkeys(at.attack for at in record.membership):
        figures = [
            AttackFigure(
                name=f"members found at {percent(at.false_alarms)} false alarms",
                value=at.rate,
                low=at.low,
                high=at.high,
                promised=at.promised,
                is_share=True,
            )
            for at in record.membership
            if at.attack == title
        ]
        name = (title or "Members found by LiRA on the finished head").removeprefix("Members ")
        extent = _membership_extent(record)
        yield _audit_test(audit, f"members {name}", extent, within, figures if with_figures else ())


def _fault_tests(audit: Audit) -> Iterator[AttackTest]:
    """The replay of an audit: what neighbouring sets, noise and stops came to."""
    record, replay = audit.record, audit.record.replay
    if replay is None:
        return
    steps = "step by step"
    if record.audited == "network" and record.settings.replayed_steps is not None:
        steps = f"their first {record.settings.replayed_steps} steps"
    yield _audit_test(
        audit,
        "replay of neighbouring sets, of noise and of stops",
        f"{replay.neighbours} neighbouring sets, {steps}; {replay.draws} draws of noise tested",
        "Sums, noise and stops came out as declared.",
    )


def _audit_test(
    audit: Audit, attack: str, extent: str, held: str, figures: Sequence[AttackFigure] = ()
) -> AttackTest:
    """One attack of an audit; `held`: what is said of it where nothing in the audit broke."""
    record = audit.record
    return AttackTest(
        command=f"synthdp audit {audit.run}",
        attack=attack if record.audited == "head" else f"{attack} ({record.audited})",
        date=record.date,
        version=record.versions.get("synthdp", ""),
        extent=extent,
        result="BROKEN" if record.broken else "held",
        words=f"{audit.run}/private/audit/audit.md says how." if record.broken else held,
        figures=tuple(figures),
    )


def _membership_extent(record: AuditRecord) -> str:
    """How far the search for members went."""
    shadows = record.settings.shadows
    if record.audited == "network":
        return "the one finished model, on patients of train and those held out"
    made = "releases" if record.audited == "embedding" else "shadow trainings"
    return f"{'' if shadows is None else f'{shadows} '}{made} on halves of the patients"


def _extent(attack: str, settings: AuditExtent) -> str:
    """How far an attack went, from the settings of the audit; those that it knows."""
    known = {
        ONE_RUN: ((settings.canaries, "canaries in one training"),),
        MANY_RUNS: (
            (settings.runs, "trainings, with that patient or without"),
            (settings.dimensions, "dimensions"),
        ),
    }
    parts = [f"{number} {words}" for number, words in known.get(attack, ()) if number is not None]
    return ", ".join(parts) or "as its settings in private/audit/audit.json say"


def _assessed(
    assessments: Sequence[Assessment], section: Section, with_figures: bool
) -> Iterator[AttackTest]:
    """One test for each assessment that has figures of the section."""
    for assessment in assessments:
        figures = [one for one in assessment.figures if one.section == section]
        if figures:
            spaces = ", ".join(dict.fromkeys(one.features for one in figures))
            yield AttackTest(
                command=f"synthdp assess {assessment.info.name}",
                attack=_ASSESSED[section],
                date=assessment.date,
                extent=f"against {assessment.real.name}, in {spaces}",
                result="measured",
                words=f"{len(figures)} figure{'s' * (len(figures) > 1)}, held against no bound.",
                figures=tuple(map(_value, figures)) if with_figures else (),
            )


def _value(figure: Figure) -> AttackFigure:
    synthetic = figure.synthetic
    return AttackFigure(
        name=f"{figure.measure}, {figure.features} ({synthetic.why or figure.comparison})",
        value=synthetic.value,
        low=synthetic.ci_low,
        high=synthetic.ci_high,
    )
