import numpy as np
import pytest

from gan.private.tilting import (
    Groups,
    PoolMoments,
    drawing_chances,
    drawn_candidates,
    effective_size,
    tilted_weights,
    value_targets,
    wiener_targets,
)


def pool_of(count: int, size: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, [1.0, 0.5, 0.5, 0.1][:size], (count, size))


def test_weights_bring_the_mean_to_the_target_and_stay_positive() -> None:
    vectors = pool_of(2000)
    target = np.array([0.5, -0.2, 0.1, 0.0])
    weights = tilted_weights(vectors, target, 1e-6, most=1.0)
    assert weights.sum() == pytest.approx(1)
    assert weights.min() > 0
    assert weights @ vectors == pytest.approx(target, abs=1e-3)


def test_of_all_weights_with_that_mean_they_have_the_most_entropy() -> None:
    vectors = pool_of(60, 2)
    weights = tilted_weights(vectors, np.array([0.3, 0.1]), 1e-9, most=1.0)
    # any move that keeps sum and mean loses entropy
    constraints = np.column_stack([np.ones(60), vectors])
    rng = np.random.default_rng(1)
    for _ in range(20):
        move = rng.normal(size=60)
        move -= constraints @ np.linalg.lstsq(constraints, move, rcond=None)[0]
        other = weights + 1e-4 * weights.min() / np.abs(move).max() * move
        assert -(other * np.log(other)).sum() < -(weights * np.log(weights)).sum() + 1e-12
        slope = -(move * np.log(weights)).sum() / np.linalg.norm(move)
        assert abs(slope) < 1e-4


def test_with_a_bound_the_mean_is_still_the_target() -> None:
    vectors, target = pool_of(400), np.array([0.8, -0.2, 0.1, 0.0])
    free = tilted_weights(vectors, target, 1e-6, most=1.0)
    assert free.max() > 1 / 100
    bounded = tilted_weights(vectors, target, 1e-6, most=1 / 100)
    assert bounded.max() <= 1 / 100 + 1e-6
    assert bounded @ vectors == pytest.approx(target, abs=2e-3)
    assert np.isclose(bounded, 1 / 100, rtol=1e-3).sum() > 3  # at the bound, the others below


def test_a_ridge_keeps_weights_nearer_to_equal_ones() -> None:
    vectors, target = pool_of(500), np.array([1.0, 0.5, 0.0, 0.0])
    sizes = [
        effective_size(tilted_weights(vectors, target, ridge, most=1.0))
        for ridge in (1e-4, 0.3, 1e6)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] == pytest.approx(500, rel=1e-3)
    equal = tilted_weights(vectors, target, np.inf, most=1.0)
    assert equal == pytest.approx(np.full(500, 1 / 500))


def test_each_group_has_its_share_and_the_mean_is_still_the_target() -> None:
    vectors, target = pool_of(900), np.array([0.3, 0.2, -0.1, 0.0])
    of_each = np.arange(900) % 3 % 2  # a third is in the second group
    groups = Groups(of_each, np.array([0.4, 0.6]))
    weights = tilted_weights(vectors, target, 1e-6, most=1 / 200, groups=groups)
    assert weights[of_each == 1].sum() == pytest.approx(0.6)
    assert weights.sum() == pytest.approx(1)
    assert weights.max() <= 1 / 200 + 1e-5
    assert weights @ vectors == pytest.approx(target, abs=2e-3)
    # in a group weights are of the same family as without any
    below = weights < 0.99 / 200
    known = np.column_stack([vectors, of_each == 0, of_each == 1])[below]
    slopes, *_ = np.linalg.lstsq(known, np.log(weights[below]), rcond=None)
    assert below.sum() > 800
    assert np.log(weights[below]) == pytest.approx(known @ slopes, abs=1e-3)
    equal = tilted_weights(vectors, target, np.inf, most=1 / 200, groups=groups)
    assert equal[:3] == pytest.approx([0.4 / 600, 0.6 / 300, 0.4 / 600])


def test_one_group_of_all_is_none_to_the_bit() -> None:
    vectors, target = pool_of(300), np.array([0.4, -0.2, 0.1, 0.0])
    one = Groups(np.zeros(300, np.int64), np.ones(1))
    assert np.array_equal(
        tilted_weights(vectors, target, 1e-4, most=1 / 50),
        tilted_weights(vectors, target, 1e-4, most=1 / 50, groups=one),
    )


