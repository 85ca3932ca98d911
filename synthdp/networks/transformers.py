"""Vision transformers of timm, of which the last blocks may be trained."""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from synthdp.config import FeatureSettings, TrainableBlocks
from synthdp.errors import InputError
from synthdp.networks.feature_network import FeatureNetwork, pooled


class TransformerBackbone(FeatureNetwork):
    """A ViT or Swin, run up to the last layer that is read.

    With `trainable_blocks` n > 0 the trunk ends before the last n of these blocks; with 0 it gives
    the features themselves; with "all" it hands on the images. Blocks of a Swin are counted over
    all its stages; a stage's downsampling goes with its first block. Tokens between blocks are
    brought to mean 0 and variance 1 before they are pooled, as the final norm does for the last.
    """

    def __init__(
        self, network: nn.Module, settings: FeatureSettings, trainable_blocks: TrainableBlocks
    ) -> None:
        super().__init__(network, settings, trainable_blocks)
        self.is_vit = isinstance(network, VisionTransformer)
        blocks = self.blocks()
        self._check_layers(len(blocks), "blocks")
        self.n_used = settings.layers[-1] + 1 if settings.layers else len(blocks)
        self.pools = self._pools(getattr(network, "cls_token", None) is not None)
        if trainable_blocks not in (0, "all"):
            self._open_tail(blocks)

    def _open_tail(self, blocks: list[tuple[nn.Module, ...]]) -> None:
        """Let the last blocks be trained, and the final norm with them where it is read."""
        trainable, layers = self.trainable_blocks, self.settings.layers
        assert isinstance(trainable, int)
        if trainable > self.n_used:
            raise InputError(
                f"trainable_blocks is {trainable}, but {self.settings.name} has {self.n_used}"
                f"{' up to the last layer read' if layers else ''}; write `all` to train everything"
            )
        if layers and layers[0] < self.cut - 1:
            raise InputError(
                f"trainable_blocks is {trainable}, but layer {layers[0]} is read before the first "
                f"of them; train {self.n_used - layers[0] - 1} blocks or more"
            )
        tail = [module for block in blocks[self.cut : self.n_used] for module in block]
        for module in (*tail, *(() if layers else self.final_norms())):
            for parameter in module.parameters() if module is not None else ():
                parameter.requires_grad_(True)

    def blocks(self) -> list[tuple[nn.Module, ...]]:
        """The blocks in order, each with the downsampling before it, if any."""
        if self.is_vit:
            return [(block,) for block in self.network.blocks]
        return [
            (stage.downsample, block) if index == 0 else (block,)
            for stage in self.network.layers
            for index, block in enumerate(stage.blocks)
        ]

    def final_norms(self) -> tuple[nn.Module | None, ...]:
        """What is read through when no layer is named."""
        return self.network.norm, getattr(self.network, "fc_norm", None)

    @property
    def cut(self) -> int:
        """How many blocks the trunk has, when the cut lies between two blocks."""
        assert isinstance(self.trainable_blocks, int)
        return self.n_used - self.trainable_blocks

    @property
    def parts(self) -> tuple[int, ...]:
        """The length of each part of a feature vector, in order."""
        blocks = self.blocks()
        widths = [_width(blocks[layer][-1]) for layer in self.settings.layers]
        return tuple(
            width for width in widths or [int(self.network.num_features)] for _ in self.pools
        )

    def trunk(self, images: Tensor) -> Tensor:
        """The frozen part; see `FeatureNetwork.trunk`."""
        if self.trainable_blocks == "all":
            return images
        if self.trainable_blocks == 0:
            return self._read(self._embed(images), 0)
        tokens = self._embed(images)
        for block in self.blocks()[: self.cut]:
            tokens = _run(block, tokens)
        return tokens

    def top(self, tokens: Tensor) -> Tensor:
        """The part that is trained: what `trunk` gave to features, (B, D)."""
        if self.trainable_blocks == 0:
            return tokens
        if self.trainable_blocks == "all":
            return self._read(self._embed(tokens), 0)
        return self._read(tokens, self.cut)

    def _embed(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.network.patch_embed(self._colour(images))
        if self.is_vit:
            tokens = self.network.norm_pre(self.network._pos_embed(tokens))
        elif getattr(self.network, "absolute_pos_embed", None) is not None:
            tokens = tokens + self.network.absolute_pos_embed
        return tokens

    def _read(self, tokens: Tensor, first: int) -> Tensor:
        """Run the blocks from `first` on, and pool the layers that are read."""
        layers, blocks = self.settings.layers, self.blocks()
        parts = self._pooled(_normed(tokens)) if first - 1 in layers else []
        for index in range(first, self.n_used):
            tokens = _run(blocks[index], tokens)
            if index in layers:
                parts += self._pooled(_normed(tokens))
        if not layers:
            parts = self._pooled(self.network.norm(tokens))
            if self.is_vit:
                parts = [self.network.fc_norm(part) for part in parts]
        return torch.cat(parts, dim=1)

    def _pooled(self, tokens: Tensor) -> list[Tensor]:
        if not self.is_vit:
            return pooled(tokens.permute(0, 3, 1, 2), None, self.pools)
        patches = tokens[:, self.network.num_prefix_tokens :]
        rows = self.network.patch_embed.grid_size[0]
        places = patches.transpose(1, 2).unflatten(2, (rows, -1))
        return pooled(places, tokens[:, 0], self.pools)


def _run(block: tuple[nn.Module, ...], tokens: Tensor) -> Tensor:
    for module in block:
        tokens = module(tokens)
    return tokens


def _normed(tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens.float(), tokens.shape[-1:])


def _width(block: nn.Module) -> int:
    """How wide a block's tokens are: the size of its second norm, which is of its output."""
    norm: Any = block.norm2
    return int(norm.normalized_shape[0])
