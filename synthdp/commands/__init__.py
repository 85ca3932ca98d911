"""The command line, one file a group of commands; `synthdp.cli` reads it and guards it."""

from collections.abc import Callable

from synthdp.commands import classifier, config, data, generator, init, privacy, study
from synthdp.commands.stage_command import Commands

#: What adds each group's commands, in the order in which help lists them.
GROUPS: tuple[Callable[[Commands], None], ...] = (
    init.add_commands,
    config.add_commands,
    data.add_commands,
    generator.add_commands,
    classifier.add_commands,
    study.add_commands,
    privacy.add_commands,
)
