from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from synthdp.config.settings import load_settings
from synthdp.data.dataset import load_images, open_dataset, targets_array
from synthdp.data.phantoms.phantoms import Patient, draw_patient, draw_patients, run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.data.phantoms.view import DETECTORS, detect, draw_tissue, power_law_noise
from synthdp.errors import InputError


def small(**changes: object) -> PhantomSettings:
    return PhantomSettings.model_validate(
        {"out": Path("unused"), "patients": 12, "size_px": 32, **changes}
    )


@pytest.fixture(scope="module")
def patients() -> tuple[Patient, ...]:
    return tuple(draw_patients(small(patients=120, size_px=64)))


def spectral_slope(field: NDArray[np.float64]) -> float:
    """b of 1/f^b, fitted over the middle octaves of a periodic field."""
    side = field.shape[0]
    power = np.abs(np.fft.fft2(field)) ** 2
    cycles = np.fft.fftfreq(side) * side
    radius = np.hypot(cycles[:, None], cycles[None, :])
    edges = np.geomspace(4, side / 4, 8)
    bands = [(radius >= a) & (radius < b) for a, b in pairwise(edges)]
    heights = [np.log(power[band].mean()) for band in bands]
    return -float(np.polyfit(np.log(np.sqrt(edges[:-1] * edges[1:])), heights, 1)[0])


def simple_features(pixels: NDArray[np.uint8]) -> list[float]:
    """Spread, contrast of the middle, gradients and how far they point along the radius."""
    image = pixels.astype(np.float64)
    axis = (np.arange(image.shape[0]) + 0.5) * 2 / image.shape[0] - 1
    radius = np.hypot(axis[:, None], axis[None, :])
    dy, dx = np.gradient(image)
    size = np.hypot(dy, dx) + 1e-6
    radial = (dy * axis[:, None] + dx * axis[None, :]) / radius
    middle = (radius > 0.25) & (radius < 0.8)
    contrast = image[radius < 0.4].mean() - image[radius > 0.9].mean()
    aligned = np.abs(radial / size)[middle].mean()
    return [image.std(), contrast, np.log(size.mean()), aligned, radial[middle].mean()]


def test_a_patient_is_the_same_on_every_run_whatever_the_number_asked_for() -> None:
    few, many = small(patients=4), small(patients=9)
    for index in range(4):
        first, second = draw_patient(few, index), draw_patient(many, index)
        assert (first.patient_id, first.split, first.site) == (
            second.patient_id,
            second.split,
            second.site,
        )
        for one, other in zip(first.patches, second.patches, strict=True):
            np.testing.assert_array_equal(one.pixels, other.pixels)
            assert one.malignant == other.malignant


def test_another_seed_draws_other_patients() -> None:
    one, other = (draw_patient(small(seed=seed), 0).patches[0].pixels for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    folders = [run_phantoms(small(out=tmp_path / name, patients=6)) for name in ("one", "two")]
    files = [
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.name != "key"
        }
        for folder in folders
    ]
    assert files[0] == files[1]


def test_the_folder_keeps_the_data_set_contract(tmp_path: Path) -> None:
    settings = small(out=tmp_path / "set", patients=20, name="demo")
    dataset = open_dataset(run_phantoms(settings))
    assert dataset.info.kind == "phantom"
    assert dataset.info.name == "demo"
    assert not dataset.info.protects_patients
    images = load_images(dataset, dataset.rows)
    assert images.shape == (len(dataset.rows), 1, 32, 32)
    assert {row.patient_id for row in dataset.rows} == {f"phantom-{i:06d}" for i in range(1, 21)}
    for split in ("train", "val", "test"):
        assert set(targets_array(dataset.split(split)).ravel()) == {0.0, 1.0}
    for row in dataset.rows:
        assert set(row.attributes) == {"view", "laterality", "breast_density", "site", "lesion"}


