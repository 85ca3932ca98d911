"""What is promised of a model, a data set or a study: made, joined and read again.

Its words stand in `words`, what an attacker can do in `odds`.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from synthdp.config import RiskTarget, Settings
from synthdp.errors import InputError
from synthdp.files import read_json
from synthdp.privacy.lineage import Lineage, Release, Spent
from synthdp.privacy.mechanism import Unit
from synthdp.privacy.odds import Odds
from synthdp.status import read_status

SCHEMA_VERSION: Literal[3] = 3
NOT_COVERED = (
    "patients whose images were only evaluated, and figures published about them",
    "choices made by looking at scores of private images",
    "what synthdp's own defaults (phantoms, learning-rate rule, the recipe of the classifier's "
    "features, the generators' constants) owe to public CBIS-DDSM patches, on which they were "
    "developed",
    "public weights: they are assumed to contain none of these patients",
)
#: Of a lineage with releases from before sums and noise stood on a lattice.
FLOATING_POINT = (
    "the floating-point form of the noise of releases made before it stood on a lattice"
)


class CohortPromise(Settings):
    """The promise to one group of patients, who met fewer releases than others."""

    patients: str
    epsilon: Spent


class PatientPromise(Settings):
    """What a promise to each image is to a patient, of whom at most so many images took part.

    images_per_patient: the largest bound that was declared; odds: against a patient.
    """

    images_per_patient: int = Field(ge=1)
    epsilon: Spent
    odds: Odds


class OnRecord(Settings):
    """What else the record of a data set held when the statement was made.

    other_releases: of the patients of `data`, beside those that the statement counts; epsilon: of
    all on record together, at the statement's delta; budget and budget_delta: what the hospital
    allows the set in all, where it has said so.
    """

    data: str
    other_releases: int = Field(ge=0)
    epsilon: Spent
    budget: Spent | None = None
    budget_delta: float | None = None


class Statement(Settings):
    """What is promised about one model, data set or study; `privacy.json` holds it.

    `epsilon` is end to end, the worst over every patient that any release in the lineage touched;
    `epsilon_stage` is that of the last stage alone, which is not a promise to anybody. `cohorts`
    names groups of patients whose own epsilon differs. `population` is the largest that any part
    was declared for, which delta is held against; `smallest_population` the smallest, which a
    guess of who somebody is is made from, where it differs. `on_record` says what else was released
    of the same data sets. `patient` is what a promise to each image is to a patient, where images a
    patient were bounded; `risk` what was asked for instead of an epsilon.
    """

    schema_version: Literal[1, 2, 3] = SCHEMA_VERSION
    subject: str
    epsilon: Spent
    epsilon_stage: Spent
    delta: float
    unit: Unit
    neighbours: str
    population: int | None
    smallest_population: int | None = None
    lineage: Lineage
    because: str = ""
    cohorts: tuple[CohortPromise, ...] = ()
    on_record: tuple[OnRecord, ...] = ()
    odds: Odds
    patient: PatientPromise | None = None
    risk: RiskTarget | None = None
    not_covered: tuple[str, ...] = NOT_COVERED


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
    status = read_status(folder)
    if status is None or status.state != "finished":
        state = "no run at all" if status is None else status.state
        raise InputError(f"{folder}: not a finished run (state: {state}); finish it first")
    return parse_statement(read_json(folder / "privacy.json"), where=f"{folder}/privacy.json")


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
    risk: RiskTarget | None = None,
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
        neighbours=_neighbours(lineage, unit),
        population=population,
        lineage=lineage,
        because="; ".join(dict.fromkeys(reasons)),
        cohorts=tuple(_cohort_promises(groups, delta)) if len(groups) > 1 else (),
        odds=Odds.of([group.loss for group in groups], population),
        patient=_patient_promise(groups, delta) if unit == "image" else None,
        risk=risk,
        not_covered=_not_covered(lineage),
    )


def _neighbours(lineage: Lineage, unit: Unit) -> str:
    """What the promise is about; an image too many would put another one out."""
    if not lineage.images_per_patient:
        return f"add or remove one {unit}"
    images = lineage.images_per_patient[0]
    return f"add or remove one image of a patient with at most {images} images"


def _patient_promise(groups: Sequence[Lineage], delta: float) -> PatientPromise | None:
    """What is promised to each patient; None where a release did not bound images a patient."""
    losses = [loss for loss in (group.loss_of_patient for group in groups) if loss is not None]
    bounds = [bound for group in groups for bound in group.images_per_patient]
    if not bounds or len(losses) < len(groups):
        return None
    return PatientPromise(
        images_per_patient=max(bounds),
        epsilon=max(loss.epsilon(delta) for loss in losses),
        odds=Odds.of(losses, None),
    )


def _not_covered(lineage: Lineage) -> tuple[str, ...]:
    noisy = (release for release in lineage.releases if release.mechanism is not None)
    off_lattice = any(release.noise is None for release in noisy)
    return (*NOT_COVERED, FLOATING_POINT) if off_lattice else NOT_COVERED


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
