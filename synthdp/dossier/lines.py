"""The lines of a dossier: what each text asks for, and what is on record of it.

Words are of the statement and of what was read beside it. A line without a record says which
command would make one; a line that no command can fill is a blank for the controller.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from synthdp.dossier.attacks import faults_not_run
from synthdp.dossier.evidence import Access, Evidence
from synthdp.privacy.bounds import at_least, at_most, epsilon_text
from synthdp.privacy.dossier import (
    AttackKind,
    DeploymentModel,
    Implementation,
    Layer,
    Line,
    PrivacyParameters,
    Registry,
    RegistryLoss,
    Utility,
    Variant,
)
from synthdp.privacy.lineage import Release
from synthdp.privacy.statement import OnRecord, Statement
from synthdp.privacy.words import statement_text
from synthdp.study.record import SetFacts

_NIST, _EDPB, _REGISTRY = "NIST SP 800-226", "EDPB 28/2024", "OpenDP registry"
_CONTEXT = f"{_EDPB}, 46"
_TO_FILL_IN = "for the controller to fill in"
#: Up to which epsilon NIST SP 800-226, section 2.2, calls the choice conservative.
_CONSERVATIVE = 1.0


def dossier_layers(
    evidence: Evidence, attacks: Sequence[AttackKind], utility: Sequence[Utility]
) -> tuple[Layer, ...]:
    """The pyramid from the top down, then the documents that EDPB opinion 28/2024 lists."""
    return (
        Layer(
            key="promise",
            title="What is promised",
            about="The top of NIST's pyramid. It holds as far as what stands below it does.",
            lines=(*_promise_lines(evidence.statement), *_private_part_lines(evidence)),
        ),
        Layer(
            key="kept",
            title="How it is kept, and what it costs",
            about="The middle of the pyramid: algorithms and their correctness, utility, bias.",
            lines=tuple(_kept_lines(evidence, attacks, utility)),
        ),
        Layer(
            key="rests_on",
            title="What it rests on",
            about="The bottom of the pyramid: trust, access, side channels, and the exposure that "
            "collecting data brings whatever is released.",
            lines=tuple(_deployment_lines(evidence)),
        ),
        Layer(
            key="documents",
            title="What shows that a model is anonymous",
            about="What EDPB opinion 28/2024 wants to see. Whether the likelihood of identifying "
            "somebody is insignificant is the controller's finding: no command makes it.",
            lines=tuple(_document_lines(evidence, attacks)),
        ),
    )


# The top: epsilon, delta, unit, composition.


def _promise_lines(statement: Statement) -> Iterator[Line]:
    source = "privacy.json, as `synthdp privacy` reads it"
    yield Line(
        key="epsilon",
        asks="Epsilon",
        texts=(f"{_NIST}, 2.2", f"{_REGISTRY}: privacy_parameters"),
        answer=f"{_headline(statement)}{_scale_words(statement.epsilon)}",
        source=source,
    )
    yield Line(
        key="delta",
        asks="Delta",
        texts=(f"{_NIST}, 2.3", f"{_REGISTRY}: privacy_parameters"),
        answer=_delta_words(statement),
        source=source,
    )
    yield Line(
        key="original_parameters",
        asks="Original parameters",
        texts=(f"{_NIST}, 2.3", f"{_REGISTRY}: variant_name"),
        answer=_parameter_words(statement),
        source=source,
    )
    yield Line(
        key="unit",
        asks="Unit of privacy, and neighbours",
        texts=(f"{_NIST}, 2.4", f"{_REGISTRY}: privacy_unit"),
        answer=_unit_words(statement),
        source=source,
    )
    if statement.risk is not None:
        yield Line(
            key="risk",
            asks="Risk that was asked for",
            texts=(f"{_NIST}, 2.2",),
            answer=_bullet(statement, "asked for: "),
            source=source,
        )
    yield Line(
        key="composition",
        asks="Releases that are counted together",
        texts=(f"{_NIST}, 2.2 and 2.6", f"{_REGISTRY}: composition"),
        answer=_composition_words(statement),
        source=source,
    )
    if statement.lineage.declared:
        yield Line(
            key="declared",
            asks="Declared, and shown by no record",
            texts=(f"{_NIST}, 2.6",),
            answer=f"{'; '.join(statement.lineage.declared)}.",
            source=source,
        )
    yield Line(
        key="odds",
        asks="What the best attacker could do",
        texts=(f"{_NIST}, 2.1", f"{_EDPB}, documentation"),
        answer=_paragraph(statement, "What an attacker could do."),
        source=source,
    )


def _private_part_lines(evidence: Evidence) -> Iterator[Line]:
    """What publishing the private runs of a study alone promises, where it has others."""
    part = None if evidence.tables is None else evidence.tables.private_part
    if part is not None and math.isinf(evidence.statement.epsilon):
        yield Line(
            key="private_part",
            asks="The runs with a finite epsilon alone",
            texts=(f"{_NIST}, 2.6",),
            answer=f"{_headline(part)} At delta {part.delta:g}, when no other run is published.",
            source="the runs' privacy.json",
        )


def _headline(statement: Statement) -> str:
    return statement_text(statement).splitlines()[0].replace("**", "")


def _paragraph(statement: Statement, heading: str) -> str:
    """The text of the statement's paragraph that begins with this heading."""
    mark = f"**{heading}**"
    paragraphs = statement_text(statement).split("\n\n")
    return next((p.removeprefix(mark).strip() for p in paragraphs if p.startswith(mark)), "")


