"""The promise in words and in attacker's odds."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from synthdp.config import Settings
from synthdp.errors import InputError
from synthdp.files import read_json
from synthdp.privacy.accounting import PrivacyLoss
from synthdp.privacy.lineage import Lineage, Release, Spent
from synthdp.privacy.mechanism import Mechanism, Unit

SCHEMA_VERSION: Literal[2] = 2
NOT_COVERED = (
    "patients whose images were only evaluated, and figures published about them",
    "choices made by looking at scores of private images",
    "what synthdp's own defaults (phantoms, learning-rate rule, the recipe of the classifier's "
    "features, the generators' constants) owe to public CBIS-DDSM patches, on which they were "
    "developed",
    "public weights: they are assumed to contain none of these patients",
    "the floating-point form of the noise",
)


class Odds(Settings):
    """What an attacker who knows every other patient can do: the best possible attack.

    Computed from the full trade-off curve (`PrivacyLoss.true_positive_rate`,
    `PrivacyLoss.best_accuracy`); a guess with prior 1/N succeeds at most as often as a member is
    found at 1/N false alarms (arXiv 2507.06969).
    """

    found_at_1_percent: float = Field(ge=0, le=1)
    found_at_01_percent: float = Field(ge=0, le=1)
    best_accuracy: float = Field(ge=0, le=1)
    reidentified: float | None = Field(default=None, ge=0, le=1)

    @classmethod
    def of(cls, losses: Sequence[PrivacyLoss], population: int | None) -> "Odds":
        """The odds against the worst protected patient among `population` units."""

        def members_found(false_alarms: float) -> float:
            return max(loss.true_positive_rate(false_alarms) for loss in losses)

        return cls(
            found_at_1_percent=members_found(0.01),
            found_at_01_percent=members_found(0.001),
            best_accuracy=max(loss.best_accuracy for loss in losses),
            reidentified=members_found(1 / population) if population else None,
        )


class CohortPromise(Settings):
    """The promise to one group of patients, who met fewer releases than others."""

    patients: str
    epsilon: Spent


class Statement(Settings):
    """What is promised about one model, data set or study; `privacy.json` holds it.

    `epsilon` is end to end, the worst over every patient that any release in the lineage touched;
    `epsilon_stage` is that of the last stage alone, which is not a promise to anybody. `cohorts`
    names groups of patients whose own epsilon differs.
    """

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    subject: str
    epsilon: Spent
    epsilon_stage: Spent
    delta: float
    unit: Unit
    neighbours: str
    population: int | None
    lineage: Lineage
    because: str = ""
    cohorts: tuple[CohortPromise, ...] = ()
    odds: Odds
    not_covered: tuple[str, ...] = NOT_COVERED

    def to_text(self) -> str:
        """The statement for people, in Markdown."""
        lines = [
            self._headline(),
            "",
            *self._terms(),
            *(f"- {one.patients}: epsilon {epsilon_text(one.epsilon)}" for one in self.cohorts),
            "",
            f"**What an attacker could do.** {self._odds_words()}",
        ]
        if self.lineage.releases:
            lines += ["", "**Releases counted** (each once):", ""]
            counted = Counter(_release_words(release) for release in self.lineage.releases)
            lines += [f"- {f'{n} times: ' * (n > 1)}{words}" for words, n in counted.items()]
        lines += ["", "**Not covered:** " + "; ".join(self.not_covered) + "."]
        return "\n".join(lines)

    def _headline(self) -> str:
        unit = "IMAGE, not patient" if self.unit == "image" else "patient"
        if not self.lineage.releases:
            return (
                f"**Privacy of this {self.subject}: epsilon = 0 for each {unit}.** "
                "No patient's image went into it."
            )
        headline = f"**Privacy of this {self.subject}: epsilon = {epsilon_text(self.epsilon)} "
        headline += f"for each {unit}, end to end.**"
        return f"{headline} Because {self.because}." if self.because else headline

    def _terms(self) -> list[str]:
        terms = [f"- unit: {self.unit}", f"- neighbours: {self.neighbours}"]
        if not math.isinf(self.epsilon):
            terms.append(f"- epsilon {epsilon_text(self.epsilon)} at delta {self.delta:g}")
        elif 0 < self.epsilon_stage < math.inf:
            terms.append(
                f"- the last stage alone spent epsilon {epsilon_text(self.epsilon_stage)} at delta "
                f"{self.delta:g}; that protects nobody, since an earlier stage did not"
            )
        if self.population is not None:
            expected = self.population * self.delta
            terms.append(
                f"- population: at most {self.population} (declared), N x delta = {expected:.2g}"
            )
        return terms

    def _odds_words(self) -> str:
        odds = self.odds
        words = (
            f"Knowing every other {self.unit}'s images and holding this {self.subject}, at most "
            f"{percent(odds.found_at_1_percent)} of members are found while 1 % of strangers are "
            f"falsely accused (chance: 1 %), {percent(odds.found_at_01_percent)} at 0.1 %; the "
            f"best accuracy on a coin flip is {percent(odds.best_accuracy)}."
        )
        if odds.reidentified is not None:
            words += (
                f" A 1-in-{self.population} guess of who somebody is succeeds with at most "
                f"{percent(odds.reidentified)}."
            )
        return words


def parse_statement(content: object, *, where: str) -> Statement:
    """The statement in the content of a `privacy.json`.

    Raises:
        InputError: when it is none, or of a newer version; `where` names the file.
    """
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(f"{where}: written by a newer synthdp; update this one")
    try:
        return Statement.model_validate(content)
    except ValueError as error:
        raise InputError(f"{where}: not a statement, or a damaged one; restore the file") from error


def read_statement(folder: Path) -> Statement:
    """The statement of a finished run.

    Raises:
        InputError: when the run is not finished, or its statement is of another version.
    """
    status = read_json(folder / "status.json") if (folder / "status.json").is_file() else {}
    if status.get("state") != "finished":
        state = status.get("state", "no run at all")
        raise InputError(f"{folder}: not a finished run (state: {state}); finish it first")
    return parse_statement(read_json(folder / "privacy.json"), where=f"{folder}/privacy.json")


def percent(share: float) -> str:
    """A probability as a percentage of two digits, as in `19 %`."""
    text = f"{100 * share:.2g}" if share < 0.995 else f"{100 * share:.0f}"
    return f"{text} %"


def epsilon_text(epsilon: float) -> str:
    """An epsilon for people: three digits, or `inf`."""
    return "inf" if math.isinf(epsilon) else f"{epsilon:.3g}"


def _release_words(release: Release) -> str:
    who = f", cohort {release.cohort.part}" if release.cohort is not None else ""
    sampled = release.mechanism is not None and release.mechanism.sampling_rate < 1
    spent = "" if sampled else f": mu = {release.mu:.3f}"
    if math.isinf(release.mu):
        spent = ": no protection"
    words = f"{release.stage} on {release.data}{who}, per {release.unit}{spent}"
    if release.mechanism is not None:
        words += f" ({_mechanism_words(release.mechanism, release.steps)})"
    return f"{words}; {release.note}" if release.note else words


def _mechanism_words(mechanism: Mechanism, steps: int | None) -> str:
    taken = mechanism.steps if steps is None else steps
    who = f"every {mechanism.unit} in each of {taken} steps"
    if mechanism.sampling_rate < 1:
        who = (
            f"each {mechanism.unit} with probability {mechanism.sampling_rate:.4g} in each of "
            f"{taken} steps (Poisson)"
        )
    return (
        f"Gaussian, {who}, noise multiplier {mechanism.noise_multiplier:.4g}, clip norm "
        f"{mechanism.clip_norm:g}, normaliser {mechanism.normaliser:g}"
    )


def refuse_other_units(lineage: Lineage, unit: Unit) -> None:
    """Refuse to promise something to each `unit` after a release that protects another unit.

    Raises:
        InputError: when there is such a release.
    """
    protected = (release for release in lineage.releases if math.isfinite(release.mu))
    if any(release.unit != unit for release in protected):
        raise InputError(
            f"privacy.unit is {unit}, but an ancestor was made with another unit; the two don't "
            "compose, so use one unit from the generator to the classifier"
        )


def make_statement(
    lineage: Lineage,
    *,
    subject: str,
    delta: float = 1e-4,
    unit: Unit = "patient",
    population: int | None = None,
    stage: Release | None = None,
) -> Statement:
    """The statement for something of this `lineage`; `stage` is its last release, if any.

    Guarantee: the epsilon is the worst over every patient that any release touched. Data sets are
    taken to overlap, unless a keyed hash of the patients' ids keeps their cohorts apart. A release
    that nothing protects makes it infinite, whatever its unit.

    Raises:
        InputError: when releases that are protected per patient and per image meet in one lineage.
    """
    refuse_other_units(lineage, unit)
    unprotected = lineage.unprotected
    reasons = (
        f"{release.stage} on {release.data} had no protection"
        + (f" ({release.note})" if release.note else "")
        for release in unprotected
    )
    groups = lineage.groups()
    return Statement(
        subject=subject,
        epsilon=lineage.epsilon(delta),
        epsilon_stage=stage.loss.epsilon(delta) if stage is not None else 0.0,
        delta=delta,
        unit=unit,
        neighbours=f"add or remove one {unit}",
        population=population,
        lineage=lineage,
        because="; ".join(dict.fromkeys(reasons)),
        cohorts=tuple(_cohort_promises(groups, delta)) if len(groups) > 1 else (),
        odds=Odds.of([group.loss for group in groups], population),
    )


def joined_statement(statements: Sequence[Statement], *, subject: str) -> Statement:
    """The statement of all that several promise together, each release once.

    Args:
        statements: one or more. Delta is the largest of any, the population the smallest that is
            stated, the unit the first's.
        subject: what they make together.

    Raises:
        InputError: when some hold per patient and some per image.
    """
    populations = [one.population for one in statements if one.population is not None]
    return make_statement(
        Lineage().joined(one.lineage for one in statements),
        subject=subject,
        delta=max(one.delta for one in statements),
        unit=statements[0].unit,
        population=min(populations, default=None),
    )


def _cohort_promises(groups: Sequence[Lineage], delta: float) -> Iterator[CohortPromise]:
    for group in groups:
        cohorts = {
            f"cohort {release.cohort.part} of {release.data}"
            for release in group.releases
            if release.cohort is not None
        }
        yield CohortPromise(
            patients=" and ".join(sorted(cohorts)) or "all other patients",
            epsilon=group.loss.epsilon(delta),
        )