def test_as_real_makes_the_phantoms_patients(tmp_path: Path) -> None:
    folder = run_phantoms(small(out=tmp_path / "set", patients=3, as_real=True))
    assert open_dataset(folder).info.protects_patients


def test_a_finished_folder_is_left_alone_and_another_one_refused(tmp_path: Path) -> None:
    settings = small(out=tmp_path / "set", patients=3)
    manifest = run_phantoms(settings) / "manifest.csv"
    written = manifest.stat().st_mtime_ns
    assert run_phantoms(settings) == settings.out
    assert manifest.stat().st_mtime_ns == written
    with pytest.raises(InputError, match="exists already"):
        run_phantoms(settings.model_copy(update={"seed": 1}))


def test_patients_differ_as_patients_do(patients: tuple[Patient, ...]) -> None:
    counts = [len(patient.patches) for patient in patients]
    assert set(counts) <= set(range(1, 7))
    assert max(counts) > 2
    assert np.median(counts) == 2
    assert {patient.density for patient in patients} == {1, 2, 3, 4}
    patches = [patch for patient in patients for patch in patient.patches]
    assert {patch.view for patch in patches} == {"CC", "MLO"}
    assert {patch.laterality for patch in patches} == {"L", "R"}


def test_shares_of_class_split_and_site_hold(patients: tuple[Patient, ...]) -> None:
    malignant = np.array([patient.patches[0].malignant for patient in patients])
    site_b = np.array([patient.site == "B" for patient in patients])
    assert malignant.mean() == pytest.approx(0.45, abs=0.01)
    assert site_b.mean() == pytest.approx(0.3, abs=0.03)
    for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        inside = np.array([patient.split == split for patient in patients])
        assert inside.mean() == pytest.approx(share, abs=0.03)
        assert malignant[inside].mean() == pytest.approx(0.45, abs=0.06)
    assert abs(np.corrcoef(malignant, site_b)[0, 1]) < 0.1


def test_sites_differ_in_grey_levels_noise_and_blur() -> None:
    def seen(site: str, left: float, right: float) -> NDArray[np.float64]:
        field = np.full((128, 128), left)
        field[:, 64:] = right
        return detect(field, DETECTORS[site], 1.0, np.random.default_rng(0))

    flat = {site: seen(site, 0.6, 0.6) for site in DETECTORS}
    assert abs(flat["A"].mean() - flat["B"].mean()) > 0.01
    assert flat["B"].std() > 1.1 * flat["A"].std()
    steps = {site: seen(site, 0.3, 0.7).mean(axis=0) for site in DETECTORS}
    contrast = {site: step[100] - step[20] for site, step in steps.items()}
    assert contrast["A"] > 1.05 * contrast["B"]
    sharpness = {site: (step[64] - step[63]) / contrast[site] for site, step in steps.items()}
    assert sharpness["B"] > 1.1 * sharpness["A"]


def test_patches_seldom_fill_the_grey_scale(patients: tuple[Patient, ...]) -> None:
    patches = [patch.pixels for patient in patients for patch in patient.patches]
    lows, highs = (np.array([f(patch) for patch in patches]) for f in (np.min, np.max))
    assert ((lows > 0) & (highs < 255)).mean() > 0.7
    assert lows.std() > 20
    assert highs.std() > 15


@pytest.mark.parametrize("exponent", [2.5, 3.0, 3.5])
def test_noise_follows_the_power_law(exponent: float) -> None:
    rng = np.random.default_rng(0)
    fields = [power_law_noise(128, exponent, rng) for _ in range(30)]
    assert np.mean([spectral_slope(field) for field in fields]) == pytest.approx(exponent, abs=0.1)
    assert np.mean([field.var() for field in fields]) == pytest.approx(1, abs=0.2)


def test_tissue_has_the_slope_of_mammograms() -> None:
    rng = np.random.default_rng(0)
    window = np.outer(np.hanning(128), np.hanning(128))
    tissues = [draw_tissue(128, 1.0, 3.1, 1.0, rng) for _ in range(12)]
    slopes = [spectral_slope((tissue - tissue.mean()) * window) for tissue in tissues]
    assert 2.6 < np.mean(slopes) < 3.6


