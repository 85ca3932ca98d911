from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan.quality.measures import frechet_distance
from gan.quality.radiomics import figures
from gan.quality.radiomics.figures import (
    odd_textures,
    radiomics_distance,
    radiomics_figures,
    texture_words,
)
from gan.quality.sets import measure_sets
from gan.settings.assess import AssessSettings
from synthdp.data.dataset import Dataset, load_images, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.images import to_uint8
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Figure, Value

TINY = {"label": "Tiny", "name": "test_vit", "weights": None, "size_px": 32}


def drawn(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal([5, -3, 0], [2, 1, 0.1], (n, 3))


def test_distance_is_of_features_in_deviations_of_the_real_side() -> None:
    real, other = drawn(50, 0), drawn(40, 1) + 0.2
    mean, deviation = real.mean(axis=0), real.std(axis=0)
    expected = np.log(frechet_distance((real - mean) / deviation, (other - mean) / deviation))
    assert radiomics_distance(real, other) == pytest.approx(expected)
    assert radiomics_distance(real * 1000, other * 1000) == pytest.approx(expected)


def test_a_feature_that_is_constant_or_rounding_is_left_out() -> None:
    real, other = drawn(50, 0), drawn(40, 1)
    noise = np.random.default_rng(2).normal(0, 1e-15, (90, 1))
    constant = np.full((90, 1), 1e4) + noise * 1e6
    more = np.hstack([np.concatenate([real, other]), noise, constant])
    assert radiomics_distance(more[:50], more[50:]) == radiomics_distance(real, other)


def test_one_image_far_out_decides_frd_unless_it_is_kept_within_the_range() -> None:
    real, other = drawn(200, 0), drawn(200, 1)
    odd = other.copy()
    odd[7] = [5, -3, 1e5]
    assert radiomics_distance(real, odd) > radiomics_distance(real, other) + 10
    near = radiomics_distance(real, other, within=True)
    assert radiomics_distance(real, odd, within=True) == pytest.approx(near, abs=0.5)


def test_odd_is_what_lies_beyond_twice_the_range_or_has_no_texture() -> None:
    real = np.array([[0.0, 7], [1, 7], [0.5, 7]])
    other = np.array([[-1.0, 7], [2, 7], [2.1, 7], [-1.1, 7], [np.nan, np.nan], [0.5, 1e9]])
    # the second feature is constant, and says nothing
    assert odd_textures(real, other) == pytest.approx(3 / 6)
    assert odd_textures(np.vstack([real, [np.nan, np.nan]]), other[:1]) == 0
    with pytest.raises(InputError, match="no texture"):
        odd_textures(np.full((3, 2), np.nan), other)


def test_what_has_no_distance_is_refused_by_name() -> None:
    real, flat = drawn(50, 0), drawn(40, 1)
    flat[3] = np.nan
    for sides, message in (
        ((real, flat), "of one grey level"),
        ((flat, real), "of one grey level"),
        ((real, real), "both sides are equal"),
        ((real, real[:1]), "too few"),
    ):
        with pytest.raises(InputError, match=message):
            radiomics_distance(*sides)


def images_of(dataset: Dataset) -> list[np.ndarray]:
    return list(to_uint8(load_images(dataset, dataset.split("all"))[:, 0]))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms that stand for patients, and fresh ones."""
    house = tmp_path_factory.mktemp("house")
    about: dict[str, Any] = {"size_px": 32, "val_fraction": 0.3, "test_fraction": 0.0}
    run_phantoms(PhantomSettings(out=house / "real", patients=24, as_real=True, **about))
    run_phantoms(PhantomSettings(out=house / "fresh", patients=24, seed=7, **about))
    return house


def made_up_set(images: list[np.ndarray], out: Path, kind: str = "synthetic") -> Path:
    about = DatasetInfo(name=out.name, kind=kind, size_px=len(images[0]))
    with create_dataset(out, about) as writer:
        for number, pixels in enumerate(images):
            writer.add(pixels, patient_id=f"made-{number}", split="train", targets=[number % 2])
    return out


def frd_of(synthetic: Path, real: Path, most: int = 1104) -> dict[tuple[str, str], Figure]:
    """The figures of FRD of a set, by measure and comparison."""
    settings = AssessSettings(synthetic=synthetic, real=real, out=Path("none"), features=[TINY])
    found = radiomics_figures(measure_sets(settings), most)
    return {(figure.measure, figure.comparison): figure for figure in found}


ODD = "Odd textures, share of images"


HALVES = "as many as half of train, against the other half"


EQUAL = "equal n, against train"


def test_frd_says_what_real_halves_give_and_how_many_images(house: Path) -> None:
    found = frd_of(house / "fresh", house / "real", 16)
    plain, with_log = found["FRD", HALVES], found["FRD with LoG", HALVES]
    assert (plain.features, with_log.features) == ("radiomics, 385", "radiomics, 693")
    assert (plain.main, with_log.main, plain.section) == (True, False, "Distance")
    assert plain.real is not None
    assert plain.real.n == plain.synthetic.n
    assert max(plain.synthetic.n) <= 8
    assert found["FRD", EQUAL].synthetic.n == (16, 16)
    within = found["FRD within train's range", HALVES]
    assert within.main
    assert within.synthetic.value is not None
    assert plain.synthetic.value is not None
    assert within.synthetic.value <= plain.synthetic.value
    assert found["FRD", "as many as val, against train"].real is not None


def test_odd_images_are_told_of_in_words_where_they_are_more_than_among_patients() -> None:
    def of(share: float, real: float | None) -> Figure:
        values = [Value(value=each, n=(9, 9), split="all") for each in (share, real)]
        return Figure(
            section="Coverage", measure=ODD, features="radiomics, 385", comparison="halves",
            better="low", synthetic=values[0], real=values[1],
        )  # fmt: skip

    words = texture_words([of(0.5, None), of(0.036, 0.007)])
    assert words.startswith("3.6 % of its images have a texture far from that of any train image")
    assert "(0.7 % of other patients' do)" in words
    assert texture_words([of(0.012, 0.007)]) == texture_words([]) == ""


def test_noise_is_farther_than_fresh_phantoms(house: Path, tmp_path: Path) -> None:
    noise = list(np.random.default_rng(0).integers(0, 255, (24, 32, 32), dtype=np.uint8))
    fresh = frd_of(house / "fresh", house / "real")
    noisy = frd_of(made_up_set(noise, tmp_path / "noise"), house / "real")
    near, far = fresh["FRD", EQUAL].synthetic.value, noisy["FRD", EQUAL]
    assert near is not None
    assert far.synthetic.value is not None
    assert far.synthetic.value > near + 1
    assert noisy[ODD, EQUAL].synthetic.value == 1
    assert fresh[ODD, EQUAL].synthetic.value < 0.2


def test_a_set_with_a_flat_image_has_no_frd_and_says_why(house: Path, tmp_path: Path) -> None:
    images = [*images_of(open_dataset(house / "fresh"))[:11], np.full((32, 32), 90, np.uint8)]
    found = frd_of(made_up_set(images, tmp_path / "flat"), house / "real")
    value = found["FRD", EQUAL].synthetic
    assert (value.value, value.n) == (None, (12, 12))
    assert value.why == "some images are of one grey level, and have no texture"
    odd = found[ODD, EQUAL].synthetic
    assert odd.value is not None
    assert odd.value >= 1 / 12
    of_patients = found["FRD", HALVES].real
    assert of_patients is not None
    assert of_patients.value is not None


def test_images_too_small_for_texture_say_so(house: Path, tmp_path: Path) -> None:
    small = [image[::4, ::4] for image in images_of(open_dataset(house / "fresh"))]
    real = made_up_set(small, tmp_path / "real", kind="phantom")
    found = frd_of(made_up_set(small, tmp_path / "small"), real)
    assert {f.synthetic.why for f in found.values()} == {"texture needs images of 16 px or more"}


def test_large_images_are_made_smaller_first_and_it_says_so(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MOST_SIDE_PX", 16)
    found = frd_of(house / "fresh", house / "real", 12)
    assert found["FRD", EQUAL].features == "radiomics at 16 px, 385"
    assert found["FRD", EQUAL].synthetic.value is not None


def test_frd_can_be_left_out(house: Path) -> None:
    assert frd_of(house / "fresh", house / "real", 0) == {}
