"""The two ways in which a stage ends early; the command line turns each into its exit code."""

MAX_QUOTED_CHARS = 100


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and the mend. Exit code 2."""


class RunError(RuntimeError):
    """The run itself failed, and what was finished before stands. Exit code 1."""


def quoted(value: object) -> str:
    """A value as an error shows it: on one line, cut, without control characters."""
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return shown if len(shown) <= MAX_QUOTED_CHARS else f"{shown[:MAX_QUOTED_CHARS]}..."
