import numpy as np
import pytest

from gan.quality.membership import attack_by_patient, density_attack, distance_attack


def drawn(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def copies_of(images: np.ndarray) -> np.ndarray:
    """Two copies (N, 2, D): the image and its mirror image, here the reversed vector."""
    return np.stack([images, images[:, ::-1]], axis=1)


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
    assert found.true_positive_rate.value > 0.9
    fresh = attack_by_patient(
        scored(drawn(300, 6, 2)), members, patients, redraws=200, generator=rng
    )
    assert fresh.auc.ci_low < 0.5 < fresh.auc.ci_high
    assert fresh.true_positive_rate.value < 0.15


def test_one_copied_image_gives_its_patient_away() -> None:
    scores = np.array([0.0, 9.0, 1.0, 2.0, 3.0, 4.0])
    patients = np.array(["a", "a", "b", "b", "c", "d"])
    members = np.array([True, True, False, False, False, True])
    found = attack_by_patient(
        scores, members, patients, redraws=100, generator=np.random.default_rng(0)
    )
    assert found.auc.value == 1
    # 1 % of two strangers is none, so a member must beat both
    assert found.true_positive_rate.value == 1


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
    assert found.true_positive_rate.value == 0.5
