"""The public networks of a classifier, copied into its release where their licence allows it."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synthdp.checkpoint import load_weights, save_weights
from synthdp.config.settings import Settings
from synthdp.errors import InputError
from synthdp.networks.public.carried import (
    NETWORKS_FILE,
    NETWORKS_FOLDER,
    PublicNetwork,
    PublicNetworks,
    find_public_weights,
    read_networks,
)
from synthdp.networks.public.known import (
    FREE_LICENCES,
    KnownNetwork,
    known_by_content,
    known_by_hub,
    licence_file_text,
)
from synthdp.networks.public.weight_files import HUB, fetch_command
from synthdp.networks.public.weights import UNUSED, hub_file, hub_repository
from synthdp.networks.settings import BackboneSettings
from synthdp.storage.files import sha256_file, write_atomic, write_json


class NamedBackbone(Settings, extra="allow"):
    """What of a network's settings decides which file its weights are."""

    name: str
    weights: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class _Found:
    """A file of public weights in the house, and whence it is known to come."""

    file: Path
    sha256: str
    known: KnownNetwork | None
    hub: str
    hub_file: str
    revision: str


def copy_networks(
    model: Path, backbones: Sequence[NamedBackbone], folder: Path
) -> tuple[PublicNetwork, ...]:
    """Copy the public weights that a classifier stands on into `folder`/networks.

    They go in half precision, and bit by bit where the file has no more; only the tensors that a
    network reads go, since those alone are known by their content. One whose
    licence is not free, or whose content is not known, stays: `networks.json` then says whence it
    can be fetched. A network that starts at random has all of its tensors in the model's own file.

    Args:
        model: `model/` of the run.
        backbones: its networks.
        folder: `model/` of the release.

    Returns:
        One for each backbone that has public weights, in their order, each file once.

    Raises:
        InputError: when the weights are not at hand, or damaged.
    """
    noted = {one.sha256: one for one in read_networks(model).networks}
    networks: dict[tuple[str, str | None, str | None], PublicNetwork] = {}
    for one in backbones:
        if one.weights is None:
            continue
        key = (one.name, one.weights, one.sha256)
        if key not in networks:
            before = noted.get(one.sha256 or "")
            networks[key] = (
                _copy_one(model, one, folder, {network.file for network in networks.values()})
                if before is None
                else _copy_again(model, before, folder)
            )
    if networks:
        difference = read_networks(model).score_difference
        write_networks(folder, tuple(networks.values()), score_difference=difference)
        _write_licences(folder / NETWORKS_FOLDER, tuple(networks.values()))
    of_backbones = ((one.name, one.weights, one.sha256) for one in backbones if one.weights)
    return tuple(networks[key] for key in of_backbones)


def write_networks(
    model: Path, networks: tuple[PublicNetwork, ...], *, score_difference: float | None
) -> None:
    """Write `networks.json`; `score_difference` as `PublicNetworks` says."""
    about = PublicNetworks(networks=networks, score_difference=score_difference)
    write_json(model / NETWORKS_FOLDER / NETWORKS_FILE, about.model_dump(mode="json"))


def _copy_again(model: Path, noted: PublicNetwork, folder: Path) -> PublicNetwork:
    """A network of something that was released before: what was said of it holds on."""
    if noted.carried:
        (folder / NETWORKS_FOLDER).mkdir(parents=True, exist_ok=True)
        file = model / NETWORKS_FOLDER / noted.file
        load_weights(file, noted.sha256)  # refuses what is damaged
        shutil.copyfile(file, folder / NETWORKS_FOLDER / noted.file)
    return noted


