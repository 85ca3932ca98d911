"""What is promised of a model, a data set or a study, and the one function that makes it.

Its words stand in `words`, what an attacker can do in `odds`; `stated` reads statements again.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from synthdp.config.settings import Settings
from synthdp.errors import InputError
from synthdp.privacy.accounting.odds import Odds
from synthdp.privacy.lineage import Lineage, Release, Spent
from synthdp.privacy.settings import RiskTarget
from synthdp.privacy.units import Unit

SCHEMA_VERSION: Literal[3] = 3
#: Where nobody asked for another one.
DELTA = 1e-4
#: Statements that were written before do without this one (`synthdp.privacy.promise.stated`).
FOR_RADIOGRAPHS = (
    "what synthdp's defaults for radiographs (how phantom radiographs look, which was set by eye, "
    "and the recipe chest-head) owe to public radiographs of NIH ChestX-ray14"
)
NOT_COVERED = (
    "patients whose images were only evaluated, and figures published about them",
    "choices made by looking at scores of private images",
    "what synthdp's own defaults (phantoms, learning-rate rule, the recipe of the classifier's "
    "features, the generators' constants) owe to public CBIS-DDSM patches, on which they were "
    "developed",
    FOR_RADIOGRAPHS,
    "public weights: they are assumed to contain none of these patients",
    "the last bits of what networks give for an image: that they are the same whatever other "
    "images there are is looked at on the machine that computes them, and not proven",
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

    held_by: says whose record it is, where it is not the data set's own ledger;
    other_releases: of the patients of `data`, beside those that the statement counts; epsilon: of
    all on record together, at the statement's delta; budget and budget_delta: what the hospital
    allows the set in all, where it has said so; ledger: the id of the set's ledger, since two sets
    may have one name (None in statements of earlier versions); earlier: it was not read from that
    ledger now, but is what a statement's file says of the day when its run was finished; left: how
    many of the others left the house in a folder on record, and left_epsilon: of these and of what
    the statement counts (both None where it is not known, as in statements of earlier versions).
    """

    data: str
    held_by: str = ""
    other_releases: int = Field(ge=0)
    epsilon: Spent
    budget: Spent | None = None
    budget_delta: float | None = None
    ledger: str | None = None
    earlier: bool = False
    left: int | None = Field(default=None, ge=0)
    left_epsilon: Spent | None = None


class Statement(Settings):
    """What is promised about one model, data set or study; `privacy.json` holds it.

    `epsilon` is end to end, the worst over every patient that any release in the lineage touched;
    `epsilon_stage` is that of the last stage alone, which is not a promise to anybody. `cohorts`
    names groups of patients whose own epsilon differs. `population` is the largest that any part
    was declared for, which delta is held against; `smallest_population` the smallest, which a
    guess of who somebody is is made from, where it differs. `on_record` says what else was released
    of the same data sets. `patient` is what a promise to each image is to a patient, where images a
    patient were bounded; `risk` what was asked for instead of an epsilon.

    None is written by hand: `synthdp.statement_of` makes that of a folder from its ledger, and what
    trains in Python (`PrivateLogisticRegression`, `PatientTrainer`) gives its own. As text, and in
    a notebook, it says in words what it promises.

    >>> Statement(epsilon=0.1)
    Traceback (most recent call last):
    ...
    synthdp.errors.InputError: a statement is made from ledgers, never by hand: ...
    """

    schema_version: Literal[1, 2, 3] = SCHEMA_VERSION
    subject: str = Field(pattern=r"^[\w ,'-]{1,100}$")
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

    def __init__(self, /, **_: Any) -> None:
        raise InputError(
            "a statement is made from ledgers, never by hand: synthdp.statement_of(FOLDER) gives "
            "that of a run, a data set or a study"
        )

    # Pydantic then reads files without `__init__`: `parse_statement` holds them against a ledger.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __str__(self) -> str:
        from synthdp.privacy.promise.words import statement_text  # noqa: PLC0415 (it needs this)

        return statement_text(self)

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return str(self)


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


