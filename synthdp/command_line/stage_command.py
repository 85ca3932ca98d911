"""A stage as a command: its parser, its settings from file and command line, its run or plan."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from synthdp.command_line.completion import offer, pairs_of, settings_files, value_of
from synthdp.command_line.exit_codes import EXIT_DONE
from synthdp.command_line.parser import CommandParser, Commands, Once, named_path
from synthdp.command_line.stage_help import describe_stage
from synthdp.errors import InputError
from synthdp.stages import STAGES, Stage

if TYPE_CHECKING:
    from synthdp.config.settings import Settings

#: What runs a stage with its settings in another way than `Stage.start`; gives what is printed.
Start: TypeAlias = Callable[[Stage, "Settings"], "Path | str"]


def add_stage(
    commands: Commands,
    name: str,
    purpose: str,
    example: str,
    *,
    stage: str | None = None,
    positionals: Sequence[str] = (),
    options: Sequence[str] = (),
    flags: Sequence[str] = (),
    matters: str = "",
    option_names: Mapping[str, str] | None = None,
    run: Start | None = None,
) -> argparse.ArgumentParser:
    """Add one stage, and return its parser: positionals and options name keys of its settings.

    An option is called by its key, or by its name in `option_names`. `matters` names the keys that
    help lists, those that users look for first; what it says of a key stands where the key is
    declared. `run` starts the stage where `Stage.start` does not.
    """
    parser = commands.add_parser(
        name,
        help=purpose,
        description=purpose,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    stage = stage or name
    actions: dict[str, argparse.Action] = {}
    for key in positionals:
        actions[key] = parser.add_argument(key, metavar=key.upper())
    for key in options:
        option = (option_names or {}).get(key, key)
        typed, shown = f"--{option.replace('_', '-')}", option.upper()
        actions[key] = parser.add_argument(typed, dest=key, metavar=shown, action=Once)
    for key, action in actions.items():
        offer(action, value_of(stage, key))
    for key in flags:
        typed = f"--{key.replace('_', '-')}"
        actions[key] = parser.add_argument(typed, dest=key, action="store_true")
    _add_settings(parser, stage)
    if isinstance(parser, CommandParser):
        parser.describe = lambda: describe_stage(parser, stage, actions, matters.split())
        parser.keys = lambda: list(STAGES[stage].settings_class().model_fields)
    keys = tuple(actions)
    parser.set_defaults(handler=lambda arguments: run_command(stage, keys, arguments, run=run))
    return parser


def _add_settings(parser: argparse.ArgumentParser, stage: str) -> None:
    """What every stage takes: a settings file, changes of it, and `--dry-run`."""
    config = parser.add_argument(
        "--config",
        type=named_path,
        action=Once,
        help="a settings file (YAML), or the name of a packaged one (`synthdp config list`)",
    )
    offer(config, lambda prefix, **_: settings_files(prefix))
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the settings as understood and what would be promised; start nothing",
    )
    overrides = parser.add_argument(
        "overrides",
        nargs="*",
        default=(),
        metavar="[CONFIG] key=value",
        help="a settings file, as --config, and settings that count before those in it",
    )
    offer(overrides, pairs_of(stage))


def run_command(
    stage_name: str,
    keys: Sequence[str],
    arguments: argparse.Namespace,
    *,
    beneath: Path | None = None,
    run: Start | None = None,
) -> int:
    """Run a stage, by `run` where it is not started as it stands.

    A settings file `beneath` says what neither config nor command line does.
    """
    from synthdp.command_line.ends import print_end  # noqa: PLC0415 (help needs no pydantic)
    from synthdp.config.settings import load_settings  # noqa: PLC0415 (as above)
    from synthdp.machine.rank import own_rank, refuse_several  # noqa: PLC0415 (as above)

    stage = STAGES[stage_name]
    if stage_name != "finetune":
        refuse_several(stage_name)
    config, overrides = config_and_overrides(keys, arguments)
    settings = load_settings(stage.settings_class(), config, overrides, beneath=beneath)
    if arguments.dry_run:
        return _print_plan(stage_name, settings)
    made = stage.start(settings) if run is None else run(stage, settings)
    if own_rank().leads:
        print_end(stage_name, settings, made)
    return EXIT_DONE


def config_and_overrides(
    keys: Sequence[str], arguments: argparse.Namespace
) -> tuple[Path | None, list[str]]:
    """The settings file of a command line, and its overrides: options too, which `keys` name."""
    from synthdp.config.typed_values import (  # noqa: PLC0415 (as above)
        TYPOGRAPHIC_DASHES,
        syntax_problem,
    )

    config, overrides = arguments.config, list(arguments.overrides)
    if overrides and "=" not in overrides[0] and config is None:
        word = overrides.pop(0)
        if overrides[:1] == ["="] or word.startswith(TYPOGRAPHIC_DASHES):
            raise InputError(syntax_problem(word))
        config = Path(word)
    given = ((key, getattr(arguments, key)) for key in keys)
    return config, overrides + [
        f"{key}={value}" for key, value in given if value not in (None, False)
    ]


def _print_plan(stage_name: str, settings: "Settings") -> int:
    from synthdp.config.settings import dump_settings  # noqa: PLC0415 (as above)

    print(dump_settings(settings), end="")
    statement = STAGES[stage_name].planned(settings)
    if statement is not None:
        from synthdp.privacy.promise.words import statement_text  # noqa: PLC0415 (as above)

        print(f"\n{statement_text(statement)}")
    if estimate := STAGES[stage_name].estimated(settings):
        print(f"{stage_name} {estimate}")
    return EXIT_DONE
