"""Generators that come with the package, found by `pretrained:NAME`."""

from pathlib import Path

from synthdp.errors import InputError

PREFIX = "pretrained:"
#: Package data: one folder a generator, which holds what may leave of its run.
FOLDER = Path(__file__).parent / "pretrained"
WEIGHTS = Path("model") / "generator.safetensors"


def known_names(folder: Path = FOLDER) -> list[str]:
    """The names that `pretrained:NAME` can take."""
    return sorted(path.parents[1].name for path in folder.glob(f"*/{WEIGHTS}"))


def resolve_run(run: Path, folder: Path = FOLDER) -> Path:
    """The folder of `pretrained:NAME`; any other path as it is.

    Guarantee: a folder of the package holds the statement of the run that it was packed from,
    release ids included, so that whatever is made with it counts that run's releases, each once.

    Raises:
        InputError: when the package has no generator of that name.
    """
    if not str(run).startswith(PREFIX):
        return run
    name = str(run).removeprefix(PREFIX)
    if name not in known_names(folder):
        known = ", ".join(known_names(folder)) or "none in this installation"
        raise InputError(f"{run}: the package has no generator {name!r} (known: {known})")
    return folder / name
