import pytest
import torch

from synthdp.privacy.noisy_sum.clipping import clip_rows, unit_means

GENERATOR = torch.Generator().manual_seed(0)


def test_unit_means_weigh_every_patient_alike() -> None:
    gradients = torch.tensor([[2.0], [4.0], [10.0]])
    means = unit_means(gradients, torch.tensor([0, 0, 2]), 3)
    assert means.tolist() == [[3.0], [0.0], [10.0]]


def test_long_rows_are_scaled_and_short_ones_left() -> None:
    clipped = clip_rows(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]), 1.0)
    assert clipped[0].tolist() == pytest.approx([0.6, 0.8], rel=1e-5)
    assert clipped[1].tolist() == pytest.approx([0.3, 0.4], rel=1e-5)
    assert clipped[2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_non_finite_row_becomes_zero_and_spoils_no_other(bad: float) -> None:
    clipped = clip_rows(torch.tensor([[bad, 1.0], [0.3, 0.4]]), 1.0)
    assert clipped[0].tolist() == [0.0, 0.0]
    assert torch.isfinite(clipped).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6, 1e30])
def test_removing_a_patient_moves_the_sum_by_at_most_the_clip_norm(scale: float) -> None:
    rows = torch.randn(40, 33, generator=GENERATOR) * scale
    clipped = clip_rows(rows, 0.7)
    for patient in range(len(rows)):
        others = torch.cat([clipped[:patient], clipped[patient + 1 :]])
        moved = (clipped.double().sum(0) - others.double().sum(0)).norm()
        assert moved <= 0.7
