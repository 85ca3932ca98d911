"""A model card and a data card of a whole study, in the form of the Hugging Face hub."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthdp import __version__
from synthdp.privacy.accounting.bounds import epsilon_text, exactly, percent
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.promise.uncovered import TRAINED_ON
from synthdp.privacy.promise.words import statement_text
from synthdp.runs.cards import (
    USE,
    card_text,
    licence_keys,
    listed,
    one_line,
    paragraphs,
    privacy_header,
)
from synthdp.study.compare.cells import Cell
from synthdp.study.record import SetFacts
from synthdp.study.report.summary import strategy_words
from synthdp.study.report.tables import metric_words, results_table

MODEL_CARD, DATA_CARD = "model-card.md", "data-card.md"
_METRIC_TYPES = {"auroc": "roc_auc", "auprc": "average_precision", "sensitivity": "recall",
                 "specificity": "specificity"}  # fmt: skip
_OUT_OF_SCOPE = """\
- Diagnosis, treatment, or any other decision about a person.
- Other scanners, populations and findings than those of the training set, until measured there.
- Attempts to learn who was in the training set."""
_SCORES = (
    "Mean over seeds; each interval is over patients. These are exact scores of held-out patients, "
    "who stand outside the promise. The best of several rows looks better than it is."
)
_LEFT_OUT = (
    "How many patients and images there are of each class or group, dates, places and ids: exact "
    "counts of patients are not covered by the promise, so the card leaves them out."
)
_SENSITIVE = (
    "Images of patients do not leave the house, and are not beside this card. What leaves is "
    "models, and synthetic sets, each with its own statement."
)


@dataclass(frozen=True)
class CardFacts:
    """What the cards of a study say: its results, promises and versions, without any path.

    `promise` is that of publishing the whole study; `statements` go by run; `cells_by_target` are
    the results of each target where there are several.
    """

    title: str
    summary: Sequence[str]
    cells: Sequence[Cell]
    promise: Statement | None
    statements: Mapping[str, Statement]
    versions: Mapping[str, str]
    sets: Sequence[SetFacts]
    cells_by_target: Sequence[Cell] = ()


#: Words of a set's own name and description, or a column of it, by which it is of mammograms.
_OF_MAMMOGRAMS = ("mammo", "breast", "cbis")


def subject_tags(sets: Sequence[SetFacts]) -> list[str]:
    """Tags of what the images show: mammography where the set that is trained on says so itself.

    Phantoms, by which features are centred, are drawn as breasts whatever the patients' images are.
    """
    trained = [one for one in sets if "training" in one.roles]
    words = (word for one in trained for word in (one.name, one.description, *one.columns))
    said = " ".join(words).lower()
    is_of_mammograms = any(word in said for word in _OF_MAMMOGRAMS)
    return ["medical-imaging", *["mammography"] * is_of_mammograms]


def study_model_card(facts: CardFacts) -> str:
    """The card of all models of a study: one entry of the model index a row, and the promises."""
    held_out = [cell for cell in facts.cells if cell.split not in TRAINED_ON]
    header: dict[str, Any] = {
        "library_name": "synthdp",
        "pipeline_tag": "image-classification",
        "tags": [*subject_tags(facts.sets), "differential-privacy"],
        "metrics": list(_METRIC_TYPES.values()),
    }
    if facts.promise is not None:
        header["privacy"] = privacy_header(facts.promise)
    index = [_index_entry(cell) for cell in held_out if cell.metrics["auroc"].mean is not None]
    if index:
        header["model-index"] = index
    tables = results_table(
        held_out,
        "markdown",
        metric="auroc",
        title=facts.title,
        members_found={},
        by_target=[cell for cell in facts.cells_by_target if cell.split not in TRAINED_ON],
    )
    said = facts.summary if held_out else ()  # which has nothing to tell of then
    sections = [
        (
            "What it is",
            paragraphs(f"Classifiers of one study with synthdp. {' '.join(said)}"),
        ),
        ("Results", f"{tables}\n{_SCORES}" if index else ""),
        ("Privacy of each row", _promises(facts)),
        (
            "Privacy of all together",
            paragraphs(statement_text(facts.promise)) if facts.promise else "",
        ),
        ("How they were made", _made(facts)),
        ("Use", USE),
        ("Out of scope", _OUT_OF_SCOPE),
    ]
    return card_text(header, facts.title, sections)


def _index_entry(cell: Cell) -> dict[str, Any]:
    metrics = [
        {"type": kind, "name": metric_words(name, [cell]), "value": round(mean, 4)}
        for name, kind in _METRIC_TYPES.items()
        if (mean := cell.metrics[name].mean) is not None
    ]
    words = "without a grid" if cell.epsilon is None else f"epsilon {epsilon_text(cell.epsilon)}"
    if cell.epsilon is None and not cell.protected:
        words = "without privacy"
    trained_on = f"trained on {cell.trained_on}" if cell.trained_on else ""
    notes = [note for note in (words, trained_on, cell.tuned) if note]
    return {
        "name": ", ".join([strategy_words(cell.strategy), *notes]),
        "results": [
            {
                "task": {"type": "image-classification", "name": "Image Classification"},
                "dataset": {
                    "name": cell.data_set,
                    "type": re.sub(r"[^a-z0-9-]+", "-", cell.data_set.lower()).strip("-"),
                    "split": cell.split,
                },
                "metrics": metrics,
            }
        ],
    }


def _promises(facts: CardFacts) -> str:
    lines = [
        "| strategy | asked for | end to end | members found at 1 % false alarms | at 0.1 % |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in dict.fromkeys(_promised_rows(facts)):
        lines.append(f"| {' | '.join(map(one_line, row))} |")
    if len(lines) == 2:
        return ""
    return "\n".join([*lines, "", "Releasing several rows adds up: see the whole study's below."])


def _promised_rows(facts: CardFacts) -> Iterator[tuple[str, ...]]:
    for cell in facts.cells:
        stated = [facts.statements[run] for run in cell.runs if run in facts.statements]
        if stated:
            worst = max(stated, key=lambda one: (one.epsilon, one.odds.found_at_1_percent))
            yield (
                strategy_words(cell.strategy),
                "none" if cell.epsilon is None else epsilon_text(cell.epsilon),
                epsilon_text(worst.epsilon),
                percent(worst.odds.found_at_1_percent),
                percent(worst.odds.found_at_01_percent),
            )


def _made(facts: CardFacts) -> str:
    trained = ", ".join(one.name for one in facts.sets if "training" in one.roles)
    steps = {"trained on": trained} if trained else {}
    versions = dict(facts.versions) or {"synthdp": __version__}
    return listed({**steps, **versions, "settings": "config.yaml of the study"})


def study_data_card(facts: CardFacts) -> str:
    """The card of the data behind a study: what is public about each set."""
    licences = {one.licence for one in facts.sets if one.stands_for_patients}
    header = {
        "pretty_name": f"Data of: {facts.title}",
        **licence_keys(licences.pop() if len(licences) == 1 else ""),
        "task_categories": ["image-classification"],
        "tags": subject_tags(facts.sets),
    }
    named = {one.name for one in facts.sets}
    scored = [
        (cell.data_set, f"- role: evaluation, split {one_line(cell.split)}")
        for cell in facts.cells
        if cell.data_set not in named
    ]
    sections = [
        ("What it is", f"The data that the models of this study come from. {_SENSITIVE}"),
        *((one.name, _set_items(one)) for one in facts.sets),
        *dict.fromkeys(scored),
        ("What is not told", _LEFT_OUT),
        ("Use", USE),
    ]
    return card_text(header, f"Data of: {facts.title}", sections)


def _set_items(one: SetFacts) -> str:
    kinds = {
        "real": "images of patients",
        "synthetic": "synthetic images",
        "phantom": "phantoms",
        "public": "images of a public collection",
    }
    items = {
        "kind": kinds[one.kind] + " that stand for patients" * (one.kind == "phantom" and
                                                                one.stands_for_patients),
        "roles": "; ".join(one.roles),
        "images": f"grey, {one.sides}",
        "targets": ", ".join(one.targets),
        "licence": one.licence or "not stated",
    }  # fmt: skip
    if one.columns:
        items["columns beside"] = ", ".join(one.columns)
    if one.kind == "public":
        items["promise"] = "none: its patients are not protected"
    elif one.stands_for_patients:
        items["unit of the promise"] = one.unit
    else:
        items[f"epsilon spent on patients (delta {exactly(one.delta)})"] = epsilon_text(one.epsilon)
    text = listed(items)
    return f"{paragraphs(one.description)}\n\n{text}" if one.description else text
