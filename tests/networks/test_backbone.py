import pytest
import torch
from torch import Tensor

from synthdp.errors import InputError
from synthdp.networks.backbone import Backbone, build_backbone
from synthdp.networks.readout import pooled
from synthdp.networks.settings import FeatureSettings, TrainableBlocks

VIT, SWIN, SWIN2 = "test_vit", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"
SIDES = {VIT: 32, SWIN: 64, SWIN2: 64, "deit_tiny_distilled_patch16_224": 32, "test_vit3": 32}
IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def build(name: str = VIT, blocks: TrainableBlocks = 0, seed: int = 0) -> Backbone:
    settings = FeatureSettings(name=name, size_px=SIDES[name])
    return build_backbone(settings, seed=seed, trainable_blocks=blocks)


def images(side: int, n: int = 2) -> Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.inference_mode()
@pytest.mark.parametrize("name", SIDES)
def test_features_are_those_of_timm_however_the_backbone_is_cut(name: str) -> None:
    batch = images(SIDES[name])
    whole = build(name)
    network = whole.network
    tokens = network.forward_features(((batch + 1) / 2 - whole.mean) / whole.std)
    if name in (SWIN, SWIN2):
        expected = tokens.mean(dim=(1, 2))
    elif network.cls_token is None:
        expected = network.fc_norm(tokens[:, network.num_prefix_tokens :].mean(dim=1))
    else:
        expected = torch.cat([tokens[:, 0], tokens[:, network.num_prefix_tokens :].mean(1)], dim=1)
    assert expected.shape[1] == whole.n_features
    torch.testing.assert_close(whole(batch), expected)
    everywhere = (0, 1, 3, len(whole.blocks()), "all")
    for blocks in everywhere if name == VIT else (3,):
        cut = build(name, blocks)
        torch.testing.assert_close(cut.top(cut.trunk(batch)), expected)
        torch.testing.assert_close(cut(batch), expected)


@torch.inference_mode()
def test_grey_images_are_mapped_to_the_range_of_the_public_weights() -> None:
    backbone = build(SWIN)
    grey = images(64)
    colour = (grey.expand(-1, 3, -1, -1) / 2 + 0.5 - IMAGENET_MEAN) / IMAGENET_STD
    expected = backbone.network.forward_features(colour).mean(dim=(1, 2))
    torch.testing.assert_close(backbone(grey), expected)


def test_only_the_last_blocks_and_the_norm_are_trained() -> None:
    names = {name.split(".")[0] for name in build(blocks=2).trained_state()}
    assert names == {"blocks", "norm"}
    blocks = {name.split(".")[1] for name in build(blocks=2).trained_state() if "blocks" in name}
    assert blocks == {"4", "5"}
    assert not build(blocks=0).trained_state()
    assert len(build(blocks="all").trained_state()) == len(build().network.state_dict())


def test_swin_counts_blocks_over_its_stages() -> None:
    names = build(SWIN, blocks=3).trained_state()
    owners = {".".join(name.split(".")[:4]) for name in names if "blocks" in name}
    assert owners == {"layers.3.blocks.0", "layers.3.blocks.1", "layers.2.blocks.5"}
    others = {".".join(name.split(".")[:3]) for name in names if "blocks" not in name}
    assert others == {"layers.3.downsample", "norm.weight", "norm.bias"}


def test_gradients_reach_what_is_trained_and_nothing_else() -> None:
    backbone = build(blocks=1)
    backbone(images(32)).square().sum().backward()
    moved = {n for n, p in backbone.network.named_parameters() if p.grad is not None}
    assert moved == set(backbone.trained_state())


def test_a_random_start_follows_its_seed_and_moves_no_global_state() -> None:
    before = torch.get_rng_state()
    first, again, other = build(seed=3), build(seed=3), build(seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.identity() == again.identity() != other.identity()


def test_identities_tell_what_they_should_apart() -> None:
    backbone = build(blocks=1)
    whole, trunk = backbone.identity(), backbone.trunk_identity()
    with torch.no_grad():
        backbone.network.norm.weight.mul_(1.5)
    assert backbone.identity() != whole
    assert backbone.trunk_identity() == trunk != build(blocks=2).trunk_identity()
    with torch.no_grad():
        backbone.network.blocks[0].norm1.weight.mul_(1.5)
    assert backbone.trunk_identity() != trunk


def refused(settings: FeatureSettings, blocks: TrainableBlocks = 0) -> str:
    with pytest.raises(InputError) as caught:
        build_backbone(settings, seed=0, trainable_blocks=blocks)
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "vit_tiny_patch16_24", "size_px": 32}, "did you mean vit_tiny_patch16_224"),
        ({"name": "mixer_s16_224", "size_px": 32}, "no plain ViT or Swin"),
        ({"name": VIT, "size_px": 40}, "use 32 or 48"),
    ],
)
def test_what_cannot_be_built_is_refused(settings: dict[str, object], words: str) -> None:
    assert words in refused(FeatureSettings.model_validate(settings))


def test_more_blocks_than_there_are_is_refused() -> None:
    assert "has 6" in refused(FeatureSettings(name=VIT, size_px=32), blocks=7)


def read(**changes: object) -> Backbone:
    values = {"name": VIT, "size_px": 32, "layers": (1, 4), "pools": ("centre", "spread")}
    return build_backbone(FeatureSettings.model_validate({**values, **changes}), seed=0)


