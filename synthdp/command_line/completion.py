"""What the Tab key offers: commands, options, packaged settings, keys of the stage, and values.

Nothing of this is imported but when the shell asks (`_ARGCOMPLETE` in the environment).
"""

import argparse
import os
from collections.abc import Callable

from synthdp.stages import STAGES

Completer = Callable[..., list[str]]

#: What the shell's rc file is told, once.
RC_LINE = 'eval "$(register-python-argcomplete synthdp)"'


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell, where it asks, and end; else return at once."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete  # noqa: PLC0415 (for the shell alone)

        argcomplete.autocomplete(parser, always_complete_options="long")


def offer(action: argparse.Action, completer: Completer) -> None:
    """Let an argument be completed by what a function offers."""
    vars(action)["completer"] = completer  # where argcomplete looks


def pairs_of(stage: str) -> Completer:
    """Offers `key=` of a stage and values behind it; where none stands yet, settings files too."""

    def offered(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
        key, equals, value = prefix.partition("=")
        if equals:
            return [f"{key}={one}" for one in values_of(stage, key, value)]
        before = getattr(parsed_args, "overrides", None) or []
        files = [] if before or getattr(parsed_args, "config", None) else settings_files(prefix)
        return [*files, *keys_under(stage, prefix)]

    return offered


def value_of(stage: str, key: str) -> Completer:
    """Offers the values of one key of a stage, for the option that sets it."""
    return lambda prefix, **_: values_of(stage, key, prefix)


def keys_under(stage: str, prefix: str) -> list[str]:
    """The keys that begin so, as `key=`; those of a section when its dot is typed."""
    from synthdp.config.described import described  # noqa: PLC0415 (starts light)

    depth = prefix.count(".")
    keys = [one for one in described(STAGES[stage].settings_class()) if "[]" not in one.key]
    sections = {one.key.rpartition(".")[0] for one in keys}
    here = [one.key for one in keys if one.key.count(".") == depth and one.key.startswith(prefix)]
    return [f"{key}." if key in sections else f"{key}=" for key in here]


def values_of(stage: str, key: str, prefix: str) -> list[str]:
    """The words that a key takes, and paths where it takes one.

    `none` alone is offered to whoever begins to type it: the only word there is would be put in by
    the shell, and `privacy.epsilon=` would lose its promise by the Tab key.
    """
    from synthdp.config.described import described  # noqa: PLC0415 (as above)

    matching = [one for one in described(STAGES[stage].settings_class()) if one.key == key]
    if not matching:
        return []
    words = [word for word in matching[0].choices if word.startswith(prefix)]
    if words == ["none"] and not prefix:
        words = []
    return [*words, *paths_under(prefix)] if "path" in matching[0].takes else words


def settings_files(prefix: str) -> list[str]:
    """Packaged settings by their names, and YAML files and folders."""
    files = [path for path in paths_under(prefix) if path.endswith(("/", ".yaml", ".yml"))]
    return [*packaged(prefix), *files]


def packaged(prefix: str, **_: object) -> list[str]:
    """Offers the names of packaged settings files."""
    from synthdp.config.packaged import packaged_names  # noqa: PLC0415 (as above)

    return [name for name in packaged_names() if name.startswith(prefix)]


def paths_under(prefix: str) -> list[str]:
    """Files and folders that begin so; a folder ends in a slash."""
    folder, _, beginning = prefix.rpartition("/")
    root = f"{folder}/" if "/" in prefix else ""
    try:
        entries = sorted(os.scandir(root or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    shown = [entry for entry in entries if entry.name.startswith(beginning)]
    if not beginning.startswith("."):
        shown = [entry for entry in shown if not entry.name.startswith(".")]
    return [f"{root}{entry.name}{'/' if entry.is_dir() else ''}" for entry in shown]
