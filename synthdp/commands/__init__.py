"""The command line, one file a group of commands; `synthdp.cli` reads it and guards it."""

from collections.abc import Callable

from synthdp.command_line.parser import Commands
from synthdp.commands import (
    classifier,
    config,
    data,
    generator,
    hub,
    init,
    privacy,
    settings,
    study,
)

#: Groups as help shows them, in this order: a title, and what adds the group's commands.
GROUPS: tuple[tuple[str, Callable[[Commands], None]], ...] = (
    ("begin", init.add_commands),
    ("data", data.add_commands),
    ("generator", generator.add_commands),
    ("classifier", classifier.add_commands),
    ("study", study.add_commands),
    ("privacy", privacy.add_commands),
    ("privacy", hub.add_commands),
    ("help", config.add_commands),
    ("help", settings.add_commands),
)
