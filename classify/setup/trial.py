"""Whether networks can be built and trained as settings ask, tried without their weights.

What decides it is a network's kind and the settings, so it is tried on a random start, once for all
runs of a process that ask for the same.
"""

from functools import lru_cache

import torch

from classify.network.top import asked_precision, trained_network
from classify.settings.finetune import FinetuneSettings
from classify.settings.network import NetworkSettings, Tune
from classify.settings.pretrain import PretrainSettings
from synthdp.networks.backbone import build_backbone
from synthdp.networks.public.weight_files import without_weights
from synthdp.networks.settings import FeatureSettings, TrainableBlocks
from synthdp.runs.to_come import AllToCome


def try_pretrain(settings: PretrainSettings, to_come: AllToCome) -> None:
    """Refuse networks of a pretraining that can't be built, or trained as it asks.

    Raises:
        InputError: as `build_backbone`.
    """
    _refuse_unbuildable(settings.backbone, settings.trainable_blocks)
    if settings.teacher is not None:
        _refuse_unbuildable(settings.teacher, 0)


def try_finetune(settings: FinetuneSettings, to_come: AllToCome) -> None:
    """Refuse networks of a run on patients that can't be built, or trained as it asks.

    Args:
        settings: of the run.
        to_come: runs that are only planned yet: with an `init` among them its network is the one
            that is trained. Of a run that is there it is what it was.

    Raises:
        InputError: as `build_backbone` and `refuse_untrainable`.
    """
    planned = None if settings.init is None else to_come.get(settings.init)
    first = settings.backbone if planned is None else getattr(planned.settings, "backbone", None)
    for one in (*([] if first is None else [first]), *settings.beside):
        _refuse_unbuildable(one, 0)
    if settings.network is not None and first is not None:
        refuse_untrainable(first, settings.network)


def refuse_untrainable(backbone: FeatureSettings, network: NetworkSettings) -> None:
    """Refuse a network that can't be trained, as `trained_network`.

    Raises:
        InputError: naming the setting or the layer.
    """
    _refuse_untrainable(
        without_weights(backbone),
        trainable_blocks=network.trainable_blocks,
        tune=network.tune,
        lora_rank=network.lora_rank,
    )


@lru_cache(maxsize=64)
def _refuse_untrainable(
    backbone: FeatureSettings, *, trainable_blocks: TrainableBlocks, tune: Tune, lora_rank: int
) -> None:
    built = build_backbone(backbone, seed=0, trainable_blocks=trainable_blocks)
    trained_network(
        built,
        torch.zeros(1, built.n_features + 1),
        scaling=None,
        precision=asked_precision(built),
        tune=tune,
        lora_rank=lora_rank,
    )


def _refuse_unbuildable(backbone: FeatureSettings, trainable_blocks: TrainableBlocks) -> None:
    """As `build_backbone`, of a network that gives features."""
    _build(without_weights(backbone), trainable_blocks)


@lru_cache(maxsize=64)
def _build(backbone: FeatureSettings, trainable_blocks: TrainableBlocks) -> None:
    build_backbone(backbone, seed=0, trainable_blocks=trainable_blocks)
