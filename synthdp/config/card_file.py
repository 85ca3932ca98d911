"""A card as a file: Markdown below a header in YAML, under the name of a run or that of the hub.

What a card says is written in `synthdp.runs.cards`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthdp.config.yaml_core import dump_yaml, parse_yaml
from synthdp.errors import InputError

#: The card of what leaves, and of a set: where the Hugging Face hub looks for it.
HUB_CARD = "README.md"
#: The card of a run, and of sets of earlier versions.
CARD = "card.md"


def card_file(folder: Path) -> Path | None:
    """The card of a run, a release or a set, that of the hub first; None where it has none."""
    return next((path for name in (HUB_CARD, CARD) if (path := folder / name).exists()), None)


def split_card(card: str) -> tuple[dict[str, Any], str]:
    """The header of a card, empty where it has none, and the text below it.

    Raises:
        InputError: when the header is no mapping of YAML.
    """
    parts = re.fullmatch(r"---\n(.*?\n)---\n(.*)", card, flags=re.DOTALL)
    if parts is None:
        return {}, f"\n{card}"
    header = parse_yaml(parts[1], where="the header of a card")
    if not isinstance(header, dict):
        raise InputError("the header of a card is no mapping; make the run or the set again")
    return header, parts[2]


def with_header(card: str, keys: Mapping[str, Any]) -> str:
    """A card whose header has these keys, in their places where it has them.

    Raises:
        InputError: as `split_card`.
    """
    header, body = split_card(card)
    return f"---\n{dump_yaml({**header, **keys})}---\n{body}"
