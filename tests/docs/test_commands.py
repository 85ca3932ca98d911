"""Each command that README and docs show is one: its options and keys are there, values fit."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from shown_pages import PAGES, ROOT, TOP, inline_commands, shown_commands

import synthdp.command_line.stage_command
import synthdp.commands.data
import synthdp.commands.generator
from synthdp.cli import build_parser
from synthdp.command_line.stage_command import config_and_overrides
from synthdp.config.packaged import packaged_names
from synthdp.config.settings import load_settings
from synthdp.errors import InputError
from synthdp.stages import STAGES

README = ROOT / "README.md"
SHOWN = [(path, words) for path in [README, *PAGES] for words in shown_commands(path)]
INLINE = [(path, words) for path in [README, *PAGES] for words in inline_commands(path)]


def name_of(value: object) -> str:
    return value.name if isinstance(value, Path) else " ".join(map(str, value))[:80]


def of_the_reader(config: Path) -> bool:
    """Whether a settings file is one that the reader writes, or that a command has written."""
    packaged = f"{config}" in packaged_names()
    return not packaged and not (ROOT / config).is_file() and config.parts[0] != "configs"


@pytest.fixture
def only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stages read their settings, all checks included, and start nothing."""

    def read(stage: str, keys: Sequence[str], arguments: argparse.Namespace, **how: Any) -> int:
        config, overrides = config_and_overrides(keys, arguments)
        if config is not None and of_the_reader(config):
            return 0
        load_settings(STAGES[stage].settings_class(), config, overrides)
        return 0

    commands = synthdp.commands
    for module in (synthdp.command_line.stage_command, commands.data, commands.generator):
        monkeypatch.setattr(module, "run_command", read)
    monkeypatch.chdir(ROOT)


def arguments_of(words: Sequence[str]) -> argparse.Namespace:
    parser = build_parser()
    arguments, rest = parser.parse_known_args(list(words))
    if (rest and not hasattr(arguments, "overrides")) or any(word.startswith("-") for word in rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def stops_with_help(words: Sequence[str]) -> bool:
    """Whether there is such a command, by its help."""
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args([*(word for word in words if word != "--help"), "--help"])
    return stop.value.code == 0


def is_stage(words: Sequence[str]) -> bool:
    return words[0] in STAGES or " ".join(words[:2]) in STAGES


@pytest.mark.parametrize(("path", "words"), SHOWN, ids=name_of)
def test_a_shown_command_could_run(path: Path, words: list[str], only_read: None) -> None:
    if "--help" in words or "--version" in words:
        assert stops_with_help(words)
        return
    arguments = arguments_of(words)
    if is_stage(words):
        assert arguments.handler(arguments) == 0


@pytest.mark.parametrize(("path", "words"), INLINE, ids=name_of)
def test_a_command_within_a_sentence_has_the_options_that_it_names(
    path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bare = [word for word in words if not word.startswith("--")]
    if len(words) <= 3 and all(word.replace("-", "").islower() for word in words):
        assert stops_with_help(bare)
        shown = capsys.readouterr().out
        assert not [word for word in words if word not in bare and word not in shown]
    else:
        assert arguments_of(words)


def test_a_command_that_could_not_run_would_be_found(only_read: None) -> None:
    with pytest.raises(SystemExit):
        arguments_of(["predict", "RUN", "IMAGES", "--to", "FILE"])
    wrong = arguments_of(["finetune", "configs/classify/best.yaml", "data=d", "out=o", "epsilon=6"])
    with pytest.raises(InputError, match="epsilon"):
        wrong.handler(wrong)


def test_readme_and_docs_show_commands_of_every_stage() -> None:
    words = [words for _, words in [*SHOWN, *INLINE]]
    shown = {" ".join(one[:2]) for one in words} | {one[0] for one in words}
    # a stage of two words, the first of which is one, is asked for by an option of that one
    assert not [stage for stage in STAGES if stage not in shown and stage.split()[0] not in STAGES]


def test_pages_are_read_at_all() -> None:
    assert len(SHOWN) > 60
    assert len(INLINE) > 30
    assert all(path.is_file() for path in TOP)
