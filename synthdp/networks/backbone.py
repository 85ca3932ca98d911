"""The network under a classifier: grey images in, features out, its last blocks perhaps trained.

A backbone is cut in two: the trunk is frozen, so that what it gives for an image may be cached, and
the top is what training moves. Where a convolutional network is trained, or all of a transformer,
the trunk hands on the images. Features are read after some layers, pooled to vectors, and averaged
over views of the image.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from timm.layers import PatchEmbed
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from synthdp.errors import InputError
from synthdp.machine.devices import auto_device, has_bfloat16
from synthdp.networks.frozen import FrozenNetwork, create_network
from synthdp.networks.public.weight_files import HUB
from synthdp.networks.public.weights import load_public_weights
from synthdp.networks.readout import dihedral_views, pooled, standardised
from synthdp.networks.settings import FeatureSettings, Pool, TrainableBlocks

#: Part of every cache's name: raise it when features of the same weights change.
FEATURES_VERSION = 2
#: Side of the empty image by which a convolutional network's widths are known.
_PROBE_PX = 64


class Backbone(FrozenNetwork, ABC):
    """A network that turns grey images into features; made by `build_backbone`.

    `top(trunk(view))` are the features of one view, and `forward` takes their mean over the views
    that the settings name. Features come in parts, one for each layer and way of pooling.
    """

    settings: FeatureSettings

    def __init__(
        self, network: Any, settings: FeatureSettings, trainable_blocks: TrainableBlocks
    ) -> None:
        super().__init__(network, settings, channels=settings.channels)
        self.trainable_blocks = trainable_blocks
        self.network.requires_grad_(trainable_blocks == "all")

    @property
    def cuts_tokens(self) -> bool:
        """Whether the trunk gives tokens, which may be kept, to blocks that are trained."""
        return self.trainable_blocks not in (0, "all")

    @property
    def hands_on_images(self) -> bool:
        """Whether the trunk computes nothing, so that there is nothing to keep of it."""
        return self.trainable_blocks != 0 and not self.cuts_tokens

    @property
    def in_one_piece(self) -> bool:
        """Whether features are computed from images at once, and not from the trunk's tokens."""
        return not self.cuts_tokens or self.settings.views > 1

    @property
    @abstractmethod
    def parts(self) -> tuple[int, ...]:
        """The length of each part of a feature vector, in order."""

    @property
    def n_features(self) -> int:
        """D, the length of a feature vector."""
        return sum(self.parts)

    @abstractmethod
    def trunk(self, images: Tensor) -> Tensor:
        """The frozen part.

        Args:
            images: (B, 1, S, S) float32 in [-1, 1].

        Returns:
            With n > 0 trainable blocks of a transformer the tokens before them, (B, ...); with 0
            the features, (B, D); where it `hands_on_images` these.
        """

    @abstractmethod
    def top(self, tokens: Tensor) -> Tensor:
        """The part that is trained: what `trunk` gave to features, (B, D)."""

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S) in [-1, 1] to features (B, D), the mean over the views."""
        views, order = self.settings.views, self.settings.view_order
        seen = dihedral_views(images, views, order)
        total = sum(self.top(self.trunk(view)).float() for view in seen)
        assert isinstance(total, Tensor)  # there is one view at least
        return total / views

    def normalised(self, images: Tensor) -> Tensor:
        """As for every frozen network, after standardising each image where it is set."""
        if self.settings.intensity == "standardised":
            images = standardised(images)
        return super().normalised(images)

    def trained_state(self) -> dict[str, Tensor]:
        """The tensors that training moves, by their timm names; not copied."""
        return {
            name: parameter.detach()
            for name, parameter in self.network.named_parameters()
            if parameter.requires_grad
        }

    def own_tensors(self) -> dict[str, Tensor]:
        """Copies of what the public weights don't give, by their timm names.

        These are the tensors that training moves, and after a random start all tensors.
        """
        random_start = self.settings.weights is None
        own = self.network.state_dict() if random_start else self.trained_state()
        return {name: tensor.detach().cpu().clone() for name, tensor in own.items()}

    def identity(self) -> str:
        """SHA-256 of what decides the features: name, size, readout, precision, tensors."""
        return self.tensors_digest(self._words("features"), self.network.state_dict().items())

    def trunk_identity(self) -> str:
        """SHA-256 of what decides the trunk's tokens; equal for all that share a frozen trunk."""
        trained = self.trained_state()
        frozen = [kv for kv in self.network.state_dict().items() if kv[0] not in trained]
        return self.tensors_digest(self._words(f"trunk {self.trainable_blocks}"), frozen)

    def _words(self, part: str) -> str:
        """What decides features beside the tensors; where the weights lie, and scaling, don't."""
        unread = {"weights", "sha256", "whiten", "weight", "batch_norm"}
        settings = self.settings.model_dump(mode="json", exclude=unread)
        low = self.settings.precision == "auto" and has_bfloat16(auto_device())
        settings["precision"] = "bfloat16" if low else "float32"
        return f"{part} {FEATURES_VERSION} {sorted(settings.items())}"

    def _refuse_absent_layers(self, n_layers: int, what: str) -> None:
        """Refuse a layer that is not there; `what` names the layers of this kind of network."""
        if self.settings.layers and self.settings.layers[-1] >= n_layers:
            raise InputError(
                f"backbone.layers: {self.settings.name} has {what} 0 to {n_layers - 1}, not "
                f"{self.settings.layers[-1]}"
            )

    def _pools(self, has_class_token: bool) -> Sequence[Pool]:
        """The ways of pooling; by default the class token, if there is one, and the mean."""
        if self.settings.pools:
            if "class_token" in self.settings.pools and not has_class_token:
                raise InputError(
                    f"backbone.pools: {self.settings.name} has no class token; leave it out"
                )
            return self.settings.pools
        return ("class_token", "mean") if has_class_token else ("mean",)