def _copy_one(model: Path, one: NamedBackbone, folder: Path, taken: set[str]) -> PublicNetwork:
    source = _find(model, one)
    tensors = load_weights(source.file, source.sha256)
    known = source.known or known_by_content(tensors)
    plain = one.name.replace("/", "-").replace(":", "-")  # a file's own name may tell of people
    if known is None or not known.may_be_passed_on:
        return PublicNetwork(
            name=one.name,
            file=_free_name(f"{plain}.safetensors", taken),
            sha256=source.sha256,
            carried=False,
            precision="as used",
            used_sha256=source.sha256,
            licence="" if known is None else known.licence,
            credit="" if known is None else known.credit,
            hub=source.hub,
            hub_file=source.hub_file,
            revision=source.revision,
        )
    rounded = any(tensor.dtype in (torch.float32, torch.float64) for tensor in tensors.values())
    name = _free_name(f"{plain}.fp16.safetensors", taken)
    out = folder / NETWORKS_FOLDER / name
    out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(out, _in_half(tensors, one.name) if rounded else _read_ones(tensors))
    return PublicNetwork(
        name=one.name,
        file=name,
        sha256=sha256_file(out),
        carried=True,
        precision="half" if rounded else "as used",
        used_sha256=source.sha256,
        licence=known.licence,
        credit=known.credit,
        hub=source.hub,
        hub_file=source.hub_file,
        revision=source.revision,
    )


def _find(model: Path, one: NamedBackbone) -> _Found:
    """The file of a network's weights in the house.

    Raises:
        InputError: when it is not at hand.
    """
    cached = hub_file(one.name)
    if one.weights == str(HUB):
        if cached is None:
            raise InputError(
                f"{model.parent.name}: its weights of {one.name} came from the hub and are no "
                "longer on this machine, so they can't go along; fetch them again with "
                f"{fetch_command(one.name)}"
            )
        return _of_hub(one.name, cached, sha256_file(cached))
    settings = BackboneSettings.model_validate(
        {"name": one.name, "weights": one.weights, "sha256": one.sha256}
    )
    file = find_public_weights(settings, model)
    assert file is not None  # these settings name one
    sha256 = one.sha256 or sha256_file(file)
    if cached is not None and sha256_file(cached) == sha256:
        return _of_hub(one.name, file, sha256)
    return _Found(file, sha256, None, hub="", hub_file="", revision="")


def _of_hub(name: str, file: Path, sha256: str) -> _Found:
    """A file of the hub's, whose folder in the cache is called by its revision."""
    repository, in_repository = hub_repository(name)
    cached = hub_file(name)
    revision = "" if cached is None else cached.parent.name
    repository = repository.partition("@")[0]
    return _Found(file, sha256, known_by_hub(repository), repository, in_repository, revision)


def _read_ones(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that networks read: what else a file holds is not known to be public."""
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(UNUSED)}


def _in_half(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors that networks read, floating ones in half precision.

    Raises:
        InputError: when one is no number that half precision holds.
    """
    halves = {
        key: tensor.half() if tensor.is_floating_point() else tensor
        for key, tensor in _read_ones(tensors).items()
    }
    if not all(bool(t.isfinite().all()) for t in halves.values() if t.is_floating_point()):
        raise InputError(
            f"{name}: its public weights hold numbers beyond half precision, so that a copy would "
            "score otherwise; train on a file in half precision, which goes along as it is"
        )
    return halves


def _free_name(name: str, taken: set[str]) -> str:
    """The name, or one with a number before it where another network has it."""
    names: Iterator[str] = (f"{number}-{name}" if number else name for number in range(10))
    return next(one for one in names if one not in taken)


def _write_licences(folder: Path, networks: Sequence[PublicNetwork]) -> None:
    """The text of each licence under which weights stand here, below whose work it is."""
    for licence in FREE_LICENCES:
        credits = [f"{one.file}: {one.credit}" for one in networks if one.licence == licence
                   and one.carried]  # fmt: skip
        if credits:
            write_atomic(
                folder / f"LICENSE-{licence}.txt", licence_file_text(licence, "\n".join(credits))
            )


def sources_as_carried(
    sources: Sequence[Mapping[str, Any]], networks: Sequence[PublicNetwork]
) -> list[dict[str, Any]]:
    """The `sources` of a model's settings, which name the weights as they stand in the release."""
    left = iter(networks)
    named = []
    for source in sources:
        backbone = dict(source["backbone"])
        if backbone.get("weights") is not None:
            network = next(left)
            backbone |= {"weights": network.file, "sha256": network.sha256}
        named.append({**source, "backbone": backbone})
    return named
