import torch
from torch import nn

from synthdp.machine.devices import reproducible


def test_a_table_of_positions_has_the_same_gradient_in_every_run_on_two_threads() -> None:
    # some 60,000 entries are summed into 169 x 24: by default in the order in which threads come
    table = nn.Parameter(torch.randn(169, 24, generator=torch.Generator().manual_seed(0)))
    places = torch.arange(49 * 49) % 169
    weights = torch.randn(len(places), 24, generator=torch.Generator().manual_seed(1))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with reproducible():
            found = [
                torch.autograd.grad((table[places] * weights).sum(), table)[0] for _ in range(30)
            ]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[0], other) for other in found[1:])
    assert not torch.are_deterministic_algorithms_enabled()
