import math

import pytest
import torch

from synthdp.privacy.noisy_sum import exact
from synthdp.privacy.noisy_sum.exact import ExactRows, logistic, row_norms

GENERATOR = torch.Generator().manual_seed(0)
ROWS = torch.randn(1000, 37, generator=GENERATOR) * torch.logspace(-30, 30, 1000).unsqueeze(1)


def test_norms_are_those_of_torch_and_each_is_of_its_row_alone() -> None:
    norms = row_norms(ROWS)
    torch.testing.assert_close(norms, torch.linalg.vector_norm(ROWS.double(), dim=1))
    assert torch.equal(torch.cat([row_norms(row) for row in ROWS.split(1)]), norms)
    assert row_norms(torch.zeros(3, 0)).tolist() == [0, 0, 0]
    assert math.isnan(row_norms(torch.tensor([[math.nan, 1.0]]))[0])


def test_the_logistic_function_is_near_torchs() -> None:
    values = torch.linspace(-50, 50, 100_001, dtype=torch.float64)
    assert (logistic(values) - torch.sigmoid(values)).abs().max() < 2e-9
    assert logistic(torch.tensor([math.inf, -math.inf])).tolist() == pytest.approx([1, 0])
    assert math.isnan(logistic(torch.tensor([math.nan]))[0])


def test_rows_are_near_what_they_stand_for_and_never_longer() -> None:
    rows = ExactRows.of(ROWS)
    stands_for = rows.whole.double() * rows.scales.unsqueeze(1)
    largest = ROWS.double().abs().amax(dim=1, keepdim=True)
    assert ((stands_for - ROWS.double()).abs() <= largest * 2.0**-19).all()
    assert (stands_for.abs() <= ROWS.double().abs()).all()
    assert rows.whole.abs().max() < 2**20
    torch.testing.assert_close(rows.norms, row_norms(stands_for))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_is_zero(value: float) -> None:
    rows = ExactRows.of(torch.tensor([[value, 1.0], [0.5, 0.0], [0.0, 0.0]]))
    assert rows.scales[0] == 0
    assert rows.scales[1:].min() > 0
    assert rows.times(torch.ones(1, 2))[:, 0].tolist() == [0, 0.5, 0]


def test_products_and_sums_are_the_same_in_any_order() -> None:
    rows, order = ExactRows.of(ROWS), torch.randperm(len(ROWS))
    weights = torch.randn(3, 37, generator=GENERATOR)
    products = rows.times(weights)
    assert torch.equal(ExactRows.of(ROWS[order]).times(weights), products[order])
    one_by_one = torch.cat([ExactRows.of(row).times(weights) for row in ROWS.split(1)])
    assert torch.equal(one_by_one, products)
    size = (ROWS.double().norm(dim=1, keepdim=True) * weights.double().norm(dim=1)).clamp(min=1e-30)
    assert ((products - ROWS.double() @ weights.double().T).abs() < 1e-5 * size).all()
    parts = products.sign() / ROWS.double().norm(dim=1, keepdim=True)
    total = rows.weighted_sum(parts, 2.0**-20)
    assert torch.equal(rows.some(order > 400).norms, rows.norms[order > 400])
    assert torch.equal(ExactRows.of(ROWS[order]).weighted_sum(parts[order], 2.0**-20), total)
    split = [ExactRows.of(ROWS[s]).weighted_sum(parts[s], 2.0**-20) for s in order.split(7)]
    assert torch.equal(torch.stack(split).sum(dim=0), total)
    near = total.double() * 2.0**-40
    torch.testing.assert_close(near, parts.T @ ROWS.double(), atol=1e-3, rtol=1e-4)
    fused = rows.sum_weighted_by(
        weights, lambda part, z: z.sign() / ROWS[part].double().norm(dim=1, keepdim=True), 2.0**-20
    )
    assert torch.equal(fused, total)


def test_weights_that_are_not_finite_give_no_numbers() -> None:
    rows = ExactRows.of(torch.ones(2, 3))
    products = rows.times(torch.tensor([[1.0, math.inf, 0.0], [1.0, 1.0, 1.0]]))
    assert products[:, 0].isnan().all()
    assert products[:, 1].tolist() == [3, 3]


@pytest.mark.parametrize("at_once", [1, 600 * 37, 2**20])
def test_how_many_rows_are_worked_on_at_once_changes_no_bit(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the largest whole numbers there are: in float64, sums of more than 2^9 of them are rounded
    generator = torch.Generator().manual_seed(2)
    whole = torch.randint(2**20 - 99, 2**20, (1000, 37), generator=generator)
    rows = ExactRows(whole.float(), torch.ones(1000, dtype=torch.float64))
    counts = torch.randint(2**24 - 99, 2**24, (1000, 2), generator=generator)
    exactly = counts.T @ whole
    assert exactly.max() > 2**53
    weights = torch.randn(2, 37, generator=generator)

    monkeypatch.setattr(exact, "_AT_ONCE", at_once)
    assert torch.equal(rows.weighted_sum(counts.double(), 2.0**20), exactly)
    summed = rows.sum_weighted_by(weights, lambda part, _: counts[part].double(), 2.0**20)
    assert torch.equal(summed, exactly)
    one_by_one = [row.times(weights) for row in map(rows.some, torch.arange(1000).split(1))]
    assert torch.equal(rows.times(weights), torch.cat(one_by_one))
