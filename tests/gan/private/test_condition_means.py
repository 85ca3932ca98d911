from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from gan.package.conditions import Conditions, encode_known
from gan.private.condition_means import ConditionPart, in_blocks, value_means, value_vectors
from gan.private.embedding import patient_vectors, vectors_of_patients
from synthdp.data.dataset import Row
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import release_once
from synthdp.privacy.noisy_sum.noise import NoiseSource

CONSTANT = 0.25
PART = ConditionPart(0.4, (2, 3))


def images_of(count: int, size: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors of norm 1, labels with unknown ones, units of some images each, and codes."""
    rng = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(count, size, generator=rng), dim=1)
    labels = torch.randint(-1, 2, (count,), generator=rng)
    codes = torch.stack([torch.randint(0, n + 1, (count,), generator=rng) for n in (2, 3)], dim=1)
    return vectors, labels, torch.arange(count) // 3, codes


def test_a_row_is_what_a_plain_loop_makes_of_it() -> None:
    vectors, labels, units, codes = images_of(30)
    rows = value_vectors(vectors, labels, units, 10, codes=codes, part=PART)
    assert rows.shape == (10, PART.blocks * 5) == (10, 35)
    for unit in range(10):
        expected = np.zeros((7, 5))
        own = [image for image in range(30) if units[image] == unit]
        for image in own:
            vector = vectors[image].double().numpy() / len(own)
            if labels[image] in (0, 1):
                expected[labels[image]] += np.sqrt(0.6) * vector
            view, density = codes[image].tolist()
            if view:
                expected[2 + view - 1] += np.sqrt(0.2) * vector
            if density:
                expected[4 + density - 1] += np.sqrt(0.2) * vector
        assert rows[unit].numpy() == pytest.approx(expected.ravel(), abs=1e-6)


def test_no_patient_s_row_is_longer_than_one_whatever_the_values() -> None:
    """Of one value, of mixed ones, of the same image many times, of unknown ones."""
    for seed in range(20):
        vectors, labels, units, codes = images_of(30, seed=seed)
        rows = value_vectors(vectors, labels, units, 10, codes=codes, part=PART)
        assert rows.norm(dim=1).max() <= 1 + 1e-6
    one = vectors[:1].repeat(6, 1)
    ones, unit = torch.ones(6, dtype=torch.int64), torch.zeros(6, dtype=torch.int64)
    same = value_vectors(one, ones, unit, 1, codes=torch.ones(6, 2).long(), part=PART)
    assert float(same.norm()) == pytest.approx(1, abs=1e-6)  # the bound is used up
    mixed = value_vectors(
        one, ones, unit, 1, codes=torch.tensor([[1, 1], [2, 2], [1, 3], [2, 1], [1, 2], [2, 3]]),
        part=PART,
    )  # fmt: skip
    assert 0.5 < float(mixed.norm()) < 0.95
    unknown = value_vectors(one, -ones, unit, 1, codes=torch.zeros(6, 2).long(), part=PART)
    assert float(unknown.norm()) == 0


def test_nobody_else_moves_a_bit_of_a_row() -> None:
    vectors, labels, units, codes = images_of(30)
    vectors[4] = torch.nan
    rows = value_vectors(vectors, labels, units, 10, codes=codes, part=PART)
    kept = units != 1
    _, own = torch.unique(units[kept], return_inverse=True)
    fewer = value_vectors(
        vectors[kept], labels[kept], own, 9, codes=codes[kept], part=PART
    )  # fmt: skip
    assert torch.equal(fewer, rows[[0, *range(2, 10)]])
    assert rows[1].isnan().any()


def test_without_a_share_codes_are_not_looked_at() -> None:
    vectors, labels, units, codes = images_of(30)
    plain = patient_vectors(vectors, labels, units, 10)
    for looked_at in (codes, codes[:0]):
        rows = vectors_of_patients(vectors, labels, units, 10, None, codes=looked_at, part=None)
        assert torch.equal(rows, plain)
    by_hand = torch.zeros(30, 2, 5)
    for image in range(30):
        if labels[image] >= 0:
            by_hand[image, labels[image]] = vectors[image]
    assert torch.equal(in_blocks(vectors, labels, 2), by_hand)


def test_values_that_are_on_no_list_are_unknown() -> None:
    known = Conditions(names=("view", "density"), levels=(("CC", "MLO"), ("1", "2")))
    cells = [{"view": "MLO", "density": "4"}, {"view": "", "density": "1"}, {"view": "CC"}]
    rows = [Row(f"{n}.png", "p", "train", (0.0,), one) for n, one in enumerate(cells)]
    assert encode_known(known, rows).tolist() == [[2, 0], [0, 1], [1, 0]]
    assert encode_known(known, []).shape == (0, 2)


def planted(count: int, size: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, one a patient, whose views and densities differ by known vectors, and these."""
    rng = torch.Generator().manual_seed(3)
    views, densities = (torch.randint(0, n, (count,), generator=rng) for n in (2, 3))
    shifts = 0.05 * torch.randn(5, size, generator=rng)
    rest = 0.3 * torch.nn.functional.normalize(torch.randn(count, size, generator=rng), dim=1)
    features = rest + shifts[views] + shifts[2 + densities]
    constants = torch.full((count, 1), CONSTANT)
    codes = torch.stack([1 + views, 1 + densities], dim=1)
    codes[torch.rand(count, generator=rng) < 0.3, 0] = 0  # not everybody's view is known
    codes[codes[:, 1] == 3, 1] = 0  # and one density is on no list
    return torch.cat([constants, features], dim=1), views, codes, shifts


def test_known_differences_are_found_without_noise() -> None:
    vectors, labels, codes, _ = planted(600)
    part = replace(PART, counts=(2, 2))
    rows = value_vectors(vectors, labels, torch.arange(600), 600, codes=codes, part=part)
    found = value_means(rows.mean(dim=0).view(6, -1), None, part, constant=CONSTANT)
    features = vectors[:, 1:]
    for condition, means in enumerate(found):
        assert means.deviations.tolist() == [0, 0]
        for value in (1, 2):
            own = features[codes[:, condition] == value].mean(dim=0) - features.mean(dim=0)
            assert torch.allclose(means.differences[value - 1], own, atol=1e-4)


def test_the_noise_of_a_difference_is_as_large_as_it_says() -> None:
    vectors, labels, codes, _ = planted(600)
    part = replace(PART, share=0.1, counts=(2, 2))  # so that the mean of all has little noise
    rows = value_vectors(vectors, labels, torch.arange(600), 600, codes=codes, part=part)
    mechanism = Mechanism(noise_multiplier=2, steps=1, normaliser=600)
    exact = value_means(rows.mean(dim=0).view(6, -1), None, part, constant=CONSTANT)
    errors = []
    for key in range(40):
        noise = NoiseSource(bytes([key]) * 32)
        released = release_once(rows, mechanism, noise).view(6, -1)
        found = value_means(released, mechanism, part, constant=CONSTANT)
        for means, true in zip(found, exact, strict=True):
            error = means.differences - true.differences
            errors.append(error / means.deviations[:, None])
    assert float(torch.stack(errors[::2]).std()) == pytest.approx(1, abs=0.15)
    assert float(torch.stack(errors[1::2]).std()) == pytest.approx(1, abs=0.15)
    assert part.of_classes(mechanism).noise_multiplier == pytest.approx(2 / 0.9**0.5)
    assert part.of_values(mechanism).noise_multiplier == pytest.approx(2 / 0.05**0.5)


def test_values_that_nobody_has_give_finite_means() -> None:
    vectors, labels, _, _ = planted(20)
    codes = torch.zeros(20, 2, dtype=torch.int64)
    rows = value_vectors(vectors, labels, torch.arange(20), 20, codes=codes, part=PART)
    for released in (rows.mean(dim=0), -rows.mean(dim=0), torch.zeros(rows.shape[1])):
        for means in value_means(released.view(7, -1), None, PART, constant=CONSTANT):
            assert means.differences.isfinite().all()
            assert means.deviations.isfinite().all()
