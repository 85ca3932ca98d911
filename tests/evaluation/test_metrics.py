import math

import numpy as np
import pytest

from synthdp.evaluation.metrics import (
    METRICS,
    all_metrics,
    auprc,
    auprc_benign,
    auroc,
    brier,
    sensitivity,
    specificity,
    specificity_at_sensitivity,
)

TARGETS = np.array([1.0, 1.0, 0.0, 0.0, math.nan])
SCORES = np.array([0.9, 0.4, 0.4, 0.1, 0.7])


def test_by_hand() -> None:
    assert auroc(TARGETS, SCORES) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert auprc(TARGETS, SCORES) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert sensitivity(TARGETS, SCORES) == 0.5
    assert specificity(TARGETS, SCORES) == 1.0
    assert auprc_benign(TARGETS, SCORES) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert specificity_at_sensitivity(TARGETS, SCORES) == 0.5
    assert specificity_at_sensitivity(TARGETS, SCORES, at_sensitivity=0.5) == 1.0
    assert brier(TARGETS, SCORES) == pytest.approx((0.01 + 0.36 + 0.16 + 0.01) / 4)


def test_a_score_at_the_threshold_is_positive() -> None:
    assert sensitivity(TARGETS, SCORES, 0.4) == 1.0
    assert specificity(TARGETS, SCORES, 0.4) == 0.5


@pytest.mark.parametrize("name", list(METRICS))
def test_unknown_targets_are_left_out(name: str) -> None:
    known = slice(0, 4)
    assert all_metrics(TARGETS, SCORES)[name] == all_metrics(TARGETS[known], SCORES[known])[name]


def test_one_class_has_no_ranking() -> None:
    positives, scores = np.ones(3), np.array([0.2, 0.6, 0.7])
    assert math.isnan(auroc(positives, scores))
    assert math.isnan(auprc(positives, scores))
    assert sensitivity(positives, scores) == pytest.approx(2 / 3)
    assert math.isnan(specificity(positives, scores))
    assert math.isnan(sensitivity(1 - positives, scores))
    assert math.isnan(specificity_at_sensitivity(positives, scores))
    assert math.isnan(auprc_benign(positives, scores))
