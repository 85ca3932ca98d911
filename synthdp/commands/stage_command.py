"""A stage as a command: its parser, its settings from file and command line, its run or plan."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from synthdp.commands.ends import print_end
from synthdp.commands.exit_codes import EXIT_DONE
from synthdp.config.settings import Settings, dump_settings, load_settings
from synthdp.config.typed_values import TYPOGRAPHIC_DASHES, syntax_problem
from synthdp.errors import InputError
from synthdp.stages import STAGES, Stage

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
#: What runs a stage with its settings in another way than `Stage.start`; gives what is printed.
Start: TypeAlias = Callable[[Stage, Settings], "Path | str"]


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
    option_names: Mapping[str, str] | None = None,
    run: Start | None = None,
) -> argparse.ArgumentParser:
    """Add one stage, and return its parser: positionals and options name keys of its settings.

    An option is called by its key, or by its name in `option_names`. `run` starts the stage where
    `Stage.start` does not.
    """
    parser = commands.add_parser(
        name,
        help=purpose,
        description=purpose,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for key in positionals:
        parser.add_argument(key, metavar=key.upper())
    for key in options:
        option = (option_names or {}).get(key, key)
        typed, shown = f"--{option.replace('_', '-')}", option.upper()
        parser.add_argument(typed, dest=key, metavar=shown, action=Once)
    for key in flags:
        parser.add_argument(f"--{key.replace('_', '-')}", dest=key, action="store_true")
    parser.add_argument("--config", type=named_path, action=Once, help="a settings file (YAML)")
    parser.add_argument("--dry-run", action="store_true", help="print settings and promise, stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of settings")
    keys = (*positionals, *options, *flags)
    parser.set_defaults(
        handler=lambda arguments: run_stage(stage or name, keys, arguments, run=run)
    )
    return parser


def run_stage(
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
    stage = STAGES[stage_name]
    config, overrides = config_and_overrides(keys, arguments)
    settings = load_settings(stage.settings_class(), config, overrides, beneath=beneath)
    if arguments.dry_run:
        return _print_plan(stage_name, settings)
    print_end(stage_name, settings, stage.start(settings) if run is None else run(stage, settings))
    return EXIT_DONE


def config_and_overrides(
    keys: Sequence[str], arguments: argparse.Namespace
) -> tuple[Path | None, list[str]]:
    """The settings file of a command line, and its overrides: options too, which `keys` name."""
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


def _print_plan(stage_name: str, settings: Settings) -> int:
    print(dump_settings(settings), end="")
    statement = STAGES[stage_name].planned(settings)
    if statement is not None:
        from synthdp.privacy.promise.words import statement_text  # noqa: PLC0415 (as above)

        print(f"\n{statement_text(statement)}")
    if estimate := STAGES[stage_name].estimated(settings):
        print(f"{stage_name} {estimate}")
    return EXIT_DONE