def _bullet(statement: Statement, begins: str) -> str:
    """What follows these words in the statement's terms."""
    lines = statement_text(statement).splitlines()
    mark = f"- {begins}"
    return next((line.removeprefix(mark) for line in lines if line.startswith(mark)), "")


def _scale_words(epsilon: float) -> str:
    if math.isinf(epsilon):
        return " Nothing bounds what it gives away of a patient."
    if epsilon <= _CONSERVATIVE:
        return ""
    return (
        f" For scale: NIST calls an epsilon of at most {_CONSERVATIVE:g} conservative, and warns "
        "that large ones may protect little; the last line of this part says what this one is "
        "worth."
    )


def _delta_words(statement: Statement) -> str:
    words = f"{statement.delta:g}."
    if statement.population is None:
        return f"{words} No population was declared that it could be held against."
    n, delta = statement.population, statement.delta
    asked = 1 / n**2
    words += (
        f" With at most {n} {statement.unit}s (declared, not counted), N x delta is "
        f"{at_most(n * delta, digits=2)}; NIST's rule of thumb is a delta of at most 1 / N "
        f"squared, here {asked:.1e}"
    )
    return f"{words}, which this one {'keeps to' if delta <= asked else 'exceeds'}."


def _parameter_words(statement: Statement) -> str:
    protected = [one for one in statement.lineage.releases if math.isfinite(one.mu)]
    if not statement.lineage.releases:
        return "None: no release on any patient is counted."
    if not protected:
        return "None: no release that is counted was protected."
    return "Gaussian noise; each release by itself: " + "; ".join(
        dict.fromkeys(_own_parameters(release) for release in protected)
    )


def _own_parameters(release: Release) -> str:
    mechanism = release.mechanism
    if mechanism is None:
        return f"{release.stage}: mu = {at_most(release.mu, digits=4)}"
    steps = mechanism.steps if release.steps is None else release.steps
    noise = at_least(mechanism.noise_multiplier, digits=4)
    spent, rate = f"mu = {at_most(release.mu, digits=4)}", ""
    if mechanism.sampling_rate < 1:
        spent = "by privacy loss distributions"
        rate = f", sampling rate {at_most(mechanism.sampling_rate, digits=4)} (Poisson)"
    return (
        f"{release.stage}: {spent}, noise multiplier {noise}, clip norm "
        f"{at_most(mechanism.clip_norm, digits=4)}, {steps} step{'' if steps == 1 else 's'}{rate}"
    )