class TransformerBackbone(Backbone):
    """A ViT or Swin, run up to the last layer that is read.

    With `trainable_blocks` n > 0 the trunk ends before the last n of these blocks; with 0 it gives
    the features themselves; with "all" it hands on the images. Blocks of a Swin are counted over
    all its stages; a stage's downsampling goes with its first block. Tokens between blocks are
    brought to mean 0 and variance 1 before they are pooled, as the final norm does for the last.
    """

    def __init__(
        self, network: Any, settings: FeatureSettings, trainable_blocks: TrainableBlocks
    ) -> None:
        super().__init__(network, settings, trainable_blocks)
        self.is_vit = isinstance(network, VisionTransformer)
        blocks = self.blocks()
        self._refuse_absent_layers(len(blocks), "blocks")
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
            if module is not None:
                module.requires_grad_(True)

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
        # a block's second norm is of its output
        norms: list[Any] = [blocks[layer][-1].norm2 for layer in self.settings.layers]
        widths = [int(norm.normalized_shape[0]) for norm in norms]
        return tuple(
            width for width in widths or [int(self.network.num_features)] for _ in self.pools
        )

    def trunk(self, images: Tensor) -> Tensor:
        """The frozen part; see `Backbone.trunk`."""
        if self.trainable_blocks == "all":
            return images
        tokens = self._embedded(images)
        if self.trainable_blocks == 0:
            return self._read(tokens, 0)
        for block in self.blocks()[: self.cut]:
            tokens = _run(block, tokens)
        return tokens

    def top(self, tokens: Tensor) -> Tensor:
        """The part that is trained: what `trunk` gave to features, (B, D)."""
        if self.trainable_blocks == 0:
            return tokens
        if self.trainable_blocks == "all":
            return self._read(self._embedded(tokens), 0)
        return self._read(tokens, self.cut)

    def _embedded(self, images: Tensor) -> Tensor:
        """Images (B, 1, S, S) to the tokens that go into the first block."""
        tokens: Tensor = self.network.patch_embed(self.normalised(images))
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
        """Tokens of a ViT (B, L, C) or a Swin (B, H, W, C) to one vector for each pool."""
        if not self.is_vit:
            return pooled(tokens.permute(0, 3, 1, 2), None, self.pools)
        patches = tokens[:, self.network.num_prefix_tokens :]
        rows = self.network.patch_embed.grid_size[0]
        feature_map = patches.transpose(1, 2).unflatten(2, (rows, -1))
        return pooled(feature_map, tokens[:, 0], self.pools)


def _run(block: tuple[nn.Module, ...], tokens: Tensor) -> Tensor:
    for module in block:
        tokens = module(tokens)
    return tokens


