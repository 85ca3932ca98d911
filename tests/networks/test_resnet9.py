import subprocess
import sys

import torch
from timm.layers import GroupNorm
from torch import nn

from synthdp.networks.backbone import build_backbone
from synthdp.networks.settings import FeatureSettings


def test_it_is_the_papers_network() -> None:
    network = build_backbone(FeatureSettings(name="resnet9", size_px=64), seed=0).network
    assert 4.85e6 < sum(p.numel() for p in network.parameters()) < 4.95e6
    norms = [layer for layer in network.modules() if isinstance(layer, nn.GroupNorm)]
    assert {type(norm) for norm in norms} == {GroupNorm}
    assert {norm.num_groups for norm in norms} == {32}
    assert [len(getattr(network, f"layer{stage}")) for stage in range(1, 5)] == [1] * 4
    assert [stage["num_chs"] for stage in network.feature_info[1:]] == [64, 128, 256, 512]
    activations = {type(m) for m in network.modules() if "activation" in type(m).__module__}
    assert activations == {nn.Mish}
    assert not any(getattr(layer, "inplace", False) for layer in network.modules())
    # no residual branch begins at zero, as torchvision's doesn't
    assert all(bool((norm.weight == 1).all()) for norm in norms)


def test_images_go_in_as_they_are_and_any_number_of_targets_comes_out() -> None:
    backbone = build_backbone(FeatureSettings(name="resnet9", size_px=64), seed=0)
    images = torch.rand(2, 1, 48, 48) * 2 - 1
    assert torch.allclose(backbone.normalised(images), images.expand(-1, 3, -1, -1), atol=1e-6)
    with torch.no_grad():
        assert backbone(images).shape == (2, 512)
    again = build_backbone(FeatureSettings(name="resnet9", size_px=64), seed=0)
    assert backbone.identity() == again.identity()


def test_it_is_known_by_name_wherever_networks_are_built() -> None:
    code = "import synthdp.networks.frozen, timm; print(timm.is_model('resnet9'))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "True"
