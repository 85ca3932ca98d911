"""Vision transformers of timm as feature extractors: weights, input, pooling, what is frozen.

A backbone is cut in two: the trunk is frozen, so that what it gives for an image may be cached,
and the top is what training moves. Features are the pooled tokens after the final norm.
"""

import difflib
import hashlib
from collections.abc import Iterable
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from classify.config import TrainableBlocks
from synthdp.config import BackboneSettings
from synthdp.errors import InputError
from synthdp.public_weights import HUB, load_public_weights

#: Part of every cache's name: raise it when features of the same weights change.
FEATURES_VERSION = 1
_MODULES = ("vision_transformer", "deit", "swin_transformer", "swin_transformer_v2")


class Backbone(nn.Module):
    """A transformer that turns grey images into features; made by `build_backbone`.

    `top(trunk(images))` are the features. With `trainable_blocks` n > 0 the trunk ends before the
    last n blocks; with 0 it gives the features themselves; with "all" it hands on the images.
    Blocks of a Swin are counted over all its stages; a stage's downsampling goes with its first
    block.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, settings: BackboneSettings, trainable_blocks: TrainableBlocks
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.settings = settings
        self.trainable_blocks = trainable_blocks
        cfg: Any = network.pretrained_cfg
        channels = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(cfg["mean"]).view(channels), persistent=False)
        self.register_buffer("std", torch.tensor(cfg["std"]).view(channels), persistent=False)
        blocks = self._blocks()
        if trainable_blocks != "all" and trainable_blocks > len(blocks):
            raise InputError(
                f"trainable_blocks is {trainable_blocks}, but {settings.name} has {len(blocks)}; "
                "write `all` to train everything"
            )
        self._requires_grad(blocks)
        self.eval()  # no layer of a timm ViT or Swin without dropout acts otherwise in training

    def _blocks(self) -> list[tuple[nn.Module, ...]]:
        """The blocks in order, each with the downsampling before it, if any."""
        if isinstance(self.network, VisionTransformer):
            return [(block,) for block in self.network.blocks]
        return [
            (stage.downsample, block) if index == 0 else (block,)
            for stage in self.network.layers
            for index, block in enumerate(stage.blocks)
        ]

    def _requires_grad(self, blocks: list[tuple[nn.Module, ...]]) -> None:
        everything = self.trainable_blocks == "all"
        for parameter in self.network.parameters():
            parameter.requires_grad_(everything)
        if everything or self.trainable_blocks == 0:
            return
        assert isinstance(self.trainable_blocks, int)
        tail = [module for block in blocks[-self.trainable_blocks :] for module in block]
        for module in (*tail, self.network.norm, getattr(self.network, "fc_norm", None)):
            for parameter in module.parameters() if module is not None else ():
                parameter.requires_grad_(True)

    @property
    def _n_frozen(self) -> int:
        """How many blocks the trunk has, when the cut lies between two blocks."""
        n = len(self._blocks())
        return 0 if self.trainable_blocks == "all" else n - self.trainable_blocks

    def trunk(self, images: Tensor) -> Tensor:
        """The frozen part.

        Args:
            images: (B, 1, S, S) float32 in [-1, 1].

        Returns:
            With n > 0 trainable blocks the tokens before them, (B, ...); with 0 the features,
            (B, D); with "all" the images.
        """
        if self.trainable_blocks == "all":
            return images
        tokens = self._run(self._embed(images), 0, self._n_frozen)
        return self._pool(tokens) if self.trainable_blocks == 0 else tokens

    def top(self, tokens: Tensor) -> Tensor:
        """The part that is trained: what `trunk` gave to features, (B, D)."""
        if self.trainable_blocks == 0:
            return tokens
        if self.trainable_blocks == "all":
            tokens = self._embed(tokens)
        return self._pool(self._run(tokens, self._n_frozen, None))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S) in [-1, 1] to features (B, D)."""
        return self.top(self.trunk(images))

    def _embed(self, images: Tensor) -> Tensor:
        colour = ((images + 1) / 2 - self.mean) / self.std
        tokens: Tensor = self.network.patch_embed(colour)
        if isinstance(self.network, VisionTransformer):
            tokens = self.network.norm_pre(self.network._pos_embed(tokens))
        elif getattr(self.network, "absolute_pos_embed", None) is not None:
            tokens = tokens + self.network.absolute_pos_embed
        return tokens

    def _run(self, tokens: Tensor, first: int, end: int | None) -> Tensor:
        for block in self._blocks()[first:end]:
            for module in block:
                tokens = module(tokens)
        return tokens

    def _pool(self, tokens: Tensor) -> Tensor:
        """Tokens of the last block to features.

        For a ViT the class token, if there is one, beside the mean of the patch tokens; for a
        Swin the mean of all tokens.
        """
        tokens = self.network.norm(tokens)
        if not isinstance(self.network, VisionTransformer):
            return tokens.mean(dim=(1, 2))
        parts = [tokens[:, self.network.num_prefix_tokens :].mean(dim=1)]
        if self.network.cls_token is not None:
            parts.insert(0, tokens[:, 0])
        return torch.cat([self.network.fc_norm(part) for part in parts], dim=1)

    @property
    def n_features(self) -> int:
        """D, the length of a feature vector."""
        has_class_token = getattr(self.network, "cls_token", None) is not None
        return int(self.network.num_features) * (2 if has_class_token else 1)


