"""Frozen public networks as feature extractors: what a distance or a projection is named after."""

import contextlib
import hashlib
from typing import Any

import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from synthdp.config import BackboneSettings
from synthdp.data.dataset import Dataset, Row
from synthdp.errors import InputError
from synthdp.networks.cache import cached_features
from synthdp.networks.weights import load_public_weights

#: Part of every cache's name: raise it when features of the same weights change.
EXTRACTOR_VERSION = 1


class Extractor(nn.Module):
    """A frozen timm network that turns grey images into pooled features, differentiably.

    A transformer with a class token gives that token after the final norm; any other network its
    own pooling. With `in_bfloat16` it multiplies in that precision: features differ a little, so
    its identity is another one.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: Any, settings: BackboneSettings, *, in_bfloat16: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.in_bfloat16 = in_bfloat16
        shape = (1, -1, 1, 1)
        cfg = network.pretrained_cfg
        self.register_buffer("mean", torch.tensor(cfg["mean"]).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(cfg["std"]).view(shape), persistent=False)
        self.requires_grad_(False).eval()

    @property
    def n_features(self) -> int:
        """D, the length of a feature vector."""
        return int(self.network.num_features)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S) float32 in [-1, 1], of any side, to features (B, D)."""
        side = self.settings.size_px
        if images.shape[-1] != side:
            images = F.interpolate(
                images, size=side, mode="bicubic", antialias=True, align_corners=False
            ).clamp(-1, 1)
        with self._precision(images.device.type):
            features: Tensor = self.network(((images + 1) / 2 - self.mean) / self.std)
        return features.float()

    def _precision(self, device: str) -> contextlib.AbstractContextManager[Any]:
        """Autocast where it was asked for; else whatever the caller is in."""
        if not self.in_bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(device, dtype=torch.bfloat16)

    def identity(self) -> str:
        """SHA-256 of what decides the features: name, input side, precision and all tensors."""
        words = f"extractor {EXTRACTOR_VERSION} {self.settings.name} {self.settings.size_px}"
        words += " bfloat16" if self.in_bfloat16 else ""
        digest = hashlib.sha256(words.encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def build_extractor(
    settings: BackboneSettings, *, seed: int = 0, in_bfloat16: bool = False
) -> Extractor:
    """Build a timm network with the weights that `settings` names, without its classifier.

    Args:
        settings: name, weights (a file with its sha256, `hub`, or none) and input side.
        seed: drives the random start when there are no weights; no global state moves.
        in_bfloat16: whether the network multiplies in that precision.

    Raises:
        InputError: when timm has no such model, or the weights are missing, of another sha256, or
            of another network.
    """
    if not timm.is_model(settings.name):
        raise InputError(f"features: timm has no model {settings.name!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network: Any = timm.create_model(
                settings.name, num_classes=0, img_size=settings.size_px
            )
        except TypeError:  # a convolutional network takes any side
            network = timm.create_model(settings.name, num_classes=0)
    if settings.weights is not None:
        load_public_weights(network, settings)
    return Extractor(network, settings, in_bfloat16=in_bfloat16)


def extract(extractor: Extractor, dataset: Dataset, rows: list[Row]) -> NDArray[Any]:
    """Features (N, D) float32 of some rows of a data set, from its cache where they are known.

    Raises:
        InputError: when an image is unreadable.
        RunError: when the features are not finite, or the disk is full.
    """

    def compute(images: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            features: NDArray[Any] = extractor(torch.from_numpy(images)).numpy()
        return features

    return cached_features(
        dataset,
        rows,
        extractor_id=extractor.identity(),
        size_px=dataset.info.size_px,
        compute=compute,
        batch=32,
        what=f"{extractor.settings.name} features",
    )
