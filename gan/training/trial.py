"""Whether the frozen networks of a training can be built, tried without their weights."""

from functools import lru_cache

from gan.settings.train import TrainGanSettings
from synthdp.networks.frozen import build_extractor, build_pyramid
from synthdp.networks.public.weight_files import without_weights
from synthdp.networks.settings import BackboneSettings
from synthdp.runs.to_come import AllToCome


def try_train_gan(settings: TrainGanSettings, to_come: AllToCome) -> None:
    """Refuse networks that a private method looks through, where they can't be built.

    Raises:
        InputError: as `build_pyramid` and `build_extractor`.
    """
    if settings.method == "selection" and settings.selection is not None:
        _refuse_no_pyramid(without_weights(settings.selection.features), settings.size_px)
        _refuse_no_extractor(without_weights(settings.selection.tokens))
    if settings.method == "embedding" and settings.embedding is not None:
        _refuse_no_pyramid(without_weights(settings.embedding.features), settings.size_px)


@lru_cache(maxsize=64)
def _refuse_no_pyramid(network: BackboneSettings, size_px: int) -> None:
    build_pyramid(network, size_px)


@lru_cache(maxsize=64)
def _refuse_no_extractor(network: BackboneSettings) -> None:
    build_extractor(network)
