import numpy as np
import pytest
from scipy.spatial.distance import cdist

from gan.memorisation import (
    Closeness,
    Nearest,
    attack_by_patient,
    authentic_share,
    closest_pairs,
    density_attack,
    distance_attack,
    near_copies,
    nearest,
)
from synthdp.errors import InputError


def drawn(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def copies_of(images: np.ndarray) -> np.ndarray:
    """Two copies (N, 2, D): the image and its mirror image, here the reversed vector."""
    return np.stack([images, images[:, ::-1]], axis=1)


def closeness(
    synthetic: np.ndarray, train: np.ndarray, patients: np.ndarray, space: str = "a"
) -> Closeness:
    return Closeness(
        space,
        nearest(synthetic, copies_of(train)),
        None,
        nearest(train, copies_of(train), own=patients, others=patients),
    )


def test_nearest_is_the_least_of_all_distances() -> None:
    points, train = drawn(300, 7, 0), drawn(40, 7, 1)
    found = nearest(points, copies_of(train))
    each = cdist(points, copies_of(train).reshape(80, 7))
    assert np.allclose(found.distance, each.min(axis=1), rtol=1e-5)
    assert np.array_equal(2 * found.place + found.copy, each.argmin(axis=1))


def test_nearest_passes_over_the_patients_own_images() -> None:
    train, patients = drawn(30, 5, 0), np.arange(30) // 2
    found = nearest(train, copies_of(train), own=patients, others=patients)
    assert (patients[found.place] != patients).all()
    each = np.minimum(cdist(train, train), cdist(train, train[:, ::-1]))
    each[patients[:, None] == patients[None, :]] = np.inf
    assert np.allclose(found.distance, each.min(axis=1), rtol=1e-5)
    with pytest.raises(InputError, match="one patient alone"):
        nearest(train, copies_of(train), own=np.zeros(30), others=np.zeros(30))


def test_a_copy_has_no_distance_however_far_out_it_lies() -> None:
    """Squares of large features cancel in float32, so the distance is taken again exactly."""
    train = drawn(50, 8, 0) + 300
    assert nearest(train, copies_of(train)).distance.max() == pytest.approx(0, abs=1e-4)


def test_authenticity_falls_with_copies_and_stays_with_strangers() -> None:
    train, patients = drawn(400, 6, 0), np.arange(400)
    between = nearest(train, copies_of(train), own=patients, others=patients)

    def share(points: np.ndarray) -> float:
        return authentic_share(nearest(points, copies_of(train)), between)

    strangers = share(drawn(400, 6, 1))
    assert 0.4 < strangers < 0.8
    assert share(train[:, ::-1] + 0.01 * drawn(400, 6, 2)) < 0.02
    assert share(drawn(400, 6, 3)) == pytest.approx(strangers, abs=0.1)


def test_planted_copies_are_found_mirrored_too_and_strangers_are_not() -> None:
    train, patients = drawn(200, 12, 0), np.arange(200) // 2
    planted = np.stack([train[3], train[8][::-1], train[50] + 0.02])
    synthetic = np.concatenate([drawn(100, 12, 1), planted])
    pixels, features = (closeness(synthetic, train, patients, name) for name in ("pixels", "net"))
    assert near_copies(pixels, [features], patients).nonzero()[0].tolist() == [100, 101, 102]
    assert closest_pairs([pixels], patients, 2)[0][0] in (100, 101)


def test_what_is_close_in_one_space_alone_is_no_copy() -> None:
    train, patients = drawn(200, 12, 0), np.arange(200)
    pixels = closeness(train[:5], train, patients, "pixels")
    elsewhere = closeness(train[5:10], train, patients, "net")
    strangers = closeness(drawn(5, 12, 1), train, patients, "net")
    assert pixels.closer_than_patients.all()
    assert not near_copies(pixels, [strangers], patients).any()
    assert not near_copies(pixels, [elsewhere], patients).any()  # copies, but of others
    assert near_copies(pixels, [strangers, pixels], patients).all()


def test_held_out_patients_lower_the_floor() -> None:
    far, close = Nearest(*np.ones((3, 4))), Nearest(*0.5 * np.ones((3, 4)))
    assert Closeness("a", far, None, far).floor == 1
    assert Closeness("a", far, close, far).floor == 0.5


def test_closest_pairs_show_each_patient_once_from_whatever_space() -> None:
    train = drawn(60, 9, 0)
    patients = np.repeat(np.arange(20), 3)
    synthetic = np.concatenate([train[:4], drawn(20, 9, 1)])
    spaces = [closeness(drawn(24, 9, 2), train, patients), closeness(synthetic, train, patients)]
    pairs = closest_pairs(spaces, patients, 8)
    shown = [patients[spaces[space].synthetic.place[image]] for image, space in pairs]
    assert len(pairs) == len(set(shown)) == 8
    assert {image for image, _ in pairs[:2]} <= {0, 1, 2, 3}
    assert [space for _, space in pairs[:2]] == [1, 1]


@pytest.mark.parametrize("attack", ["distance", "density"])
def test_attack_finds_a_set_that_repeats_its_members_and_no_other(attack: str) -> None:
    real = drawn(200, 6, 0)
    patients = np.arange(200) // 2
    members = patients < 60

    def scored(synthetic: np.ndarray) -> np.ndarray:
        if attack == "distance":
            return distance_attack(copies_of(real), synthetic)
        return density_attack(copies_of(real), synthetic, patients)

    rng = np.random.default_rng(0)
    repeats = real[members][:, ::-1] + 0.1 * drawn(120, 6, 1)
    found = attack_by_patient(scored(repeats), members, patients, redraws=200, generator=rng)
    assert found.auc.ci_low > 0.95
    assert found.found.value > 0.9
    fresh = attack_by_patient(
        scored(drawn(300, 6, 2)), members, patients, redraws=200, generator=rng
    )
    assert fresh.auc.ci_low < 0.5 < fresh.auc.ci_high
    assert fresh.found.value < 0.15


def test_one_copied_image_gives_its_patient_away() -> None:
    scores = np.array([0.0, 9.0, 1.0, 2.0, 3.0, 4.0])
    patients = np.array(["a", "a", "b", "b", "c", "d"])
    members = np.array([True, True, False, False, False, True])
    found = attack_by_patient(
        scores, members, patients, redraws=100, generator=np.random.default_rng(0)
    )
    assert found.auc.value == 1
    # 1 % of two strangers is none, so a member must beat both
    assert found.found.value == 1


def test_one_in_a_hundred_strangers_may_be_accused() -> None:
    strangers = np.arange(200.0)  # two may be accused: the threshold is the third highest, 197
    scores = np.r_[[197.0, 197.5, 300.0, 5.0], strangers]
    found = attack_by_patient(
        scores,
        np.arange(204) < 4,
        np.arange(204),
        redraws=100,
        generator=np.random.default_rng(0),
    )
    assert found.found.value == 0.5
