"""Model and data-set cards: Markdown with a YAML header, in the form of the Hugging Face hub."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from synthdp import __version__
from synthdp.privacy.statement import Statement

_USE = (
    "For research. Not a medical device: no diagnosis and no treatment may rest on it without "
    "the validation that the law of the place asks for."
)


def _card(header: Mapping[str, Any], title: str, sections: Sequence[tuple[str, str]]) -> str:
    head = yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True)
    body = "\n\n".join(f"## {name}\n\n{text}" for name, text in sections if text)
    return f"---\n{head}---\n\n# {title}\n\n{body}\n"


def privacy_header(statement: Statement) -> dict[str, Any]:
    """The `privacy:` block of a card's header."""
    values = statement.model_dump(mode="json")
    return {key: values[key] for key in ("epsilon", "delta", "unit", "neighbours")}


def model_card(
    *, title: str, summary: str, statement: Statement, settings: Mapping[str, Any]
) -> str:
    """The card of a model: what it is, what it promises, how it was made."""
    header = {
        "library_name": "synthdp",
        "tags": ["medical-imaging", "differential-privacy"],
        "privacy": privacy_header(statement),
    }
    lines = "\n".join(f"- {name}: {value}" for name, value in settings.items())
    sections = [
        ("What it is", summary),
        ("Privacy", statement.to_text()),
        ("How it was made", f"synthdp {__version__}\n\n{lines}"),
        ("Use", _USE),
    ]
    return _card(header, title, sections)


def dataset_card(*, title: str, summary: str, licence: str, statement: Statement) -> str:
    """The card of a synthetic data set."""
    header = {
        "tags": ["synthetic", "medical-imaging"],
        "license": licence or "unknown",
        "privacy": privacy_header(statement),
    }
    sections = [("What it is", summary), ("Privacy", statement.to_text()), ("Use", _USE)]
    return _card(header, title, sections)