def _unit_words(statement: Statement) -> str:
    words = [
        "The patient: all images of a patient together."
        if statement.unit == "patient"
        else "THE IMAGE, not the patient: a patient with several images is protected less.",
        f"Neighbours: {statement.neighbours}.",
    ]
    if statement.patient is not None:
        words.append(
            f"A patient, of whom at most {statement.patient.images_per_patient} images are used, "
            f"has epsilon {epsilon_text(statement.patient.epsilon)} at delta {statement.delta:g}."
        )
    if looked_at := statement.lineage.found_by_looking:
        words.append(
            f"WHO IS ONE PATIENT WAS FOUND BY LOOKING in {', '.join(looked_at)}, so that a unit "
            "may be several persons, each of whom is promised less."
        )
    return " ".join(words)


def _composition_words(statement: Statement) -> str:
    counted = len(statement.lineage.releases)
    if not counted:
        return "None on any patient."
    names = Counter(_release_name(one) for one in statement.lineage.releases)
    listed = "; ".join(f"{f'{n} times ' * (n > 1)}{name}" for name, n in names.items())
    return (
        f"{counted} release{'s' if counted > 1 else ''}, each counted once, end to end: {listed}."
        + "".join(f" {words}" for words in _record_words(statement))
    )


def _release_name(release: Release) -> str:
    who = f", cohort {release.cohort.part}" if release.cohort is not None else ""
    bare = "" if math.isfinite(release.mu) else " WITHOUT PROTECTION"
    return f"{release.stage} on {release.data}{who}{bare}"


def _record_words(statement: Statement) -> Iterator[str]:
    """What else is on record about the sets that the releases are of."""
    for record in statement.on_record:
        yield (
            f"On record about {record.data} beside these: {record.other_releases} other "
            f"release{'' if record.other_releases == 1 else 's'}; all together epsilon "
            f"{epsilon_text(record.epsilon)}{_budget_words(record)}."
        )


def _budget_words(record: OnRecord) -> str:
    if record.budget is None:
        return ""
    at = "" if record.budget_delta is None else f" at delta {record.budget_delta:g}"
    return f", of a budget of {epsilon_text(record.budget)}{at}"


# The middle: algorithms and correctness, utility, bias.


def _kept_lines(
    evidence: Evidence, attacks: Sequence[AttackKind], utility: Sequence[Utility]
) -> Iterator[Line]:
    yield Line(
        key="mechanisms",
        asks="Algorithms",
        texts=(f"{_NIST}, 3.1 and 3.5", f"{_REGISTRY}: mechanisms"),
        answer=_mechanism_words(evidence.statement),
        source="privacy.json",
    )
    yield Line(
        key="preparation",
        asks="Preparation of data, and choice of settings",
        texts=(f"{_NIST}, 4.3", f"{_REGISTRY}: preprocessing_and_hyperparameter_tuning"),
        answer=_preparation_words(evidence),
        source="config.yaml",
    )
    yield _correctness_line(evidence, attacks)
    yield _utility_line(evidence, utility)
    if evidence.subject.kind != "data set":
        yield _bias_line(utility)


def _mechanism_words(statement: Statement) -> str:
    if all(one.mechanism is None for one in statement.lineage.releases):
        return "None that adds noise."
    return (
        f"In each step the vectors of {statement.unit}s, each clipped to the clip norm, are "
        "summed, Gaussian noise is added to the sum, and it is divided by a declared number. The "
        "numbers stand under Original parameters."
    )


