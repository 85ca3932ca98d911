"""Public collections whose files and tables are known: a mapping for each, found by its name."""

import difflib
from pathlib import Path

from synthdp.errors import InputError

_FOLDER = Path(__file__).parent / "collections"


def collection_names() -> tuple[str, ...]:
    """The names of the mappings that come with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def collection_file(name: str) -> Path:
    """The file of a mapping: settings of an import, to be copied and changed at will.

    Raises:
        InputError: when there is none of this name.
    """
    names = collection_names()
    if name not in names:
        close = difflib.get_close_matches(name[:100], names, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(
            f"like: no collection of this name is known; {hint}choose one of {', '.join(names)}, "
            "or write a mapping of your own (synthdp data import --guess --src DIR begins one)"
        )
    return _FOLDER / f"{name}.yaml"
