"""Text and settings without the paths of this machine, for what people read or what leaves."""

import re
from collections.abc import Mapping
from typing import Any

#: Settings that hold words, not paths, though a word may have a slash in it.
WORDS = ("name", "title", "cohort")
_QUOTED_PATH = re.compile(r"""(['"])(?:file://)?(?:/|~/|[A-Za-z]:[\\/])([^'"\n]*)\1""")
_BARE_PATH = re.compile(r"""(?<![\w./~-])(?:file://)?(?:/|~/|[A-Za-z]:[\\/])([^\s'"<>,;:()]+)""")


def without_paths(text: str) -> str:
    """The text with every absolute path cut to its last part, so that it names no machine."""
    quoted = _QUOTED_PATH.sub(lambda match: f"{match[1]}{last_part(match[2])}{match[1]}", text)
    return _BARE_PATH.sub(lambda match: last_part(match[1]), quoted)


def reason_of(error: Exception) -> str:
    """The first line of an error, free of paths, for a page that says why something isn't shown."""
    return without_paths(str(error)).splitlines()[0]


def settings_without_paths(settings: Any) -> Any:
    """Settings in which every path is cut to its last part, and nothing else is changed."""
    if isinstance(settings, Mapping):
        return {
            key: without_paths(value)
            if key in WORDS and isinstance(value, str)
            else settings_without_paths(value)
            for key, value in settings.items()
        }
    if isinstance(settings, list | tuple):
        return [settings_without_paths(value) for value in settings]
    return last_part(settings) if isinstance(settings, str) else settings


def last_part(text: str) -> str:
    """What follows the last slash of either kind."""
    parts = text.replace("\\", "/").rstrip("/").split("/")
    return parts[-1]
