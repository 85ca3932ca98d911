import numpy as np
import pytest

from gan.quality.reading.answers import Answer, Reading
from gan.quality.reading.key import Key, KeyImage, new_codes
from gan.quality.reading.scores import ALL, ReaderFigure, ReaderScores, score_readings, wilson


def key_of(*, per_kind: int = 20, images_per_patient: int = 1, protects: bool = True) -> Key:
    codes = iter(new_codes(2 * per_kind + 1))
    kit = next(codes)
    images = tuple(
        KeyImage(
            code=next(codes),
            kind=kind,
            label=number % 2,
            patient=f"{kind}-{number // images_per_patient}",
            image=f"images/{number}.png",
        )
        for kind in ("real", "synthetic")
        for number in range(per_kind)
    )
    return Key(
        kit=kit, target="malignant", real="clinic", synthetic="made-up",
        protects_patients=protects, size_px=16, images=images,
    )  # fmt: skip


def reading(key: Key, name: str = "A", *, wrong: int = 0, blind: bool = False) -> Reading:
    """A reader who is wrong of the first images of either kind, and rates by label, or by none."""
    answers = {}
    met = {"real": 0, "synthetic": 0}
    for one in key.images:
        met[one.kind] += 1
        is_wrong = met[one.kind] <= wrong
        other = "real" if one.kind == "synthetic" else "synthetic"
        rating = 3 if blind else 2 + 2 * one.label
        answers[one.code] = Answer(other if is_wrong else one.kind, 1 if is_wrong else 3, rating)
    return Reading(name, answers)


def scored(key: Key, *readings: Reading) -> ReaderScores:
    return score_readings(key, readings, redraws=200, seed=0)


def figure(scores: ReaderScores, measure: str, reader: str = "A") -> ReaderFigure:
    return next(f for f in scores.figures if (f.measure, f.reader) == (measure, reader))


def test_shares_have_wilsons_interval() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)
    key = key_of()
    scores = scored(key, reading(key, wrong=5))
    for measure, n in (("accuracy", 40), ("sensitivity", 20), ("specificity", 20)):
        one = figure(scores, measure)
        assert (one.value, one.n, one.interval) == (0.75, n, "wilson")
        assert (one.ci_low, one.ci_high) == wilson(3 * n // 4, n)
    # 15.5 of 21 and 5.5 of 21, z of which is .637 and -.637
    apart = figure(scores, "d_prime")
    assert apart.value == pytest.approx(1.275, abs=1e-3)
    assert 0 < apart.ci_low < apart.value < apart.ci_high
    # three of four are certain and right, the rest guesses: all pairs but those of two guesses
    assert figure(scores, "origin_auroc").value == pytest.approx(15 / 16)
    assert figure(scores, "accuracy_with_target").n == 20


def test_several_images_of_a_patient_are_drawn_together() -> None:
    alone, together = key_of(), key_of(images_per_patient=5)
    widths = []
    for key in (alone, together):
        one = figure(scored(key, reading(key, wrong=10)), "accuracy")
        assert one.value == 0.5
        assert one.ci_low is not None
        assert one.ci_high is not None
        widths.append(one.ci_high - one.ci_low)
    assert widths[1] > 1.5 * widths[0]


def test_ratings_are_held_against_labels_of_real_and_synthetic_apart() -> None:
    key = key_of()
    sees = reading(key)
    flat = {
        one.code: Answer("real", 1, 3 if one.kind == "synthetic" else 1 + 4 * one.label)
        for one in key.images
    }
    scores = scored(key, sees, Reading("B", flat))
    assert figure(scores, "rating_auroc_synthetic").value == 1
    assert figure(scores, "rating_auroc_synthetic", "B").value == 0.5
    assert figure(scores, "rating_auroc_real", "B").value == 1
    difference = figure(scores, "rating_auroc_difference", "B")
    assert (difference.value, difference.ci_high) == (-0.5, -0.5)
    assert figure(scores, "rating_auroc_synthetic", ALL).value == 0.75
    assert figure(scores, "specificity", "B").value == 1
    assert figure(scores, "sensitivity", "B").value == 0


def test_agreement_is_of_each_pair_and_of_all() -> None:
    key = key_of()
    same, other = reading(key, "A", wrong=4), reading(key, "B", wrong=4)
    third = reading(key, "C", blind=True)
    found = {
        (one.readers, one.of, one.kappa): one for one in scored(key, same, other, third).agreement
    }
    assert len(found) == 7
    assert found[("A", "B"), "origin", "cohen"].value == 1
    assert found[("A", "C"), "origin", "cohen"].value == pytest.approx(0.6)
    assert found[("A", "C"), "rating", "cohen"].value == 0  # one of both always says 3
    of_all = found[("A", "B", "C"), "origin", "fleiss"]
    assert of_all.n == 40
    assert 0.6 < of_all.value < 1
    assert of_all.ci_low < of_all.value < of_all.ci_high


def test_missing_answers_are_left_out_and_counted() -> None:
    key = key_of()
    whole = reading(key, wrong=5)
    few = {one.code: whole.answers[one.code] for one in key.images if one.kind == "real"}
    code = next(iter(few))
    few[code] = Answer(few[code].origin, None, None)
    scores = scored(key, Reading("A", few), reading(key, "B"))
    assert scores.missing == {"A": 21, "B": 0}
    assert figure(scores, "accuracy").n == 20
    assert figure(scores, "sensitivity").why == "no answer"
    assert figure(scores, "origin_auroc").value is None
    assert figure(scores, "rating_auroc_real").n == 19
    assert figure(scores, "d_prime").why
    nothing = scored(key, Reading("A", {}))
    assert all(one.value is None and one.why for one in nothing.figures)
    assert "Nobody said" in nothing.findings[0]


def test_result_in_words_says_whose_figures_they_are_and_whether_chance_explains_them() -> None:
    key = key_of()
    sure, guess = scored(key, reading(key)), scored(key, reading(key, wrong=10))
    assert "1.00 [.91, 1.00]" in sure.findings[0]
    assert "below the interval" in sure.findings[0]
    assert "inside the interval, as .65 does" in guess.findings[0]
    assert "outside every promise" in sure.promise
    free = key_of(protects=False)
    assert "no patients" in scored(free, reading(free)).promise


def test_the_same_answers_give_the_same_scores() -> None:
    key = key_of(images_per_patient=2)
    assert scored(key, reading(key, wrong=3)) == scored(key, reading(key, wrong=3))
    assert np.isfinite(figure(scored(key, reading(key, wrong=3)), "accuracy").ci_low)
