"""ResNet9, the network of two studies of DP on chest radiographs, under timm's name `resnet9`.

From arXiv 2302.01622 and 2306.06503: one basic block in each of four stages of 64, 128, 256 and 512
channels, GroupNorm of 32 groups in place of BatchNorm, so that each image is normalised by itself,
and Mish in place of ReLU. The sum of a block and its shortcut is a new tensor: hooks on layers,
such as those of Opacus, can't bear one that is changed in place. About 4.9 million weights.

timm builds it once this module has been imported, which `synthdp.networks.frozen` does. No public
weights of it exist; it takes images in [-1, 1], as they stand in a data set here.
"""

from functools import partial
from typing import Any

from timm.layers import GroupNorm
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

GROUPS = 32

default_cfgs = generate_default_cfgs(
    {
        "resnet9.untrained": {
            "num_classes": 1000,
            "input_size": (3, 64, 64),
            "pool_size": (2, 2),
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "first_conv": "conv1",
            "classifier": "fc",
        }
    }
)


class ApartBlock(BasicBlock):
    """A basic block whose shortcut is added out of place."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to maps of the block's width and stride."""
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        summed: Tensor = self.act2(inner + shortcut)
        return summed


def _mish(inplace: bool = False) -> nn.Module:
    return nn.Mish()


@register_model
def resnet9(pretrained: bool = False, **options: Any) -> Any:
    """The network, with a random start; `options` as those of timm's `ResNet`."""
    always: dict[str, Any] = {
        "block": ApartBlock,
        "layers": (1, 1, 1, 1),
        "norm_layer": partial(GroupNorm, num_groups=GROUPS),
        "act_layer": _mish,
        "zero_init_last": False,
    }
    return build_model_with_cfg(ResNet, "resnet9", pretrained, **{**always, **options})