def refuse_unstatable(
    lineage: Lineage, unit: Unit, delta: float, populations: Sequence[int] = ()
) -> None:
    """Refuse what no statement can be made of; a stage asks it before it spends anything.

    Args:
        lineage: of what is to be stated.
        unit: who it is to hold for.
        delta: with which.
        populations: that were declared beside those that the mechanisms of the lineage hold.

    Raises:
        InputError: as `refuse_other_units` and `refuse_large_delta`.
    """
    refuse_other_units(lineage, unit)
    if lineage.releases and not lineage.unprotected:
        refuse_large_delta(delta, [*lineage.populations, *populations])


def refuse_large_delta(delta: float, populations: Sequence[int]) -> None:
    """Refuse a delta that lets one of so many patients be published outright.

    Raises:
        InputError: when delta is not below 1/N for the largest of `populations`.
    """
    largest = max(populations, default=0)
    if delta * largest >= 1:
        raise InputError(
            f"delta {delta:g} is not below 1/{largest}, the largest population that is declared "
            "for any part of this: at that size, publishing one patient outright would be "
            f"allowed; choose a smaller privacy.delta, such as {_small_delta(largest):g}"
        )


def fitting_delta(deltas: Sequence[float], populations: Sequence[int]) -> float:
    """The largest of `deltas` that is below 1/N for each population N; a smaller one where none is.

    Without any, 1e-4 is tried.
    """
    largest = max(populations, default=0)
    fitting = [delta for delta in deltas or (DELTA,) if delta * largest < 1]
    return max(fitting) if fitting else _small_delta(largest)


def _small_delta(population: int) -> float:
    """A power of ten that is below a tenth of 1/N."""
    return float(f"1e-{len(str(population)) + 1}")


def make_statement(
    lineage: Lineage,
    *,
    subject: str,
    delta: float = DELTA,
    unit: Unit = "patient",
    population: int | None = None,
    other_populations: Sequence[int] = (),
    stage: Release | None = None,
    risk: RiskTarget | None = None,
    on_record: Sequence[OnRecord] = (),
    uncovered: Sequence[str] = (),
) -> Statement:
    """The statement for something of this `lineage`; the one function that makes statements.

    Args:
        lineage: all that it descends from.
        subject: what it is: "classifier".
        delta: with which epsilon holds.
        unit: who it holds for.
        population: the number of units that was declared for it, if any.
        other_populations: those declared for its parts, beside what the mechanisms of the lineage
            hold. The largest of all is set against delta, the smallest is guessed from.
        stage: its last release, if any.
        on_record: what else was released of the same data sets.
        risk: that was asked for in place of an epsilon.
        uncovered: what the promise leaves out beside what every promise does.

    Guarantee: the epsilon is the worst over every patient that any release touched. Data sets are
    taken to overlap, unless a keyed hash of the patients' ids keeps their cohorts apart. A release
    that nothing protects makes it infinite, whatever its unit.

    Raises:
        InputError: when releases that are protected per patient and per image meet in one lineage,
            or delta is too large for a population.
    """
    populations = [*other_populations, *filter(None, [population])]
    refuse_unstatable(lineage, unit, delta, populations)
    unprotected = lineage.unprotected
    reasons = (
        f"{release.stage} on {release.data} had no protection"
        + (f" ({release.note})" if release.note else "")
        for release in unprotected
    )
    groups = lineage.groups()
    declared = sorted({*lineage.populations, *populations})
    smallest, largest = (declared[0], declared[-1]) if declared else (None, None)
    values = {
        "subject": subject,
        "epsilon": lineage.epsilon(delta),
        "epsilon_stage": stage.loss.epsilon(delta) if stage is not None else 0.0,
        "delta": delta,
        "unit": unit,
        "neighbours": _neighbours(lineage, unit),
        "population": largest,
        "smallest_population": smallest if smallest != largest else None,
        "lineage": lineage,
        "because": "; ".join(dict.fromkeys(reasons)),
        "cohorts": tuple(_cohort_promises(groups, delta)) if len(groups) > 1 else (),
        "on_record": tuple(on_record),
        "odds": Odds.of([group.loss for group in groups], smallest),
        "patient": _patient_promise(groups, delta) if unit == "image" else None,
        "risk": risk,
        "not_covered": tuple(dict.fromkeys([*NOT_COVERED, *_not_covered_by(lineage), *uncovered])),
    }
    return Statement.model_validate(values)


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


