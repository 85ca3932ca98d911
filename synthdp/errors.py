"""The two ways in which a stage ends early; the command line turns each into its exit code."""


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and the mend. Exit code 2."""


class RunError(RuntimeError):
    """The run itself failed, and what was finished before stands. Exit code 1."""
