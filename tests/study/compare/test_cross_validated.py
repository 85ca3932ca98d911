"""Scores of folds laid together as those of one model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import clinic_set

from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.metrics import auroc
from synthdp.evaluation.predictions import Predictions
from synthdp.study.compare.cross_validated import pooled_predictions


@pytest.fixture
def folds(tmp_path: Path) -> list[Predictions]:
    """Two models of the clinic's images; the second one's logits are 4 higher and twice as wide."""
    rows = open_dataset(clinic_set(tmp_path / "clinic")).rows
    rng = np.random.default_rng(0)
    made = []
    for number in range(2):
        own = [row for index, row in enumerate(rows) if index % 2 == number][::-1]
        labels = np.array([row.targets for row in own])
        logits = (labels - 0.5 + rng.normal(0, 1, labels.shape)) * (1 + number) + 4 * number
        made.append(
            Predictions(
                tuple(row.image for row in own),
                tuple(row.patient_id for row in own),
                ("malignant",),
                labels,
                (1 / (1 + np.exp(-logits)))[None],
            )
        )
    return made


def test_folds_stand_in_the_order_of_the_manifest_with_their_own_labels(
    folds: list[Predictions], tmp_path: Path
) -> None:
    dataset = open_dataset(tmp_path / "clinic")
    pooled = pooled_predictions(folds, dataset)
    assert pooled.images == tuple(row.image for row in dataset.rows)
    assert pooled.patients == tuple(row.patient_id for row in dataset.rows)
    assert [tuple(row) for row in pooled.labels] == [row.targets for row in dataset.rows]


def test_offset_and_spread_of_a_fold_say_nothing_and_its_order_stays(
    folds: list[Predictions], tmp_path: Path
) -> None:
    dataset = open_dataset(tmp_path / "clinic")
    pooled = pooled_predictions(folds, dataset)
    score = dict(zip(pooled.images, pooled.scores[0, :, 0], strict=True))
    logits = []
    for fold in folds:
        own = np.array([score[image] for image in fold.images])
        assert (np.argsort(own) == np.argsort(fold.scores[0, :, 0])).all()
        logits.append(np.log(own / (1 - own)))
    means, spreads = [one.mean() for one in logits], [one.std() for one in logits]
    assert means[0] == pytest.approx(means[1])
    assert spreads[0] == pytest.approx(spreads[1])
    raw = np.concatenate([fold.scores[0, :, 0] for fold in folds])
    labels = np.concatenate([fold.labels[:, 0] for fold in folds])
    of_folds = [auroc(fold.labels[:, 0], fold.scores[0, :, 0]) for fold in folds]
    assert auroc(pooled.labels[:, 0], pooled.scores[0, :, 0]) > auroc(labels, raw)
    assert abs(auroc(pooled.labels[:, 0], pooled.scores[0, :, 0]) - np.mean(of_folds)) < 0.1


def test_a_model_that_gives_one_score_for_all_is_pooled_too(
    folds: list[Predictions], tmp_path: Path
) -> None:
    flat = replace(folds[0], scores=np.full_like(folds[0].scores, 0.25))
    pooled = pooled_predictions([flat, folds[1]], open_dataset(tmp_path / "clinic"))
    assert np.isfinite(pooled.scores).all()
    own = [score for image, score in zip(pooled.images, pooled.scores[0, :, 0], strict=True)
           if image in flat.images]  # fmt: skip
    assert np.ptp(own) < 1e-12


def test_folds_that_share_images_or_have_other_targets_are_refused(
    folds: list[Predictions], tmp_path: Path
) -> None:
    dataset = open_dataset(tmp_path / "clinic")
    with pytest.raises(InputError, match="folds share an image"):
        pooled_predictions([folds[0], folds[0]], dataset)
    with pytest.raises(InputError, match="other targets"):
        pooled_predictions([folds[0], replace(folds[1], targets=("dense",))], dataset)
