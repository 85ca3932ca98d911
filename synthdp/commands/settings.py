"""`synthdp settings`: every key of a stage, looked up or listed."""

import argparse
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from synthdp.command_line.completion import offer
from synthdp.command_line.exit_codes import EXIT_DONE
from synthdp.command_line.parser import Commands
from synthdp.errors import InputError, nearest, quoted
from synthdp.stages import STAGES

if TYPE_CHECKING:
    from synthdp.config.described import DescribedKey

_WIDTH = 100
#: What imports by another name takes the keys of.
_SAME_AS = {"data import": "data patches"}


def add_commands(commands: Commands) -> None:
    """The command that looks settings up."""
    parser = commands.add_parser(
        "settings",
        help="look up the settings of a stage: meaning, range, default, example",
        description="Say of each setting of a stage, or of one, what it takes, what it is by "
        "default, what it means, and how it is typed.",
        epilog="examples:\n  synthdp settings finetune\n  synthdp settings finetune privacy\n"
        "  synthdp settings data patches patient_pattern\n"
        "  synthdp settings --all --format markdown",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words = parser.add_argument(
        "words", nargs="*", metavar="STAGE [KEY]", help="a stage, and a key or section of it"
    )
    offer(words, _complete)
    parser.add_argument("--all", action="store_true", help="the settings of every stage")
    parser.add_argument(
        "--format",
        choices=("text", "markdown"),
        default="text",
        help="markdown: a table for a page (default: text)",
    )
    parser.set_defaults(handler=_run)


def _run(arguments: argparse.Namespace) -> int:
    stages, key = _asked(arguments.words, everything=arguments.all)
    if arguments.format == "markdown":
        print(markdown_page(stages), end="")
        return EXIT_DONE
    for stage in stages:
        if len(stages) > 1:
            print(f"# {stage}\n")
        print("\n\n".join(map(key_text, _keys(stage, key))))
        if len(stages) > 1:
            print()
    return EXIT_DONE


def _asked(words: Sequence[str], *, everything: bool) -> tuple[list[str], str | None]:
    """The stages and the key that words ask for.

    Raises:
        InputError: when they name no stage, or too much.
    """
    if everything:
        if words:
            raise InputError("settings: --all has every stage; leave the stage out, or --all")
        return list(STAGES), None
    stage, rest = stage_and_rest(words)
    if not stage:
        known = ", ".join(STAGES)
        if not words:
            raise InputError(f"settings: name a stage: {known}")
        close = nearest(" ".join(words[:2]), STAGES) or nearest(words[0], STAGES)
        hint = f"did you mean {close}?" if close else f"stages with settings: {known}"
        raise InputError(f"settings: {quoted(words[0])} is no stage; {hint}")
    if len(rest) > 1:
        raise InputError(f"settings: name one key of {stage}, not {len(rest)}")
    return [stage], rest[0] if rest else None


def stage_and_rest(words: Sequence[str]) -> tuple[str, list[str]]:
    """The stage that the first words name, one or two, and the words behind; empty for none."""
    for count in (2, 1):
        name = " ".join(words[:count])
        name = _SAME_AS.get(name, name)
        if name in STAGES:
            return name, list(words[count:])
    return "", list(words)


def _keys(stage: str, key: str | None) -> "list[DescribedKey]":
    from synthdp.config.described import described, keys_of  # noqa: PLC0415 (starts light)

    settings = STAGES[stage].settings_class()
    return described(settings) if key is None else keys_of(settings, key)


def key_text(one: "DescribedKey") -> str:
    """A key for a terminal: what it takes, what it means, how it is typed."""
    default = f"default: {one.default}" if one.has_default else one.default
    lines = _wrapped(f"{one.key}: {one.takes}; {default}", "")
    meaning = f"{one.meaning} ({one.others})" if one.others else one.meaning
    lines += _wrapped(meaning, "    ")
    if one.example:
        lines.append(f"    example: {shell_word(one.example)}")
    return "\n".join(lines)


def shell_word(example: str) -> str:
    """An example as it is typed in a shell, in quotes where it needs them."""
    import shlex  # noqa: PLC0415 (starts light)

    key, equals, _ = example.partition("=")
    return shlex.quote(example) if equals and ":" not in key else example


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=indent,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def markdown_page(stages: Iterable[str]) -> str:
    """The reference page: a table of the keys of each stage."""
    return "\n".join(_page_lines(stages)) + "\n"


def _page_lines(stages: Iterable[str]) -> Iterator[str]:
    yield "# Settings of every stage"
    yield ""
    yield (
        "Made from the code by `synthdp settings --all --format markdown`; "
        "`synthdp settings STAGE KEY` says the same in a terminal."
    )
    yield "How values are written: [settings.md](settings.md)."
    for stage in stages:
        cls = STAGES[stage].settings_class()
        above = _stage_above(stage)
        keys = [one for one in _keys(stage, None) if not above or one not in _keys(above, None)]
        yield f"\n## {stage}\n"
        yield " ".join((cls.__doc__ or "").split("\n\n")[0].split())
        if above:
            yield f"Beside these it takes the keys of [{above}](#{above.replace(' ', '-')})."
        yield "\n| key | takes | default | meaning | example |\n| --- | --- | --- | --- | --- |"
        for one in keys:
            meaning = f"{one.meaning} ({one.others})" if one.others else one.meaning
            example = f"`{_cell(one.example)}`" if one.example else ""
            cells = (f"`{one.key}`", _cell(one.takes), f"{_cell(one.default)}", _cell(meaning))
            yield f"| {' | '.join((*cells, example))} |"


def _stage_above(stage: str) -> str:
    """The stage whose settings this one's are a kind of; empty where there is none."""
    parents = STAGES[stage].settings_class().__mro__[1:]
    classes = {STAGES[name].settings_class(): name for name in STAGES}
    return next((classes[parent] for parent in parents if parent in classes), "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _complete(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Stages, and then keys of the stage."""
    stage, _rest = stage_and_rest(parsed_args.words or [])
    if stage:
        return [one.key for one in _keys(stage, None) if "[]" not in one.key]
    first = " ".join(parsed_args.words or [])
    names = [name.removeprefix(f"{first} ") for name in STAGES if name.startswith(first)]
    return [name.partition(" ")[0] for name in names if name.startswith(prefix)]
