import os
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.data.augment import augment_views


@pytest.fixture
def images() -> NDArray[np.float32]:
    ramp = np.linspace(-1, 1, 32, dtype=np.float32)
    rng = np.random.default_rng(0)
    noise = rng.uniform(-0.3, 0.3, (6, 1, 32, 32)).astype(np.float32)
    return np.clip(noise + 0.5 * ramp, -1, 1).astype(np.float32)


def test_shapes_ranges_and_the_first_view(images: NDArray[np.float32]) -> None:
    views = augment_views(images, views=4, seed=0)
    assert (views.shape, views.dtype) == ((6, 4, 1, 32, 32), np.float32)
    assert np.array_equal(views[:, 0], images)
    assert views.min() >= -1
    assert views.max() <= 1
    assert np.array_equal(augment_views(images, views=1, seed=0), images[:, None])


def test_views_differ_from_each_other_and_between_images(images: NDArray[np.float32]) -> None:
    views = augment_views(images, views=4, seed=0)
    flat = views.reshape(6, 4, -1)
    for one in range(4):
        for other in range(one):
            assert np.abs(flat[:, one] - flat[:, other]).max(axis=1).min() > 0.01
    assert abs(float(views.mean() - images.mean())) < 0.1


def test_the_seed_alone_moves_the_views(images: NDArray[np.float32]) -> None:
    first = augment_views(images, views=3, seed=7)
    np.random.seed(1)
    random.seed(1)
    assert np.array_equal(first, augment_views(images, views=3, seed=7))
    assert not np.array_equal(first[:, 1:], augment_views(images, views=3, seed=8)[:, 1:])


def test_a_patient_more_or_less_changes_nobody_elses_views(images: NDArray[np.float32]) -> None:
    views = augment_views(images, views=3, seed=7)
    without = np.delete(images, [0, 3], axis=0)
    assert np.array_equal(augment_views(without, views=3, seed=7), np.delete(views, [0, 3], axis=0))


def test_no_question_to_the_network() -> None:
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"


def test_no_images(images: NDArray[np.float32]) -> None:
    assert augment_views(images[:0], views=3, seed=0).shape == (0, 3, 1, 32, 32)