def _preparation_words(evidence: Evidence) -> str:
    settings = evidence.settings
    parts = [f"public network {name}" for name in _networks(settings)]
    for key in ("init", "synthetic", "centre", "phantoms", "private_synthetic", "run"):
        value = settings.get(key)
        if isinstance(value, str) and value:
            parts.append(f"{key} {value}")
    start = f"By the settings: {', '.join(parts)}. " if parts else ""
    tuned = evidence.tables is not None and any(row.tuned for row in evidence.tables.rows)
    chosen = "The study tried several values of some settings. " if tuned else ""
    return (
        f"{start}{chosen}A choice made by looking at patients' scores is outside the promise, and "
        "no command records one."
    )


def _networks(settings: Any) -> Iterator[str]:
    beside = settings.get("beside")
    named = [settings.get("backbone"), *(beside if isinstance(beside, list) else ())]
    yield from dict.fromkeys(
        str(one["name"]) for one in named if isinstance(one, dict) and one.get("name")
    )


def _correctness_line(evidence: Evidence, attacks: Sequence[AttackKind]) -> Line:
    tests = [test for attack in attacks for test in attack.tests if test.result != "measured"]
    line = Line(
        key="correctness",
        asks="Correctness, tested on this very training",
        texts=(f"{_NIST}, 2 (auditing) and 3.1",),
        state="not run",
        answer=faults_not_run(evidence),
        source="private/audit",
    )
    if not tests:
        return line
    broken = any(test.result == "BROKEN" for test in tests)
    of = sorted({test.command for test in tests})
    words = (
        "THE PROMISE IS BROKEN, by an audit"
        if broken
        else f"An audit attacked the training {len(tests)} ways, and the promise held"
    )
    audited = len(evidence.audits)
    many = f" {audited} of the study's runs were audited." if len(of) > 1 else ""
    answer = f"{words}: see Attacks.{many} An audit can find a fault, and prove none absent."
    return line.model_copy(update={"state": "stated", "answer": answer})


def _utility_line(evidence: Evidence, utility: Sequence[Utility]) -> Line:
    command = "evaluate RUN DATASET --split S"
    if evidence.subject.kind == "data set":
        command = "assess SET --real DATASET"
    line = Line(
        key="utility",
        asks="Utility",
        texts=(f"{_NIST}, 3.2", f"{_REGISTRY}: utility"),
        state="not run",
        answer=f"not run; `synthdp {command} --out DIR` does, and `--evidence DIR` reads it",
        source="results.csv" if evidence.subject.kind == "study" else "the folders of --evidence",
    )
    if not utility:
        return line
    scored = ", ".join(f"{one.data_set} ({one.split})" for one in utility)
    return line.model_copy(
        update={"state": "stated", "answer": f"Scored on {scored}: see Utility by sub-group."}
    )


def _bias_line(utility: Sequence[Utility]) -> Line:
    attributes = dict.fromkeys(name for one in utility for name in one.attributes)
    line = Line(
        key="bias",
        asks="Bias: who is served worse",
        texts=(f"{_NIST}, 3.3",),
        state="not run",
        answer="not run; `synthdp evaluate RUN DATASET by=[COLUMN]` does, and so does a study's "
        "`fairness` setting",
        source="the same folders",
    )
    if not attributes:
        return line
    names = ", ".join(name.replace("_", " ") for name in attributes)
    return line.model_copy(
        update={"state": "stated", "answer": f"Judged by {names}: see Utility by sub-group."}
    )


# The bottom: trust, access, side channels, exposure.


def _deployment_lines(evidence: Evidence) -> Iterator[Line]:
    yield Line(
        key="trust",
        asks="Trust model",
        texts=(f"{_NIST}, 4.2", f"{_REGISTRY}: deployment_model"),
        answer=_trust_words(),
        source="how synthdp works",
    )
    yield Line(
        key="queries",
        asks="Query model",
        texts=(f"{_NIST}, 4.1", f"{_REGISTRY}: access_type"),
        answer="A data release: a finished file is given out, and nobody puts questions to the "
        "patients' images.",
        source="how synthdp works",
    )
    yield Line(
        key="access",
        asks="Data security and access control",
        texts=(f"{_NIST}, 4.4",),
        answer=_access_words(evidence.access),
        source="looked at when this page was made",
    )
    yield Line(
        key="side_channels",
        asks="Side channels",
        texts=(f"{_NIST}, 4.3",),
        answer=_side_channel_words(evidence),
        source="privacy.json, config.yaml",
    )
    yield Line(
        key="exposure",
        asks="Exposure by collecting data",
        texts=(f"{_NIST}, 4.5", f"{_REGISTRY}: data_domain"),
        answer=f"{_domain_words(evidence.sets)} What is promised is of what is released. The "
        "images themselves, and private/, are exposed wherever they are kept, for as long as they "
        "are.",
        source="dataset.json, where it is at hand",
    )


