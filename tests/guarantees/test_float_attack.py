"""The attack on floating point: an attacker who knows all but one patient reads the last bits.

What a sum in floating point could have been is a sparse set, and noise that is rounded before it is
added shifts it (Mironov, CCS 2012). So the attacker asks of each coordinate whether what was
released less each candidate for the sum is a value that the noise could have taken. Against sums
and noise in float32 this tells every member from every stranger; on a lattice it tells what the
promise allows and no more.

The likelihood of the noise is left aside, but for one test: what is measured is what last bits add.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import claimed_ledger
from scipy.special import ndtr
from scipy.stats import binom
from torch import Tensor

from classify.head.examples import HeadExamples
from classify.head.train import HeadRecipe, train_private_head
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import clipped_sum, lattice_step, noisy_mean, release_once
from synthdp.privacy.noisy_sum.noise import NoiseKind, NoiseSource

SIZE, OTHERS, TRIALS, DELTA = 1280, 30, 2000, 1e-4
NORMALISER = 64.0
Release = Callable[[Tensor, Mechanism, NoiseSource], Tensor]
KINDS: tuple[NoiseKind, ...] = ("philox", "shake256", "discrete")


def of_epsilon(epsilon: float) -> Mechanism:
    return Mechanism(
        noise_multiplier=1 / gaussian_mu(epsilon, DELTA), steps=1, normaliser=NORMALISER
    )


def patients() -> Tensor:
    """Feature vectors of norm 1 (nonnegative and sparse, as after a ReLU); the last is attacked."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(OTHERS + 1, SIZE, generator=generator).relu()
    return torch.nn.functional.normalize(rows, dim=1) * 0.999


def float32_release(rows: Tensor, mechanism: Mechanism, source: NoiseSource) -> Tensor:
    """How sums were released before: float32, with noise that is rounded to it first."""
    noise = source.gaussian((SIZE,), mechanism.noise_scale, stream=0).float()
    return (rows.sum(dim=0) + noise) / mechanism.normaliser


def explained(released: Tensor, total: Tensor) -> int:
    """In how many coordinates the released value can be `total` and some float32 noise.

    For a float32 noise z the released sum is fl(total + z); the attacker inverts that and asks
    whether the difference, a float32 again, gives the same sum.
    """
    sums = (released.double() * NORMALISER).float()
    total = total.float()
    return int((total + (sums - total) == sums).sum())


def on_any_lattice(released: Tensor, total: Tensor) -> int:
    """In how many coordinates the rest of the division by a lattice's step is that of `total`.

    The attacker knows the step. Where noise is a whole number of steps and sums are not, what is
    released has the sum's own remainder.
    """
    step = lattice_step(1.0)
    rest = released.double() * NORMALISER / step - total.double() / step
    return int(((rest - rest.round()).abs() < 1e-3).sum())


def finer_bits(released: Tensor, total: Tensor) -> int:
    """How many low bits are zero in the released sum less `total`, over all coordinates.

    Noise that was rounded on its own, and is coarser than the sum, leaves a difference with many.
    """
    rest = released.double() * NORMALISER - total.double()
    whole = (rest * 2.0**40).round().to(torch.int64)
    low = whole & -whole
    return int(torch.log2(low.clamp(min=1).double()).sum())


ATTACKS = (explained, on_any_lattice, finer_bits)


def right_guesses(release: Release, epsilon: float, kind: NoiseKind, trials: int) -> list[int]:
    """How often each attack tells whether the last patient took part, by the flip of a coin."""
    rows, mechanism = patients(), of_epsilon(epsilon)
    generator = np.random.default_rng(1)
    sums = {member: rows[: OTHERS + member].sum(dim=0) for member in (False, True)}
    right = [0] * len(ATTACKS)
    for _ in range(trials):
        member = bool(generator.random() < 0.5)
        source = NoiseSource(generator.bytes(32), kind)
        released = release(rows[: OTHERS + member], mechanism, source)
        coin = bool(generator.random() < 0.5)
        for index, attack in enumerate(ATTACKS):
            inside, outside = attack(released, sums[True]), attack(released, sums[False])
            right[index] += member == (inside > outside if inside != outside else coin)
    return right