def test_classes_differ_but_overlap(patients: tuple[Patient, ...]) -> None:
    patches = [(patient, patch) for patient in patients for patch in patient.patches]
    features = np.array([simple_features(patch.pixels) for _, patch in patches])
    labels = np.array([patch.malignant for _, patch in patches])
    groups = [patient.patient_id for patient, _ in patches]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    scores = cross_val_predict(
        probe, features, labels, groups=groups, cv=GroupKFold(5), method="decision_function"
    )
    assert 0.58 < roc_auc_score(labels, scores) < 0.9


def test_without_separation_the_lesions_are_drawn_alike() -> None:
    benign, malignant = (
        draw_patient(small(separation=0.0, malignant_fraction=fraction), 0)
        for fraction in (0.0, 1.0)
    )
    assert not benign.patches[0].malignant
    assert malignant.patches[0].malignant
    np.testing.assert_array_equal(benign.patches[0].pixels, malignant.patches[0].pixels)


@pytest.mark.parametrize("size_px", [32, 48, 64, 128, 131])
def test_sizes(size_px: int) -> None:
    pixels = draw_patient(small(size_px=size_px), 0).patches[0].pixels
    assert pixels.shape == (size_px, size_px)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize(
    "override",
    ["patients=0", "size_px=8", "val_fraction=0.6", "separation=-1", "patient=3", "seed=-1"],
)
def test_bad_settings_are_refused_by_name(override: str) -> None:
    overrides = ["out=x", "test_fraction=0.5", override]
    with pytest.raises(InputError, match=override.partition("=")[0]):
        load_settings(PhantomSettings, None, overrides)


def test_a_shift_sets_the_second_site_apart_and_leaves_the_first_as_it_is() -> None:
    plain, shifted = (small(site_b_fraction=0.5, site_shift=shift) for shift in (0, 1))
    pairs = [(draw_patient(plain, index), draw_patient(shifted, index)) for index in range(24)]
    for one, other in pairs:
        assert (one.site, one.split, one.density) == (other.site, other.split, other.density)
        same = [
            np.array_equal(a.pixels, b.pixels)
            for a, b in zip(one.patches, other.patches, strict=True)
        ]
        assert same == [one.site == "A"] * len(same)
    assert {one.site for one, _ in pairs} == {"A", "B"}


def test_a_shifted_detector_is_noisier_of_more_contrast_and_sharper() -> None:
    def seen(shift: float, left: float, right: float) -> NDArray[np.float64]:
        field = np.full((128, 128), left)
        field[:, 64:] = right
        detector = DETECTORS["B"].shifted(shift) if shift else DETECTORS["B"]
        return detect(field, detector, 1.0, np.random.default_rng(0))

    flat = [seen(shift, 0.6, 0.6) for shift in (0, 1)]
    assert flat[1].std() > 2 * flat[0].std()
    steps = [seen(shift, 0.4, 0.7).mean(axis=0) for shift in (0, 1)]
    ratios = [step[100] / step[20] for step in steps]
    assert ratios[1] > 1.2 * ratios[0]
    overshoot = [step.max() - step[100] for step in steps]
    assert overshoot[1] > 0.02 > overshoot[0]


def test_sets_of_before_the_shift_are_the_same_ones(tmp_path: Path) -> None:
    run_phantoms(small(out=tmp_path / "plain"))
    assert "site_shift" not in (tmp_path / "plain" / "dataset.json").read_text()
    run_phantoms(small(out=tmp_path / "shifted", site_shift=1.5))
    assert "site_shift 1.5" in (tmp_path / "shifted" / "dataset.json").read_text()


