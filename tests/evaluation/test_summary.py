import json
import math

import numpy as np
import pytest
from scipy.special import expit

from synthdp.errors import InputError
from synthdp.evaluation.metrics import METRICS, FloatArray
from synthdp.evaluation.summary import evaluate
from synthdp.evaluation.uncertainty.intervals import patient_bootstrap


def clustered(n_patients: int, seed: int) -> tuple[FloatArray, FloatArray, list[str]]:
    """Two images of each patient, who share their class and most of their score."""
    generator = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), 2)
    labels = generator.integers(0, 2, n_patients)
    own = generator.normal(size=n_patients) + labels
    scores = expit(own[patients] + 0.1 * generator.normal(size=patients.size))
    return labels[patients].astype(float), scores, [f"p{index}" for index in patients]


def test_one_class_gives_null_in_json() -> None:
    summary = evaluate(np.zeros(4), np.linspace(0, 1, 4), list("aabb")).to_json()
    assert summary["auroc"] == {"value": None, "ci_low": None, "ci_high": None}
    assert summary["specificity"]["value"] == 0.5
    assert summary["redraws_left_out"] == summary["redraws"] == 2000
    json.dumps(summary, allow_nan=False)


def test_one_target_has_the_intervals_of_the_bootstrap_by_patient() -> None:
    targets, scores, ids = clustered(25, seed=10)
    targets[0] = math.nan
    result = evaluate(targets, scores, ids, redraws=50, seed=3)
    again = patient_bootstrap(targets, scores, ids, redraws=50, generator=np.random.default_rng(3))
    assert result.metrics == again
    assert result.auroc == again["auroc"]
    assert result.auroc.ci_low < result.auroc.value < result.auroc.ci_high
    summary = result.to_json()
    assert set(METRICS) < set(summary)
    assert (summary["n_images"], summary["n_patients"]) == (49, 25)
    assert summary["n_positive"] == np.nansum(targets)
    assert (summary["threshold"], summary["redraws"], summary["level"]) == (0.5, 50, 0.95)


def test_it_says_in_words_what_it_found() -> None:
    targets, scores, ids = clustered(25, seed=10)
    first, second, *_ = str(evaluate(targets, scores, ids, redraws=50)).splitlines()
    assert first == "50 images of 25 patients"
    assert second.startswith("auroc 0.")


def test_patients_may_be_numbers() -> None:
    targets, scores, ids = clustered(25, seed=10)
    numbers = np.array([int(one[1:]) for one in ids])
    by_number = evaluate(targets, scores, numbers, redraws=50)
    assert by_number.n_patients == 25
    assert by_number.auroc.value == evaluate(targets, scores, ids, redraws=50).auroc.value


def test_summary_of_several_targets() -> None:
    first, scores, ids = clustered(25, seed=11)
    targets = np.stack([first, 1 - first, np.full_like(first, math.nan)], axis=1)
    targets[:4, 1] = math.nan
    result = evaluate(
        targets,
        np.stack([scores, -scores / 2, scores], axis=1),
        ids,
        names=("edema", "effusion", "none known"),
        redraws=100,
    )
    summary = result.to_json()
    edema, effusion, unknown = summary["targets"].values()
    assert summary["macro"]["over"] == ["edema", "effusion"]
    mean = summary["macro"]["auroc"]
    assert mean["value"] == result.auroc.value
    assert mean["value"] == pytest.approx(
        (edema["auroc"]["value"] + effusion["auroc"]["value"]) / 2
    )
    assert mean["ci_low"] <= mean["value"] <= mean["ci_high"]
    assert unknown["auroc"]["value"] is None
    assert (unknown["n_images"], effusion["n_images"], summary["n_images"]) == (0, 46, 50)
    json.dumps(summary, allow_nan=False)


def test_each_target_has_its_own_threshold() -> None:
    targets = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]])
    scores = np.array([[0.1, 0.1], [0.2, 0.6], [0.3, 0.2], [0.4, 0.9]])
    both = {"names": ("a", "b"), "redraws": 10}
    summary = evaluate(targets, scores, list("abcd"), threshold=[0.25, 0.7], **both).to_json()
    assert summary["targets"]["a"]["sensitivity"]["value"] == 1
    assert summary["targets"]["b"]["sensitivity"]["value"] == 0.5
    assert summary["threshold"] == {"a": 0.25, "b": 0.7}
    assert evaluate(targets, scores, list("abcd"), **both).to_json()["threshold"] == 0.5


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="1 of 2 images have a score that is no number"):
        evaluate(np.array([0, 1.0]), np.array([math.nan, 1]), ["a", "b"])
    with pytest.raises(InputError, match="no image has a known target"):
        evaluate(np.array([math.nan]), np.array([1.0]), ["a"])
    with pytest.raises(ValueError, match="2 patients"):
        evaluate(np.array([1.0]), np.array([1.0]), ["a", "b"])
