import torch
from torch import Tensor, nn

from classify.network.added import added_gradients


def test_parts_add_up_to_the_gradient_of_the_weighted_loss() -> None:
    weight, unused = nn.Parameter(torch.tensor([2.0, 3.0])), nn.Parameter(torch.ones(4))
    losses = [((weight**2).sum(), 0.25), ((weight**3).sum(), 0.75)]
    found = added_gradients([weight, unused], losses)
    expected = 0.25 * 2 * weight + 0.75 * 3 * weight**2
    assert torch.allclose(found[0], expected)
    assert torch.equal(found[1], torch.zeros(4))


def test_two_parameters_that_autograd_gives_one_tensor_are_each_added_up_once() -> None:
    one, other = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))

    def loss(factor: float) -> Tensor:
        return (factor * (one + other)).sum()

    found = added_gradients([one, other], [(loss(1.0), 1.0), (loss(2.0), 1.0), (loss(4.0), 1.0)])
    assert all(torch.equal(gradient, torch.full((3,), 7.0)) for gradient in found)
