"""The chosen rows of a study, copied as they may leave, with what they promise together."""

from collections.abc import Collection, Mapping
from pathlib import Path

from synthdp.config.card_file import CARD
from synthdp.config.settings import read_json_as
from synthdp.errors import InputError
from synthdp.privacy.promise.plan import named_sets, with_records
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import Statement, joined_statement
from synthdp.privacy.promise.uncovered import CHOICE, TRAINED_ON, exact_words, with_uncovered
from synthdp.releases.copies.rows import (
    Selection,
    blanked,
    chosen_rows,
    comparisons_left,
    public_sets,
)
from synthdp.releases.copies.runs import PROMISE, STATUS, copy_config, copy_promise, released_status
from synthdp.releases.files import plain_file
from synthdp.runs.cards import plain_card
from synthdp.storage.files import write_atomic, write_json
from synthdp.storage.paths import without_paths
from synthdp.study.compare.aurocs import read_comparisons, write_comparisons
from synthdp.study.compare.results import RESULTS_FILE, read_results, write_results
from synthdp.study.compared import FACTS_FILE
from synthdp.study.record import StudyFacts, read_sets
from synthdp.study.report.page import write_report
from synthdp.study.report.settings import ReportSettings
from synthdp.study.sweep.state import refuse_changed_study

RUNS = "runs"
_CHOSEN = "study, its chosen rows alone published together"


def copy_study(
    study: Path, folder: Path, selection: Selection, included: Collection[str]
) -> tuple[Statement, list[str]]:
    """Copy tables, report and promises of the rows that leave; not yet their models.

    Args:
        study: a finished one.
        folder: of the release.
        selection: of its rows.
        included: `scores` and `counts`, where exact ones of patients leave.

    Returns:
        What the rows promise together, and the names of their runs.

    Raises:
        InputError: when no row is chosen, or the study promises more than its runs allow, or its
            scores are of patients that models were trained on.
    """
    refuse_changed_study(study)  # what its sets hold today decides whose figures are public
    every = read_results(plain_file(study, RESULTS_FILE))
    rows = chosen_rows(every, selection)
    sets = read_sets(study)
    public = public_sets(sets)
    scores, counts = "scores" in included, "counts" in included
    shown = [blanked(row, public=public, scores=scores, counts=counts) for row in rows]
    runs = list(dict.fromkeys(row.run for row in rows))
    whole = len(rows) == len(every)
    statement = _promise(study, runs, whole=whole)
    exact = [row for row in rows if row.data_set not in public]
    if scores and statement.lineage.releases and any(row.split in TRAINED_ON for row in exact):
        raise InputError(
            f"{study.name}: has scores of a split that patients were trained on, which the "
            "promise does not allow; run the study with evaluate_on naming another split, or leave "
            "the scores out"
        )
    splits = [f"{row.data_set} ({row.split})" for row in exact]
    words = exact_words(splits, scores=scores, counts=counts)
    if selection.by_value and exact:
        words.append(CHOICE)
    statement = with_uncovered(statement, words)
    write_json(folder / STATUS, released_status(study))
    write_json(folder / PROMISE, statement.model_dump(mode="json"))
    copy_config(study, folder)
    withheld = [kind for kind in ("scores", "counts") if kind not in included and exact]
    about = {"sets": [one.model_dump(mode="json") for one in sets], "withheld": withheld}
    title = _write_facts(study, folder, about)
    write_results(folder / RESULTS_FILE, shown)
    write_atomic(folder / CARD, plain_card(title, statement))
    counted = {release.id for release in statement.lineage.releases}
    for run in runs:
        of_run = copy_promise(study / RUNS / run, folder / RUNS / run)
        if not {release.id for release in of_run.lineage.releases} <= counted:
            raise InputError(
                f"{study.name}/{PROMISE}: leaves out what one of its runs spent; run it again"
            )
    comparisons = comparisons_left(read_comparisons(study), public=public, scores=scores)
    if whole and comparisons.aurocs:
        write_comparisons(folder, comparisons)
    # anew: without times, pictures
    write_report(ReportSettings(study=folder, statement=statement), shown)
    return statement, runs


def _promise(study: Path, runs: list[str], *, whole: bool) -> Statement:
    """What is promised when these runs are published: of all of them what the study states."""
    plain_file(study, PROMISE)
    own = read_statement(study, sender=None)
    if not whole:
        parts = [read_statement(study / RUNS / run, sender=None) for run in runs]
        own = joined_statement(parts, subject=_CHOSEN)
    return with_records(own, named_sets(study))


def _write_facts(study: Path, folder: Path, about: Mapping[str, object]) -> str:
    """Write the study's public facts, and give its title."""
    facts = read_json_as(StudyFacts, plain_file(study, FACTS_FILE))
    title = without_paths(facts.title)
    write_json(folder / FACTS_FILE, {"title": title, **about})
    return title
