"""Statements read from files: made again from the record, and refused where they promise more.

A run of this house has a ledger in `private/` that holds what its statement is made of, so that its
`privacy.json` is believed in nothing. What was received has no `private/`, and a status that names
no ledger: there the statement is made again from the lineage in the file, which rests on whoever
sent it, and says so.
"""

import math
from collections.abc import Collection, Iterator
from pathlib import Path

from pydantic import ConfigDict

from synthdp.config.settings import Settings, read_json_as
from synthdp.config.yaml_core import read_yaml
from synthdp.data.description import is_dataset, read_info
from synthdp.errors import InputError
from synthdp.privacy.accounting.odds import Odds
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.set_record import Record
from synthdp.privacy.lineage import Lineage, Release, Spent
from synthdp.privacy.promise.statement import (
    FOR_RADIOGRAPHS,
    SCHEMA_VERSION,
    Statement,
    make_statement,
)
from synthdp.privacy.units import Unit
from synthdp.status import RunStatus, read_status
from synthdp.storage.files import read_json

STATEMENT_FILE = "privacy.json"
#: What an evaluation of patients may publish, beside its own ledger.
NOISY_FILE = "noisy_metrics.json"
SENDER = "whoever sent it"
#: Relative difference that the arithmetic of two machines may make.
_ROUNDING = 1e-6
#: And by how much the epsilon of an earlier version may be above that of this one.
_LOOSER = 1e-2
_OF_GUESSES = ("reidentified",)
#: What earlier versions said was not covered, which is said in other words today.
_EARLIER_WORDS = (
    "what synthdp's own defaults (phantoms, learning-rate rule, the generators' constants) owe to "
    "public CBIS-DDSM patches",
    "the floating-point form of the noise",
)


