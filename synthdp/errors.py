"""The two ways in which a stage ends early; the command line turns each into its exit code."""

import re
import shlex
from collections.abc import Iterable

MAX_QUOTED_CHARS = 100
_CREDENTIALS = re.compile(r"(?<=:/)(/?)[^/@\s]+@")


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and the mend. Exit code 2."""


class RunError(RuntimeError):
    """The run itself failed, and what was finished before stands. Exit code 1."""


def quoted(value: object) -> str:
    """A value as an error shows it: on one line, cut, without control characters or passwords."""
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    shown = without_credentials(shown)
    return shown if len(shown) <= MAX_QUOTED_CHARS else f"{shown[:MAX_QUOTED_CHARS]}..."


def for_shell(path: object) -> str:
    """A path as it is typed in a shell, in quotes where it needs them."""
    return shlex.quote(str(path))


def without_credentials(text: str) -> str:
    """The text without what stands before the @ of an address: names of users, and passwords."""
    return _CREDENTIALS.sub(r"\1...@", text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that is spelled most like a word; None where none is like it."""
    from difflib import get_close_matches  # noqa: PLC0415 (for what is wrong alone)

    close = get_close_matches(word[:MAX_QUOTED_CHARS], list(known), n=1)
    return close[0] if close else None