def test_a_group_of_as_many_candidates_as_are_kept_gives_all_of_them() -> None:
    vectors, groups = pool_of(120), Groups((np.arange(120) < 10).astype(int), np.array([0.5, 0.5]))
    weights = tilted_weights(vectors, np.full(4, 0.1), 1e-3, most=1 / 20, groups=groups)
    assert weights[:10] == pytest.approx(np.full(10, 1 / 20), rel=1e-3)


def test_targets_are_nearer_to_the_true_means_than_what_was_released() -> None:
    vectors, rng = pool_of(4000), np.random.default_rng(3)
    moments = PoolMoments.of(vectors)
    true = np.array([[0.30, 0.1, -0.1, 0.01], [0.45, 0.2, -0.1, 0.0]])
    apart = np.array([0.2, 0.1, 0.0, 0.0])
    errors, left = [], []
    for _ in range(200):
        noisy = true + 0.1 * rng.normal(size=(2, 4))
        targets = wiener_targets(noisy, np.array([0.1, 0.1]), moments, apart, separation=1)
        errors.append(np.linalg.norm(targets.means - true))
        left.append(np.linalg.norm(noisy - true))
    assert np.mean(errors) < 0.8 * np.mean(left)


def test_without_noise_the_released_means_are_asked_for_exactly() -> None:
    moments = PoolMoments.of(pool_of(500))
    released = np.array([[0.3, 0.0, 0.1, 0.0], [0.5, 0.2, 0.1, 0.1]])
    apart = np.array([0.1, 0.1, 0.0, 0.0])
    targets = wiener_targets(released, np.zeros(2), moments, apart, separation=1)
    assert targets.means == pytest.approx(released)
    assert 0 < targets.ridge < 1e-4
    wider = wiener_targets(released, np.zeros(2), moments, apart, separation=2).means
    assert wider[1] - wider[0] == pytest.approx(2 * (released[1] - released[0]))
    assert wider.mean(axis=0) == pytest.approx(released.mean(axis=0))


def test_noise_alone_leaves_the_pool_and_what_it_knows_of_the_classes() -> None:
    moments, rng = PoolMoments.of(pool_of(500)), np.random.default_rng(0)
    apart = np.array([0.2, 0.0, 0.0, 0.0])
    signs = []
    for _ in range(50):
        noisy = moments.mean + 50 * rng.normal(size=(2, 4))
        targets = wiener_targets(noisy, np.array([50.0, 50.0]), moments, apart, separation=1)
        signs.append(targets.z[0])
    assert abs(np.mean(signs)) < 0.5  # as many standard deviations of the noise as noise gives


def test_chances_sum_to_the_count_and_none_is_above_one() -> None:
    weights = np.array([0.7, 0.1, 0.1, 0.05, 0.05])
    chances = drawing_chances(weights, 3)
    assert chances.sum() == pytest.approx(3)
    assert chances.max() <= 1
    assert chances[0] == 1
    assert chances[1] == pytest.approx(2 * chances[3])


def test_candidates_are_drawn_once_each_as_often_as_their_weights_say() -> None:
    weights = np.arange(1.0, 21)
    weights /= weights.sum()
    counts = np.zeros(20)
    for seed in range(2000):
        drawn = drawn_candidates(weights, 5, np.random.default_rng(seed))
        assert len(set(drawn.tolist())) == 5
        counts[drawn] += 1
    assert counts / 2000 == pytest.approx(drawing_chances(weights, 5), abs=0.04)


def test_as_many_are_drawn_as_are_asked_for_when_few_weigh_anything() -> None:
    weights = np.zeros(50)
    weights[:3] = 1 / 3
    drawn = drawn_candidates(weights, 10, np.random.default_rng(0))
    assert len(drawn) == 10
    assert {0, 1, 2} <= set(drawn.tolist())


def test_differences_of_values_are_found_and_drowned_ones_are_the_pools() -> None:
    """Without noise as they are; with much of it some part of what the pool shows, and no more."""
    rng = np.random.default_rng(0)
    pool = PoolMoments.of(pool_of(400))
    own, true = rng.normal(0, 0.2, (2, 3, 4))
    found = value_targets(true, np.zeros(3), pool, own, separation=2)
    assert found == pytest.approx(2 * true, abs=1e-9)
    none = np.zeros_like(own)
    assert value_targets(true, np.zeros(3), pool, none, separation=1) == pytest.approx(true)
    deviations = np.full(3, 100.0)
    noisy = value_targets(0.5 * own, deviations, pool, own, separation=1)
    assert noisy == pytest.approx(0.5 * own, abs=1e-9)
    least = value_targets(-own, deviations, pool, own, separation=1)
    assert least == pytest.approx(0.125 * own, abs=1e-9)
