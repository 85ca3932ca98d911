"""The public networks that a model stands on: carried by its release, or named with their source.

A released model has them in `model/networks/`, with `networks.json` beside them; one in the house
has none there, and its settings name a file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import huggingface_hub
from pydantic import Field

from synthdp.config.settings import Settings, read_json_as
from synthdp.errors import InputError
from synthdp.networks.public.weight_files import found_weights
from synthdp.networks.settings import BackboneSettings
from synthdp.storage.files import sha256_file

NETWORKS_FOLDER, NETWORKS_FILE = "networks", "networks.json"
_SHA256 = r"^[0-9a-f]{64}$"
_FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}$"


class PublicNetwork(Settings):
    """A public network that a released model stands on.

    name: timm's; file: its weights in `model/networks/`, or to be put there, and their sha256;
    carried: whether they are there; precision: `half` where they were rounded for this release,
    `as used` where they are the very numbers that it was trained on; used_sha256: of the file
    that it used;
    licence: its SPDX name, empty where it is not known; credit: who made it; hub, hub_file,
    revision: where the weights can be fetched, empty where that is not known.
    """

    name: str = Field(min_length=1, max_length=200)
    file: str = Field(pattern=_FILE_NAME)
    sha256: str = Field(pattern=_SHA256)
    carried: bool
    precision: Literal["half", "as used"]
    used_sha256: str = Field(pattern=_SHA256)
    licence: str = ""
    credit: str = ""
    hub: str = Field(default="", pattern=r"^([\w.-]+/[\w.-]+)?$")
    hub_file: str = Field(default="", pattern=rf"^$|{_FILE_NAME}")
    revision: str = Field(default="", pattern=r"^[0-9A-Za-z._-]*$")

    @property
    def fetched_by(self) -> str:
        """The one command that fetches the weights; empty where nobody knows whence."""
        if not self.hub:
            return ""
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"hf download {self.hub} {self.hub_file}{revision}"


class PublicNetworks(Settings):
    """What `model/networks/networks.json` holds.

    score_difference: the largest between the model's scores on these networks and on those that it
    was trained on, over public phantoms; None where none was rounded.
    """

    schema_version: Literal[1] = 1
    networks: tuple[PublicNetwork, ...] = Field(default=(), max_length=8)
    score_difference: float | None = Field(default=None, ge=0, le=1)


def read_networks(model: Path) -> PublicNetworks:
    """What a released model says of its public networks; nothing for a model in the house.

    Raises:
        InputError: when the file is damaged.
    """
    path = model / NETWORKS_FOLDER / NETWORKS_FILE
    return read_json_as(PublicNetworks, path) if path.is_file() else PublicNetworks()


def find_public_weights(settings: BackboneSettings, model: Path) -> Path | None:
    """Where the file of weights stands that a model's settings name; None for a random start.

    They are looked for in the release first, then where the settings say and in the folders that
    are searched (`synthdp.networks.public.weight_files`), then among what was fetched from the hub.
    Whoever loads them compares the sha256.

    Args:
        settings: of one network.
        model: the run's `model/`.

    Raises:
        InputError: when they are not at hand; says how to get them.
    """
    if settings.weights is None:
        return None
    noted = next(
        (one for one in read_networks(model).networks if one.sha256 == settings.sha256), None
    )
    for path in _candidates(settings, model, noted):
        if path.is_file():
            return path
    raise InputError(_missing(settings, model, noted))


def _candidates(
    settings: BackboneSettings, model: Path, noted: PublicNetwork | None
) -> Iterator[Path]:
    weights = settings.weights
    assert weights is not None  # the caller has asked
    yield model / NETWORKS_FOLDER / weights.name
    beside = model / weights.name  # put there by who received the model, or a file of its own
    if beside.is_file() and sha256_file(beside) == settings.sha256:
        yield beside
    file = found_weights(settings)
    if file is not None:
        yield file
    if noted is not None and noted.hub:
        fetched = huggingface_hub.try_to_load_from_cache(
            noted.hub, noted.hub_file, revision=noted.revision or None
        )
        if isinstance(fetched, str):
            yield Path(fetched)


def _missing(settings: BackboneSettings, model: Path, noted: PublicNetwork | None) -> str:
    """What is missing, and the one command or the one place that mends it."""
    assert settings.weights is not None  # the caller has asked
    run = model.parent.resolve().name
    target = f"{run}/{model.name}/{NETWORKS_FOLDER}/{settings.weights.name}"
    if noted is not None and noted.fetched_by:
        licence = noted.licence or "not known here"
        return (
            f"{run}: stands on the public network {noted.name}, whose licence ({licence}) does not "
            f"let a release carry it; fetch it once with `{noted.fetched_by}`, which synthdp then "
            f"finds (its sha256 is {noted.sha256})"
        )
    return (
        f"{run}: the public weights of {settings.name} that this model stands on are missing; ask "
        f"whoever made it for the file with sha256 {settings.sha256}, and put it at {target}"
    )
