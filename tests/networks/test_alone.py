from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

from synthdp.networks.alone import BATCH, Alone


def by_place(rows: Tensor) -> Tensor:
    """A kernel that rounds otherwise at each place."""
    return rows * (1 + 1e-6 * torch.arange(len(rows)).unsqueeze(1))


def by_neighbour(rows: Tensor) -> Tensor:
    """A kernel that lets what stands before a row decide of its last bits."""
    return rows + 1e-6 * rows.roll(1, dims=0)


def by_shape(rows: Tensor) -> Tensor:
    """A kernel that rounds otherwise for each number of rows."""
    return rows * (1 + 1e-6 * len(rows))


@pytest.mark.parametrize("function", [by_place, by_neighbour, by_shape])
@pytest.mark.parametrize("count", [1, BATCH, 2 * BATCH + 5])
def test_a_rows_result_does_not_depend_on_who_else_is_there(
    function: Callable[[Tensor], Tensor], count: int
) -> None:
    rows = torch.randn(count, 7, generator=torch.Generator().manual_seed(0))
    whole = Alone(function)(rows)
    for gone in range(count):
        others = torch.arange(count) != gone
        assert torch.equal(Alone(function)(rows[others]), whole[others])


def test_rows_that_get_the_same_at_every_place_are_taken_together() -> None:
    seen = []

    def counted(rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return rows * 2

    alone = Alone(counted)
    rows = torch.ones(2 * BATCH + 1, 64)
    assert torch.equal(alone(rows), 2 * rows)
    assert seen == [BATCH] * (2 + 3)  # two that look at the kernels
    alone(rows[:1])
    assert len(seen) == 6


def test_of_no_rows_the_shape_is_known() -> None:
    assert Alone(lambda rows: rows[:, :2])(torch.ones(0, 5)).shape == (0, 2)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("batch", "columns"), [(1, 1), (1, 3), (BATCH, 384)])
def test_products_of_this_machine_are_the_same_for_each_row(
    batch: int, threads: int, columns: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(37, 384, generator=generator)
    weights = torch.randn(384, columns, generator=generator)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        alone = Alone(lambda part: torch.sigmoid(part @ weights), batch)
        whole = alone(rows)
        for gone in (0, 36):
            others = torch.arange(37) != gone
            assert torch.equal(alone(rows[others]), whole[others])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("rows", "shown"), [(BATCH, []), (BATCH + 1, ["images by the network"])])
def test_one_batch_has_no_progress_of_its_own(
    rows: int, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def progress(items: Iterable[Tensor], *, what: str) -> Iterable[Tensor]:
        told.append(what)
        return items

    monkeypatch.setattr("synthdp.networks.alone.progress", progress)
    Alone(lambda part: part * 2)(torch.ones(rows, 3))
    assert told == shown
