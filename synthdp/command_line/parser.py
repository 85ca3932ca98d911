"""The parser of every command: it says in plain words what is wrong, and what to type instead."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from synthdp.command_line.exit_codes import EXIT_BAD_INPUT
from synthdp.errors import nearest, quoted

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_KINDS = {"float": "number", "int": "whole number", "_path": "path", "named_path": "path"}


class CommandParser(argparse.ArgumentParser):
    """A parser that is described when help is asked for, and that knows its options by name.

    describe: called before help is written, to add what takes time to find out. keys: gives the
    settings that are typed as key=value.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.commands: Commands | None = None
        self.options: list[str] = []
        self.words: Sequence[str] = ()
        self.describe: Callable[[], None] = lambda: None
        self.keys: Callable[[], list[str]] = list
        super().__init__(*args, **kwargs)

    def add_subparsers(self, **kwargs: Any) -> Commands:  # type: ignore[override]
        """As of any parser; the commands are kept, to name one that is spelled alike."""
        self.commands = super().add_subparsers(**kwargs)
        return self.commands

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        """As of any parser; the names of options are kept likewise."""
        self.options += [word for word in args if isinstance(word, str) and word.startswith("--")]
        return super().add_argument(*args, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As of any parser; what was typed is kept, to name what is wrong with it."""
        self.words = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        """Help, with what is only found out for it."""
        self.describe()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and the mend, and end with the code of wrong input."""
        if self.commands is not None and message.startswith("the following arguments are required"):
            if self.words:
                self.unknown_words(self.words)  # options alone, none of which there is
            self.print_help(sys.stderr)  # nothing was asked for yet: this is what there is
            self.exit(EXIT_BAD_INPUT)
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: {self._plain(message)}\n")

    def unknown_words(self, words: Sequence[str]) -> NoReturn:
        """Say that words mean nothing here, and which options are spelled like them."""
        hints = [hint for word in words if (hint := self._like(word))]
        mend = "; ".join(hints) or f"`{self.prog} --help` has what it takes"
        self.exit(
            EXIT_BAD_INPUT, f"{self.prog}: unrecognized arguments: {' '.join(words)}; {mend}\n"
        )

    def _like(self, word: str) -> str:
        option = word.partition("=")[0]
        if not option.startswith("-"):
            return ""
        if "." in option:
            return f"did you mean {option.lstrip('-')}=...?"
        keys = {f"--{key.replace('_', '-')}": key for key in self.keys()}
        close = nearest(option, [*self.options, *keys])
        if close is None:
            return ""
        return f"did you mean {close if close in self.options else f'{keys[close]}=...'}?"

    def _plain(self, message: str) -> str:
        """What argparse says, in words of this house where it can be told apart."""
        if wrong := re.match(r"argument (.*?): invalid choice: '?(.*?)'? \(choose from", message):
            return self._no_choice(wrong[1], wrong[2])
        if wrong := re.match(r"argument (.*?): invalid (\w+) value: (.*)", message):
            return f"{wrong[1]}: {wrong[3]} is no {_KINDS.get(wrong[2], wrong[2])}"
        if wrong := re.match(r"argument (.*?): expected (.*) arguments?", message):
            return f"{wrong[1]}: needs {_COUNTS.get(wrong[2], wrong[2])}; {self._see_help}"
        if missing := re.match(r"the following arguments are required: (.*)", message):
            return f"{missing[1]}: missing; {self._see_help}"
        return message.removeprefix("argument ")

    @property
    def _see_help(self) -> str:
        first = (self.epilog or "").splitlines()[1:2]
        return f"as in: {first[0].strip()}" if first else f"`{self.prog} --help` says more"

    def _no_choice(self, argument: str, value: str) -> str:
        if self.commands is not None and argument in ("COMMAND", "KIND", "ACTION"):
            known = list(self.commands.choices)
            close = nearest(value, known)
            hint = f"did you mean {close}?" if close else f"there are {', '.join(known)}"
            return f"{quoted(value)} is no command; {hint}"
        known = [
            str(choice)
            for action in self._actions
            if argument in ("/".join(action.option_strings), action.dest, action.metavar)
            for choice in action.choices or ()
        ]
        close = nearest(value, known)
        hint = f"did you mean {close}?" if close else f"choose from {', '.join(known)}"
        return f"{argument}: {quoted(value)} is no value here; {hint}"


_COUNTS = {"one": "a value behind it", "at least one": "at least one value behind it"}


def deepest(parser: CommandParser, words: Sequence[str]) -> CommandParser:
    """The parser of the command that words name, as far as they do."""
    for word in words:
        if parser.commands is None:
            break
        below = parser.commands.choices.get(word)
        if isinstance(below, CommandParser):
            parser = below
    return parser


class Once(argparse.Action):
    """Keeps an option's value as it is typed, and refuses a second one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Keep the value, where there is none yet."""
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string}: given twice; keep one")
        setattr(namespace, self.dest, values)


def named_path(text: str) -> Path:
    """A path of the command line; an empty one, which `Path` takes for this folder, is refused."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty, as an unset variable leaves it; name a path")
    return Path(text)
