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
        features, tokens = settings.selection.features, settings.selection.tokens
        _refuse_no_pyramid(without_weights(features), settings.size_px, "selection.features")
        _refuse_no_extractor(without_weights(tokens), "selection.tokens")
    if settings.method == "embedding" and settings.embedding is not None:
        features = settings.embedding.features
        _refuse_no_pyramid(without_weights(features), settings.size_px, "embedding.features")


@lru_cache(maxsize=64)
def _refuse_no_pyramid(network: BackboneSettings, size_px: int, setting: str) -> None:
    build_pyramid(network, size_px, setting=setting)


@lru_cache(maxsize=64)
def _refuse_no_extractor(network: BackboneSettings, setting: str) -> None:
    build_extractor(network, setting=setting)
