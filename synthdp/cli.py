"""`synthdp STAGE ...`: reads the command line, runs one stage, turns errors into exit codes."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence

from synthdp import __version__
from synthdp.commands import GROUPS
from synthdp.commands.exit_codes import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
)
from synthdp.errors import InputError, RunError
from synthdp.machine.terminal import (
    ToldLines,
    accept_any_text,
    flush,
    has_no_reader,
    let_go_of_output,
    tell,
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="synthdp", description=__doc__)
    parser.add_argument("--version", action="version", version=f"synthdp {__version__}")
    commands = parser.add_subparsers(title="stages", required=True, metavar="STAGE")
    for add_commands in GROUPS:
        add_commands(commands)
    return parser


def _guarded(handler: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    try:
        return _with_output(handler(arguments))
    except InputError as error:
        tell(f"synthdp: {error}")
        return EXIT_BAD_INPUT
    except RunError as error:
        tell(f"synthdp: {error}")
        return EXIT_FAILED
    except OSError as error:  # its own text may hold a path below a patient's folder
        if isinstance(error, BrokenPipeError) and has_no_reader():
            let_go_of_output()
            return EXIT_DONE  # the reader, such as `head`, has seen enough
        tell(f"synthdp: a file could not be read or written: {error.strerror}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        tell("synthdp: interrupted; the same command resumes it")
        return EXIT_INTERRUPTED


def _with_output(code: int) -> int:
    """The code of a command whose output has been written."""
    try:
        flush()
    except BrokenPipeError:
        let_go_of_output()
    except OSError:
        let_go_of_output()
        raise
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads slow a shared machine
    accept_any_text()
    # what joblib says at its import without shared memory is said by `synthdp.machine.processes`,
    # if at all
    warnings.filterwarnings("ignore", message=".*joblib will operate in serial mode")
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[ToldLines()])
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)  # argparse leaves pairs behind an option over
    if rest and (not hasattr(arguments, "overrides") or any(_is_no_pair(word) for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest
    return _guarded(arguments.handler, arguments)


def _is_no_pair(word: str) -> bool:
    return word.startswith("-") or "=" not in word


if __name__ == "__main__":
    sys.exit(main())
