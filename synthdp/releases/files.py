"""Files on their way out: each is a file and no link, and no text names a folder from here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from synthdp.config.yaml_core import read_yaml
from synthdp.errors import InputError
from synthdp.storage.paths import WORDS, last_part

CONFIG = "config.yaml"
_TEXTS = (".json", ".yaml", ".md", ".html", ".csv", ".txt", ".tex")


def plain_file(folder: Path, name: str) -> Path:
    """The file `name` below `folder`, when it is a file and no link leads to it.

    Raises:
        InputError: when it is missing, or it or a folder above it is a symbolic link.
    """
    path = folder
    for part in Path(name).parts:
        path = path / part
        if path.is_symlink():
            raise InputError(
                f"{folder.name}: a file to be released stands behind a symbolic link, so what it "
                "is can't be known; put the file itself there"
            )
    if not path.is_file():
        raise InputError(f"{folder.name}/{name}: there is no such file; make the folder again")
    return path


def paths_in(original: Path) -> Sequence[str]:
    """What must not stand in any text that leaves: the folder's path, and paths in settings."""
    paths = [str(original.resolve())]
    for config in (original / CONFIG, *sorted(original.glob(f"runs/*/{CONFIG}"))):
        if config.is_file():
            texts = _strings(read_yaml(config))
            paths += [text for text in texts if last_part(text) != text]
    return [path for path in dict.fromkeys(paths) if path.strip("./~\\")]


def _strings(settings: Any) -> Iterator[str]:
    """Every text in settings, words apart."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if key not in WORDS:
                yield from _strings(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _strings(value)
    elif isinstance(settings, str):
        yield settings


def refuse_paths(folder: Path, paths: Sequence[str]) -> None:
    """The last look at what was written: no text may name a folder of this machine.

    Raises:
        InputError: when one does.
    """
    for path in folder.rglob("*"):
        if path.suffix in _TEXTS:
            text = path.read_text(encoding="utf-8")
            if any(named in text for named in paths):
                raise InputError(
                    f"{path.name}: names a folder of this machine, which must not leave; take the "
                    "path out of the file, or make the run again"
                )
