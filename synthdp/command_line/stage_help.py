"""What `STAGE --help` says of options and settings, looked up when help is asked for."""

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from synthdp.stages import STAGES

if TYPE_CHECKING:
    from synthdp.command_line.parser import CommandParser
    from synthdp.config.described import DescribedKey

_WIDTH, _INDENT = 100, 24
#: Defaults that say nothing to who looks for help.
_NOTHING = ("none", "empty", "[]", "{}", "each key has its own", "false")


def describe_stage(
    parser: "CommandParser",
    stage: str,
    actions: Mapping[str, argparse.Action],
    matters: Sequence[str],
) -> None:
    """Put the meanings of keys into the help of a stage.

    Args:
        parser: of the command.
        stage: whose settings they are.
        actions: key -> the argument that sets it.
        matters: the keys that users look for first.
    """
    from synthdp.config.described import described  # noqa: PLC0415 (starts without pydantic)

    keys = {one.key: one for one in described(STAGES[stage].settings_class())}
    for key, action in actions.items():
        # argparse formats help by %
        action.help = action.help or _in_short(keys[key]).replace("%", "%%")
    listed = "\n".join(_line(keys[key]) for key in matters)
    parser.epilog = (
        f"settings that matter most, as key=value (all {len(keys)}: `synthdp settings {stage}`):\n"
        f"{listed}\n\n{parser.epilog}"
    )
    parser.describe = lambda: None


def _line(key: "DescribedKey") -> str:
    lines = textwrap.wrap(
        _in_short(key),
        width=_WIDTH - _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    name = f"  {key.key}"
    first = f"{name:<{_INDENT}}{lines.pop(0)}" if len(name) < _INDENT else name
    return "\n".join([first, *(" " * _INDENT + line for line in lines)])


def _in_short(key: "DescribedKey") -> str:
    """The first sentence of what a key means, its words, and its default."""
    sentence = key.meaning.partition(". ")[0].rstrip(".")
    words = [word for word in key.choices if word not in ("true", "false", "none")]
    facts = [f"one of {', '.join(words)}"] if len(words) > 1 else []
    if key.must_be_given:
        facts.append(key.default)
    elif key.has_default and key.default not in _NOTHING:
        facts.append(f"default: {key.default}")
    return f"{sentence} ({'; '.join(facts)})" if facts else sentence
