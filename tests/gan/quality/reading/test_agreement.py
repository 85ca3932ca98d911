import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from gan.quality.reading.agreement import cohen_kappa, fleiss_kappa


@pytest.mark.parametrize("graded", [False, True])
def test_cohens_kappa_is_that_of_scikit_learn(graded: bool) -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(1, 6, 60)
    other = np.clip(one + rng.integers(-1, 2, 60), 1, 5)
    weights = np.stack([np.ones(60), rng.integers(0, 3, 60)]).astype(float)
    found = cohen_kappa(one.tolist(), other.tolist(), weights, graded=graded)
    for row, kappa in zip(weights, found, strict=True):
        expected = cohen_kappa_score(
            one, other, weights="quadratic" if graded else None, sample_weight=row
        )
        assert kappa == pytest.approx(expected)


def test_fleiss_kappa_is_that_of_his_paper() -> None:
    """The example of Fleiss (1971) as often printed: 10 subjects, 14 raters, 5 categories, .210."""
    counts = np.array([
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ])  # fmt: skip
    answers = np.stack([np.repeat(np.arange(5), row) for row in counts], axis=1)
    twice = np.stack([np.ones(10), 2 * np.ones(10)])
    assert fleiss_kappa(answers, twice) == pytest.approx([0.210, 0.210], abs=5e-4)


def test_one_answer_to_all_has_no_kappa() -> None:
    weights = np.ones((1, 4))
    assert np.isnan(cohen_kappa([1] * 4, [1] * 4, weights, graded=False)).all()
    assert np.isnan(fleiss_kappa(np.ones((3, 4), dtype=np.intp), weights)).all()
    assert cohen_kappa([0, 1, 0, 1], [1, 0, 1, 0], weights, graded=False) == pytest.approx(-1)