def _trust_words() -> str:
    return (
        "Central: whoever runs synthdp sees the images and adds the noise, and is trusted with "
        "both. Recipients are not trusted with anything."
    )


def _access_words(access: Access) -> str:
    if not access.there:
        return "No private/ stands in this folder: it is a copy of what may leave, or a public set."
    closed = (
        "private/ is closed to all other accounts of this machine"
        if access.closed
        else "private/ IS OPEN to other accounts of this machine: `chmod 700` closes it"
    )
    key = (
        "A NOISE KEY STANDS IN IT, by which the noise could be taken off again"
        if access.key_left
        else "no noise key stands in it"
    )
    return (
        f"{closed}; {key}. `synthdp privacy --release RUN OUT` copies out what may leave, and "
        "nothing else."
    )


def _side_channel_words(evidence: Evidence) -> str:
    noisy = [one for one in evidence.releases if one.mechanism is not None]
    parts = [
        f"Noise source: {source}, by the release; sums and noise stand on a public lattice."
        for source in dict.fromkeys(one.noise for one in noisy if one.noise is not None)
    ]
    fixed = evidence.settings.get("privacy", {})
    if isinstance(fixed, dict) and fixed.get("fixed_noise_key") is not None:
        parts.append("THE NOISE HAS A FIXED KEY, so that nothing is promised.")
    uncovered = [words for words in evidence.statement.not_covered if "floating-point" in words]
    parts += [f"Not covered: {words}." for words in uncovered]
    parts.append("A released copy names no times, since they grow with the number of images.")
    return " ".join(parts)


def _domain_words(sets: Sequence[SetFacts]) -> str:
    shown = [one for one in sets if one.stands_for_patients]
    if not shown:
        return "No set of patients' images is at hand that the settings name."
    words = []
    for one in shown:
        columns = f", columns {', '.join(one.columns)}" if one.columns else ""
        licence = f", licence {one.licence}" if one.licence else ""
        words.append(
            f"{one.name}: grey images of {one.size_px} px, labels {', '.join(one.targets)}"
            f"{columns}{licence}"
        )
    return f"{'; '.join(words)}."


# The documents of the opinion.


def _document_lines(evidence: Evidence, attacks: Sequence[AttackKind]) -> Iterator[Line]:
    yield Line(
        key="design",
        asks="Measures in the model's design: sources, preparation, training",
        texts=(f"{_EDPB}, model design",),
        answer="Training under the promise above; what went into it stands under Algorithms and "
        "Preparation."
        if any(math.isfinite(one.mu) for one in evidence.releases)
        else "No release that is counted was trained under a promise."
        if evidence.releases
        else "No release on any patient is counted.",
        source="privacy.json, config.yaml",
    )
    ran = [attack.kind for attack in attacks if attack.tests]
    yield Line(
        key="tests",
        asks="Tests against state-of-the-art attacks: what, when, how far, how they ended",
        texts=(f"{_EDPB}, 55 and documentation",),
        state="stated" if ran else "not run",
        answer=f"Run: {', '.join(ran)}; see Attacks. A test speaks for the attack that was run, "
        "and for no other."
        if ran
        else "not run; `synthdp audit RUN` does",
        source="private/audit, quality.json",
    )
    yield Line(
        key="theory",
        asks="Resistance to re-identification by theory",
        texts=(f"{_EDPB}, documentation",),
        answer="The bounds under What is promised hold for every attacker, known or not, as far as "
        "the promise itself does."
        if math.isfinite(evidence.statement.epsilon)
        else "None: epsilon is infinite.",
        source="privacy.json",
    )
    yield Line(
        key="residual",
        asks="What is left as risk, told to those who use the model",
        texts=(f"{_EDPB}, documentation",),
        answer="Not covered, on the first page of this file; card.md says the same to whoever "
        "receives the model.",
        source="privacy.json, card.md",
    )
    yield _blank(
        "analysis", "Who checked that these measures were carried out", f"{_EDPB}, model analysis"
    )


