"""`synthdp STAGE ...`: reads the command line, runs one stage, turns errors into exit codes."""

import argparse
import logging
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence

from synthdp import __version__
from synthdp.command_line.completion import RC_LINE, complete
from synthdp.command_line.exit_codes import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
)
from synthdp.command_line.parser import CommandParser, deepest
from synthdp.commands import GROUPS
from synthdp.errors import InputError, RunError
from synthdp.machine.rank import follows
from synthdp.machine.terminal import (
    ToldLines,
    accept_any_text,
    flush,
    has_no_reader,
    let_go_of_output,
    tell,
)


def build_parser() -> CommandParser:
    """The parser of the whole command line."""
    parser = CommandParser(
        prog="synthdp", formatter_class=argparse.RawDescriptionHelpFormatter, usage=_USAGE
    )
    parser.add_argument(
        "--version", action="version", version=f"synthdp {__version__}", help="say the version"
    )
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", help=argparse.SUPPRESS, prog="synthdp"
    )
    groups: dict[str, list[str]] = {}
    for title, add_commands in GROUPS:
        before = list(commands.choices)
        add_commands(commands)
        groups.setdefault(title, []).extend(n for n in commands.choices if n not in before)
    purposes = {action.dest: _as_title(action.help or "") for action in commands._choices_actions}
    parser.describe = lambda: setattr(parser, "description", overview(groups, purposes))
    return parser


_USAGE = "synthdp COMMAND ..."
_OVERVIEW = """\
Synthetic medical images and classifiers that keep a promise to each patient.

the first three commands:
  synthdp init mine --images my-patches   write settings that fit your images, and what to run
  synthdp data import data.yaml           (in the folder mine) make a data set of the images
  synthdp study study.yaml                compare recipes, with privacy and without: a report
no images yet?
  synthdp data phantoms --out phantoms    draw made-up patients, and use these
"""
_FURTHER = f"""
`synthdp COMMAND --help` shows examples and the settings that matter most; `synthdp settings STAGE`
explains every setting; `--dry-run` of a stage says what it would do and promise. Completion by the
Tab key, once in the shell's rc file: {RC_LINE}
"""


def overview(groups: Mapping[str, Sequence[str]], purposes: Mapping[str, str]) -> str:
    """What there is, by groups, and what to type first."""
    lines = [_OVERVIEW]
    for title, names in groups.items():
        lines.append(f"{title}:")
        for name in names:
            lines += textwrap.wrap(
                purposes[name],
                width=100,
                initial_indent=f"  {name:<18}",
                subsequent_indent=" " * 20,
                break_on_hyphens=False,
            )
    return "\n".join(lines) + "\n" + _FURTHER


def _as_title(purpose: str) -> str:
    return f"{purpose[:1].upper()}{purpose[1:]}".removesuffix(".")


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
    # pydantic would ask every installed distribution for plugins, of which synthdp needs none
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    accept_any_text()
    # what joblib says at its import without shared memory is said by `synthdp.machine.processes`,
    # if at all
    warnings.filterwarnings("ignore", message=".*joblib will operate in serial mode")
    level = logging.INFO
    if follows():  # the first process tells what all do
        level = logging.WARNING
        os.environ.setdefault("SYNTHDP_PROGRESS", "off")
    logging.basicConfig(level=level, format="%(message)s", handlers=[ToldLines()])
    parser = build_parser()
    complete(parser)
    # argparse leaves over what stands behind an option: pairs, and the settings file before them
    arguments, rest = parser.parse_known_args(argv)
    has_file = rest and not getattr(arguments, "overrides", True) and _may_be_settings(rest[0])
    strange = [word for word in (rest[1:] if has_file else rest) if _is_no_pair(word)]
    if strange or (rest and not hasattr(arguments, "overrides")):
        words = sys.argv[1:] if argv is None else argv
        deepest(parser, words).unknown_words(strange or rest)
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return _guarded(arguments.handler, arguments)


def _is_no_pair(word: str) -> bool:
    return word.startswith("-") or "=" not in word


def _may_be_settings(word: str) -> bool:
    """Whether a word is a settings file's, or the name of packaged settings such as study/own."""
    is_named = "/" in word or word.endswith((".yaml", ".yml"))
    return is_named and not word.startswith("-") and "=" not in word


if __name__ == "__main__":
    sys.exit(main())