@pytest.mark.parametrize("style", ["lumpy", "varied"])
def test_another_style_is_another_drawing_of_the_same_patients(style: str, tmp_path: Path) -> None:
    fibrous, others = (
        [draw_patient(small(style=name, size_px=64), index) for index in range(20)]
        for name in ("fibrous", style)
    )
    for one, other in zip(fibrous, others, strict=True):
        assert (one.patient_id, one.split, one.site) == (other.patient_id, other.split, other.site)
        assert one.density == other.density
        assert one.patches[0].malignant == other.patches[0].malignant
        assert not np.array_equal(one.patches[0].pixels, other.patches[0].pixels)
    run_phantoms(small(out=tmp_path / "plain", patients=2))  # as before there were styles
    assert "style" not in (tmp_path / "plain" / "dataset.json").read_text()
    run_phantoms(small(out=tmp_path / "other", patients=2, style=style))
    assert f"style {style}" in (tmp_path / "other" / "dataset.json").read_text()


@pytest.mark.parametrize(("malignant_fraction", "patients_drawn"), [(0.5, 12), (0.25, 8)])
def test_a_mixed_set_draws_either_class_in_both_styles(
    malignant_fraction: float, patients_drawn: int
) -> None:
    """Whatever the share of a class is: else the style would tell it."""
    mixed, fibrous, varied = (
        [
            draw_patient(small(style=name, malignant_fraction=malignant_fraction), index)
            for index in range(patients_drawn)
        ]
        for name in ("mixed", "fibrous", "varied")
    )
    drawn = {"fibrous": fibrous, "varied": varied}
    seen = []
    for index, patient in enumerate(mixed):
        pixels = patient.patches[0].pixels
        style = next(
            name for name, of in drawn.items()
            if np.array_equal(pixels, of[index].patches[0].pixels)
        )  # fmt: skip
        seen.append((style, patient.patches[0].malignant))
    n_malignant = round(malignant_fraction * patients_drawn)
    counts = {False: patients_drawn - n_malignant, True: n_malignant}
    assert Counter(seen) == {
        (style, malignant): count // 2
        for style, (malignant, count) in product(drawn, counts.items())
    }


def test_varied_phantoms_bear_opaque_marks_now_and_then_and_the_first_style_none() -> None:
    """A mark moves a grey level by a third of the range within two pixels; tissue does not."""

    def share_of_jumps(style: str) -> float:
        settings = small(style=style, size_px=64, patients=40, seed=2)
        grey = np.stack([patient.patches[0].pixels / 255.0 for patient in draw_patients(settings)])
        jumps = np.abs(grey[:, :, 2:] - grey[:, :, :-2]).max(axis=(1, 2))
        return float((jumps > 1 / 3).mean())

    assert share_of_jumps("fibrous") < 0.02
    assert 0.02 < share_of_jumps("varied") < 0.3


def test_the_two_styles_are_drawings_that_a_classifier_tells_apart() -> None:
    def spectra(style: str, seed: int) -> NDArray[np.float64]:
        settings = small(style=style, seed=seed, size_px=32, patients=60)
        grey = np.stack([patient.patches[0].pixels / 255.0 for patient in draw_patients(settings)])
        powers = np.log(np.abs(np.fft.rfft2(grey - grey.mean((1, 2), keepdims=True))) + 1e-3)
        return powers[:, :16, :16].reshape(len(grey), 8, 2, 8, 2).mean((2, 4)).reshape(60, -1)

    def both(seed: int) -> NDArray[np.float64]:
        return np.concatenate([spectra("lumpy", seed), spectra("fibrous", seed)])

    is_lumpy = np.repeat([True, False], 60)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    model.fit(both(1), is_lumpy)
    assert roc_auc_score(is_lumpy, model.decision_function(both(2))) > 0.8


def test_a_shift_of_sites_moves_the_second_style_too() -> None:
    plain, shifted = (
        [draw_patient(small(style="lumpy", site_shift=shift), index) for index in range(12)]
        for shift in (0.0, 2.0)
    )
    for one, other in zip(plain, shifted, strict=True):
        same = np.array_equal(one.patches[0].pixels, other.patches[0].pixels)
        assert same == (one.site == "A")
