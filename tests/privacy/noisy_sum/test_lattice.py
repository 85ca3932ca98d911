import math

import pytest
import torch
from torch import Tensor

from synthdp.errors import InputError
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import (
    clip_bound,
    clipped_sum,
    finer_step,
    lattice_step,
    noisy_mean,
    on_lattice,
    release_once,
    whole_vectors,
)
from synthdp.privacy.noisy_sum.noise import NoiseKind, NoiseSource

KEY = bytes(range(32))
KINDS: tuple[NoiseKind, ...] = ("philox", "shake256", "discrete")


def test_the_step_is_a_power_of_two_a_millionth_of_the_clip_norm() -> None:
    for clip_norm in (1.0, 0.7, 0.3, 5.0, 1e-3, 1e4):
        step = lattice_step(clip_norm)
        assert math.frexp(step)[0] == 0.5
        assert 2.0**-21 < step / clip_norm <= 2.0**-20
        for size in (1, 4000, 3_500_000):
            bound = clip_bound(clip_norm, size)
            assert 0.995 * clip_norm < bound
            assert bound + math.sqrt(size) * step <= clip_norm
    with pytest.raises(InputError, match="too long"):
        clip_bound(1.0, 2**41)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sum_gets_the_mechanisms_noise_on_the_lattice_and_the_normaliser(kind: NoiseKind) -> None:
    mechanism = Mechanism(noise_multiplier=2.0, clip_norm=0.5, steps=3, normaliser=10.0)
    source, step = NoiseSource(KEY, kind), lattice_step(0.5)
    total = on_lattice(torch.arange(6).reshape(2, 3) << 40, 0.5)
    noise = source.gaussian((2, 3), 1.0 / step, stream=2).round() * step
    released = noisy_mean(total, mechanism, source, 2)
    assert released.dtype == torch.float32
    assert torch.equal(released, ((total + noise) / 10).float())
    counted = noisy_mean(total, mechanism.model_copy(update={"normaliser": 1.0}), source, 2)
    assert torch.equal((counted.double() / step * 8).round(), counted.double() / step * 8)


def test_without_noise_a_zero_has_no_sign() -> None:
    mechanism = Mechanism(noise_multiplier=0, steps=1, normaliser=3.0)
    released = noisy_mean(torch.tensor([-0.0, 0.0]), mechanism, NoiseSource(KEY, "discrete"), 0)
    assert not released.signbit().any()


def test_noise_beyond_what_integers_hold_is_refused() -> None:
    mechanism = Mechanism(noise_multiplier=1e9, steps=1, normaliser=3.0)
    with pytest.raises(InputError, match=r"raise privacy\.epsilon"):
        noisy_mean(torch.zeros(2), mechanism, NoiseSource(KEY), 0)


@pytest.mark.parametrize("clip_norm", [5e-324, 1e-300, 1e-170, 1e-10, 1e10, 1e300])
def test_clip_norms_where_squares_or_steps_would_not_fit_are_refused(clip_norm: float) -> None:
    rows = torch.full((2, 100), 100 * clip_norm, dtype=torch.float64)
    with pytest.raises(InputError, match="clip norm"):  # 1e-170 was clipped to 1000 times as much
        clipped_sum(rows, clip_norm)


@pytest.mark.parametrize("clip_norm", [1e-9, 1e9])
def test_the_least_and_largest_clip_norm_are_kept(clip_norm: float) -> None:
    for length in (1e-3, 1.0, 1e6):
        row = torch.full((1, 100), clip_norm * length, dtype=torch.float64)
        assert 0 < clipped_sum(row, clip_norm).norm() <= clip_norm


def test_sums_that_wrap_around_release_what_those_that_do_not_would_modulo() -> None:
    mechanism = Mechanism(noise_multiplier=2.0, steps=1, normaliser=1.0)
    source, unit = NoiseSource(KEY), torch.tensor([(1 << 60) + 12345], dtype=torch.int64)

    def released(total: Tensor) -> float:
        return float(noisy_mean(on_lattice(total, 1.0), mechanism, source, 0))

    # 2^63 wraps to its negative: as a true sum it would be released as itself, modulo 2^44 steps
    most = torch.tensor([2**63 - 1], dtype=torch.int64)
    for total in (most - 5 * (1 << 20), most, most + unit, most + unit + unit):
        exact = int(total) % 2**64
        noise = source.gaussian((1,), 2.0 / lattice_step(1.0), stream=0).round()
        steps = ((exact + (1 << 19)) >> 20) + int(noise)
        expected = ((steps + (1 << 43)) % (1 << 44) - (1 << 43)) * lattice_step(1.0)
        assert released(total) == pytest.approx(expected, abs=1)  # float32 of 2^23


def adversarial(case: str, n: int = 20_000, size: int = 60) -> Tensor:
    """Rows as long as they may be, which float32 or float64 sums would round badly."""
    generator = torch.Generator().manual_seed(0)
    if case == "equal":
        return torch.full((n, size), 1.0 / 3)
    if case == "one coordinate":
        return torch.nn.functional.one_hot(torch.zeros(n, dtype=torch.int64), size).float()
    if case == "growing":
        return torch.randn(n, size, generator=generator) * torch.logspace(-9, 9, n).unsqueeze(1)
    return torch.randn(n, size, generator=generator)


@pytest.mark.parametrize("case", ["equal", "one coordinate", "growing", "random"])
@pytest.mark.parametrize("clip_norm", [1.0, 0.3])
def test_a_sum_moves_by_at_most_the_clip_norm_however_many_there_are(
    case: str, clip_norm: float
) -> None:
    rows = adversarial(case)
    whole = clipped_sum(rows, clip_norm)
    for gone in (0, 7, len(rows) - 1):
        others = torch.cat([rows[:gone], rows[gone + 1 :]])
        assert (whole - clipped_sum(others, clip_norm)).norm() <= clip_norm
    assert torch.equal(clipped_sum(rows[torch.randperm(len(rows))], clip_norm), whole)


def test_vectors_come_to_the_lattice_towards_zero() -> None:
    rows = torch.tensor([[0.1, -0.1, 1e-20, -1e-20]], dtype=torch.float64)
    steps = whole_vectors(rows, 1.0).double() * finer_step(1.0)
    assert (steps.abs() <= rows.abs()).all()
    assert torch.allclose(steps, rows, atol=1e-12)


def test_one_release_moves_by_at_most_the_clip_norm_for_each_unit() -> None:
    mechanism = Mechanism(noise_multiplier=1.0, clip_norm=0.5, steps=1, normaliser=10.0)
    rows = torch.randn(12, 7, generator=torch.Generator().manual_seed(0))
    rows[3] = float("nan")
    source = NoiseSource(KEY)
    whole = release_once(rows, mechanism, source)
    for unit in range(len(rows)):
        others = torch.cat([rows[:unit], rows[unit + 1 :]])
        moved = (whole - release_once(others, mechanism, source)) * mechanism.normaliser
        assert moved.norm() <= 0.5 + 1e-5  # float32 of what has left
    nobody = release_once(rows[:0], mechanism, source)
    noise = source.gaussian((7,), 0.5 / lattice_step(0.5), stream=0).round() * lattice_step(0.5)
    assert torch.equal(nobody, (noise / 10).float())
    with pytest.raises(InputError, match="one step"):
        release_once(rows, mechanism.model_copy(update={"steps": 2}), source)
