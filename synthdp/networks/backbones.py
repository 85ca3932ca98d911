"""Networks of timm as feature extractors: weights, input, what is frozen, what is read.

A backbone is cut in two: the trunk is frozen, so that what it gives for an image may be cached,
and the top is what training moves. Transformers may be trained (`synthdp.networks.transformers`);
convolutional networks are frozen (`synthdp.networks.convolutional`).
"""

import difflib
import hashlib
from collections.abc import Iterable
from typing import Any

import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from synthdp.config import FeatureSettings, TrainableBlocks
from synthdp.devices import auto_device, has_bfloat16
from synthdp.errors import InputError
from synthdp.networks.convolutional import ConvolutionalBackbone, stages_of
from synthdp.networks.feature_network import FeatureNetwork
from synthdp.networks.transformers import TransformerBackbone
from synthdp.networks.weights import HUB, load_public_weights

#: Part of every cache's name: raise it when features of the same weights change.
FEATURES_VERSION = 2
_TRANSFORMERS = (VisionTransformer, SwinTransformer, SwinTransformerV2)


def build_backbone(
    settings: FeatureSettings, *, seed: int, trainable_blocks: TrainableBlocks = 0
) -> FeatureNetwork:
    """Build a network of timm with the weights that `settings` names.

    Args:
        settings: name, weights (a file with its sha256, `hub`, or none), input side, readout.
        seed: drives the random start when there are no weights; no global state moves.
        trainable_blocks: how many blocks, from the last one that is read, are trained.

    Raises:
        InputError: when timm has no such network or it is of a kind that is not read here, the
            size does not fit its patches, a layer or pooling is not there, blocks of a
            convolutional network are to be trained, or the weights are missing, of another
            sha256, or of another network.
    """
    if settings.weights in (None, HUB) and settings.sha256 is not None:
        raise InputError("backbone.sha256 belongs to a weights file; set backbone.weights too")
    network = _created(settings, seed)
    is_transformer = isinstance(network, _TRANSFORMERS)
    if not is_transformer and stages_of(network) is None:
        raise InputError(
            f"backbone.name: {settings.name} is no plain ViT or Swin, nor a convolutional network "
            "with stages; choose one, such as vit_small_patch14_dinov2, vit_tiny_patch16_224, "
            "swin_tiny_patch4_window7_224 or tf_efficientnet_lite0"
        )
    if is_transformer:
        _check_size(settings, network)
    if hasattr(network, "attn_pool"):
        network.attn_pool = None  # features are pooled here
    if settings.weights is not None:
        load_public_weights(network, settings)
    kind = TransformerBackbone if is_transformer else ConvolutionalBackbone
    return kind(network, settings, trainable_blocks)


def _created(settings: FeatureSettings, seed: int) -> Any:
    name = settings.name
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"backbone.name: timm has no model {name!r}{hint}")
    known: dict[str, Any] = {"num_classes": 0, "in_chans": settings.channels}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(name, **known, img_size=settings.size_px, drop_path_rate=0.0)
        except TypeError:  # a convolutional network takes any side
            return timm.create_model(name, **known)


def _check_size(settings: FeatureSettings, network: Any) -> None:
    patch = max(network.patch_embed.patch_size)
    if settings.size_px % patch:
        lower = settings.size_px // patch * patch
        near = [size for size in (lower, lower + patch) if size]
        raise InputError(
            f"backbone.size_px is {settings.size_px}, but {settings.name} takes a multiple of its "
            f"patch of {patch} px; use {' or '.join(map(str, near))}"
        )


def trained_state(backbone: FeatureNetwork) -> dict[str, Tensor]:
    """The tensors that training moves, by their timm names."""
    return {
        name: parameter.detach()
        for name, parameter in backbone.network.named_parameters()
        if parameter.requires_grad
    }


def trained_tensors(backbone: FeatureNetwork) -> dict[str, Tensor]:
    """The tensors to keep of a backbone: those that training moved, all after a random start."""
    kept = backbone.network.state_dict()
    if backbone.settings.weights is not None:
        kept = trained_state(backbone)
    return {name: tensor.detach().cpu().clone() for name, tensor in kept.items()}


def _digest(backbone: FeatureNetwork, tensors: Iterable[tuple[str, Tensor]], part: str) -> str:
    settings = backbone.settings
    read = settings.model_dump(mode="json", exclude={"weights", "sha256", "whiten", "weight"})
    low = settings.precision == "auto" and has_bfloat16(auto_device())
    read["precision"] = "bfloat16" if low else "float32"
    digest = hashlib.sha256(f"{part} {FEATURES_VERSION} {sorted(read.items())}".encode())
    for name, tensor in sorted(tensors):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def identity(backbone: FeatureNetwork) -> str:
    """SHA-256 of what decides a backbone's features: name, size, readout, precision, tensors."""
    return _digest(backbone, backbone.network.state_dict().items(), "features")


def trunk_identity(backbone: FeatureNetwork) -> str:
    """SHA-256 of what decides the trunk's tokens; equal for all that share a frozen trunk."""
    trained = trained_state(backbone)
    frozen = [kv for kv in backbone.network.state_dict().items() if kv[0] not in trained]
    return _digest(backbone, frozen, f"trunk {backbone.trainable_blocks}")
