"""Which networks a setting names, and how a finished generator is described and built again."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from gan.config import TrainGanSettings
from gan.network.conditions import Conditions, conditions_of
from gan.network.dcgan import DcganDiscriminator, DcganGenerator
from gan.network.generator import Discriminator, Generator
from gan.network.mixture import Mixture
from synthdp.errors import InputError

TrainedGenerator: TypeAlias = Generator | DcganGenerator
AnyGenerator: TypeAlias = TrainedGenerator | Mixture
AnyDiscriminator: TypeAlias = Discriminator | DcganDiscriminator
ARCHITECTURES = {"haar": "mcgan-haar", "dcgan": "dcgan"}
MIXTURE = "mixture"


def describe(settings: TrainGanSettings, conditions: Conditions) -> dict[str, Any]:
    """The shape of the network that the settings ask for, as `model/settings.json` holds it.

    A film is no part of it, since it is fitted when the network is finished.
    """
    shape = {
        "architecture": ARCHITECTURES[settings.arch],
        "size_px": settings.size_px,
        "channels": list(settings.channels),
        "z_dim": settings.z_dim,
    }
    if settings.arch == "dcgan":
        return {**shape, "norm": "instance", "unit_range": False}
    told = {"conditions": conditions.model_dump(mode="json")} if conditions.names else {}
    return {**shape, "haar_levels": settings.haar_levels, **told}


def generator_parts(
    described: Mapping[str, Any],
) -> tuple[type[AnyGenerator], dict[str, Any]]:
    """The class of a generator of this description, and the arguments that build it.

    Raises:
        InputError: when the description is of another kind.
    """
    architecture = described.get("architecture")
    if architecture == ARCHITECTURES["dcgan"]:
        names = ("channels", "z_dim", "norm", "unit_range")
        return DcganGenerator, {name: described[name] for name in names}
    if architecture == MIXTURE:
        return Mixture, {"members": [generator_parts(one)[1] for one in described["members"]]}
    if architecture != ARCHITECTURES["haar"]:
        raise InputError(f"no generator is of architecture {architecture!r}")
    names = ("size_px", "channels", "z_dim", "haar_levels")
    return Generator, {
        **{name: described[name] for name in names},
        "attribute_levels": _level_counts(conditions_of(described)),
        "film": bool(described.get("film", False)),
    }


def build_generator(described: Mapping[str, Any]) -> AnyGenerator:
    """A generator of this description, drawn from torch's global stream.

    Raises:
        InputError: when the description is of another kind.
    """
    kind, arguments = generator_parts(described)
    return kind(**arguments)


def new_generator(settings: TrainGanSettings, conditions: Conditions) -> TrainedGenerator:
    """A generator of the settings' shape, drawn from torch's global stream."""
    generator = build_generator(describe(settings, conditions))
    assert not isinstance(generator, Mixture)  # no settings describe one
    return generator


def new_discriminator(settings: TrainGanSettings, conditions: Conditions) -> AnyDiscriminator:
    """A discriminator of the settings' shape, drawn from torch's global stream.

    A private one judges each image alone.
    """
    if settings.arch == "dcgan":
        return DcganDiscriminator(settings.size_px, settings.channels)
    if settings.method == "dp_discriminator":
        channels = settings.dp_discriminator.channels
        return Discriminator(channels, settings.haar_levels, batch_deviation=False)
    return Discriminator(settings.channels, settings.haar_levels, _level_counts(conditions))


def _level_counts(conditions: Conditions) -> list[int]:
    return [len(levels) for levels in conditions.levels]