def _normed(tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens.float(), tokens.shape[-1:])


class ConvolutionalBackbone(Backbone):
    """A convolutional network, read after some of its stages.

    With `trainable_blocks` n > 0 its last n stages that are read are trained, and what follows
    them; with "all" the whole of it. The trunk then hands on the images. A frozen network's
    normalisation over a batch is used as the public weights fixed it, so that an image's features
    depend on that image alone; to train it would couple the images.
    """

    def __init__(
        self, network: Any, settings: FeatureSettings, trainable_blocks: TrainableBlocks
    ) -> None:
        super().__init__(network, settings, trainable_blocks)
        if trainable_blocks != 0 and settings.batch_norm != "frozen":
            self._refuse_batch_norm()
        self.network.to(memory_format=torch.channels_last)
        self.stages = _stages(network) or []
        self._refuse_absent_layers(len(self.stages), "stages")
        self.pools = self._pools(has_class_token=False)
        self._parts = self._widths()
        if trainable_blocks != 0:
            self._open_tail()

    def _widths(self) -> tuple[int, ...]:
        """The length of each part of a feature vector, as an empty image shows.

        Raises:
            InputError: when the network takes images of one size alone.
        """
        try:
            with torch.inference_mode():
                parts = self._read(torch.zeros(1, 1, _PROBE_PX, _PROBE_PX))
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"backbone.name: {self.settings.name} takes images of one size alone, as where "
                "attention has a table of positions; choose a convolutional network without, or a "
                "plain ViT or Swin"
            ) from error
        return tuple(part.shape[1] for part in parts)

    def _refuse_batch_norm(self) -> None:
        for name, layer in self.network.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                raise InputError(
                    f"backbone.name: {self.settings.name} gives frozen features only (its layer "
                    f"{name} normalises over a batch); set trainable_blocks to 0 and leave "
                    "`network` out, or set backbone.batch_norm: frozen, which keeps the statistics "
                    "of its public weights, or take a plain ViT, or resnet9"
                )

    def _open_tail(self) -> None:
        """Let the last stages be trained, and what is computed after them."""
        trainable, layers = self.trainable_blocks, self.settings.layers
        n_used = layers[-1] + 1 if layers else len(self.stages)
        if trainable == "all":
            trainable = n_used
        elif trainable > n_used:
            raise InputError(
                f"trainable_blocks is {trainable}, but {self.settings.name} has {n_used} stages"
                f"{' up to the last layer read' if layers else ''}; write `all` to train everything"
            )
        used = self._used_parameters()
        before = {
            id(parameter)
            for stage in self.stages[: n_used - trainable]
            for parameter in stage.parameters()
        }
        if self.trainable_blocks != "all":  # what comes before the stages stands before them, too
            before |= {id(parameter) for parameter in self._stem_parameters()}
        for parameter in self.network.parameters():
            parameter.requires_grad_(id(parameter) in used and id(parameter) not in before)

    def _used_parameters(self) -> set[int]:
        """The parameters that features depend on: what follows the last layer read is none."""
        self.network.requires_grad_(True)
        probe = torch.zeros(1, 1, _PROBE_PX, _PROBE_PX)
        total = torch.cat(self._read(probe), dim=1).sum()
        parameters = list(self.network.parameters())
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        return {id(p) for p, g in zip(parameters, gradients, strict=True) if g is not None}

    def _stem_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the network's own layers that stand before its first stage."""
        first = {id(parameter) for parameter in self.stages[0].parameters()}
        for child in self.network.children():
            if any(id(parameter) in first for parameter in child.parameters()):
                return
            yield from child.parameters()

    @property
    def cuts_tokens(self) -> bool:
        """False: a stage's maps are as large as images, and not kept."""
        return False

    @property
    def parts(self) -> tuple[int, ...]:
        """The length of each part of a feature vector, in order."""
        return self._parts

    def trunk(self, images: Tensor) -> Tensor:
        """The frozen part; see `Backbone.trunk`."""
        return images if self.hands_on_images else torch.cat(self._read(images), dim=1)

    def top(self, tokens: Tensor) -> Tensor:
        """The images, where something is trained, to features (B, D); else the features."""
        return torch.cat(self._read(tokens), dim=1) if self.hands_on_images else tokens

    def _read(self, images: Tensor) -> list[Tensor]:
        """One vector for each stage that is read and each pool."""
        colour = self.normalised(images).expand(-1, self.settings.channels, -1, -1)
        colour = colour.contiguous(memory_format=torch.channels_last)
        maps: list[Tensor] = []
        hooks = [
            self.stages[layer].register_forward_hook(lambda _m, _i, output: maps.append(output))
            for layer in self.settings.layers
        ]
        try:
            last = self.network.forward_features(colour)
        finally:
            for hook in hooks:
                hook.remove()
        maps = maps or [last]
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":  # as MambaOut's, channels last
            maps = [one.permute(0, 3, 1, 2) for one in maps]
        return [part for one in maps for part in pooled(one, None, self.pools)]


