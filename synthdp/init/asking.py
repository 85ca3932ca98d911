"""How `synthdp init` comes by an answer, and writes it down."""

import re
import unicodedata
from collections.abc import Callable

from synthdp.errors import InputError

#: Asks a question, with an answer to begin with, and gives what was typed.
Ask = Callable[[str, str], str]


def needed(given: object, option: str, question: str, ask: Ask | None, default: str = "") -> str:
    """What an option says, else what is typed, else the default.

    Raises:
        InputError: when there is none of them.
    """
    if given is not None:
        return str(given)
    text = ask(question, default).strip() if ask is not None else default
    if not text:
        raise InputError(f"{option}: missing; {question[0].lower()}{question[1:]}")
    return text


def plain(word: str) -> str:
    """A word as the name of a set or a target may be: letters without marks, digits and lines."""
    letters = unicodedata.normalize("NFKD", word.replace("ß", "ss"))
    unmarked = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", unmarked).strip("-.") or "mine"
