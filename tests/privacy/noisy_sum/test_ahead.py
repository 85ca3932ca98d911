import pytest
import torch

from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.ahead import NoiseAhead
from synthdp.privacy.noisy_sum.lattice import noisy_mean
from synthdp.privacy.noisy_sum.noise import NoiseSource

SOURCE = NoiseSource(bytes(range(32)), "shake256")
MECHANISM = Mechanism(noise_multiplier=2.0, clip_norm=0.5, steps=9, normaliser=10.0)
TOTAL = torch.zeros(70, dtype=torch.float64)


def test_noise_drawn_ahead_is_the_noise_of_its_step() -> None:
    for step in (0, 7):
        with NoiseAhead(SOURCE, MECHANISM, len(TOTAL), step) as ahead:
            ahead.wait()
            released = noisy_mean(TOTAL, MECHANISM, ahead, step)
        assert torch.equal(released, noisy_mean(TOTAL, MECHANISM, SOURCE, step))


def test_what_was_not_asked_for_is_drawn_as_asked() -> None:
    other = MECHANISM.model_copy(update={"noise_multiplier": 1.0})
    with NoiseAhead(SOURCE, MECHANISM, len(TOTAL), 3) as ahead:
        for mechanism, step in ((other, 3), (MECHANISM, 4)):
            released = noisy_mean(TOTAL, mechanism, ahead, step)
            assert torch.equal(released, noisy_mean(TOTAL, mechanism, SOURCE, step))


def test_a_draw_that_fails_ends_the_step() -> None:
    class Broken(NoiseSource):
        def gaussian(self, shape: tuple[int, ...], scale: float, *, stream: int) -> torch.Tensor:
            raise MemoryError

    with NoiseAhead(Broken(bytes(32)), MECHANISM, 3, 0) as ahead, pytest.raises(MemoryError):
        ahead.wait()
