"""A statement in words: what a data-protection officer reads, and signs."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from synthdp.privacy.accounting.bounds import (
    at_least,
    at_most,
    at_most_times,
    epsilon_text,
    exactly,
    percent,
)
from synthdp.privacy.accounting.odds import Odds
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.promise.several_images import several_images_words
from synthdp.privacy.promise.statement import OnRecord, Statement

_SOURCES = {
    "philox": "Philox (128 bits of key)",
    "shake256": "SHAKE-256",
    "discrete": "an exact discrete Gaussian (SHAKE-256), whose delta is a Gaussian's but for about "
    "5e-13 a step and number released, over the squared noise multiplier",
}


def statement_text(statement: Statement) -> str:
    """The statement for people, in Markdown."""
    by_images = several_images_words(statement)
    lines = [
        _headline(statement),
        *_units_by_looks(statement),
        *_public_sets(statement),
        "",
        *_terms(statement, by_images),
        *(
            f"- {_plain(one.patients)}: epsilon {epsilon_text(one.epsilon)}"
            for one in statement.cohorts
        ),
        "",
        f"**What an attacker could do.** {odds_words(statement)}",
        *_several_images(by_images),
    ]
    if statement.lineage.releases:
        lines += ["", "**Releases counted** (each once):", ""]
        counted = Counter(release_words(release) for release in statement.lineage.releases)
        lines += [f"- {f'{n} times: ' * (n > 1)}{words}" for words, n in counted.items()]
    lines += [
        part
        for record in statement.on_record
        for part in ("", record_words(record, statement.delta))
    ]
    if statement.lineage.declared:
        declared = "; ".join(map(_plain, statement.lineage.declared))
        lines += ["", f"**Declared, and shown by no record here:** {declared}."]
    lines += ["", "**Not covered:** " + "; ".join(map(_plain, statement.not_covered)) + "."]
    return "\n".join(lines)


def headline(statement: Statement) -> str:
    """The first line of the statement, without marks: what, which epsilon, for whom, and why so."""
    return _headline(statement).replace("**", "")


def _plain(words: str) -> str:
    """Words of a file, without what would make other text of them: breaks, marks, links, tables."""
    return " ".join(re.sub(r"[*`<>|\[\]\\]", "", words).split())


def _headline(statement: Statement) -> str:
    unit = "IMAGE, not patient" if statement.unit == "image" else "patient"
    of_this = f"**Privacy of this {statement.subject}: epsilon ="
    if not statement.lineage.releases and statement.lineage.declared:
        return f"{of_this} 0 for each {unit}, as declared by the importer or the sender.**"
    if not statement.lineage.releases and (public := statement.lineage.public):
        sets = f"set{'s' * (len(public) > 1)} {' and '.join(map(_plain, public))}"
        return (
            f"{of_this} 0 for each {unit} but those of the public {sets}, whose patients are not "
            "protected.**"
        )
    if not statement.lineage.releases:
        why = _plain(statement.because) or "No patient's image went into it"
        return f"{of_this} 0 for each {unit}.** {why}."
    headline = f"{of_this} {epsilon_text(statement.epsilon)} for each {unit}, end to end.**"
    return f"{headline} Because {_plain(statement.because)}." if statement.because else headline


def _units_by_looks(statement: Statement) -> list[str]:
    """What the unit is where some were found by looking; empty where all were declared."""
    names = statement.lineage.found_by_looking
    if not names:
        return []
    return [
        "",
        f"**The unit was found by looking, in {', '.join(names)}**: it is all the ids whose images "
        "look alike. It may be several persons, each of whom is promised less than stands here, "
        "and one patient's images may have decided what the units of others are.",
    ]


def _several_images(by_images: Sequence[str]) -> list[str]:
    """What the promise to an image is to patients by their number of images; empty without any."""
    if not by_images:
        return []
    return [
        "",
        "**What it is to a patient with several images**, by public numbers of them (how many "
        "anybody has is not looked at):",
        "",
        *(f"- {words}" for words in by_images),
    ]


def _public_sets(statement: Statement) -> list[str]:
    """The public sets that it learned from, by name; empty without any."""
    names = statement.lineage.public
    if not names:
        return []
    sets = f"set{'s' * (len(names) > 1)} {' and '.join(map(_plain, names))}"
    return [
        "",
        f"**Made from the public {sets}, whose patients are not protected**: nothing is counted "
        "for them, since it was declared at the import that there is nobody to protect.",
    ]


def _terms(statement: Statement, by_images: Sequence[str]) -> list[str]:
    delta = f"at delta {exactly(statement.delta)}"
    terms = [f"- unit: {statement.unit}", f"- neighbours: {statement.neighbours}"]
    if not math.isinf(statement.epsilon):
        terms.append(f"- epsilon {epsilon_text(statement.epsilon)} {delta}")
    elif 0 < statement.epsilon_stage < math.inf:
        terms.append(
            f"- the last stage alone spent epsilon {epsilon_text(statement.epsilon_stage)} {delta}"
            "; that protects nobody, since an earlier stage did not"
        )
    if statement.risk is not None:
        terms.append(f"- asked for: {risk_words(statement)}")
    if statement.patient is not None:
        terms.append(
            f"- a PATIENT, of whom at most {statement.patient.images_per_patient} images are used, "
            f"has epsilon {epsilon_text(statement.patient.epsilon)} {delta}"
        )
    elif by_images:
        terms.append(
            "- a patient with several images has a larger epsilon, by their number below: nothing "
            "bounds it, unless privacy.images_per_patient does"
        )
    if statement.population is not None:
        terms.append(
            f"- population: at most {statement.population} (declared), "
            f"N x delta = {at_most_times(statement.population, statement.delta)}"
        )
    return terms


def odds_words(statement: Statement) -> str:
    """How far the best attacker comes: members found, guesses about one unit, reconstruction."""
    odds = statement.odds
    others = "every other image" if statement.unit == "image" else "every other patient's images"
    words = (
        f"Knowing {others} and holding this {statement.subject}, at most "
        f"{percent(odds.found_at_1_percent)} of members are found while 1 % of strangers are "
        f"falsely accused (chance: 1 %), {percent(odds.found_at_01_percent)} at 0.1 %; the "
        f"best accuracy on a coin flip is {percent(odds.best_accuracy)}."
    )
    if odds.reidentified is not None:
        guessed_from = statement.smallest_population or statement.population
        words += (
            f" A 1-in-{guessed_from} guess of who somebody is "
            f"succeeds with at most {percent(odds.reidentified)}."
        )
    words += _guesses_words(odds, "person" if statement.unit == "patient" else "image")
    if statement.patient is not None:
        of_patient = statement.patient.odds
        words += (
            f" Of patients with all their images, at most {percent(of_patient.found_at_1_percent)} "
            f"are found at 1 % false accusations, and {percent(of_patient.found_at_01_percent)} at "
            f"0.1 %.{_guesses_words(of_patient, 'patient')}"
        )
    return words


def _guesses_words(odds: Odds, about: str) -> str:
    """What guesses about one unit come to; nothing for a statement that holds no such bounds."""
    bounds = (odds.attribute_even, odds.attribute_of_ten, odds.gain, odds.reconstructed)
    even, of_ten, gain, image = bounds
    if even is None or of_ten is None or gain is None or image is None:
        return ""
    points, article = percent(gain).removesuffix(" %"), "an" if about == "image" else "a"
    return (
        f" A yes/no fact about {article} {about} that is as often true as not is guessed right in "
        f"at most {percent(even)} (chance: 50 %), one of ten equally likely values in "
        f"{percent(of_ten)} (10 %); whatever is guessed, it comes right at most {points} "
        "percentage points more often than without the result. An image that a blind guess hits "
        f"once in a million times is reconstructed in at most {percent(image)} of attempts."
    )


def risk_words(statement: Statement) -> str:
    """The risk that was asked for, and whether the releases keep it."""
    assert statement.risk is not None  # said of statements with one
    false_alarms = statement.risk.false_alarms
    losses = [group.loss for group in statement.lineage.groups()]
    rate = max(loss.true_positive_rate(false_alarms) for loss in losses)
    if rate <= statement.risk.found:
        return f"{statement.risk}; kept"
    return f"{statement.risk}; NOT kept: {percent(rate)} may be found"


def record_words(record: OnRecord, delta: float) -> str:
    """What else is on record of a data set, and its budget."""
    others = record.other_releases
    when = " when the run was finished" if record.earlier else ""
    words = f"**On record of {_plain(record.data)}{when}:** "
    if record.held_by:
        words = f"**Of {_plain(record.data)}, {_plain(record.held_by)}:** "
    if others:
        number = "1 other release" if others == 1 else f"{others} other releases"
        words += (
            f"{number}; together epsilon {epsilon_text(record.epsilon)} at delta {exactly(delta)}."
            f"{_left_words(record)}"
        )
    else:
        words += "nothing else."
    if record.budget is not None:
        at = "" if record.budget_delta is None else f" at delta {exactly(record.budget_delta)}"
        words += f" Its budget is epsilon {exactly(record.budget)}{at}."
    return words


def _left_words(record: OnRecord) -> str:
    """How many of the other releases were not only made, but left the house, where it is known."""
    if record.left is None or record.left_epsilon is None:
        return ""
    if not record.left:
        return " None of the others has left the house by `synthdp privacy --release`."
    some = "1 has" if record.left == 1 else f"{record.left} have"
    return (
        f" Of these, {some} left the house by `synthdp privacy --release`; with what is stated "
        f"here, epsilon {epsilon_text(record.left_epsilon)}."
    )


def release_words(release: Release) -> str:
    """What was released on whose data, by which mechanism, and what it spent by itself."""
    who = f", cohort {release.cohort.part}" if release.cohort is not None else ""
    sampled = release.mechanism is not None and release.mechanism.sampling_rate < 1
    spent = "" if sampled else f": mu = {at_most(release.mu, digits=4)}"
    if math.isinf(release.mu):
        spent = ": no protection"
    if release.images_per_patient is not None:
        who += f", at most {release.images_per_patient} images of a patient"
    words = f"{release.stage} on {release.data}{who}, per {release.unit}{spent}"
    if release.mechanism is not None:
        words += f" ({_mechanism_words(release.mechanism, release.steps, release.noise)})"
    return _plain(f"{words}; {release.note}" if release.note else words)


def _mechanism_words(mechanism: Mechanism, steps: int | None, source: str | None) -> str:
    taken = mechanism.steps if steps is None else steps
    times = "in one step" if taken == 1 else f"in each of {taken} steps"
    who = f"every {mechanism.unit} {times}"
    if mechanism.sampling_rate < 1:
        rate = at_most(mechanism.sampling_rate, digits=4)
        who = f"each {mechanism.unit} with probability {rate} {times} (Poisson)"
    noise = at_least(mechanism.noise_multiplier, digits=4)
    return (
        f"Gaussian, {who}, noise multiplier {noise}, clip norm {mechanism.clip_norm:g}, "
        f"normaliser {mechanism.normaliser:g}" + _source_words(source)
    )


def _source_words(source: str | None) -> str:
    """The source of the noise, where it stood on a lattice; an unknown one by its own name."""
    if source is None:
        return ""
    return f", noise on a lattice from {noise_source_name(source)}"


def noise_source_name(source: str) -> str:
    """The name of a source of noise; an unknown one keeps its own."""
    return _SOURCES.get(source, source)
