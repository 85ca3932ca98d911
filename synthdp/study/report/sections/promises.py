"""What a study promises, row by row and published together, as HTML."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from synthdp.errors import InputError
from synthdp.privacy.accounting.bounds import epsilon_text
from synthdp.privacy.promise.statement import Statement, joined_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.storage.paths import without_paths
from synthdp.study.compare.cells import Cell
from synthdp.study.record import StudyRecord, own_statement, private_part
from synthdp.study.report.summary import strategy_words

_WHOLE = "study, all of its runs published together"


@dataclass(frozen=True)
class PromiseView:
    """A promise as `parts.html.j2` shows it: a title, its epsilon, and its text as HTML.

    Of a row it has the texts of all runs that differ, which only those of other seeds do.
    """

    title: str
    epsilon: float
    texts: tuple[Markup, ...]


def statement_html(statement: Statement) -> Markup:
    """A statement's text, which is Markdown of paragraphs, lists and bold words, as HTML."""
    return _html(without_paths(statement_text(statement)).split("\n\n"))


def _row_html(statement: Statement) -> Markup:
    """A statement without what is not covered, and what else is on record: those stand once."""
    text = statement_text(statement.model_copy(update={"not_covered": (), "on_record": ()}))
    return _html(without_paths(text).split("\n\n")[:-1])


def _html(paragraphs: Iterable[str]) -> Markup:
    blocks = []
    for block in paragraphs:
        text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(block)))
        if block.startswith("- "):
            items = (f"<li>{line.removeprefix('- ')}</li>" for line in text.splitlines())
            blocks.append(f"<ul>{''.join(items)}</ul>")
        else:
            blocks.append(f"<p>{text}</p>")
    return Markup("".join(blocks))  # noqa: S704 (escaped above)


def row_promise_views(
    cells: Sequence[Cell], statements: Mapping[str, Statement]
) -> list[PromiseView]:
    """The promises of each strategy and epsilon, as they come; `statements` go by run."""
    by_row: dict[tuple[str, float | None], dict[str, Statement]] = {}
    for cell in cells:
        stated = {run: statements[run] for run in cell.runs if run in statements}
        by_row.setdefault((cell.strategy, cell.epsilon), {}).update(stated)
    return [
        PromiseView(
            f"{strategy_words(strategy)}{_asked_words(epsilon, stated.values())}",
            max(statement.epsilon for statement in stated.values()),
            tuple(dict.fromkeys(_row_html(statement) for statement in stated.values())),
        )
        for (strategy, epsilon), stated in by_row.items()
        if stated
    ]


def not_covered(statements: Iterable[Statement]) -> list[str]:
    """What no row's statement covers, each once."""
    return list(dict.fromkeys(words for one in statements for words in one.not_covered))


def _asked_words(epsilon: float | None, statements: Iterable[Statement]) -> str:
    if epsilon is not None:
        return f", {epsilon_text(epsilon)} asked for"
    last_stage_is_free = all(math.isinf(statement.epsilon_stage) for statement in statements)
    return ", without privacy" if last_stage_is_free else ""


@dataclass(frozen=True)
class StudyPromise:
    """What publishing a study promises: all of its runs, and those with a finite epsilon alone.

    None where there is no such run with a statement; `problem` says why runs do not compose.
    """

    whole: Statement | None
    private_part: Statement | None
    problem: str = ""


def study_promise(study: Path, record: StudyRecord, given: Statement | None) -> StudyPromise:
    """Compose the promise of a study, once for its page, its card and `privacy-dp.json`.

    Args:
        study: the study's folder.
        record: what it holds.
        given: the promise of all, where it is known; None: its own, or composed from its runs.
    """
    problems, whole, part = [], given or own_statement(study), None
    stated = [*record.statements.values(), *record.unnamed.values()]
    try:
        if whole is None and stated and not record.missing:
            whole = joined_statement(stated, subject=_WHOLE)
    except InputError as error:
        problems.append(str(error))
    try:
        part = private_part(record)
    except InputError as error:
        problems.append(str(error))
    return StudyPromise(whole, part, problem="".join(problems[:1]))


def study_promise_views(
    promise: StudyPromise, statements: Mapping[str, Statement]
) -> list[PromiseView]:
    """What publishing the whole study promises, and its private rows alone where that differs.

    `statements` go by run.
    """
    if promise.problem:
        return [PromiseView(f"The runs do not compose: {promise.problem}", math.inf, ())]
    shown = [("Everything in this study", promise.whole)]
    if any(math.isinf(statement.epsilon) for statement in statements.values()):
        shown.append(("The rows with a finite epsilon alone", promise.private_part))
    return [
        PromiseView(title, statement.epsilon, (statement_html(statement),))
        for title, statement in shown
        if statement is not None
    ]