def _stages(network: Any) -> list[nn.Module] | None:
    """The stages of a convolutional network of timm; None where it has none that are known here."""
    if any(isinstance(layer, PatchEmbed) for layer in network.modules()):
        return None  # a transformer or mixer, which sees a grid of patches of one size alone
    for name in ("blocks", "stages"):
        stages = getattr(network, name, None)
        if isinstance(stages, nn.Sequential) and hasattr(network, "forward_features"):
            return list(stages)
    if all(hasattr(network, f"layer{index}") for index in range(1, 5)):
        return [getattr(network, f"layer{index}") for index in range(1, 5)]
    return None


def build_backbone(
    settings: FeatureSettings, *, seed: int, trainable_blocks: TrainableBlocks = 0
) -> Backbone:
    """Build a network of timm with the weights that `settings` names.

    Args:
        settings: name, weights (a file with its sha256, `hub`, or none), input side, readout.
        seed: drives the random start when there are no weights; no global state moves.
        trainable_blocks: how many blocks, from the last one that is read, are trained.

    Raises:
        InputError: when timm has no such network or it is of a kind that is not read here, the
            size does not fit its patches, a layer or pooling is not there, a network that
            normalises over a batch, or a part of one that sees volumes, is to be trained, or the
            weights are missing, of another sha256, or of another network.
    """
    if settings.weights in (None, HUB) and settings.sha256 is not None:
        raise InputError("backbone.sha256 belongs to a weights file; set backbone.weights too")
    network = create_network(
        settings,
        seed=seed,
        setting="backbone.name",
        channels=settings.channels,
        img_size=settings.size_px,
        drop_path_rate=0.0,
    )
    is_transformer = isinstance(network, VisionTransformer | SwinTransformer | SwinTransformerV2)
    if is_transformer:
        _refuse_size(settings, network)
    elif _stages(network) is None:
        raise InputError(
            f"backbone.name: {settings.name} is no plain ViT or Swin, nor a convolutional network "
            "with stages; choose one, such as vit_small_patch14_dinov2, vit_tiny_patch16_224, "
            "swin_tiny_patch4_window7_224 or tf_efficientnet_lite0"
        )
    if hasattr(network, "attn_pool"):
        network.attn_pool = None  # features are pooled here
    load_public_weights(network, settings)
    if settings.denoise is not None and trainable_blocks != 0:
        raise InputError(
            "backbone.denoise: is for a head on a frozen network, and this one is to be trained; "
            "leave denoise out, or leave `network` out"
        )
    if settings.axes is not None and trainable_blocks not in (0, "all"):
        raise InputError(
            f"trainable_blocks is {trainable_blocks}, but of a network that sees volumes the head "
            "alone, or all of it, is trained; leave `network` out, or set trainable_blocks: all"
        )
    kind = TransformerBackbone if is_transformer else ConvolutionalBackbone
    flat = kind(network, settings, trainable_blocks)
    if settings.axes is None or trainable_blocks == 0:
        return flat
    from synthdp.networks.volume_network import VolumeNetwork  # noqa: PLC0415 (is a backbone)

    return VolumeNetwork(flat, seed)


def _refuse_size(settings: FeatureSettings, network: Any) -> None:
    """Refuse a side that is no multiple of the patch."""
    patch = max(network.patch_embed.patch_size)
    if settings.size_px % patch:
        lower = settings.size_px // patch * patch
        near = [size for size in (lower, lower + patch) if size]
        raise InputError(
            f"backbone.size_px is {settings.size_px}, but {settings.name} takes a multiple of its "
            f"patch of {patch} px; use {' or '.join(map(str, near))}"
        )
