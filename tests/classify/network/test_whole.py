"""Networks trained whole or in part on images: each patient's gradient is its own, and exact."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from made_up import without_patient
from opacus import GradSampleModule
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn
from torch.nn import functional as F

from classify.network import gradients
from classify.network.gradients import PatientGradients, TokenExamples, all_views, weighted_loss
from classify.network.top import TrainedNetwork, TrainedTop, trained_network
from synthdp.errors import InputError
from synthdp.networks.backbone import (
    Backbone,
    ConvolutionalBackbone,
    TransformerBackbone,
    build_backbone,
)
from synthdp.networks.settings import FeatureSettings, TrainableBlocks
from synthdp.privacy.noisy_sum.clipped_total import ClippedTotal
from synthdp.privacy.noisy_sum.lattice import clip_bound, lattice_step

SIDE, CLIP, SAME = 32, 0.5, 1e-5


def image_examples(n_patients: int = 5, *, views: int = 1) -> TokenExamples:
    """Images of patients with one to three, in mixed order, of two targets; some are unknown."""
    generator = torch.Generator().manual_seed(0)
    units = torch.arange(n_patients).repeat_interleave(1 + torch.arange(n_patients) % 3)
    order = torch.randperm(len(units), generator=generator)
    images = torch.rand(len(units), views, 1, SIDE, SIDE, generator=generator) * 2 - 1
    targets = torch.randint(0, 2, (len(units), 2), generator=generator).float()
    targets[::3, 1] = math.nan
    tags = [hashlib.sha256(b"%d" % unit).digest() for unit in range(n_patients)]
    return TokenExamples(images.half().numpy()[order], targets[order], units[order], tags)


def _settings(name: str) -> FeatureSettings:
    return FeatureSettings(name=name, size_px=SIDE, precision="float32")


def _known_to_timm(network: nn.Module) -> nn.Module:
    network.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    return network


def vit(blocks: TrainableBlocks = "all") -> Backbone:
    return build_backbone(_settings("test_vit"), seed=0, trainable_blocks=blocks)


def swin(blocks: TrainableBlocks = "all") -> Backbone:
    network = SwinTransformer(
        img_size=SIDE, patch_size=4, window_size=4, embed_dim=16, depths=(2, 1), num_heads=(2, 2),
        num_classes=0, drop_path_rate=0.0,
    )  # fmt: skip
    return TransformerBackbone(_known_to_timm(network), _settings("swin"), blocks)


def swin_v2(blocks: TrainableBlocks = "all") -> Backbone:
    network = SwinTransformerV2(
        img_size=SIDE, patch_size=4, window_size=4, embed_dim=16, depths=(2, 1), num_heads=(2, 2),
        num_classes=0, drop_path_rate=0.0,
    )  # fmt: skip
    return TransformerBackbone(_known_to_timm(network), _settings("swin_v2"), blocks)


def resnet9(blocks: TrainableBlocks = "all") -> Backbone:
    network = timm.create_model("resnet9", num_classes=0, channels=(32, 64, 128, 256))
    return ConvolutionalBackbone(network, _settings("resnet9"), blocks)


def convnext(blocks: TrainableBlocks = "all") -> Backbone:
    return build_backbone(_settings("test_convnext"), seed=0, trainable_blocks=blocks)


def trained(backbone: Backbone, *, scale: float = 1.0, zero_head: bool = False) -> TrainedNetwork:
    head = torch.randn(2, backbone.n_features + 1, generator=torch.Generator().manual_seed(5))
    return trained_network(
        backbone, head * (not zero_head), scaling=None, scale=scale, precision=torch.float32
    )


def convnet() -> nn.Module:
    """A plain module: convolutions with GroupNorm, of which one stands twice, and a linear head."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        twice = nn.Conv2d(8, 8, 3, padding=1)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.ReLU(), twice, nn.Mish(), twice,
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
        )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: trained(vit()),
    "swin": lambda: trained(swin()),
    "swin, in part": lambda: trained(swin(1)),
    "swin v2": lambda: trained(swin_v2()),
    "resnet9": lambda: trained(resnet9()),
    "resnet9, in part": lambda: trained(resnet9(2)),
    "convnext": lambda: trained(convnext(1)),
    "convnet": convnet,
}


@pytest.fixture(params=[name for name in NETWORKS if "part" not in name])
def network(request: pytest.FixtureRequest) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[request.param]()


