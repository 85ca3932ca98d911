import copy

import pytest
import torch
from torch import nn

from classify.network.top import (
    LowRankLinear,
    TrainedTop,
    add_low_rank,
    merge_low_rank,
    trained_network,
)
from synthdp.errors import InputError
from synthdp.networks.backbone import build_backbone
from synthdp.networks.settings import FeatureSettings


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inner = nn.Sequential(nn.Linear(24, 32), nn.GELU(), nn.Linear(32, 24, bias=False))
        frozen = nn.Sequential(nn.LayerNorm(24), inner, nn.Linear(24, 16)).requires_grad_(False)
        return frozen.append(nn.Linear(16, 2))


def inputs() -> torch.Tensor:
    return torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1))


def with_additions(rank: int = 3, seed: int = 0) -> nn.Sequential:
    changed = network()
    add_low_rank(changed, rank, torch.Generator().manual_seed(seed))
    return changed


def test_training_begins_with_the_network_itself_and_no_global_draw() -> None:
    state = torch.get_rng_state()
    changed = with_additions()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(changed(inputs()), network()(inputs()))
    assert sum(isinstance(m, LowRankLinear) for m in changed.modules()) == 3
    trained = {name for name, p in changed.named_parameters() if p.requires_grad}
    factors = {f"{name}.{part}.weight" for name in ("1.0", "1.2", "2") for part in ("down", "up")}
    assert trained == {"3.weight", "3.bias"} | factors


def test_merging_keeps_what_is_computed_and_leaves_plain_layers() -> None:
    changed, before = with_additions(), network().state_dict()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in changed.named_parameters():
        if name.endswith("up.weight"):
            parameter.data.normal_(generator=generator)
    unmerged = copy.deepcopy(changed)
    merge_low_rank(changed)
    assert torch.allclose(changed(inputs()), unmerged(inputs()), atol=1e-5)
    assert (changed(inputs()) - network()(inputs())).abs().max() > 0.1
    assert [type(m) for m in changed.modules()] == [type(m) for m in network().modules()]
    after = changed.state_dict()
    assert after.keys() == before.keys()
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert moved == {"1.0.weight", "1.2.weight", "2.weight"}


def test_a_merged_transformer_scores_as_the_trained_top_from_ordinary_tensors_alone() -> None:
    generator = torch.Generator().manual_seed(2)
    settings = FeatureSettings(name="test_vit", size_px=32)
    backbone = build_backbone(settings, seed=0, trainable_blocks=2)
    images = torch.rand(4, 1, 32, 32, generator=generator) * 2 - 1
    with torch.no_grad():
        tokens, before = backbone.trunk(images), backbone(images)
    head = torch.randn(1, backbone.n_features + 1, generator=generator)
    top = trained_network(backbone, head, scaling=None, precision=torch.float32, tune="lora")
    assert isinstance(top, TrainedTop)
    top.load_flat(top.flat() + 0.1 * torch.randn(top.flat().shape, generator=generator))
    logits = top(tokens)
    merge_low_rank(top)
    assert torch.allclose(top(tokens), logits, atol=1e-4)
    fresh = build_backbone(settings, seed=0, trainable_blocks=2)
    fresh.network.load_state_dict(backbone.own_tensors())
    with torch.no_grad():
        top.blocks, top._features = fresh.network.blocks[-2:], fresh.top
        assert torch.allclose(top(fresh.trunk(images)), logits, atol=1e-4)
        assert (fresh(images) - before).abs().max() > 0.1


def test_the_start_comes_from_the_generator_alone() -> None:
    first, again, other = (with_additions(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["2.down.weight"], other["2.down.weight"])


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_a_gradient_is_as_long_as_that_of_the_whole_matrix_in_mean_square(rank: int) -> None:
    generator = torch.Generator().manual_seed(3)
    x, dy = (torch.randn(1, 8, size, generator=generator) for size in (96, 64))
    whole = dy[0].T @ x[0]
    squares = []
    for seed in range(400):
        layer = LowRankLinear(nn.Linear(96, 64), rank, torch.Generator().manual_seed(seed))
        (found,) = torch.autograd.grad(layer(x), [layer.up.weight], dy)
        squares.append(float(found.square().sum() / whole.square().sum()))
    assert sum(squares) / len(squares) == pytest.approx(1, rel=0.1)


def test_a_rank_that_is_not_low_is_refused_by_layer() -> None:
    with pytest.raises(
        InputError, match=r"lora_rank is 16, but the layer 2 is a matrix of 16 x 24"
    ):
        with_additions(rank=16)
