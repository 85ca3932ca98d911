import pytest
import torch

from classify.features.scaling import Scaling, head_input, head_input_alone

PARTS = Scaling(parts=(3, 2), weights=(1.0, 1.0))


def raw(n: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 0.1]])
    first = torch.randn(n, 3, generator=generator) @ mixing
    return torch.cat([first, torch.randn(n, 2, generator=generator)], dim=1) + 5


def test_rows_have_norm_one_and_each_part_the_share_of_its_weight() -> None:
    other = Scaling(parts=(4,), weights=(0.5,))
    inputs = head_input([raw(), torch.randn(50, 4)], [PARTS, other])
    assert inputs.shape == (50, 9)
    torch.testing.assert_close(inputs.norm(dim=1), torch.ones(50))
    share = inputs[:, 5:].square().sum(dim=1)
    torch.testing.assert_close(share, torch.full((50,), 0.25 / 2.25))


def test_a_part_of_zeros_shortens_its_row_and_nothing_lengthens_one() -> None:
    features = raw()
    features[0, :3] = 0
    features[1] *= 1e6
    inputs = head_input([features], [PARTS])
    assert torch.equal(inputs[0, :3], torch.zeros(3))
    torch.testing.assert_close(inputs[0].norm(), torch.tensor(0.5**0.5))
    assert (inputs.norm(dim=1) <= 1 + 1e-6).all()


def test_what_a_public_set_says_is_taken_off() -> None:
    public = raw(2000)
    fitted = PARTS.fitted(public, 0.0)
    assert fitted.centre is not None
    torch.testing.assert_close(fitted.centre, public.mean(dim=0))
    assert not fitted.whitening
    first = fitted.scaled_parts(public)[0]
    assert first.mean(dim=0).norm() < 0.1


def spread_of_directions(features: torch.Tensor) -> float:
    """How much wider the widest direction is than the narrowest."""
    values = torch.linalg.eigvalsh(torch.cov(features.T))
    return float(values[-1] / values[0])


def test_whitening_evens_the_directions_out_by_its_exponent() -> None:
    public = raw(4000)

    def left(exponent: float) -> float:
        fitted = PARTS.fitted(public, exponent)
        assert fitted.centre is not None
        part = (public - fitted.centre)[:, :3]
        return spread_of_directions(part @ fitted.whitening[0])

    before = spread_of_directions(public[:, :3])
    assert before > left(0.5) > left(1.0) > 1
    assert left(1.0) < before / 5


def test_an_image_is_scaled_alike_whoever_stands_beside_it() -> None:
    fitted = PARTS.fitted(raw(500), 0.5)
    together = head_input([raw(50)], [fitted])
    torch.testing.assert_close(together[:5], head_input([raw(50)[:5]], [fitted]))


@pytest.mark.parametrize("whiten", [0.0, 1.0])
def test_a_row_hangs_on_no_other(whiten: float) -> None:
    generator = torch.Generator().manual_seed(0)
    public, features = (torch.randn(n, 384, generator=generator) for n in (200, 102))
    scaling = Scaling((300, 84), (1.0, 0.5)).fitted(public, whiten)
    features[7] = torch.nan
    everybody = head_input_alone([features], [scaling])
    torch.testing.assert_close(everybody, head_input([features], [scaling]), equal_nan=True)
    for some in (torch.arange(1, 102), torch.tensor([101]), torch.arange(98, 102), torch.arange(0)):
        fewer = head_input_alone([features[some]], [scaling])
        assert torch.equal(fewer.nan_to_num(9), everybody[some].nan_to_num(9))
