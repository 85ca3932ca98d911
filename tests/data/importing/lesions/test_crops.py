import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.data.importing.lesions.crops import Square, crops, cut, mask_region, squares_around
from synthdp.data.importing.lesions.region import Region
from synthdp.data.importing.settings.lesions import CropSettings
from synthdp.errors import InputError


def crop(**changes: object) -> CropSettings:
    return CropSettings.model_validate({"margin_px": 0, "least_side_px": 8, **changes})


@pytest.fixture(scope="module")
def mammogram() -> NDArray[np.uint16]:
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 60000, (60, 40)).astype(np.float32)
    smooth = cv2.resize(coarse, (800, 1200), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 500, smooth.shape), 200, 61000).astype(np.uint16)


def test_the_recipe_of_the_paper_s_patches_is_followed(mammogram: NDArray[np.uint16]) -> None:
    # As notes/data.md 2.4 says, step by step and in 8 bits, as the published patches were made.
    eight = cv2.normalize(mammogram, None, 0, 255, cv2.NORM_MINMAX).round().astype(np.uint8)
    region = Region(300, 410, 500, 550)
    (square,) = squares_around(region, CropSettings(), spacing_mm=None)
    assert square == Square(240, 320, 320)  # 200 px, and 60 on each side
    published = cv2.resize(eight[320:640, 240:560], (128, 128), interpolation=cv2.INTER_AREA)
    (made,) = crops(mammogram, (square,), CropSettings(), 128)
    assert made.dtype == np.uint8
    assert np.corrcoef(made.ravel(), published.ravel())[0, 1] > 0.9999
    assert np.abs(made.astype(int) - published.astype(int)).max() <= 1


def test_levels_may_stay_what_the_file_means(mammogram: NDArray[np.uint16]) -> None:
    square = Square(100, 100, 128)
    (made,) = crops(mammogram, (square,), crop(levels="full_range"), 128)
    assert made.dtype == np.uint16
    assert np.array_equal(made, mammogram[100:228, 100:228])


def test_area_is_averaged_exactly() -> None:
    pixels = np.zeros((12, 12), np.uint8)
    pixels[0, 0] = 255
    (made,) = crops(pixels, (Square(0, 0, 12),), crop(levels="full_range"), 8)
    assert made[0, 0] == round(255 / 1.5**2)


def test_margins_context_and_the_least_side_say_how_wide() -> None:
    region = Region(100, 100, 140, 120)

    def side(**changes: object) -> int:
        return squares_around(region, crop(**changes), spacing_mm=0.1)[0].side

    assert side() == 40
    assert side(margin=0.25) == 60
    assert side(margin_px=10) == 60
    assert side(least_side_px=90) == 90
    assert side(side_px=33, margin=2.0) == 33
    assert side(side_mm=20.0) == 200


def test_millimetres_need_a_spacing() -> None:
    with pytest.raises(InputError, match="no pixel spacing"):
        squares_around(Region(0, 0, 9, 9), crop(side_mm=10), spacing_mm=None)
    with pytest.raises(InputError, match="would be 10,000,000 px wide"):
        squares_around(Region(0, 0, 9, 9), crop(side_mm=1000), spacing_mm=1e-4)
    with pytest.raises(ValueError, match="keep one"):
        crop(side_mm=10, side_px=10)


def test_at_the_edge_a_crop_is_moved_filled_or_mirrored() -> None:
    pixels = np.arange(30 * 20, dtype=np.uint16).reshape(30, 20) + 7
    over = Square(-4, 25, 8)
    assert np.array_equal(cut(pixels, over, "shift"), pixels[22:30, 0:8])
    black = cut(pixels, over, "black")
    assert np.array_equal(black[:5, 4:], pixels[25:, :4])
    assert set(np.unique(black[5:])) == set(np.unique(black[:, :4])) == {7}
    mirrored = cut(pixels, over, "mirror")
    assert np.array_equal(mirrored[:5, 3::-1], pixels[25:, :4])
    assert np.array_equal(mirrored[5:, 4:], pixels[:26:-1, :4])


@pytest.mark.parametrize("edge", ["shift", "black", "mirror"])
def test_a_square_larger_than_the_image_is_filled(edge: str) -> None:
    pixels = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)
    made = cut(pixels, Square(-10, -10, 30), edge)
    assert made.shape == (30, 30)
    assert np.array_equal(made[10:13, 10:14], pixels)
    assert (made == 1).sum() == (30 * 30 - 11 if edge != "mirror" else (made == 1).sum())


@pytest.mark.parametrize("edge", ["shift", "black", "mirror"])
def test_extra_crops_are_the_same_for_every_lesion_and_hold_its_middle(edge: str) -> None:
    settings = crop(extra_crops=40, jitter=0.25, edge=edge)
    moved = []
    for x, y in ((0, 0), (500, 300)):
        first, *extra = squares_around(Region(x, y, x + 40, y + 40), settings, spacing_mm=None)
        moved.append([(s.left - first.left, s.top - first.top, s.side) for s in extra])
        for square in extra:
            assert square.left <= x + 20 <= square.left + square.side
            assert square.top <= y + 20 <= square.top + square.side
            assert cut(np.ones((900, 900), np.uint8), square, edge).shape == (square.side,) * 2
    assert moved[0] == moved[1]
    assert len(set(moved[0])) > 30


@pytest.mark.parametrize("bright", [1, 255, 65535])
def test_a_mask_is_the_box_around_what_is_bright(bright: int) -> None:
    mask = np.zeros((50, 40), np.uint16)
    mask[10:20, 5:9] = mask[30, 25] = bright
    assert mask_region(mask) == Region(5, 10, 26, 31)


def test_what_is_no_mask_is_refused() -> None:
    for empty in (np.zeros((9, 9), np.uint8), np.full((9, 9), 255, np.uint8)):
        with pytest.raises(InputError, match="mask is empty"):
            mask_region(empty)
    with pytest.raises(InputError, match="more than two values"):
        mask_region(np.arange(81, dtype=np.uint8).reshape(9, 9))


def test_an_image_of_one_level_is_refused() -> None:
    with pytest.raises(InputError, match="is the same"):
        crops(np.full((9, 9), 4, np.uint16), (Square(0, 0, 9),), crop(), 8)
