"""A classifier asked for scores of arrays, as its command gives them for files."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import random_run, received_run
from PIL import Image

from classify.library.classifier import Classifier
from classify.model.classifier import new_classifier, new_feature_source
from classify.model.folder import save_classifier
from classify.predict import run_predict
from classify.settings.finished import PredictSettings
from synthdp.config.settings import Settings
from synthdp.errors import InputError
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.statement import make_statement
from synthdp.runs.folder import open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_run(tmp_path_factory.mktemp("runs") / "run")


def pictures(kind: type = np.uint8) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    top = np.iinfo(kind).max + 1
    return [rng.integers(0, top, size).astype(kind) for size in ((40, 40), (40, 25), (20, 64))]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_scores_are_those_of_the_command(run: Path, kind: type, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(pictures(kind)):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    out = tmp_path / "scores.csv"
    run_predict(PredictSettings(run=run, images=tmp_path / "images", out=out))
    told = [float(row["score_malignant"]) for row in csv.DictReader(out.open())]
    scores = Classifier.load(run).predict_proba(pictures(kind))
    assert scores.shape == (3, 1)
    assert scores[:, 0].tolist() == pytest.approx(told, rel=1e-6)


def test_a_score_hangs_on_its_own_image_and_on_no_form_of_the_array(run: Path) -> None:
    classifier = Classifier.load(run)
    images = np.random.default_rng(1).integers(0, 256, (20, 32, 32)).astype(np.uint8)
    whole = classifier.predict_proba(images)
    assert np.array_equal(whole[3:4], classifier.predict_proba(images[3:4]))
    assert np.array_equal(whole, classifier.predict_proba(images[:, None]))
    assert np.allclose(whole, classifier.predict_proba(images / 255), atol=0.02)  # bfloat16
    assert np.array_equal(classifier.predict(images), whole >= 0.5)
    assert classifier.predict_proba([]).shape == (0, 1)


def test_noise_is_taken_out_as_the_command_does(tmp_path: Path) -> None:
    settings = FeatureSettings(name="test_vit", size_px=32, denoise="auto")
    plain = new_classifier([new_feature_source(settings, seed=1)], ("malignant",))
    weight = torch.randn(plain.head_weight.shape, generator=torch.Generator().manual_seed(2))
    with open_run(tmp_path / "run", "pretrain", Settings()) as run:
        save_classifier(run.model, plain.with_head(4 * weight, plain.head_bias))
        run.finish(make_statement(Lineage(), subject="classifier"), "card")
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(pictures()):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    out = tmp_path / "scores.csv"
    asked = PredictSettings(run=tmp_path / "run", images=tmp_path / "images", out=out)
    run_predict(asked)
    told = [float(row["score_malignant"]) for row in csv.DictReader(out.open())]
    scores = Classifier.load(tmp_path / "run").predict_proba(pictures())
    assert scores[:, 0].tolist() == pytest.approx(told, rel=1e-6)
    as_they_are = Classifier.load(random_run(tmp_path / "plain")).predict_proba(pictures())
    assert np.abs(scores - as_they_are).max() > 1e-3


def test_a_received_folder_opens_too(run: Path, tmp_path: Path) -> None:
    received = Classifier.load(received_run(run, tmp_path / "received"))
    images = np.zeros((1, 32, 32), np.uint8)
    same = Classifier.load(run).predict_proba(images)
    assert np.array_equal(received.predict_proba(images), same)
    assert received.targets == ("malignant",)
    assert received.thresholds is None
    assert received.statement.epsilon == 0


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((3, 32, 32), np.uint8), "number 0 has shape"),
        (np.zeros(32, np.uint8), "number 0 has shape"),
        (np.full((32, 32), 1.5), r"outside \[0, 1\]"),
        (np.full((32, 32), np.nan), r"outside \[0, 1\]"),
        (np.zeros((32, 32), np.int64), "is of int64"),
    ],
)
def test_images_of_another_form_are_refused(run: Path, image: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Classifier.load(run).predict_proba([image])
