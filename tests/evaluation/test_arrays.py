"""Figures from plain arrays are those that the stages compute from folders."""

import math
from pathlib import Path

import numpy as np
import pytest

from synthdp.data.dataset import Dataset, Row
from synthdp.data.description import DatasetInfo
from synthdp.errors import InputError
from synthdp.evaluation.arrays import compare, fairness
from synthdp.evaluation.fairness import judge_images
from synthdp.evaluation.predictions import Predictions, ScoredImages
from synthdp.evaluation.settings import FairnessSettings
from synthdp.evaluation.uncertainty.differences import correlated_aurocs, difference

PATIENTS = np.repeat(np.arange(60), 2)


def labels_and_scores(seed: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(120) % 4 // 2
    noise = np.random.default_rng(seed).normal(size=120)
    return labels.astype(float), 1 / (1 + np.exp(-(noise + shift * labels)))


def test_fairness_of_arrays_is_that_of_a_data_set() -> None:
    about = DatasetInfo(name="clinic", kind="real", size_px=32)
    rows = tuple(
        Row(f"{i}.png", f"p{i // 2}", "val", (i % 4 // 2,), {"view": ["CC", "MLO", ""][i % 3]})
        for i in range(120)
    )
    dataset, attribute = Dataset(Path("clinic"), about, rows), "view"
    labels = np.array([row.targets for row in dataset.rows], dtype=float)
    scores = np.random.default_rng(1).random(labels.shape)
    patients = [row.patient_id for row in dataset.rows]
    images = ScoredImages(
        Predictions(
            tuple(row.image for row in dataset.rows),
            tuple(patients),
            dataset.info.targets,
            labels,
            scores[None],
        ),
        [(0.5,)],
        dataset,
        dataset.rows,
    )
    of_stage = judge_images(
        images, FairnessSettings.model_validate({"attributes": [attribute], "redraws": 50})
    )
    cells = [row.attributes[attribute] for row in dataset.rows]
    of_arrays = fairness(labels[:, 0], scores[:, 0], patients, {attribute: cells}, redraws=50)
    assert of_arrays == of_stage
    assert any(figure.value is not None for figure in of_arrays)


def test_numbers_are_cut_into_groups_and_unknown_ones_set_apart() -> None:
    labels, scores = labels_and_scores(0, 1.0)
    age: list[object] = [*np.repeat([40.0, 60.0], 56), *[None, math.nan, "", "", 40, 40, 60, 60]]
    figures = fairness(
        labels, scores, PATIENTS, {"age": age}, cuts={"age": [50]}, redraws=20, target="cancer"
    )
    sizes = {one.group: one.n_images for one in figures if one.measure == "prevalence"}
    assert sizes == {"below 50": 58, "50 and above": 58, "unknown": 4}
    assert {one.target for one in figures} == {"cancer"}
    by_value = fairness(labels, scores, PATIENTS, {"age": age}, redraws=20)
    assert {one.group for one in by_value} == {"40", "60", "unknown", ""}  # "" is all of them


@pytest.mark.parametrize(
    ("attributes", "cuts", "message"),
    [
        ({"id": list(range(120))}, None, "column id holds more than 40 different"),
        ({"age": ["x"] * 120}, {"age": [50]}, "120 cell\\(s\\) of column age are no numbers"),
        ({"age": [1] * 120}, {"agee": [50]}, "agee is no column of attributes \\(age\\)"),
    ],
)
def test_columns_that_make_no_groups_are_refused(
    attributes: dict[str, list[object]], cuts: dict[str, list[float]] | None, message: str
) -> None:
    labels, scores = labels_and_scores(0, 1.0)
    with pytest.raises(InputError, match=message):
        fairness(labels, scores, PATIENTS, attributes, cuts=cuts, redraws=5)


def test_a_column_of_another_length_is_refused() -> None:
    labels, scores = labels_and_scores(0, 1.0)
    with pytest.raises(ValueError, match="age has 3 cells for 120 images"):
        fairness(labels, scores, PATIENTS, {"age": [1, 2, 3]}, redraws=5)


def test_two_models_are_compared_as_the_stages_do() -> None:
    labels, first = labels_and_scores(1, 3.0)
    _, second = labels_and_scores(2, 0.5)
    result = compare(labels, first, second, PATIENTS)
    scores = np.stack([first, second])[:, :, None]
    estimate = difference(correlated_aurocs(labels[:, None], scores, PATIENTS), [0], [1])
    assert result.difference == estimate.interval()
    assert result.p == estimate.p_value()
    assert result.p < 0.01
    assert result.noninferior
    assert result.first.value - result.second.value == pytest.approx(result.difference.value)
    assert str(result).startswith("AUROC 0.9")
    assert not compare(labels, second, first, PATIENTS).noninferior


def test_several_runs_of_a_recipe_add_their_spread_and_unknown_labels_are_left_out() -> None:
    labels, one = labels_and_scores(1, 2.0)
    _, other = labels_and_scores(2, 2.0)
    labels[:8] = math.nan
    runs = compare(labels, np.stack([one, other]), one, PATIENTS)
    single = compare(labels[8:], one[8:], other[8:], PATIENTS[8:])
    assert runs.difference.value == pytest.approx(-single.difference.value / 2)


def test_a_model_beside_itself_differs_by_nothing() -> None:
    labels, scores = labels_and_scores(1, 2.0)
    result = compare(labels, scores, scores, PATIENTS)
    assert (result.difference.value, result.p) == (0, 1)


def test_scores_that_are_no_numbers_are_refused() -> None:
    labels, scores = labels_and_scores(1, 2.0)
    broken = np.where(labels == 1, math.nan, scores)
    with pytest.raises(InputError, match="60 of 120 images"):
        compare(labels, scores, broken, PATIENTS)
    with pytest.raises(InputError, match="60 of 120 images"):
        fairness(labels, broken, PATIENTS, {"view": ["CC"] * 120}, redraws=5)
