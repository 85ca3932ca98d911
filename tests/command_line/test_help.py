"""Help, and what is said of wrong words: every argument described, every slip with its mend."""

import argparse
from collections.abc import Iterator

import pytest

from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, build_parser, main
from synthdp.command_line.parser import CommandParser
from synthdp.stages import STAGES


def parsers(parser: CommandParser) -> Iterator[CommandParser]:
    """A parser and all below it, described as for help."""
    parser.format_help()
    yield parser
    for below in parser.commands.choices.values() if parser.commands is not None else ():
        assert isinstance(below, CommandParser)
        yield from parsers(below)


ALL = {parser.prog: parser for parser in parsers(build_parser())}


@pytest.mark.parametrize("command", ALL)
def test_every_argument_has_a_help_text(command: str) -> None:
    kinds = argparse._SubParsersAction
    actions = [action for action in ALL[command]._actions if not isinstance(action, kinds)]
    assert actions
    assert [action.dest for action in actions if not (action.help or "").strip()] == []


@pytest.mark.parametrize("command", [name for name in ALL if name != "synthdp"])
def test_every_command_says_what_it_is_for_and_how_it_is_typed(command: str) -> None:
    parser = ALL[command]
    assert parser.description
    if parser.commands is None:
        assert f"  {command}" in (parser.epilog or ""), "give it an example"


#: Stages that are asked for by an option of another, and that one.
BY_OPTION = {name: name.split()[0] for name in STAGES if name.split()[0] in STAGES.keys() - {name}}


@pytest.mark.parametrize("stage", BY_OPTION)
def test_help_of_a_command_says_where_the_settings_of_its_options_are(stage: str) -> None:
    told = " ".join(ALL[f"synthdp {BY_OPTION[stage]}"].format_help().split())
    assert f"`synthdp settings {stage}`" in told


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in BY_OPTION])
def test_help_of_a_stage_lists_the_settings_that_matter_and_where_the_rest_is(stage: str) -> None:
    told = ALL[f"synthdp {stage}"].format_help()
    assert f"`synthdp settings {stage}`" in told
    listed = told.partition("settings that matter most")[2].partition("example")[0]
    keys = [line for line in listed.splitlines()[1:] if line[:2] == "  " and line[2:3].strip()]
    assert 2 <= len(keys) <= 10


def test_help_names_groups_first_commands_and_every_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    message = capsys.readouterr().out
    assert stop.value.code == EXIT_DONE
    for word in ("begin:", "data:", "generator:", "classifier:", "study:", "privacy:", "help:"):
        assert f"\n{word}\n" in message
    for name in {command.split()[1] for command in ALL if " " in command}:
        assert f"\n  {name} " in message
    assert "synthdp init mine" in message
    assert 'eval "$(register-python-argcomplete synthdp)"' in message
    assert max(map(len, message.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["finetun"], "synthdp: 'finetun' is no command; did you mean finetune?"),
        (["data", "patch"], "synthdp data: 'patch' is no command; did you mean patches?"),
        (["xyz"], "'xyz' is no command; there are init, "),
        (["--hlep"], "synthdp: unrecognized arguments: --hlep; did you mean --help?"),
        (["data", "--hlep"], "synthdp data: unrecognized arguments: --hlep; did you mean --help?"),
        (["generate", "x", "--otu", "y"], "--otu y; did you mean --out?"),
        (["finetune", "--seed", "3"], "--seed; did you mean seed=...?"),
        (["finetune", "--head.steps", "3"], "--head.steps; did you mean head.steps=...?"),
        (["generate"], "synthdp generate: RUN: missing; as in: synthdp generate runs/gan"),
        (["generate", "x", "--out"], "--out: needs a value behind it; as in: synthdp generate"),
        (["data", "budget", "x", "--delta", "y"], "--delta: 'y' is no number"),
        (["settings", "--format", "html"], "--format: 'html' is no value here; choose from text"),
        (["privacy", "x", "--show", "utilty"], "--show: 'utilty' is no value here; did you mean"),
    ],
)
def test_a_wrong_word_is_told_in_one_line_with_the_mend(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    printed = capsys.readouterr()
    assert stop.value.code == EXIT_BAD_INPUT
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


@pytest.mark.parametrize(("words", "message"), [([], "the first three"), (["data"], "phantoms")])
def test_a_command_that_asks_for_nothing_is_shown_what_there_is(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == EXIT_BAD_INPUT
    assert message in capsys.readouterr().err