def parse_statement(content: object, *, where: str) -> Statement:
    """The statement in the content of a `privacy.json`, as it stands there: nothing is checked yet.

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


def read_statement(folder: Path, *, sender: str | None = SENDER) -> Statement:
    """The statement of a finished run, made again from the run's record.

    Args:
        folder: of the run.
        sender: on whom a statement without a record rests; None where that is not to be said, as
            in a copy of it that goes on to others, who say it themselves.

    Guarantee: that of `make_statement`, for what the run's ledger counts; of a received folder, for
    the releases that its sender names.

    Raises:
        InputError: when the run is not finished, its statement is of a newer version or promises
            more than its record allows, or the record is lost.
    """
    stated, where = written_statement(folder), f"{folder}/{STATEMENT_FILE}"
    status = _finished(folder)
    own = status.release
    if not (folder / "private").is_dir() and not status.ledger:
        return received_statement(stated, where=where, sender=sender, own=own)
    ledger = Ledger(folder / "private" / "ledger.jsonl")
    if status.ledger or ledger.created:
        ledger.refuse_other_run(own)
    if ledger.terms is not None:
        return _refused_if_more(stated, _from_record(stated, ledger), where)
    if stated.schema_version >= 3:
        raise InputError(
            f"{folder}: private/ledger.jsonl holds no record of what the run promises; restore it "
            "from a backup, or make the run again in a new folder"
        )
    lineage = _of_earlier_version(folder, stated, ledger.spent() if ledger.release else None)
    return _refused_if_more(stated, _again(stated, lineage, own), where)


def written_statement(folder: Path) -> Statement:
    """The statement of a finished run as it stands in its file: for audits, which look for faults.

    Raises:
        InputError: when the run is not finished, or its statement is of a newer version.
    """
    _finished(folder)
    where = f"{folder}/{STATEMENT_FILE}"
    return parse_statement(read_json(folder / STATEMENT_FILE), where=where)


def _finished(folder: Path) -> RunStatus:
    status = read_status(folder)
    if status is None or status.state != "finished":
        state = "no run at all" if status is None else status.state
        raise InputError(f"{folder}: not a finished run (state: {state}); finish it first")
    return status


class _NoisyFigure(Settings):
    """What `noisy_metrics.json` says of what its figure spent."""

    model_config = ConfigDict(extra="ignore")

    epsilon: Spent
    delta: float
    unit: Unit
    population: int | None
    release: Release


def noisy_statement(evaluation: Path) -> Statement:
    """The statement of the noisy figure of an evaluation, made from its ledger.

    Raises:
        InputError: when it has no ledger or that of another one, or its figure says less than it
            spent.
    """
    ledger = Ledger(evaluation / "private" / "ledger.jsonl")
    terms, counted = ledger.terms, ledger.counted
    if terms is None or counted is None:
        raise InputError(
            f"{evaluation}: its private/ledger.jsonl holds no record of what its noisy AUROC "
            "spent; name the data set instead, whose ledger has it"
        )
    figure = read_json_as(_NoisyFigure, evaluation / NOISY_FILE)
    spent = counted.loss.epsilon(terms.delta)
    of_ledger = (terms.delta, terms.unit, terms.population, counted.started(()))
    of_figure = (figure.delta, figure.unit, figure.population, figure.release.started(()))
    if of_figure != of_ledger or _less(figure.epsilon, spent):
        raise InputError(
            f"{evaluation}/{NOISY_FILE}: says of what its figure spent something else than the "
            "ledger beside it; restore both from a backup"
        )
    return make_statement(
        terms.ancestors.with_release(counted),
        subject=terms.subject,
        delta=terms.delta,
        unit=terms.unit,
        population=terms.population,
        stage=counted,
        risk=terms.risk,
    )


def received_statement(
    stated: Statement, *, where: str, sender: str | None = SENDER, own: str = ""
) -> Statement:
    """A statement without a record, made again from the lineage that it names, marked as declared.

    Args:
        stated: as it stands in a file.
        where: names the file.
        sender: on whom it rests, as `read_statement` takes it.
        own: the id of the last stage's release.

    Raises:
        InputError: when it promises more than the releases that it names allow.
    """
    made = ", ".join(dict.fromkeys(f"{one.stage} on {one.data}" for one in stated.lineage.releases))
    mark = f"the statement of the {stated.subject}{f' ({made})' if made else ''} rests on {sender}"
    try:
        made_again = _again(stated, stated.lineage, own)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    again = _refused_if_more(stated, made_again, where)
    marked = again.lineage.joined([Lineage(declared=(mark,))] if sender is not None else [])
    return again.model_copy(update={"lineage": marked})


def _again(stated: Statement, lineage: Lineage, own: str) -> Statement:
    """The statement for a lineage, by the terms that are stated."""
    return make_statement(
        lineage,
        subject=stated.subject,
        delta=stated.delta,
        unit=stated.unit,
        population=stated.population,
        other_populations=[number for number in [stated.smallest_population] if number],
        stage=next((one for one in lineage.releases if one.id == own), None),
        on_record=stated.on_record,
        risk=stated.risk,
        uncovered=[words for words in stated.not_covered if words not in _EARLIER_WORDS],
    )


def _from_record(stated: Statement, ledger: Ledger) -> Statement:
    """The statement by the terms in the run's own ledger, and by what it spent."""
    terms, counted = ledger.terms, ledger.counted
    assert terms is not None  # the caller has asked
    return make_statement(
        terms.ancestors if counted is None else terms.ancestors.with_release(counted),
        subject=terms.subject,
        delta=terms.delta,
        unit=terms.unit,
        population=terms.population,
        other_populations=[number for number in [terms.smallest_population] if number],
        stage=counted,
        risk=terms.risk,
        on_record=stated.on_record,
        uncovered=stated.not_covered,
    )


def _of_earlier_version(folder: Path, stated: Statement, spent: Release | None) -> Lineage:
    """The lineage of a run without a record: as stated, with what the ledgers count of its own.

    Raises:
        InputError: when the lineage leaves the run's own release out, or nothing here tells whether
            it does.
    """
    named = {release.id for release in stated.lineage.releases}
    own = _finished(folder).release
    if spent is None and own not in named:
        spent = _recorded(folder, own)
    if spent is None:
        return stated.lineage
    if spent.id not in named:
        raise InputError(
            f"{folder}/{STATEMENT_FILE}: leaves out the release of the run itself, which its "
            "record counts; restore the file, or make the run again"
        )
    return Lineage(
        releases=tuple(spent if one.id == spent.id else one for one in stated.lineage.releases),
        declared=stated.lineage.declared,
        public=stated.lineage.public,
    )


