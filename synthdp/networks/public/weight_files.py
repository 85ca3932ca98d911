"""Where files of public weights stand: as named, or in the folders that are searched for them."""

import os
from pathlib import Path
from typing import TypeVar

from synthdp.errors import InputError
from synthdp.networks.settings import BackboneSettings

#: What stands for a path in `backbone.weights` when timm is to download them.
HUB = Path("hub")
#: Names folders to search, as PATH names some.
VARIABLE = "SYNTHDP_WEIGHTS"
#: Beside a checkout of the project, as its developers have them.
_SHARED = Path(__file__).resolve().parents[4] / "shared" / "weights"


_Network = TypeVar("_Network", bound=BackboneSettings)


def without_weights(settings: _Network) -> _Network:
    """The same network from a random start, to be tried.

    Settings that no file can satisfy stay as they are, so that whoever builds the network refuses
    them as ever: a file without its sha256, or a sha256 without a file.
    """
    if (settings.weights not in (None, HUB)) != (settings.sha256 is not None):
        return settings
    return settings.model_copy(update={"weights": None, "sha256": None})


def weight_folders() -> list[Path]:
    """The folders that are searched: those of SYNTHDP_WEIGHTS, the user's own, a checkout's."""
    named = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return [*named, own_weights_folder(), *([_SHARED] if _SHARED.is_dir() else [])]


def own_weights_folder() -> Path:
    """The user's own folder of weights; it need not be there."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "synthdp" / "weights"


def found_weights(settings: BackboneSettings) -> Path | None:
    """The file of the weights that `settings` names; None where it is not at hand, or the hub's.

    A file that is not where it is named is searched for by its name, where its sha256 is known: it
    is then the same one wherever it stands.
    """
    weights = settings.weights
    if weights is None or weights == HUB:
        return None
    if weights.is_file():
        return weights
    if settings.sha256 is None:
        return None
    files = (folder / weights.name for folder in weight_folders())
    return next((file for file in files if file.is_file()), None)


def weights_file(settings: BackboneSettings, *, setting: str = "backbone") -> Path:
    """The file of the weights that `settings` names, which errors call `setting`.

    Raises:
        InputError: when it is not at hand, with what brings it.
    """
    file = found_weights(settings)
    if file is not None:
        return file
    weights = settings.weights
    if weights is None or weights == HUB or settings.sha256 is None:
        raise InputError(
            f"{setting}.weights: {weights}: there is no such weights file; correct the path"
        )
    raise InputError(missing_weights(settings, where=setting))


def missing_weights(settings: BackboneSettings, *, where: str = "backbone") -> str:
    """What to say when the file of a network's weights is not at hand."""
    name = settings.weights.name if settings.weights is not None else "weights"
    return (
        f"{where}.weights: {name}, the public weights of {settings.name}, stands in none of "
        f"{', '.join(map(str, weight_folders()))}; put the file with sha256 {settings.sha256} "
        f"there (or name another folder in {VARIABLE}), or let timm fetch its own once, "
        f"{fetch_command(settings.name)}, and use those: `synthdp config copy NAME FILE "
        "--weights hub` writes such settings"
    )


def fetch_command(network: str) -> str:
    """The command that downloads a network's weights from timm's hub, to be used offline then."""
    return f"python -c \"import timm; timm.create_model('{network}', pretrained=True)\""