def controller_lines() -> tuple[Line, ...]:
    """What only the controller knows; each stays a marked blank."""
    documents = f"{_EDPB}, documentation"
    curators, use = f"{_REGISTRY}: data_curators", f"{_REGISTRY}: intended_use"
    return (
        _blank("controller", "Controller and contact", "GDPR, Art. 24", curators),
        _blank("purpose", "Purpose", "GDPR, Art. 5(1)(b)", use),
        _blank("recipients", "Recipients, and how it reaches them", "GDPR, Art. 30", _CONTEXT),
        _blank("legal_basis", "Legal basis (also for health data)", "GDPR, Art. 6 and 9"),
        _blank("dpia", "Reference of the data-protection impact assessment", documents),
        _blank("dpo_advice", "Advice of the data-protection officer", documents),
        _blank("informed", "How patients were told", "GDPR, Art. 13 and 14"),
        _blank("attackers", "Attackers that are reasonably likely", _CONTEXT),
        _blank("rationale", "Why this epsilon and this unit", f"{_REGISTRY}: justification"),
        _blank("retention", "How long images and private/ are kept", "GDPR, Art. 5(1)(e)"),
        _blank("finding", "Finding: is the likelihood of identification insignificant?", _EDPB),
        _blank("review", "Date of the next review", f"{_EDPB}, 55"),
        _blank("signature", "Name, date, signature"),
    )


def _blank(key: str, asks: str, *texts: str) -> Line:
    return Line(key=key, asks=asks, texts=texts, state="blank", answer="", source="")


# The registry's record.


def registry_record(evidence: Evidence, layers: Sequence[Layer]) -> Registry:
    """A draft of a record in OpenDP's deployment registry, of the lines that say the same."""
    answers = {line.key: line.answer for layer in layers for line in layer.lines}
    statement = evidence.statement
    return Registry(
        dp_variant=Variant(
            variant_name="Approximate DP" if statement.delta else "Pure DP",
            variant_name_details="Gaussian noise; exact trade-off curve where every unit takes "
            "part in each step, privacy loss distributions where they are sampled",
            data_domain=_domain_words(evidence.sets),
            unprotected_quantities="; ".join(
                (*statement.not_covered, "all settings, and the declared population")
            ),
        ),
        privacy_loss=RegistryLoss(
            privacy_unit=statement.unit,
            privacy_unit_details=answers["unit"],
            privacy_parameters=PrivacyParameters(epsilon=statement.epsilon, delta=statement.delta),
            privacy_parameters_details=answers["original_parameters"],
        ),
        deployment_model=DeploymentModel(
            model_name_details=_trust_words(),
            trust_assumptions="the curator alone is trusted",
            actors=_TO_FILL_IN,
            release_type="Many releases" if len(evidence.releases) > 1 else "Single release",
            data_source_type="Static",
            access_type="Non-interactive",
        ),
        implementation=Implementation(
            preprocessing_and_hyperparameter_tuning=answers["preparation"],
            mechanisms=f"{answers['mechanisms']} {answers['original_parameters']}",
            composition=answers["composition"],
            post_processing="whatever is made of the released files alone costs nothing more",
            justification=_TO_FILL_IN,
            utility=answers["utility"],
        ),
    )