def build_backbone(
    settings: BackboneSettings, *, seed: int, trainable_blocks: TrainableBlocks = 0
) -> Backbone:
    """Build a timm ViT or Swin with the weights that `settings` names.

    Args:
        settings: name, weights (a file with its sha256, `hub`, or none) and input side.
        seed: drives the random start when there are no weights; no global state moves.
        trainable_blocks: how many blocks, from the end, are trained.

    Raises:
        InputError: when the name is no ViT or Swin of timm, the size does not fit its patches,
            or the weights are missing, of another sha256, or of another network.
    """
    _check_name(settings.name)
    if settings.weights in (None, HUB) and settings.sha256 is not None:
        raise InputError("backbone.sha256 belongs to a weights file; set backbone.weights too")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = timm.create_model(
            settings.name, num_classes=0, img_size=settings.size_px, drop_path_rate=0.0
        )
    _check_size(settings, network)
    if hasattr(network, "attn_pool"):
        network.attn_pool = None  # features are pooled here
    if settings.weights is not None:
        load_public_weights(network, settings)
    return Backbone(network, settings, trainable_blocks)


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"backbone.name: timm has no model {name!r}{hint}")
    module = timm.models.model_entrypoint(name).__module__.rsplit(".", 1)[-1]
    if module not in _MODULES:
        raise InputError(
            f"backbone.name: {name} is no plain ViT or Swin; choose one, such as "
            "vit_small_patch14_dinov2, vit_tiny_patch16_224 or swin_tiny_patch4_window7_224"
        )


def _check_size(settings: BackboneSettings, network: Any) -> None:
    patch = max(network.patch_embed.patch_size)
    if settings.size_px % patch:
        lower = settings.size_px // patch * patch
        near = [size for size in (lower, lower + patch) if size]
        raise InputError(
            f"backbone.size_px is {settings.size_px}, but {settings.name} takes a multiple of its "
            f"patch of {patch} px; use {' or '.join(map(str, near))}"
        )


def trained_state(backbone: Backbone) -> dict[str, Tensor]:
    """The tensors that training moves, by their timm names."""
    return {
        name: parameter.detach()
        for name, parameter in backbone.network.named_parameters()
        if parameter.requires_grad
    }


def _digest(backbone: Backbone, tensors: Iterable[tuple[str, Tensor]], part: str) -> str:
    settings = backbone.settings
    digest = hashlib.sha256(
        f"{part} {FEATURES_VERSION} {settings.name} {settings.size_px}".encode()
    )
    for name, tensor in sorted(tensors):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def identity(backbone: Backbone) -> str:
    """SHA-256 of what decides a backbone's features: name, size, pooling and all tensors."""
    return _digest(backbone, backbone.network.state_dict().items(), "features")


def trunk_identity(backbone: Backbone) -> str:
    """SHA-256 of what decides the trunk's tokens; equal for all that share a frozen trunk."""
    trained = trained_state(backbone)
    frozen = [kv for kv in backbone.network.state_dict().items() if kv[0] not in trained]
    return _digest(backbone, frozen, f"trunk {backbone.trainable_blocks}")