def within_promise(right: int, trials: int, epsilon: float) -> bool:
    """Whether so many guesses are right by chance, where each is with at most the promised one."""
    most = float(ndtr(gaussian_mu(epsilon, DELTA) / 2))
    return float(binom.sf(right - 1, trials, most)) > 1e-4


def test_the_attack_tells_every_member_from_float32_sums() -> None:
    for epsilon in (0.1, 1.0):
        assert max(right_guesses(float32_release, epsilon, "philox", 100)) >= 95


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_on_the_lattice_it_tells_no_more_than_is_promised(epsilon: float, kind: NoiseKind) -> None:
    trials = TRIALS if kind == "philox" else TRIALS // 10
    found = right_guesses(release_once, epsilon, kind, trials)
    print(f"epsilon {epsilon:g}, {kind}: {found} of {trials} right")
    assert all(within_promise(right, trials, epsilon) for right in found)


def class_means(folder: Path, examples: HeadExamples, mechanism: Mechanism, key: bytes) -> Tensor:
    """A released head that is the difference of the classes' noisy sums."""
    return train_private_head(
        torch.zeros(1, SIZE),
        examples,
        HeadRecipe(steps=1, lr=-2 * NORMALISER, average_from=1.0, block_steps=1),
        ledger=claimed_ledger(folder, mechanism, block_steps=1),
        noise_source=NoiseSource(key, "shake256"),
        checkpoints=folder / "checkpoints",
    )[0]


def test_a_released_head_tells_no_more_either(tmp_path: Path) -> None:
    rows, mechanism, trials = patients(), of_epsilon(1.0), 60
    generator, right = np.random.default_rng(2), [0] * len(ATTACKS)
    signs = 2.0 * (torch.arange(OTHERS + 1) % 2) - 1
    # the head's gradient is -sign / 2 times the input; lr undoes the half and the normaliser
    known = {m: (signs[:, None] * rows)[: OTHERS + m].sum(dim=0) for m in (False, True)}
    for trial in range(trials):
        member = bool(generator.random() < 0.5)
        n = OTHERS + member
        examples = HeadExamples(
            rows[:n], (signs[:n, None] > 0).float(), torch.arange(n), loss="class_means"
        )
        head = class_means(tmp_path / f"{trial}", examples, mechanism, generator.bytes(32))
        coin = bool(generator.random() < 0.5)
        for index, attack in enumerate(ATTACKS):
            inside, outside = (attack(head / NORMALISER, known[m]) for m in (True, False))
            right[index] += member == (inside > outside if inside != outside else coin)
    assert all(within_promise(found, trials, 1.0) for found in right)


def test_what_is_released_is_a_whole_number_of_public_steps() -> None:
    mechanism, source = of_epsilon(1.0).model_copy(update={"normaliser": 1.0}), NoiseSource(b"k")
    total = clipped_sum(patients(), 1.0)
    for step in range(20):
        steps = noisy_mean(total, mechanism, source, step).double() / lattice_step(1.0)
        large = steps.abs() >= 2**24  # float32 has dropped bits of what is public by then
        assert torch.equal(steps[~large], steps[~large].round())


@pytest.mark.parametrize("case", ["equal", "one coordinate", "random"])
def test_the_largest_move_at_112_000_patients_is_below_the_clip_norm(case: str) -> None:
    n, size = 112_000, 16
    rows = {
        "equal": torch.rand(size, generator=torch.Generator().manual_seed(1)).repeat(n, 1),
        "one coordinate": torch.eye(1, size).repeat(n, 1),
        "random": torch.randn(n, size, generator=torch.Generator().manual_seed(0)),
    }[case]
    whole = clipped_sum(rows, 1.0)
    moves = [
        float((whole - clipped_sum(torch.cat([rows[:u], rows[u + 1 :]]), 1.0)).norm())
        for u in (0, n // 2, n - 1)
    ]
    before = rows / rows.norm(dim=1, keepdim=True).clamp(min=1)
    ones = torch.ones(1, n)  # as one product, which is how heads were summed
    floats = float((ones @ before - ones[:, 1:] @ before[1:]).norm())
    print(f"{case}: moved by {max(moves):.7f} of the clip norm; in float32 by {floats:.4f}")
    assert 0.999 < max(moves) <= 1
