import numpy as np
import pytest

from gan.quality.disclosure import DISCLOSURE, disclosure_words, right_guesses
from synthdp.data.columns import UNKNOWN
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Figure, Value


def drawn(n: int, seed: int, d: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def words(values: np.ndarray) -> np.ndarray:
    return np.array([f"{value}" for value in values], dtype=object)


def test_copies_tell_a_fact_of_their_patients_that_images_do_not_show() -> None:
    """The level is drawn by a coin: only who was copied can be told of."""
    rng = np.random.default_rng(0)
    images, patients = drawn(200, 1), np.arange(200) // 2
    levels = words(np.repeat(rng.integers(0, 2, 100), 2))
    copied = right_guesses(images, levels, patients, images + 0.01 * drawn(200, 2), levels)
    assert copied.nearest.mean() == 1
    assert len(copied.nearest) == 100
    strangers = right_guesses(
        images, levels, patients, drawn(300, 3), words(rng.integers(0, 2, 300))
    )
    assert 0.35 < strangers.nearest.mean() < 0.65


def test_what_images_show_of_anybody_is_told_of_members_and_strangers_alike() -> None:
    """The level is the sign of the first feature, which any set shows that has both."""

    def signs(images: np.ndarray) -> np.ndarray:
        return words((images[:, 0] > 0).astype(int))

    known = drawn(2000, 0, d=2)
    told = [
        right_guesses(of, signs(of), np.arange(300), known, signs(known))
        for of in (drawn(300, 1, d=2), drawn(300, 2, d=2))
    ]
    assert min(one.nearest.mean() for one in told) > 0.9
    assert abs(told[0].nearest.mean() - told[1].nearest.mean()) < 0.05


def test_a_patient_counts_once_and_unknown_levels_are_left_out() -> None:
    known = np.array([[0.0], [1.0], [2.0], [9.0]])
    of_known = np.array(["a", "a", "b", UNKNOWN], dtype=object)
    points = np.array([[0.1], [1.1], [2.1], [2.2], [8.9], [0.0]])
    levels = np.array(["a", "b", "b", "b", "b", UNKNOWN], dtype=object)
    found = right_guesses(points, levels, np.array(list("xxyyzw")), known, of_known)
    assert found.nearest.tolist() == [0.5, 1, 1]  # z is nearest to what nobody knows: then to b
    assert found.commonest.tolist() == [0.5, 0, 0]
    with pytest.raises(InputError, match="fewer than three images"):
        right_guesses(points, levels, np.array(list("xxyyzw")), known[2:], of_known[2:])


def figure(name: str, value: float | None, low: float | None = None) -> Figure:
    high = None if value is None or low is None else 2 * value - low
    return Figure(
        section="Disclosure", measure=f"{DISCLOSURE}, {name}: gain over val patients",
        features="Tiny", comparison="by the nearest image", better="chance",
        synthetic=Value(value=value, n=(20, 20), split="train", ci_low=low, ci_high=high),
    )  # fmt: skip


def test_result_in_words_names_what_is_told() -> None:
    unknown, no, yes = figure("age", None), figure("view", 0.02, -0.05), figure("density", 0.2, 0.1)
    assert disclosure_words([unknown]) == ""
    said = disclosure_words([unknown, no])
    assert said.startswith("None of 1 attacks tells view of train patients better")
    assert "Of age nothing was tried" in said
    assert "1 of 2 attacks" in disclosure_words([no, yes])
    assert "density (Tiny, gain 0.20, 0.10 to 0.30)" in disclosure_words([no, yes])
