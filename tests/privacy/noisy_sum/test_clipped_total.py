import pytest
import torch
from torch import Tensor

from synthdp.privacy.noisy_sum.clipped_total import ClippedTotal

CLIP = 0.7
SHAPES = ((4, 3, 5, 5), (6,), (), (2, 3))


def vector(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def total(vectors: list[list[Tensor]], parameters: list[Tensor]) -> Tensor:
    clipped = ClippedTotal(parameters, CLIP)
    for one in vectors:
        clipped.add(one)
    return clipped.total


@pytest.mark.parametrize("weights_last", [False, True], ids=["", "weights channels last"])
@pytest.mark.parametrize("parts", ["shaped", "flat", "channels last", "expanded"])
def test_how_parts_and_weights_lie_in_memory_moves_no_entry(parts: str, weights_last: bool) -> None:
    vectors = [vector(seed) for seed in range(5)]
    for one in vectors:
        one[1] = torch.full((6,), 0.1)
    expected = total(vectors, vector(9))
    parameters = vector(9)
    if weights_last:
        parameters[0] = parameters[0].to(memory_format=torch.channels_last)
    laid = {
        "shaped": lambda one: one,
        "flat": lambda one: [part.flatten() for part in one],
        "channels last": lambda one: [one[0].to(memory_format=torch.channels_last), *one[1:]],
        "expanded": lambda one: [one[0], torch.tensor(0.1).expand(6), *one[2:]],
    }
    found = total([laid[parts](one) for one in vectors], parameters)
    # a norm is added up in another order, so that entries may be cut off one finer step apart
    assert torch.allclose(found, expected, rtol=0, atol=CLIP * 2**-19)
    assert expected.abs().max() > 0.1
