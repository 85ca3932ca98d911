"""The command line, one file a group of commands; `synthdp.cli` reads it and guards it."""

from collections.abc import Callable

<<<<<<< HEAD
from synthdp.commands import (
    classifier,
    config,
    data,
    generator,
    init,
    privacy,
    settings,
    study,
)
from synthdp.commands.parser import Commands

#: Groups as help shows them, in this order: a title, and what adds the group's commands.
GROUPS: tuple[tuple[str, Callable[[Commands], None]], ...] = (
    ("begin", init.add_commands),
    ("data", data.add_commands),
    ("generator", generator.add_commands),
    ("classifier", classifier.add_commands),
    ("study", study.add_commands),
    ("privacy", privacy.add_commands),
    ("help", config.add_commands),
    ("help", settings.add_commands),
=======
from synthdp.commands import classifier, config, data, generator, hub, init, privacy, study
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
    hub.add_commands,
>>>>>>> 53825a6 (Upload a release or a synthetic set to the hub, after a look at what would leave; no raw dicts on cards)
)
