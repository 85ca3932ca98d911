import os
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.data.views.augment import RandomViews, augment_views
from synthdp.data.views.augmentation import Augmentation


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


STILL = {"rotate": 0, "shift": 0, "scale": 0, "contrast": 0, "brightness": 0}


def test_a_random_view_is_a_function_of_image_and_name(images: NDArray[np.float32]) -> None:
    draw = RandomViews(Augmentation(flip=True))
    first, other = (draw.view(images[0, 0], name) for name in (b"a", b"b"))
    np.random.seed(3)
    assert np.array_equal(first, RandomViews(Augmentation(flip=True)).view(images[0, 0], b"a"))
    assert (first.shape, first.dtype) == ((32, 32), np.float32)
    assert np.abs(first - other).max() > 0.01
    assert np.abs(first).max() <= 1


def of_names(settings: Augmentation, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    draw = RandomViews(settings)
    return [draw.view(image, b"%d" % number) for number in range(40)]


def test_nothing_is_flipped_unless_it_is_asked_for(images: NDArray[np.float32]) -> None:
    image = images[0, 0]
    for view in of_names(Augmentation(**STILL), image):
        assert np.allclose(view, image, atol=1e-6)
    flipped = [
        np.allclose(view, image[:, ::-1], atol=1e-6)
        for view in of_names(Augmentation(flip=True, **STILL), image)
    ]
    assert 8 < sum(flipped) < 32
    turned = {view.tobytes() for view in of_names(Augmentation(turns=True, **STILL), image)}
    assert len(turned) == 8
    # the brighter side of a radiograph stays where it is
    for view in of_names(Augmentation(), image):
        assert view[:, 16:].mean() > view[:, :16].mean()


def test_moves_keep_their_bounds(images: NDArray[np.float32]) -> None:
    ramp = np.broadcast_to(np.linspace(-1, 1, 32, dtype=np.float32), (32, 32)).copy()
    moved = of_names(Augmentation(**{**STILL, "shift": 0.1}), ramp)
    middles = [float(view[:, 16].mean() - ramp[:, 16].mean()) for view in moved]
    assert 0.1 < max(np.abs(middles)) <= 0.1 * 2 + 0.07
    brighter = of_names(Augmentation(**{**STILL, "brightness": 0.2}), 0 * ramp)
    assert 0.2 < max(abs(float(view.mean())) for view in brighter) <= 0.41
