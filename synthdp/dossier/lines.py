"""The lines of a dossier: what is on record of each thing that is asked for (`asked`).

Words are of the statement and of what was read beside it. A line without a record says which
command would make one; a line that no command can fill is a blank for the controller.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synthdp.dossier.asked import blank_line, known_line
from synthdp.dossier.attacks import faults_not_run
from synthdp.dossier.evidence import Access, Evidence
from synthdp.privacy.accounting.bounds import at_least, at_most_times, epsilon_text, exactly
from synthdp.privacy.lineage import Release
from synthdp.privacy.promise.dossier import (
    TO_FILL_IN,
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
from synthdp.privacy.promise.several_images import several_images_words
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.promise.words import (
    headline,
    noise_source_name,
    odds_words,
    record_words,
    release_words,
    risk_words,
)
from synthdp.study.record import SetFacts

#: Up to which epsilon NIST SP 800-226, section 2.2, calls the choice conservative.
_CONSERVATIVE = 1.0
_TRUST = (
    "Central: whoever runs synthdp sees the images and adds the noise, and is trusted with both. "
    "Recipients are not trusted with anything."
)


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
    yield known_line("epsilon", f"{headline(statement)}{_scale_words(statement.epsilon)}", source)
    yield known_line("delta", _delta_words(statement), source)
    yield known_line("original_parameters", _parameter_words(statement), source)
    yield known_line("unit", _unit_words(statement), source)
    if statement.risk is not None:
        yield known_line("risk", risk_words(statement), source)
    yield known_line("composition", _composition_words(statement), source)
    if statement.lineage.public:
        names = ", ".join(statement.lineage.public)
        words = f"Made from public sets, whose patients are not protected: {names}."
        yield known_line("public", words, source)
    if statement.lineage.declared:
        yield known_line("declared", f"{'; '.join(statement.lineage.declared)}.", source)
    yield known_line("odds", odds_words(statement), source)


def _private_part_lines(evidence: Evidence) -> Iterator[Line]:
    """What publishing the private runs of a study alone promises, where it has others."""
    part = None if evidence.tables is None else evidence.tables.private_part
    if part is not None and math.isinf(evidence.statement.epsilon):
        words = f"{headline(part)} At delta {exactly(part.delta)}, when no other run is published."
        yield known_line("private_part", words, "the runs' privacy.json")


def _scale_words(epsilon: float) -> str:
    if math.isinf(epsilon):
        return " Nothing bounds what it gives away of a patient."
    if epsilon <= _CONSERVATIVE:
        return ""
    return (
        f" For scale: NIST calls an epsilon of at most {_CONSERVATIVE:g} conservative, and warns "
        "that large ones may protect little; what this one is worth stands under What the best "
        "attacker could do."
    )


def _delta_words(statement: Statement) -> str:
    words = f"{exactly(statement.delta)}."
    if statement.population is None:
        return f"{words} No population was declared that it could be held against."
    n, delta = statement.population, statement.delta
    asked = 1 / n**2
    words += (
        f" With at most {n} {statement.unit}s (declared, not counted), N x delta is "
        f"{at_most_times(n, delta)}; NIST's rule of thumb is a delta of at most 1 / N "
        f"squared, here {at_least(asked, digits=2)}"
    )
    return f"{words}, which this one {'keeps to' if delta <= asked else 'exceeds'}."


def _parameter_words(statement: Statement) -> str:
    protected = [one for one in statement.lineage.releases if math.isfinite(one.mu)]
    if not statement.lineage.releases:
        return "None: no release on any patient is counted."
    if not protected:
        return "None: no release that is counted was protected."
    each = "; ".join(dict.fromkeys(release_words(release) for release in protected))
    return f"Gaussian noise; each release by itself: {each}."


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
            f"has epsilon {epsilon_text(statement.patient.epsilon)} at delta "
            f"{exactly(statement.delta)}."
        )
    words += [f"A patient of {of_number}." for of_number in several_images_words(statement)]
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
    return " ".join(
        [
            f"{counted} release{'s' if counted > 1 else ''}, each counted once, end to end: "
            f"{listed}.",
            *(record_words(one, statement.delta) for one in statement.on_record),
        ]
    ).replace("**", "")


def _release_name(release: Release) -> str:
    who = f", cohort {release.cohort.part}" if release.cohort is not None else ""
    bare = "" if math.isfinite(release.mu) else " WITHOUT PROTECTION"
    return f"{release.stage} on {release.data}{who}{bare}"


# The middle: algorithms and correctness, utility, bias.


def _kept_lines(
    evidence: Evidence, attacks: Sequence[AttackKind], utility: Sequence[Utility]
) -> Iterator[Line]:
    kind = evidence.subject.kind
    yield known_line("mechanisms", _mechanism_words(evidence.statement), "privacy.json")
    yield known_line("preparation", _preparation_words(evidence), "config.yaml")
    yield known_line(
        "correctness",
        _correctness_words(evidence, attacks),
        "private/audit",
        not_run=faults_not_run(evidence),
    )
    scored = ", ".join(f"{one.data_set} ({one.split})" for one in utility)
    scores = "assess SET --real DATASET"
    if kind != "data set":
        scores = "evaluate RUN DATASET --split S"
    yield known_line(
        "utility",
        f"Scored on {scored}: see Utility by sub-group." if scored else "",
        "results.csv" if kind == "study" else "the folders of --evidence",
        not_run=f"not run; `synthdp {scores} --out DIR` does, and `--evidence DIR` reads it",
    )
    columns = dict.fromkeys(name.replace("_", " ") for one in utility for name in one.attributes)
    if kind != "data set":
        yield known_line(
            "bias",
            f"Judged by {', '.join(columns)}: see Utility by sub-group." if columns else "",
            "the same folders",
            not_run="not run; `synthdp evaluate RUN DATASET by=[COLUMN]` does, and so does a "
            "study's `fairness` setting",
        )


def _mechanism_words(statement: Statement) -> str:
    if all(one.mechanism is None for one in statement.lineage.releases):
        return "None that adds noise."
    return (
        f"In each step the vectors of {statement.unit}s, each clipped to the clip norm, are "
        "summed, Gaussian noise is added to the sum, and it is divided by a declared number, the "
        "normaliser. The numbers stand under Original parameters."
    )


def _preparation_words(evidence: Evidence) -> str:
    settings = evidence.settings
    parts = [*_networks(settings)]
    for key in ("init", "synthetic", "centre", "phantoms", "public", "private_synthetic", "run"):
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


def _networks(settings: Mapping[str, Any]) -> Iterator[str]:
    """Each network in words; one without weights starts from random numbers, and is not public."""
    beside = settings.get("beside")
    named = [settings.get("backbone"), *(beside if isinstance(beside, list) else ())]
    yield from dict.fromkeys(
        f"network {one['name']} from random weights"
        if one.get("weights") in (None, "none")
        else f"public network {one['name']}"
        for one in named
        if isinstance(one, dict) and one.get("name")
    )


def _correctness_words(evidence: Evidence, attacks: Sequence[AttackKind]) -> str:
    """How the audits ended, all in all; empty where there was none."""
    tests = [test for attack in attacks for test in attack.tests if test.result != "measured"]
    if not tests:
        return ""
    ended = f"An audit attacked the training {len(tests)} ways, and the promise held"
    if any(test.result == "BROKEN" for test in tests):
        ended = "THE PROMISE IS BROKEN, by an audit"
    several = len({test.command for test in tests}) > 1
    many = f" {len(evidence.audits)} of the study's runs were audited." if several else ""
    return f"{ended}: see Attacks.{many} An audit can find a fault, and prove none absent."


# The bottom: trust, access, side channels, exposure.


def _deployment_lines(evidence: Evidence) -> Iterator[Line]:
    design = "the design of synthdp"
    yield known_line("trust", _TRUST, design)
    yield known_line(
        "queries",
        "A data release: a finished file is given out, and nobody puts questions to the patients' "
        "images.",
        design,
    )
    yield known_line(
        "access", _access_words(evidence.access), "private/ itself, when this page was made"
    )
    yield known_line("side_channels", _side_channel_words(evidence), "privacy.json, config.yaml")
    yield known_line(
        "exposure",
        f"{_domain_words(evidence.sets)} What is promised is of what is released. The images "
        "themselves, and private/, are exposed wherever they are kept, for as long as they are.",
        "dataset.json, where it is at hand",
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
    sources = (one.noise for one in evidence.releases if one.mechanism is not None)
    parts = [
        f"Noise source: {noise_source_name(source)}, by the release; sums and noise stand on a "
        "public lattice."
        for source in dict.fromkeys(sources)
        if source is not None
    ]
    privacy = evidence.settings.get("privacy", {})
    if isinstance(privacy, dict) and privacy.get("fixed_noise_key") is not None:
        parts.append("THE NOISE HAS A FIXED KEY, so that nothing is promised.")
    uncovered = [words for words in evidence.statement.not_covered if "floating-point" in words]
    parts += [f"Not covered: {words}." for words in uncovered]
    parts.append("A released copy names no times, since they grow with the number of images.")
    return " ".join(parts)


def _domain_words(sets: Sequence[SetFacts]) -> str:
    """What the sets of patients hold that the settings name; phantoms that stand for some, so."""
    shown = [one for one in sets if one.stands_for_patients]
    if not shown:
        return "No set of patients' images is at hand that the settings name."
    words = []
    for one in shown:
        stand_in = "PHANTOMS THAT STAND FOR PATIENTS, " if one.kind == "phantom" else ""
        columns = f", columns {', '.join(one.columns)}" if one.columns else ""
        licence = f", licence {one.licence}" if one.licence else ""
        what = f"images of {one.size_px} px" if one.depth is None else f"volumes of {one.sides}"
        words.append(
            f"{one.name}: {stand_in}grey {what}, labels {', '.join(one.targets)}{columns}{licence}"
        )
    return f"{'; '.join(words)}."


# The documents of the opinion.


def _document_lines(evidence: Evidence, attacks: Sequence[AttackKind]) -> Iterator[Line]:
    yield known_line("design", _design_words(evidence.releases), "privacy.json, config.yaml")
    ran = ", ".join(attack.kind for attack in attacks if attack.tests)
    yield known_line(
        "tests",
        f"Run: {ran}; see Attacks. A test speaks for the attack that was run, and for no other."
        if ran
        else "",
        "private/audit, quality.json",
        not_run=attacks[0].not_run,
    )
    yield known_line(
        "theory",
        "The bounds under What is promised hold for every attacker, known or not, as far as the "
        "promise itself does."
        if math.isfinite(evidence.statement.epsilon)
        else "None: epsilon is infinite.",
        "privacy.json",
    )
    yield known_line(
        "residual",
        "Not covered, on the first page of this file; its card says the same to whoever receives "
        "the model.",
        "privacy.json, card.md",
    )
    yield blank_line("analysis")


def _design_words(releases: Sequence[Release]) -> str:
    if not releases:
        return "No release on any patient is counted."
    if all(math.isinf(one.mu) for one in releases):
        return "No release that is counted was trained under a promise."
    return (
        "Training under the promise above; what went into it stands under Algorithms and "
        "Preparation."
    )


# The registry's record.


def registry_record(evidence: Evidence, layers: Sequence[Layer]) -> Registry:
    """A draft of a record in OpenDP's deployment registry, of the lines that say the same."""
    says = {line.key: line.says for layer in layers for line in layer.lines}
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
            privacy_unit_details=says["unit"],
            privacy_parameters=PrivacyParameters(epsilon=statement.epsilon, delta=statement.delta),
            privacy_parameters_details=says["original_parameters"],
        ),
        deployment_model=DeploymentModel(
            model_name_details=_TRUST,
            trust_assumptions="the curator alone is trusted",
            actors=TO_FILL_IN,
            release_type="Many releases" if len(evidence.releases) > 1 else "Single release",
            data_source_type="Static",
            access_type="Non-interactive",
        ),
        implementation=Implementation(
            preprocessing_and_hyperparameter_tuning=says["preparation"],
            mechanisms=f"{says['mechanisms']} {says['original_parameters']}",
            composition=says["composition"],
            post_processing="whatever is made of the released files alone costs nothing more",
            justification=TO_FILL_IN,
            utility=says["utility"],
        ),
    )