def _not_covered_by(lineage: Lineage) -> Iterator[str]:
    """What promises of such a lineage leave out, beside what every promise does."""
    for name in lineage.public:
        yield (
            f"the patients of the public set {name}, whose images it learned from: the set was "
            "declared public when it was imported, and nothing protects them"
        )
    noisy = (release for release in lineage.releases if release.mechanism is not None)
    if any(release.noise is None for release in noisy):
        yield FLOATING_POINT
    calibrated = (release for release in lineage.releases if release.stage == "calibrate")
    for data in dict.fromkeys(release.data for release in calibrated):
        yield (
            f"exact figures of the patients of {data} whose scores the calibration read (their "
            "scores are in the promise; an exact evaluation of the same split is not)"
        )


def passed_on(statement: Statement, *, subject: str, public: Sequence[str] = ()) -> Statement:
    """The same promise for what is made of something alone, as images that a generator drew.

    `public` are the names of public sets that it is made by too, whose patients nothing protects.
    """
    lineage = statement.lineage
    if public:
        lineage = Lineage().joined([lineage, Lineage(public=tuple(public))])
    return make_statement(
        lineage,
        subject=subject,
        delta=statement.delta,
        unit=statement.unit,
        population=statement.population,
        other_populations=[number for number in [statement.smallest_population] if number],
        on_record=statement.on_record,
        risk=statement.risk,
        uncovered=statement.not_covered,
    )


def joined_statement(statements: Sequence[Statement], *, subject: str) -> Statement:
    """The statement of all that several promise together, each release once.

    Args:
        statements: one or more. Delta is the largest of theirs that is below 1/N for the largest
            population of any; the unit is that of their releases, or the first's
            without any.
        subject: what they make together.

    Raises:
        InputError: when some hold per patient and some per image.
    """
    lineage = Lineage().joined(one.lineage for one in statements)
    populations = [
        number
        for one in statements
        for number in (one.population, one.smallest_population)
        if number is not None
    ]
    delta = fitting_delta([one.delta for one in statements], [*populations, *lineage.populations])
    return make_statement(
        lineage,
        subject=subject,
        delta=delta,
        unit=lineage.unit if lineage.releases else statements[0].unit,
        other_populations=populations,
        on_record=_joined_records(statements, lineage, delta),
        uncovered=[words for one in statements for words in one.not_covered],
    )


def _joined_records(
    statements: Sequence[Statement], lineage: Lineage, delta: float
) -> list[OnRecord]:
    """What each data set's record holds beside the joined lineage, by the fullest of the records.

    The epsilon of one that was read at a smaller delta is on the safe side; that of one of a larger
    delta bounds nothing at this one.
    """

    records = [(one, record) for one in statements for record in one.on_record]
    names = Counter(key[-1] for key in {_set_of(record) for _, record in records})

    def counted(lineages: Iterable[Lineage], data: str) -> int:
        return sum(release.data == data for release in Lineage().joined(lineages).releases)

    def together_counted(record: OnRecord) -> int:
        """Releases of this set in the joined lineage; at least, where another has its name."""
        if names[record.data] == 1:
            return counted([lineage], record.data)
        mine = (one.lineage for one, other in records if _set_of(other) == _set_of(record))
        return counted(mine, record.data)

    fullest: dict[tuple[str | None, ...], OnRecord] = {}
    for one, record in records:
        total = record.other_releases + counted([one.lineage], record.data)
        known = fullest.get(_set_of(record))
        if known is None or total > known.other_releases:
            epsilon = record.epsilon if one.delta <= delta else math.inf
            unknown = {"left": None, "left_epsilon": None}  # of all that is joined
            changed = {"other_releases": total, "epsilon": epsilon, **unknown}
            fullest[_set_of(record)] = record.model_copy(update=changed)
    together = lineage.epsilon(delta)
    joined = [
        record.model_copy(
            update={
                "other_releases": max(record.other_releases - together_counted(record), 0),
                "epsilon": max(record.epsilon, together),
            }
        )
        for record in fullest.values()
    ]
    return [one for one in joined if one.other_releases or one.budget is not None]


def _set_of(record: OnRecord) -> tuple[str | None, ...]:
    """Whose record it is, and of which set; its name comes last."""
    return record.ledger, record.held_by, record.data


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
