import numpy as np
import pytest
from scipy.spatial.distance import cdist

from gan.quality.memorisation import (
    Closeness,
    authentic_share,
    closest_pairs,
    near_copies,
    nearest,
)
from synthdp.errors import InputError


def drawn(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def copies_of(images: np.ndarray) -> np.ndarray:
    """Two copies (N, 2, D): the image and its mirror image, here the reversed vector."""
    return np.stack([images, images[:, ::-1]], axis=1)


def closeness(judged: np.ndarray, train: np.ndarray, patients: np.ndarray) -> Closeness:
    between = nearest(train, copies_of(train), patients, own=patients)
    return Closeness("a", nearest(judged, copies_of(train), patients), between.ratio, between)


def by_brute_force(points: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Distances (M, N, 2) of all points to both copies of all images."""
    return cdist(points, copies_of(train).reshape(-1, train.shape[1])).reshape(-1, len(train), 2)


def test_nearest_is_the_least_of_all_distances_and_the_next_patient_the_next() -> None:
    points, train = drawn(300, 7, 0), drawn(40, 7, 1)
    patients = np.arange(40) // 2
    found = nearest(points, copies_of(train), patients)
    each = by_brute_force(points, train)
    assert np.allclose(found.distance, each.min(axis=(1, 2)), rtol=1e-5)
    assert np.array_equal(2 * found.index + found.copy, each.reshape(300, -1).argmin(axis=1))
    of_patients = each.reshape(300, 20, 4).min(axis=2)
    first, second = np.sort(of_patients, axis=1)[:, :2].T
    assert np.allclose(found.ratio, first / second, rtol=1e-5)


def test_nearest_passes_over_the_patients_own_images() -> None:
    train, patients = drawn(30, 5, 0), np.arange(30) // 2
    found = nearest(train, copies_of(train), patients, own=patients)
    assert (patients[found.index] != patients).all()
    each = by_brute_force(train, train).min(axis=2)
    each[patients[:, None] == patients[None, :]] = np.inf
    assert np.allclose(found.distance, each.min(axis=1), rtol=1e-5)


def test_few_patients_are_refused() -> None:
    train = drawn(30, 5, 0)
    nearest(train, copies_of(train), np.arange(30) % 2)
    with pytest.raises(InputError, match="fewer than three patients"):
        nearest(train, copies_of(train), np.zeros(30))
    with pytest.raises(InputError, match="fewer than three patients"):
        nearest(train, copies_of(train), np.arange(30) % 2, own=np.arange(30) % 2)


def test_a_copy_has_no_distance_however_far_out_it_lies() -> None:
    """Squares of large features cancel in float32, so the distance is taken again exactly."""
    train = drawn(50, 8, 0) + 300
    found = nearest(train, copies_of(train), np.arange(50))
    assert max(found.distance.max(), found.ratio.max()) == pytest.approx(0, abs=1e-4)


def test_authenticity_falls_with_copies_and_stays_with_strangers() -> None:
    train, patients = drawn(400, 6, 0), np.arange(400)
    between = nearest(train, copies_of(train), patients, own=patients)

    def share(points: np.ndarray) -> float:
        return authentic_share(nearest(points, copies_of(train), patients), between)

    strangers = share(drawn(400, 6, 1))
    assert 0.4 < strangers < 0.8
    assert share(train[:, ::-1] + 0.01 * drawn(400, 6, 2)) < 0.02
    assert share(drawn(400, 6, 3)) == pytest.approx(strangers, abs=0.1)


@pytest.mark.parametrize("dimension", [3, 12])
def test_ratios_of_strangers_follow_the_law_that_accuses(dimension: int) -> None:
    """Below a chance p lies a share p of strangers, so that a set is accused as seldom as said."""
    train, patients = drawn(2000, dimension, 0), np.arange(2000)
    found = closeness(drawn(4000, dimension, 1), train, patients)
    assert found.dimension == pytest.approx(dimension, rel=0.25)
    for chance in (0.1, 0.01):
        assert (found.log_chance < np.log(chance)).mean() < 2 * chance


def test_planted_copies_are_found_mirrored_and_changed_ones_too() -> None:
    train, patients = drawn(200, 12, 0), np.arange(200) // 2
    planted = np.stack([train[3], train[8][::-1], train[50] + 0.1 * drawn(1, 12, 2)[0]])
    found = closeness(np.concatenate([drawn(100, 12, 1), planted]), train, patients)
    assert near_copies([found]).nonzero()[0].tolist() == [100, 101, 102]
    assert [image for image, _ in closest_pairs([found], patients, 2)] == [100, 101]


def test_strangers_are_seldom_accused_however_large_the_set() -> None:
    train, patients = drawn(300, 8, 0), np.arange(300)
    accused = [
        near_copies([closeness(drawn(1000, 8, seed), train, patients)]).any()
        for seed in range(1, 21)
    ]
    assert sum(accused) <= 2


def test_what_is_close_to_many_patients_is_no_copy() -> None:
    """Smooth images: all lie near the middle, closer to patients than these are to each other."""
    train, patients = drawn(300, 12, 0), np.arange(300)
    middle = closeness(0.2 * drawn(200, 12, 1), train, patients)
    assert np.median(middle.judged.distance) < np.median(middle.between.distance)
    assert not near_copies([middle]).any()


def test_a_copy_in_any_space_is_one() -> None:
    train, patients = drawn(200, 12, 0), np.arange(200)
    strangers = closeness(drawn(5, 12, 1), train, patients)
    copies = closeness(np.concatenate([drawn(4, 12, 2), train[:1]]), train, patients)
    assert near_copies([strangers, copies]).tolist() == [False] * 4 + [True]


def test_two_images_of_a_patient_do_not_hide_a_copy() -> None:
    """Both views resemble the copy; only another patient counts as the next one."""
    first = drawn(100, 10, 0)
    train = np.concatenate([first, first + 0.05 * drawn(100, 10, 1)])
    found = closeness(first[:3] + 0.02, train, np.r_[np.arange(100), np.arange(100)])
    assert near_copies([found]).all()


def test_closest_pairs_show_each_patient_once_from_whatever_space() -> None:
    train = drawn(60, 9, 0)
    patients = np.repeat(np.arange(20), 3)
    judged = np.concatenate([train[:4], drawn(20, 9, 1)])
    spaces = [closeness(drawn(24, 9, 2), train, patients), closeness(judged, train, patients)]
    pairs = closest_pairs(spaces, patients, 8)
    shown = [patients[spaces[space].judged.index[image]] for image, space in pairs]
    assert len(pairs) == len(set(shown)) == 8
    assert {image for image, _ in pairs[:2]} <= {0, 1, 2, 3}
    assert [space for _, space in pairs[:2]] == [1, 1]
