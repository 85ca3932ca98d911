"""`synthdp config`: the settings files that come with the package."""

import argparse
from pathlib import Path

from synthdp.command_line.completion import offer, packaged
from synthdp.command_line.exit_codes import EXIT_DONE
from synthdp.command_line.parser import Commands, named_path
from synthdp.config.packaged import packaged_config, summaries, with_weights
from synthdp.errors import InputError


def add_commands(commands: Commands) -> None:
    """The command about packaged settings."""
    config = commands.add_parser(
        "config",
        help="list, show or copy the settings that come along",
        description="Settings files come with the package; the name of one, such as study/own, "
        "stands wherever a settings file may.",
    )
    kinds = config.add_subparsers(required=True, metavar="ACTION")
    listing = kinds.add_parser(
        "list",
        help="the name and purpose of every packaged settings file",
        description="List the packaged settings files, each with its purpose.",
        epilog="example:\n  synthdp config list",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listing.set_defaults(handler=_list)
    show = kinds.add_parser(
        "show",
        help="print one of them",
        description="Print a packaged settings file.",
        epilog="example:\n  synthdp config show study/own",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    offer(show.add_argument("name", metavar="NAME", help="such as study/own"), packaged)
    show.set_defaults(handler=_show)
    copy = kinds.add_parser(
        "copy",
        help="write one of them to a file of your own",
        description="Write a packaged settings file to a new file, to change it.",
        epilog="examples:\n  synthdp config copy study/own my-study.yaml\n"
        "  synthdp config copy classify/best my-classifier.yaml --weights hub",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    offer(copy.add_argument("name", metavar="NAME", help="such as study/own"), packaged)
    copy.add_argument("file", metavar="FILE", type=named_path, help="a new file")
    copy.add_argument(
        "--weights",
        metavar="FROM",
        help="where public weights come from: hub (timm downloads them), none, or a folder",
    )
    copy.set_defaults(handler=_copy)


def _list(_: argparse.Namespace) -> int:
    rows = list(summaries())
    width = max(len(name) for name, _ in rows)
    for name, purpose in rows:
        print(f"{name:<{width}}  {purpose}".rstrip())
    return EXIT_DONE


def _show(arguments: argparse.Namespace) -> int:
    print(packaged_config(arguments.name).read_text(encoding="utf-8"), end="")
    return EXIT_DONE


def _copy(arguments: argparse.Namespace) -> int:
    from synthdp.storage.files import write_atomic  # noqa: PLC0415 (what copies alone)

    file: Path = arguments.file
    text = packaged_config(arguments.name).read_text(encoding="utf-8")
    if file.exists():
        raise InputError(f"{file}: is there already; name a new file")
    if arguments.weights is not None:
        text = with_weights(text, arguments.weights)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, text)
    print(file)
    return EXIT_DONE
