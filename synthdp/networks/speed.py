"""How long a network takes on one core of this machine: it is built at random, and looks at noise.

No table tells it: of two machines one took five times as long as the other for the same network,
the one without wide vectors and bfloat16.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from synthdp.machine.devices import reduced_precision
from synthdp.networks.backbone import Backbone, build_backbone
from synthdp.networks.settings import FeatureSettings, TrainableBlocks
from synthdp.networks.slices import SLICES

#: Views that go through a network together, as features are computed of several at a time.
_VIEWS = 4
#: What is timed is done so often; the shortest time counts, for others are at work, too.
_REPEATS = 3


@dataclass(frozen=True)
class TrainingSpeed:
    """What training takes: seconds of a core for the gradient of one view of an image, by itself;
    millions: of weights that move; keeps_tokens: whether a frozen part is computed once."""

    seconds: float
    millions: float
    keeps_tokens: bool


def seconds_a_view(backbone: FeatureSettings) -> float:
    """Seconds of a core for the features of one view of an image, by a frozen network.

    Raises:
        InputError: as `build_backbone`.
    """
    return _seconds_a_view(_flat(backbone)) * _planes(backbone)


def training_speed(backbone: FeatureSettings, trainable_blocks: TrainableBlocks) -> TrainingSpeed:
    """What the gradient of one view of an image takes.

    Raises:
        InputError: as `build_backbone`.
    """
    flat = _training_speed(_flat(backbone), trainable_blocks)
    seconds = flat.seconds * _planes(backbone)
    return TrainingSpeed(seconds, flat.millions, flat.keeps_tokens)


def _flat(backbone: FeatureSettings) -> FeatureSettings:
    """The network as it sees one plane of an image, without what does not change its speed."""
    unset = ("weights", "sha256", "axes", "slices", "slice_pool", "view_order", "denoise")
    return backbone.model_copy(update={**dict.fromkeys(unset), "views": 1, "whiten": 0.0})


def _planes(backbone: FeatureSettings) -> int:
    """How many planes of an image a network sees: one of a flat one."""
    return 1 if backbone.axes is None else len(backbone.axes) * (backbone.slices or SLICES)


@lru_cache(maxsize=64)
def _seconds_a_view(backbone: FeatureSettings) -> float:
    network = build_backbone(backbone, seed=0)
    images = _noise(backbone, _VIEWS)
    with torch.inference_mode():
        return _shortest(network, lambda: network(images)) / _VIEWS


@lru_cache(maxsize=64)
def _training_speed(backbone: FeatureSettings, trainable_blocks: TrainableBlocks) -> TrainingSpeed:
    network = build_backbone(backbone, seed=0, trainable_blocks=trainable_blocks)
    moved = [weights for weights in network.parameters() if weights.requires_grad]
    with torch.no_grad():
        tokens = network.trunk(_noise(backbone, 1))

    def gradient() -> None:
        torch.autograd.grad(network.top(tokens).float().sum(), moved, allow_unused=True)

    millions = sum(weights.numel() for weights in moved) / 1e6
    return TrainingSpeed(_shortest(network, gradient), millions, network.cuts_tokens)


def _noise(backbone: FeatureSettings, n_images: int) -> Tensor:
    """Images (N, 1, S, S) of noise."""
    side, generator = backbone.size_px, torch.Generator().manual_seed(0)
    return torch.randn(n_images, 1, side, side, generator=generator).clamp_(-1, 1)


def _shortest(network: Backbone, work: Callable[[], object]) -> float:
    """Seconds of one core that some work of a network takes, on one thread."""
    n_threads, wanted = torch.get_num_threads(), network.settings.precision == "auto"
    torch.set_num_threads(1)
    try:
        with reduced_precision(torch.device("cpu"), wanted=wanted):
            work()  # what is done once alone is not counted
            times = []
            for _ in range(_REPEATS):
                began = time.process_time()
                work()
                times.append(time.process_time() - began)
    finally:
        torch.set_num_threads(n_threads)
    return min(times)
