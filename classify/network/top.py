"""What DP-SGD trains: a network or its end under a linear head, with a public centre between.

All weights of these layers are trained, or low-rank additions to their matrices. The trained
parameters are one flat vector, the head's last. Only networks in which an image's gradient does not
depend on the other images of a batch may be trained: the last blocks of a ViT are looked at layer
by layer, any other network is tried on noise as well (`trained_network`).
"""

import math
from collections import OrderedDict

import torch
from timm.layers import LayerNorm as TimmLayerNorm
from timm.layers import LayerScale
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import skip_init

from classify.features.scaling import Scaling, head_input, plain_scaling
from classify.network.apart import refuse_coupled_examples, refuse_coupling_layers
from classify.settings.network import Tune
from synthdp.errors import InputError
from synthdp.machine.devices import has_bfloat16, reproducible
from synthdp.networks.backbone import Backbone, TransformerBackbone


class LowRankLinear(nn.Module):
    """A frozen linear layer, (E, D), and its trained addition: `y = W x + b + B A x` (LoRA).

    *LoRA: Low-Rank Adaptation of Large Language Models*, arXiv 2106.09685, section 4.1. Both
    factors are linear layers of their own, so that whatever gives per-image gradients of a linear
    layer gives theirs. After training their product is merged into W, and none is left in a model.

    `up` holds B, (E, r), zeros at first, so that training begins with W itself. `down` holds A,
    (r, D), Gaussian of variance 1 / r. That stands for the paper's factor alpha / r: the mean of
    A^T A is the identity, so that B's gradient G A^T is in mean square as long as W's gradient G,
    and a first step moves `W + B A` in the mean as the same step would move W, whatever the rank.
    So the units and the clip norm of a training of W suit one of B and A; its learning rate does
    where few directions of x hold most of it, and has to fall towards r / D of it where none do.
    """

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        device = linear.weight.device
        self.linear = linear.requires_grad_(False)
        self.down = skip_init(nn.Linear, linear.in_features, rank, bias=False, device=device)
        self.up = skip_init(nn.Linear, rank, linear.out_features, bias=False, device=device)
        start = torch.randn(rank, linear.in_features, generator=generator) / math.sqrt(rank)
        self.down.weight.data.copy_(start)
        self.up.weight.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (..., D) to outputs (..., E)."""
        y: Tensor = self.linear(x) + self.up(self.down(x))
        return y

    def merged(self) -> nn.Linear:
        """The layer with the weight `W + B A`, which counts as trained."""
        with torch.no_grad():
            self.linear.weight += self.up.weight @ self.down.weight
        self.linear.weight.requires_grad_(True)
        return self.linear


def add_low_rank(network: nn.Module, rank: int, generator: torch.Generator) -> None:
    """Give each frozen linear layer inside `network` an addition of rank `rank`, in place.

    Args:
        network: whose linear layers without a trained weight become `LowRankLinear`.
        rank: r, below both sides of every matrix.
        generator: public; what A is drawn from, layer by layer.

    Raises:
        InputError: when the rank is not below a matrix's sides; names the layer.
    """
    for name, layer in list(network.named_modules()):
        if not isinstance(layer, nn.Linear) or layer.weight.requires_grad:
            continue
        if rank >= min(layer.weight.shape):
            sides = " x ".join(map(str, layer.weight.shape))
            raise InputError(
                f"network.lora_rank is {rank}, but the layer {name} is a matrix of {sides}; take a "
                "smaller rank, such as 4, or network.tune: blocks"
            )
        network.set_submodule(name, LowRankLinear(layer, rank, generator))


def merge_low_rank(network: nn.Module) -> None:
    """Put linear layers in the place of all `LowRankLinear` inside `network`, their sums merged.

    What `network` computes stays the same, up to rounding.
    """
    for name, layer in list(network.named_modules()):
        if isinstance(layer, LowRankLinear):
            network.set_submodule(name, layer.merged())


#: Layers whose gradient for one image `classify.network.hooks` knows.
TRAINABLE_LAYERS = (nn.Linear, nn.LayerNorm, TimmLayerNorm, LayerScale)
_WAY_OUT = "leave `network` out (the head alone is then trained), or take a plain ViT"


class TrainedNetwork(nn.Module):
    """What is trained of a network, and a linear head; made by `trained_network`.

    It takes what the backbone's trunk hands on: images where all of the network is trained, or part
    of a convolutional one. The head sees the scaled features, of norm 1, and beside them the
    constant `bias_input`. The network's trained parameters are counted in units of `scale`, a fixed
    change of coordinates: their gradients are `scale` times as long (`units`). The forward pass
    takes `precision` (bfloat16 where the processor has it, unless told otherwise); all else is
    float32.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Tensor,
        *,
        scaling: Scaling | None,
        bias_input: float,
        scale: float,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._take_trained_part(backbone)
        self.head = nn.Linear(head.shape[1], head.shape[0], bias=False)
        self.head.weight.data.copy_(head)
        self._scaling = scaling or plain_scaling(backbone)
        self.bias_input, self.scale = bias_input, scale
        able = has_bfloat16(head.device)
        self.precision = precision or (torch.bfloat16 if able else torch.float32)
        self._features = backbone.top  # a method, so that the frozen trunk is no part of this

    def _take_trained_part(self, backbone: Backbone) -> None:
        """Hold the modules of the backbone whose parameters this moves."""
        self.network = backbone.network

    def forward(self, inputs: Tensor) -> Tensor:
        """What the trunk hands on, (B, ...), to logits (B, T)."""
        with torch.autocast(
            inputs.device.type, dtype=torch.bfloat16, enabled=self.precision == torch.bfloat16
        ):
            raw = self._features(inputs).float()
        raw = raw.detach() + self.scale * (raw - raw.detach())  # the same, its gradient scaled
        scaled = head_input([raw], [self._scaling])
        bias = scaled.new_full((len(scaled), 1), self.bias_input)
        logits: Tensor = self.head(torch.cat([scaled, bias], dim=1))
        return logits

    def units(self) -> Tensor:
        """The unit of each entry of the flat vector, (P,): `scale` for the network, 1 for the head.

        Gradients are with respect to the parameters over their units.
        """
        units = torch.full_like(self.flat(), self.scale)
        units[-self.head.weight.numel() :] = 1
        return units

    def trained(self) -> list[nn.Parameter]:
        """The trained parameters in the order of the flat vector; the head's weight is last."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def flat(self) -> Tensor:
        """All trained parameters, (P,), a copy."""
        return torch.cat([parameter.detach().flatten() for parameter in self.trained()])

    def load_flat(self, flat: Tensor) -> None:
        """Put (P,) parameters in place; how they lie in memory stays."""
        parameters = self.trained()
        parts = flat.split([parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.data.copy_(part.view_as(parameter))


class TrainedTop(TrainedNetwork):
    """The last blocks of a ViT on tokens (B, L, C), and a head; made by `trained_network`."""

    def _take_trained_part(self, backbone: Backbone) -> None:
        assert isinstance(backbone, TransformerBackbone)  # `trained_network` has looked
        blocks = enumerate(block for (block,) in backbone.blocks())  # a ViT's have no downsampling
        tail = [(str(index), block) for index, block in blocks if index >= backbone.cut]
        self.blocks = nn.Sequential(OrderedDict(tail[: backbone.n_used - backbone.cut]))
        if not backbone.settings.layers:
            self.norm, self.fc_norm = backbone.final_norms()


def trained_network(
    backbone: Backbone,
    head: Tensor,
    *,
    scaling: Scaling | None,
    bias_input: float = 0.5,
    scale: float = 1.0,
    precision: torch.dtype | None = None,
    tune: Tune = "blocks",
    lora_rank: int = 4,
    seed: int = 0,
) -> TrainedNetwork:
    """What is trained of any backbone, under a head with weights (T, D + 1).

    The last blocks of a plain ViT are a `TrainedTop`. Of any other network, or all of one, the
    parameters that the backbone opened are trained, but for those that the features don't depend
    on, which are frozen. Before that it is tried on noise whether it keeps images apart.

    Without a `scaling` by public images, features are neither centred nor whitened.
    Freezes in place what `tune` leaves alone. With `lora` the backbone's layers have additions of
    rank `lora_rank`, started from `seed`, until `merge_low_rank`.

    Raises:
        InputError: when a layer couples the images of a batch or draws at random, nothing of the
            backbone is open, a block of a ViT has a layer whose gradients for single images are not
            known here, or there is no matrix for low-rank additions, or one that is too small for
            the rank; names the layer.
    """
    name = backbone.settings.name
    ends_vit = (
        isinstance(backbone, TransformerBackbone) and backbone.is_vit and backbone.cuts_tokens
    )
    if not ends_vit and not backbone.trained_state():
        raise InputError(f"network: nothing of {name} is open to training; set trainable_blocks")
    network = (TrainedTop if ends_vit else TrainedNetwork)(
        backbone, head, scaling=scaling, bias_input=bias_input, scale=scale, precision=precision
    )
    if ends_vit:
        _refuse_unfit_layers(network, name)
    else:
        network.eval()  # what drops at random or keeps figures in training doesn't here
        _refuse_coupling(network, backbone, head.device)
    if tune == "lora":
        _leave_low_rank(network, lora_rank, seed, name)
    if ends_vit:
        network.train()  # Opacus's hooks ask for it; no layer that passed acts otherwise then
    return network


def asked_precision(backbone: Backbone) -> torch.dtype | None:
    """What settings ask for; None for what the hardware has."""
    return torch.float32 if backbone.settings.precision == "float32" else None


def _refuse_coupling(network: TrainedNetwork, backbone: Backbone, device: torch.device) -> None:
    """Refuse a network that may not keep images apart; freeze what its features don't depend on."""
    refuse_coupling_layers(network)
    side = backbone.settings.size_px
    with torch.no_grad():
        shape = tuple(backbone.trunk(torch.zeros(1, 1, side, side, device=device)).shape[1:])
    refuse_coupled_examples(network, shape, what=f"network: {backbone.settings.name}")
    _freeze_unread(network, shape)