def inputs_of(network: nn.Module, data: TokenExamples) -> TokenExamples:
    """The images, or what a frozen trunk gives for them."""
    backbone = getattr(getattr(network, "_features", None), "__self__", None)
    if backbone is None or not backbone.cuts_tokens:
        return data
    images = torch.from_numpy(data.tokens).float()
    with torch.no_grad():
        tokens = backbone.trunk(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    return TokenExamples(tokens.half().numpy(), data.targets, data.units, data.tags)


def vectors(
    network: nn.Module,
    data: TokenExamples,
    patch: pytest.MonkeyPatch,
    *,
    batch: int = 2,
    drawn: list[int] | None = None,
) -> tuple[list[Tensor], Tensor]:
    """Each patient's vector as it goes into the sum, and the sum."""
    kept: list[Tensor] = []

    class Recorded(ClippedTotal):
        def add(self, vector: list[Tensor]) -> None:
            kept.append(torch.cat([part.flatten() for part in vector]))
            super().add(vector)

    patch.setattr(gradients, "ClippedTotal", Recorded)
    patients = torch.arange(len(data.tags)) if drawn is None else torch.tensor(drawn)
    views = all_views(data, patients)
    total = PatientGradients(network).clipped_sum(data, views, clip_norm=CLIP, batch=batch)
    return kept, total


def by_image(network: nn.Module, data: TokenExamples) -> Tensor:
    """Each patient's mean over its images and views of their own gradients, (U, P)."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    rows = torch.zeros(len(data.tags), sum(p.numel() for p in parameters), dtype=torch.float64)
    views = all_views(data, torch.arange(len(data.tags)))
    for number, patient in enumerate(views.patients.tolist()):
        one = slice(number, number + 1)
        loss, _ = weighted_loss(network, data, views, one, torch.ones_like(views.shares))
        found = torch.autograd.grad(loss, parameters)
        rows[patient] += views.shares[number] * torch.cat([g.flatten() for g in found])
    return rows


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_patients_vector_is_the_mean_of_its_images_own_gradients(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[name]()
    data = inputs_of(network, image_examples(views=2))
    expected = by_image(network, data)
    found, total = vectors(network, data, monkeypatch)
    for own, other in zip(found, expected, strict=True):
        assert other.norm() > 0
        assert (own - other).norm() < SAME * other.norm()
    size = expected.shape[1]
    norms = expected.norm(dim=1, keepdim=True)
    clipped = (expected * (clip_bound(CLIP, size) / norms).clamp(max=1)).sum(dim=0)
    rounding = 2 * SAME * CLIP * len(expected) + lattice_step(CLIP) * size**0.5
    assert (total - clipped).norm() < rounding


def test_a_positive_weighs_as_a_public_prior_says(monkeypatch: pytest.MonkeyPatch) -> None:
    network, data = convnet(), image_examples()
    weights = torch.tensor([4.0, 0.5])
    weighed = replace(data, positive_weights=weights)
    parameters = list(network.parameters())
    found, _ = vectors(network, weighed, monkeypatch)
    for patient, own in enumerate(found):
        images = torch.from_numpy(data.tokens[data.units.numpy() == patient][:, 0]).float()
        targets = data.targets[data.units == patient]
        logits, known = network(images), ~torch.isnan(targets)
        positive, negative = F.logsigmoid(logits), F.logsigmoid(-logits)
        filled = targets.nan_to_num()
        losses = -(weights * filled * positive + (1 - filled) * negative)
        mean = losses[known].sum() / len(images)
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(mean, parameters)])
        assert (own - expected).norm() < SAME * expected.norm()


def test_neighbours_differ_by_one_patient_and_by_no_bit_of_the_others(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = image_examples()
    data.tokens[data.units == 3] *= 30
    data.tokens[np.flatnonzero(data.units == 4)[0]] = math.nan
    data = inputs_of(network, data)
    own, whole = vectors(network, data, monkeypatch)
    assert torch.isfinite(whole).all()
    assert not torch.isfinite(own[4]).all()
    moved = []
    for patient in range(len(data.tags)):
        kept, total = vectors(network, without_patient(data, patient), monkeypatch)
        others = [vector for number, vector in enumerate(own) if number != patient]
        pairs = zip(kept, others, strict=True)
        assert all(torch.allclose(a, b, 0, 0, equal_nan=True) for a, b in pairs)
        moved.append(float((whole - total).norm()))
    assert max(moved) <= CLIP
    assert moved[4] == 0  # who is not finite counts as zero, to the last bit
    assert min(moved[:4]) > 0


def test_physical_batches_move_a_vector_by_rounding_and_by_nothing_else(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = inputs_of(network, image_examples(views=2))
    whole, _ = vectors(network, data, monkeypatch, batch=100)
    for batch in (1, 4):
        parts, _ = vectors(network, data, monkeypatch, batch=batch)
        again, _ = vectors(network, data, monkeypatch, batch=batch, drawn=[1, 2, 4])
        assert all((a - b).norm() < SAME * b.norm() for a, b in zip(parts, whole, strict=True))
        chosen = zip(again, (parts[1], parts[2], parts[4]), strict=True)
        assert all(torch.equal(a, b) for a, b in chosen)


def plain_resnet9() -> nn.Module:
    """In the usual order of memory: of channels_last tensors Opacus 1.6 takes wrong gradients."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return timm.create_model("resnet9", num_classes=2, in_chans=1, channels=(32, 64, 128, 256))


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("build", [plain_resnet9, convnet])
def test_where_the_unit_is_an_image_it_is_opacus_gradient(
    build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = image_examples()
    n = len(data.units)
    tags = [hashlib.sha256(b"%d" % unit).digest() for unit in range(n)]
    data = TokenExamples(data.tokens, data.targets.nan_to_num(), torch.arange(n), tags)
    module = build()
    found, _ = vectors(module, data, monkeypatch)
    hooked = GradSampleModule(module, loss_reduction="sum")
    logits = hooked(torch.from_numpy(data.tokens[:, 0]).float())
    F.binary_cross_entropy_with_logits(logits, data.targets, reduction="sum").backward()
    parameters = list(module.parameters())
    for number, own in enumerate(found):
        other = torch.cat([p.grad_sample[number].flatten() for p in parameters])
        assert (own - other).norm() < SAME * other.norm()


def test_a_units_scale_shortens_the_networks_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = image_examples(2)
    plain, scaled = trained(swin()), trained(swin(), scale=0.1)
    scaled.load_flat(plain.flat())
    one, _ = vectors(plain, data, monkeypatch)
    other, _ = vectors(scaled, data, monkeypatch)
    units = scaled.units()
    assert units.unique().tolist() == pytest.approx([0.1, 1.0])
    for a, b in zip(one, other, strict=True):
        assert (a * units - b).norm() < SAME * b.norm()


def test_all_that_is_trained_is_one_vector_the_head_last() -> None:
    whole = trained(resnet9())
    names = [name for name, p in whole.named_parameters() if p.requires_grad]
    assert names[-1] == "head.weight"
    assert "network.conv1.weight" in names
    part = trained(resnet9(2))
    opened = {name for name, p in part.named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in opened - {"head.weight"}} == {"layer3", "layer4"}
    moved = whole.flat() + 1
    whole.load_flat(moved)
    assert torch.equal(whole.flat(), moved)
    assert next(whole.network.layer1.parameters()).is_contiguous(memory_format=torch.channels_last)


def test_the_last_blocks_of_a_plain_vit_are_trained_by_hooks_as_ever() -> None:
    assert isinstance(trained(vit(2)), TrainedTop)
    assert not isinstance(trained(vit()), TrainedTop)


def test_weights_that_no_feature_hangs_on_are_not_trained() -> None:
    settings = FeatureSettings(name="test_vit", size_px=SIDE, layers=(2,), pools=("mean",))
    built = build_backbone(settings, seed=0, trainable_blocks="all")
    opened = {name for name, p in trained(built).named_parameters() if p.requires_grad}
    assert any(name.startswith("network.blocks.2.") for name in opened)
    assert not any(name.startswith(("network.blocks.3.", "network.norm.")) for name in opened)


def test_a_frozen_batch_norm_keeps_its_public_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = FeatureSettings(name="test_resnet", size_px=SIDE)
    with pytest.raises(InputError, match=r"normalises over a batch.*batch_norm: frozen"):
        build_backbone(settings, seed=0, trainable_blocks="all")
    frozen = FeatureSettings(name="test_resnet", size_px=SIDE, batch_norm="frozen")
    network = trained(build_backbone(frozen, seed=0, trainable_blocks="all"))
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    data = image_examples()
    found, _ = vectors(network, data, monkeypatch)
    for own, other in zip(found, by_image(network, data), strict=True):
        assert (own - other).norm() < SAME * other.norm()
    assert before
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())


def test_an_unset_batch_norm_stands_in_no_file_and_changes_no_identity() -> None:
    plain = FeatureSettings(name="test_resnet", size_px=SIDE)
    frozen = FeatureSettings(name="test_resnet", size_px=SIDE, batch_norm="frozen")
    assert "batch_norm" not in plain.model_dump(mode="json")
    assert FeatureSettings.model_validate(frozen.model_dump(mode="json")) == frozen
    one, other = build_backbone(plain, seed=0), build_backbone(frozen, seed=0)
    assert one.identity() == other.identity()