@torch.inference_mode()
def test_layers_are_read_as_timm_gives_them_and_no_block_runs_after_the_last() -> None:
    batch = images(32)
    network = read()
    timm_maps = network.network.forward_intermediates(
        ((batch + 1) / 2 - network.mean) / network.std, indices=[1, 4], norm=False
    )[1]
    expected = []
    for one in timm_maps:
        normed = torch.nn.functional.layer_norm(one.permute(0, 2, 3, 1), one.shape[1:2])
        expected += pooled(normed.permute(0, 3, 1, 2), None, ("centre", "spread"))
    assert network.parts == (64,) * 4
    torch.testing.assert_close(network(batch), torch.cat(expected, dim=1), atol=1e-5, rtol=1e-4)
    network.network.blocks[5] = torch.nn.Identity()
    torch.testing.assert_close(network(batch), torch.cat(expected, dim=1), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_features_of_eight_views_do_not_depend_on_how_an_image_is_turned() -> None:
    network, batch = read(views=8), images(32)
    turned = network(torch.rot90(batch, 1, (2, 3)))
    torch.testing.assert_close(turned, network(batch), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(read()(batch), network(batch), atol=1e-3)


@torch.inference_mode()
def test_features_of_four_turns_do_not_depend_on_how_an_image_is_turned() -> None:
    network, batch = read(views=4, view_order="turns"), images(32)
    turned = network(torch.rot90(batch, 1, (2, 3)))
    torch.testing.assert_close(turned, network(batch), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("views", [1, 8])
def test_an_order_of_views_that_says_nothing_is_refused(views: int) -> None:
    with pytest.raises(ValueError, match="set views to 2 or 4"):
        read(views=views, view_order="turns")


@torch.inference_mode()
def test_layers_that_are_read_may_be_trained() -> None:
    settings = read().settings
    cut = build_backbone(settings, seed=0, trainable_blocks=3)
    batch = images(32)
    torch.testing.assert_close(cut.top(cut.trunk(batch)), read()(batch))
    trained = {name.split(".")[1] for name in cut.trained_state()}
    assert trained == {"2", "3", "4"}
    assert "train 3 blocks or more" in refused(settings, blocks=2)
    assert "up to the last layer read" in refused(settings, blocks=6)


@torch.inference_mode()
@pytest.mark.parametrize("name", [SWIN, SWIN2])
def test_stages_of_a_swin_have_their_own_widths(name: str) -> None:
    network = read(name=name, size_px=64, layers=(1, 5), pools=("mean",))
    assert network.parts == (96, 384)
    assert network(images(64)).shape == (2, 480)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext"])
def test_a_convolutional_network_is_read_after_its_stages(name: str) -> None:
    network = read(name=name, size_px=64, layers=(1, 2), pools=("mean", "spread"))
    batch = images(64)
    features = network(batch)
    assert features.shape == (2, network.n_features)
    torch.testing.assert_close(features[1:], network(batch[1:]), atol=1e-5, rtol=1e-4)
    colour = ((batch + 1) / 2 - network.mean) / network.std
    last = read(name=name, size_px=64, layers=(), pools=())(batch)
    torch.testing.assert_close(
        last, network.network.forward_features(colour).mean(dim=(2, 3)), atol=1e-5, rtol=1e-4
    )


def test_maps_whose_channels_stand_last_are_read_as_they_are() -> None:
    settings = FeatureSettings(name="test_mambaout", size_px=64, layers=(0, 1), precision="float32")
    backbone = build_backbone(settings, seed=0)
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    maps: list[Tensor] = []
    for stage in list(backbone.network.stages)[:2]:
        stage.register_forward_hook(lambda _m, _i, output: maps.append(output))
    with torch.inference_mode():
        backbone.network.forward_features(backbone.normalised(images).expand(-1, 3, -1, -1))
        kept = [one.mean(dim=(1, 2)) for one in maps]
        given = backbone(images)
    assert torch.allclose(given, torch.cat(kept, dim=1), atol=1e-5)
    assert backbone.parts == tuple(one.shape[1] for one in kept)


def test_a_convolutional_network_is_not_trained() -> None:
    settings = FeatureSettings(name="test_efficientnet", size_px=64)
    said = refused(settings, blocks=1)
    assert "bn1 normalises over a batch" in said
    assert "plain ViT" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": (1, 9)}, "blocks 0 to 5, not 9"),
        ({"name": "test_efficientnet", "size_px": 64, "layers": (7,)}, "stages 0 to 4"),
        ({"name": SWIN, "size_px": 64, "pools": ("class_token",)}, "has no class token"),
        ({"name": "test_coatnet", "size_px": 32, "layers": ()}, "images of one size alone"),
    ],
)
def test_what_cannot_be_read_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(**changes)


def test_identities_tell_readouts_apart_but_not_what_is_scaled_later() -> None:
    known = read().identity()
    for changes in ({"layers": (1, 3)}, {"views": 8}, {"intensity": "standardised"}):
        assert read(**changes).identity() != known
    assert read(views=4).identity() != read(views=4, view_order="turns").identity()
    assert "view_order" not in FeatureSettings(views=4).model_dump(mode="json")
    assert read(whiten=0.5, weight=2.0).identity() == known