def _freeze_unread(network: TrainedNetwork, shape: tuple[int, ...]) -> None:
    """Freeze parameters that the features don't depend on: they would be trained on noise alone."""
    with torch.enable_grad(), reproducible():  # refuses a kernel that gives no bits twice
        features = network._features(torch.zeros(1, *shape, device=network.head.weight.device))
        own = [p for p in network.network.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(features.float().sum(), own, allow_unused=True)
    for parameter, gradient in zip(own, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def _leave_low_rank(network: TrainedNetwork, rank: int, seed: int, name: str) -> None:
    """Train the head and low-rank additions to the linear layers alone."""
    network.requires_grad_(False)
    network.head.requires_grad_(True)
    add_low_rank(network, rank, torch.Generator().manual_seed(seed))
    if not any(isinstance(layer, LowRankLinear) for layer in network.modules()):
        raise InputError(
            f"network.tune is lora, but {name} has no linear layer; set network.tune: blocks"
        )


def _refuse_unfit_layers(top: TrainedNetwork, name: str) -> None:
    """Refuse blocks of a ViT with a layer that `classify.network.hooks` may not take."""
    for layer_name, layer in top.named_modules():
        if layer is not top and (why := _unfit(layer)):
            raise InputError(f"network: the layer {layer_name} of {name} {why}; {_WAY_OUT}")


def _unfit(layer: nn.Module) -> str:
    """Why a layer may not be trained; empty when it may."""
    if isinstance(layer, _BatchNorm):
        return "normalises over the batch, so that one image's gradient holds the others"
    if getattr(layer, "p", 0) or getattr(layer, "drop_prob", 0):
        return "drops at random, which no per-image gradient can repeat"
    owns = any(p.requires_grad for p in layer.parameters(recurse=False))
    if owns and any(True for _ in layer.buffers(recurse=False)):
        return "is trained and has buffers, which Opacus does not support"
    if owns and type(layer) not in TRAINABLE_LAYERS:
        return f"is of a kind ({type(layer).__name__}) whose gradient for one image is not known"
    return ""
