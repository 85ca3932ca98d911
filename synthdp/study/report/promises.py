"""What a study promises, row by row and published together, as HTML."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from synthdp.errors import InputError
from synthdp.paths import without_paths
from synthdp.privacy.statement import Statement, joined_statement, number
from synthdp.study.compare.cells import Cell
from synthdp.study.record import StudyRecord, own_statement, private_part
from synthdp.study.report.summary import strategy_words

_WHOLE = "study, all of its runs published together"


@dataclass(frozen=True)
class Promise:
    """Statements of the runs of one row, as HTML; they differ only where seeds do."""

    title: str
    epsilon: float
    texts: tuple[Markup, ...]


def statement_html(statement: Statement) -> Markup:
    """A statement's text, which is Markdown of paragraphs, lists and bold words, as HTML."""
    return _html(without_paths(statement.to_text()).split("\n\n"))


def _row_html(statement: Statement) -> Markup:
    """A statement without what is not covered: that stands once, above all rows."""
    text = statement.model_copy(update={"not_covered": ()}).to_text()
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


def row_promises(cells: Sequence[Cell], statements: Mapping[str, Statement]) -> list[Promise]:
    """The promises of each strategy and epsilon, as they come; `statements` go by run."""
    by_row: dict[tuple[str, float | None], dict[str, Statement]] = {}
    for cell in cells:
        stated = {run: statements[run] for run in cell.runs if run in statements}
        by_row.setdefault((cell.strategy, cell.epsilon), {}).update(stated)
    return [
        Promise(
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
        return f", {number(epsilon)} asked for"
    last_stage_is_free = all(math.isinf(statement.epsilon_stage) for statement in statements)
    return ", without privacy" if last_stage_is_free else ""


def whole_statement(study: Path, record: StudyRecord, given: Statement | None) -> Statement | None:
    """The promise of publishing the whole study: `given`, its own, or composed from its runs.

    None where no run has a statement.

    Raises:
        InputError: when the runs do not compose.
    """
    whole, stated = given or own_statement(study), list(record.statements.values())
    return joined_statement(stated, subject=_WHOLE) if whole is None and stated else whole


def together(study: Path, record: StudyRecord, given: Statement | None) -> list[Promise]:
    """What publishing the whole study promises, and its private rows alone where that differs.

    `given` is as in `whole_statement`.
    """
    try:
        whole, part = whole_statement(study, record, given), private_part(record)
    except InputError as error:
        return [Promise(f"The runs do not compose: {error}", math.inf, ())]
    shown = [("Everything in this study", whole)]
    if any(math.isinf(statement.epsilon) for statement in record.statements.values()):
        shown.append(("The rows with a finite epsilon alone", part))
    return [
        Promise(title, statement.epsilon, (statement_html(statement),))
        for title, statement in shown
        if statement is not None
    ]
