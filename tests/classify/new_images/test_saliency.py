"""Predict: the scores of evaluate for any folder of images, which is left as it is."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from classify.features.scaling import plain_scaling
from classify.model.classifier import Classifier, new_feature_source
from classify.new_images.saliency import OneView, draw_saliency, occluded, one_view, saliency_map
from synthdp.networks.settings import FeatureSettings


def patch(side: int = 64) -> np.ndarray:
    """A bright blob in the upper left quarter of a grey field."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    blob = np.exp(-((rows - 0.25) ** 2 + (columns - 0.25) ** 2) / 0.004)
    return (1.6 * blob - 0.8).astype(np.float32)


def brightest(images: np.ndarray) -> np.ndarray:
    """A feature of two parts: how bright the brightest pixel is, and one."""
    top = images.reshape(len(images), -1).max(axis=1)
    return np.stack([top, np.ones_like(top)], axis=1)


def blob_reader(weight: float) -> OneView:
    backbone = FeatureSettings(name="test_vit", size_px=48)
    source = new_feature_source(backbone, seed=0)
    scaling = plain_scaling(_TwoFeatures(backbone))  # type: ignore[arg-type]
    source = type(source)(backbone, scaling)
    head = torch.tensor([[weight, 0.0]])
    return OneView(
        Classifier((source,), ("malignant",), head, torch.zeros(1)), ((backbone, brightest),)
    )


class _TwoFeatures:
    def __init__(self, settings: FeatureSettings) -> None:
        self.settings = settings
        self.parts = (2,)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_hiding_what_the_score_hangs_on_moves_it_most(sign: float) -> None:
    falls = saliency_map(patch(), blob_reader(5 * sign), 9)
    assert falls.shape == (1, 9, 9)
    row, column = np.unravel_index(np.abs(falls[0]).argmax(), (9, 9))
    assert (row, column) == (2, 2)
    assert np.sign(falls[0, 2, 2]) == sign
    assert abs(falls[0, 7, 7]) < 0.02 * abs(falls[0, 2, 2])


def test_regions_are_hidden_softly_and_one_at_a_time() -> None:
    image = patch()
    hidden = occluded(image, 5)
    assert hidden.shape == (25, 64, 64)
    assert hidden.dtype == np.float32
    changed = np.abs(hidden - image).reshape(25, -1).max(axis=1)
    assert changed.argmax() == 6  # row 1, column 1 of 5
    steps = [np.abs(np.diff(one, axis=axis)).max() for one in hidden for axis in (0, 1)]
    assert max(steps) <= 1.1 * max(np.abs(np.diff(image, axis=axis)).max() for axis in (0, 1))
    assert np.abs(occluded(np.full((64, 64), 0.3, np.float32), 5) - 0.3).max() < 1e-6


def test_a_model_of_eight_views_is_read_in_one() -> None:
    source = new_feature_source(FeatureSettings(name="test_vit", size_px=32, views=8), seed=0)
    weight = torch.randn(2, sum(source.scaling.parts), generator=torch.Generator().manual_seed(0))
    model = one_view(Classifier((source,), ("mass", "edema"), weight, torch.zeros(2)))
    assert model.classifier.feature_sources[0].backbone.views == 1
    falls = saliency_map(patch(), model, 3)
    assert falls.shape == (2, 3, 3)
    assert np.isfinite(falls).all()
    assert np.abs(falls).max() > 0


@pytest.mark.parametrize("shape", [(64, 64), (40, 90)])
def test_the_picture_shows_both_signs_and_every_target(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    falls = np.zeros((2, 9, 9), dtype=np.float32)
    falls[0, 2, 2], falls[0, 6, 6] = 1, -1
    picture = Image.open(io.BytesIO(draw_saliency(image, falls, {"mass": 0.8, "edema": 0.1})))
    assert picture.format == "PNG"
    assert picture.width > 600
    assert not picture.text
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    red, blue = pixels[..., 0] - pixels[..., 2], pixels[..., 2] - pixels[..., 0]
    assert (red > 80).sum() > 500
    assert (blue > 80).sum() > 500
    assert draw_saliency(image, falls, {"mass": 0.8, "edema": 0.1}) == draw_saliency(
        image, falls, {"mass": 0.8, "edema": 0.1}
    )
