from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.data.decoding import decode_pixels
from synthdp.data.images import fit_square, resample
from synthdp.data.importing.images.survey import thumbnail
from synthdp.data.importing.images.thumbnails import THUMBNAIL_PX, Thumbnails
from synthdp.data.looks import likeness
from synthdp.data.looks.likeness import look_alikes
from synthdp.data.people.splits import connected

Picture = NDArray[np.uint8]
SIDE_PX = 64


def noise(seed: int, side_px: int = 64) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (side_px, side_px), dtype=np.uint8)


def tissue(seed: int) -> Picture:
    """A smooth picture that is brighter towards one side, as patches of a breast are."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(12, 12)).astype(np.float32)
    fine = rng.normal(size=(24, 24)).astype(np.float32)
    slope = np.linspace(0, 3, SIDE_PX, dtype=np.float32)[None, :]
    picture = resample(coarse, SIDE_PX) + 0.3 * resample(fine, SIDE_PX) + slope
    picture = (picture - picture.min()) / np.ptp(picture)
    return (40 + 200 * picture).astype(np.uint8)


def circle(picture: Picture) -> Picture:
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] - (SIDE_PX - 1) / 2
    return np.where(np.hypot(y, x) < 0.7 * SIDE_PX / 2, picture, 0).astype(np.uint8)


def border(picture: Picture) -> Picture:
    inner = np.zeros_like(picture)
    inner[10:-10, 10:-10] = picture[10:-10, 10:-10]
    return inner


def labelled(picture: Picture) -> Picture:
    with_label = picture.copy()
    with_label[:12, :40] = 0
    with_label[2:10, 2:38:4] = 255
    return with_label


def half(picture: Picture) -> Picture:
    return np.where(np.arange(SIDE_PX) < SIDE_PX // 2, picture, 0).astype(np.uint8)


def brighter(picture: Picture) -> Picture:
    return np.clip(picture * 0.9 + 20, 0, 255).astype(np.uint8)


def noisier(picture: Picture) -> Picture:
    more = picture + np.random.default_rng(0).normal(0, 4, picture.shape)
    return np.clip(more, 0, 255).astype(np.uint8)


def store(pictures: Sequence[Picture]) -> Thumbnails:
    thumbnails = Thumbnails()
    for picture in pictures:
        thumbnails.append(thumbnail(picture)[None])
    return thumbnails


def alike(*pictures: Picture, owners: str | Sequence[str] = "") -> list[tuple[int, ...]]:
    return look_alikes(store(pictures), owners or [str(index) for index in range(len(pictures))])


def test_the_correlation_of_thumbnails() -> None:
    image = noise(0)
    darker = (image // 2 + 20).astype(np.uint8)
    deeper = image.astype(np.uint16) * 257
    blank = np.full((64, 64), 7, dtype=np.uint8)
    found = store([image, darker, deeper, noise(1), blank]).rows(range(5))
    products = found @ found.T
    assert products[0, 0] == pytest.approx(1, abs=1e-5)
    assert products[0, 1] > 0.999
    assert products[0, 2] == pytest.approx(1, abs=1e-5)
    assert abs(products[0, 3]) < 0.2
    assert products[4].tolist() == [0] * 5


def test_thumbnails_come_back_in_the_order_asked_for() -> None:
    thumbnails = store([noise(seed) for seed in range(6)])
    all_rows = thumbnails.rows(range(6))
    assert np.array_equal(thumbnails.rows([4, 1, 2, 4]), all_rows[[4, 1, 2, 4]])
    chosen = thumbnails.of([5, 3, 0])
    assert len(chosen) == 3
    assert np.array_equal(chosen.rows([1, 2]), all_rows[[3, 0]])
    assert np.array_equal(chosen.of([2]).rows([0]), all_rows[[0]])


def test_copies_are_found_across_blocks() -> None:
    images = [noise(seed, 32) for seed in range(1300)]
    images[1299] = np.clip(images[3].astype(int) + 2, 0, 255).astype(np.uint8)
    images[600] = np.clip(images[20].astype(int) - 3, 0, 255).astype(np.uint8)
    images[5] = images[4]
    assert alike(*images) == [(3, 1299), (4, 5), (20, 600)]


def test_few_images_and_blank_ones() -> None:
    assert alike() == []
    assert alike(noise(0)) == []
    assert alike(noise(0), noise(0)) == [(0, 1)]
    blank = np.zeros((32, 32), dtype=np.uint8)
    assert look_alikes(store([blank, blank]), ["A", "B"], digests=["same", "same"]) == []


def test_images_of_one_owner_are_not_compared() -> None:
    assert alike(noise(0), noise(0), noise(1), owners="AAB") == []
    assert alike(noise(0), noise(0), noise(0), owners="AAB") == [(0, 1, 2)]


@pytest.mark.parametrize(
    "masks",
    [[circle], [border], [labelled], [circle, border], [half, labelled, border], [lambda one: one]],
    ids=["circle", "border", "label", "two masks", "three masks", "none"],
)
def test_what_all_images_share_makes_nobody_alike(
    masks: Sequence[Callable[[Picture], Picture]],
) -> None:
    """The very 120 patients that a mask merged into 15, with four copies among them to be found."""
    patients = [masks[seed % len(masks)](tissue(seed)) for seed in range(120)]
    copies = [brighter(patients[3]), noisier(patients[50]), patients[71], noisier(patients[100])]
    expected = [(3, 120), (50, 121), (71, 122), (100, 123)]
    assert alike(*patients, *copies) == expected


def test_a_mask_alone_is_what_merged_them() -> None:
    rows = store([circle(tissue(seed)) for seed in range(120)]).rows(range(120))
    merged = np.count_nonzero(np.triu(rows @ rows.T > likeness.NEAR_DUPLICATE_CORRELATION, k=1))
    assert merged > 120


def test_copies_of_one_image_are_no_common_part() -> None:
    images = [tissue(seed) for seed in range(40)]
    copies = [noisier(images[7] + shade) for shade in np.arange(5, dtype=np.uint8)]
    assert alike(*images, *copies) == [(7, 40, 41, 42, 43, 44)]


def test_a_set_that_is_one_image_many_times() -> None:
    images = [circle(tissue(1))] * 60 + [circle(tissue(seed)) for seed in range(2, 30)]
    owners = [str(index) for index in range(len(images))]
    digests = [str(image.tobytes()) for image in images]
    assert look_alikes(store(images), owners, digests=digests) == [tuple(range(60))]


def speckle(seed: int) -> Picture:
    """Noise on an even grey, which no few directions hold."""
    picture = 120 + np.random.default_rng(seed).normal(0, 12, (SIDE_PX, SIDE_PX))
    return picture.astype(np.uint8)


@pytest.mark.parametrize("texture", [tissue, speckle])
def test_no_pair_is_lost_to_pruning(
    monkeypatch: pytest.MonkeyPatch, texture: Callable[[int], Picture]
) -> None:
    """Against all pairs by the definition, with blocks and directions so small that all matter."""
    rng = np.random.default_rng(5)
    base = [circle(texture(seed)) if seed % 3 else texture(seed) for seed in range(300)]
    images = list(base)
    for _ in range(200):  # from near copies to such as are just none
        picture = base[rng.integers(300)] + rng.normal(0, rng.uniform(1, 40), (SIDE_PX, SIDE_PX))
        images.append(np.clip(picture, 0, 255).astype(np.uint8))
    owners = [str(owner) for owner in rng.integers(0, 350, len(images))]
    thumbnails = store(images)
    rows = thumbnails.rows(range(len(images)))
    left = likeness.common_part(rows).left_of(rows)
    both = (rows @ rows.T > likeness.NEAR_DUPLICATE_CORRELATION) & (left @ left.T > 0.7)
    first, second = np.nonzero(np.triu(both, k=1))
    pairs = [
        (int(one), int(other))
        for one, other in zip(first, second, strict=True)
        if owners[one] != owners[other]
    ]
    expected = sorted(tuple(sorted(group)) for group in connected(pairs))
    assert len(expected) > 30
    monkeypatch.setattr(likeness, "_COMPARED_WHOLE", 0)
    for rows_at_once, tiers, many in (
        (128, (3, 6, 200), 20),
        (90, (1, 2), 0),
        (300, (1024,), 0),
    ):
        monkeypatch.setattr(likeness, "_MANY", many)
        monkeypatch.setattr(likeness, "_ROWS", rows_at_once)
        monkeypatch.setattr(likeness, "_COLUMNS", 2 * rows_at_once)
        monkeypatch.setattr(likeness, "_TIERS", tiers)
        assert look_alikes(thumbnails, owners) == expected


def test_no_bound_is_below_a_product() -> None:
    """Whatever tier it is of, in half precision: of random, equal, opposite and empty vectors."""
    rng = np.random.default_rng(0)
    fall = np.geomspace(1, 1e-3, THUMBNAIL_PX**2)
    rows = rng.normal(size=(2500, THUMBNAIL_PX**2)) * fall
    rows[1000:1500] = rows[:500] + 0.3 * rng.normal(size=(500, THUMBNAIL_PX**2)) * fall
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[2000], rows[2001], rows[2002] = rows[0], -rows[0], 0
    vectors = rows.astype(np.float32)
    above = vectors[:1250] @ vectors[1250:].T > np.float32(0.7)
    bounds = likeness._Bounds(vectors, len(vectors), np.float32(0.7), likeness._TIERS)
    bounds.append(vectors[:900])
    bounds.append(vectors[900:])
    tiers = list(bounds.near(slice(0, 1250), slice(1250, 2500)))
    assert len(tiers) > 2
    passed = [np.count_nonzero(near) for near in tiers]
    assert passed == sorted(passed, reverse=True)
    for near in tiers:
        assert not np.any(above & ~near)
    first, second = np.nonzero(above)
    assert bounds.may_be_near(first, second + 1250).all()
    assert passed[-1] < 2 * len(first)


def test_groups_grow_by_pairs() -> None:
    groups = likeness._Groups(8)
    for pairs in ([(0, 1), (2, 3)], [(1, 2)], [(6, 7), (0, 3)]):
        first, second = (np.array(side, dtype=np.int64) for side in zip(*pairs, strict=True))
        groups.join(first, second)
    assert groups.of_several() == [(0, 1, 2, 3), (6, 7)]


@pytest.mark.parametrize("mask", [None, circle])
def test_copies_of_real_images_are_found_and_patients_kept_apart(
    real_data: Path, mask: Callable[[Picture], Picture] | None
) -> None:
    paths = sorted((real_data / "cbis-ddsm" / "train").rglob("*.png"))
    first_of = {path.name.split("_image")[0]: path for path in paths}
    images = [fit_square(decode_pixels(path), SIDE_PX) for path in [*first_of.values()][:200]]
    shown = [image if mask is None else mask(image.astype(np.uint8)) for image in images]
    copies = [change(shown[index]) for index in range(0, 40, 2) for change in (brighter, noisier)]
    found = alike(*shown, *copies)
    expected = {(index, 200 + index, 201 + index) for index in range(0, 40, 2)}
    assert len(expected & set(found)) >= 19
    assert len(set(found) - expected) <= 1
    assert all(one < other for group in found for one, other in pairwise(group))