def _recorded(folder: Path, release_id: str) -> Release | None:
    """The release of a run on the record of its data set; None where its rows are no patients.

    Raises:
        InputError: when the data set is not there.
    """
    settings = read_yaml(folder / "config.yaml")
    if "data" not in settings:  # it mixes or imports generators, and reads no patient
        return None
    data = Path(str(settings["data"]))
    if not is_dataset(data):
        raise InputError(
            f"{folder}: made by an earlier version, without a record of what it promises, and its "
            "data set is not where it was, so what it spent on patients is unknown; put the data "
            "set back, or make the run again"
        )
    info = read_info(data)
    recorded = Record(data / "private" / "ledger.jsonl", info.ledger).releases
    own = next((release for release in recorded if release.id == release_id), None)
    if own is None and info.protects_patients:
        raise InputError(
            f"{folder}: made by an earlier version, and neither its statement nor the ledger of "
            "its data set counts it; restore both from a backup, or make the run again"
        )
    return own


def _refused_if_more(stated: Statement, again: Statement, where: str) -> Statement:
    """The statement that was made again, where the file promises no more, and spends no more.

    Raises:
        InputError: naming the fields in which it promises more, or when releases are missing.
    """
    if more := list(_promised_more(stated, again)):
        raise InputError(
            f"{where}: promises more than what was spent allows ({', '.join(more)}); restore the "
            "file, or make the run again"
        )
    if stated.epsilon > again.epsilon * (1 + _LOOSER):
        raise InputError(
            f"{where}: states more than its releases spent, so that some of them are missing; "
            "restore the file, or make the run again"
        )
    # an epsilon of the last stage alone is no promise, and is not lowered
    stage = max(stated.epsilon_stage, again.epsilon_stage)
    return again.model_copy(update={"epsilon_stage": stage})


def _less(one: float, other: float) -> bool:
    return one < other * (1 - _ROUNDING)


def _promised_more(stated: Statement, again: Statement) -> Iterator[str]:
    """The fields in which `stated` promises more than `again`, which was made from the record."""
    for field in ("epsilon", "epsilon_stage"):
        if _less(getattr(stated, field), getattr(again, field)):
            yield field
    same = ["delta", "unit", "neighbours", "risk"]
    newest = stated.schema_version == SCHEMA_VERSION
    if newest:  # an earlier one had one population, and other words for what is left out
        same += ["population", "smallest_population"]
    yield from (field for field in same if getattr(stated, field) != getattr(again, field))
    named = {release.id: release for release in stated.lineage.releases}
    if any(
        one.id not in named or named[one.id].started(one.starts) != one
        for one in again.lineage.releases
    ):
        yield "lineage"
    if newest and not {*again.not_covered} - {FOR_RADIOGRAPHS} <= {*stated.not_covered}:
        yield "not_covered"
    one_population = again.population == stated.population and again.smallest_population is None
    if _better_odds(stated.odds, again.odds, but=() if newest or one_population else _OF_GUESSES):
        yield "odds"
    if stated.patient is not None and (
        again.patient is None
        or _less(stated.patient.epsilon, again.patient.epsilon)
        or _better_odds(stated.patient.odds, again.patient.odds)
    ):
        yield "patient"
    epsilons = {one.patients: one.epsilon for one in again.cohorts}
    if any(_less(one.epsilon, epsilons.get(one.patients, math.inf)) for one in stated.cohorts):
        yield "cohorts"


def _better_odds(stated: Odds, again: Odds, *, but: Collection[str] = ()) -> bool:
    """Whether an attacker is stated to do worse than is bounded, where anything is stated."""
    pairs = (
        (getattr(stated, field), getattr(again, field))
        for field in type(stated).model_fields
        if field not in but
    )
    return any(one is not None and other is not None and _less(one, other) for one, other in pairs)
