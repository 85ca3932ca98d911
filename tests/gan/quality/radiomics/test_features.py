"""The whole feature list, against pyradiomics where it is installed; it wants numpy below 2.

In an environment of its own, where nothing else of the package is needed:
    pip install "numpy<2" setuptools wheel versioneer "scipy<1.16" pytest
    pip install --no-build-isolation pyradiomics==3.0.1
    PYTHONPATH=. python -m pytest --noconftest tests/gan/quality/radiomics
"""

import logging
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gan.quality.radiomics.features import feature_names, is_plain, radiomic_features
from gan.quality.radiomics.filters import blurred_pictures, plain_pictures, prepared

#: As frd-score, version 1, has them.
SETTINGS: dict[str, Any] = {
    "normalize": True, "normalizeScale": 100, "interpolator": "sitkBSpline",
    "resampledPixelSpacing": [2, 2, 0], "padDistance": 10, "preCrop": True, "force2D": True,
    "force2Ddimension": 0, "binWidth": 5, "voxelArrayShift": 300,
}  # fmt: skip


def made_up(size_px: int, seed: int, blur_px: float) -> np.ndarray:
    """An image (S, S) uint8 of blurred noise."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(size_px,) * 2), blur_px)
    low, high = noise.min(), noise.max()
    return np.asarray(255 * (noise - low) / (high - low)).astype(np.uint8)


def test_the_list_is_the_published_one() -> None:
    names = feature_names()
    assert len(names) == len(set(names)) == 9 * (18 + 22 + 16 + 16 + 5)
    assert sum(map(is_plain, names)) == 5 * 77
    assert names[0] == "original_firstorder_10Percentile"
    assert "log-sigma-5-mm_glszm_ZoneEntropy" in names


def test_features_depend_on_no_other_image_and_on_no_scale() -> None:
    images = np.stack([made_up(32, seed, 1.5) for seed in range(20)]).astype(np.float64)
    together = radiomic_features(images)
    assert np.array_equal(radiomic_features(images[7:9]), together[7:9])
    assert radiomic_features(images[:2] / 127.5 - 1) == pytest.approx(together[:2], rel=1e-6)
    assert np.isfinite(together).all()
    assert np.isfinite(radiomic_features(np.full((1, 16, 16), 7.0))).all()


def test_pictures_keep_the_size_and_an_odd_side() -> None:
    pixels = prepared(np.stack([made_up(35, 0, 1.0), made_up(35, 1, 1.0)]))
    assert pixels.shape == (2, 17, 17)
    assert plain_pictures(pixels).shape == (2, 5, 17, 17)
    assert blurred_pictures(pixels).shape == (2, 4, 17, 17)


def test_a_ramp_has_no_curvature_and_no_detail_inside() -> None:
    """A spline through a straight line is that line; LoG of it is 0, and so are high passes.

    Of grey levels whose standard deviation is 100.
    """
    ramp = np.add.outer(np.arange(64.0), 2 * np.arange(64.0))[None]
    pixels = prepared(ramp)
    scale = 100 / ramp.std(ddof=1)
    # half way between pixels; away from the edges, where the spline is mirrored
    assert pixels[0, 8:-8, 8:-8] == pytest.approx(
        (ramp[0, 16:-16:2, 16:-16:2] + 1.5 - ramp.mean()) * scale, abs=1e-3
    )
    inside = (slice(None), slice(None), slice(14, -14), slice(14, -14))
    assert np.abs(blurred_pictures(pixels)[inside]).max() < 0.1
    low_high, high_low, high_high = plain_pictures(pixels)[inside][0, 1:4]
    assert max(np.abs(band).max() for band in (low_high, high_low, high_high)) < 0.1


def test_each_feature_is_that_of_pyradiomics() -> None:
    radiomics = pytest.importorskip("radiomics")
    import SimpleITK as sitk  # noqa: N813, PLC0415 (comes with it)
    from radiomics.featureextractor import RadiomicsFeatureExtractor  # noqa: PLC0415

    logging.getLogger(radiomics.__name__).setLevel(logging.ERROR)
    extractor = RadiomicsFeatureExtractor(**SETTINGS)
    extractor.disableAllImageTypes()
    extractor.enableImageTypes(Original={}, Wavelet={}, LoG={"sigma": [2.0, 3.0, 4.0, 5.0]})
    extractor.disableAllFeatures()
    kinds: dict[str, list[str]] = {
        kind: [] for kind in ("firstorder", "glcm", "glrlm", "glszm", "ngtdm")
    }
    extractor.enableFeaturesByName(**kinds)
    for image in (made_up(128, 0, 2.0), made_up(64, 1, 0.0), made_up(96, 2, 6.0)):
        whole = np.ones_like(image)
        whole[0, 0] = 0  # a mask that is all ones is refused
        pair = [sitk.JoinSeries(sitk.GetImageFromArray(each)) for each in (image, whole)]
        reference = extractor.execute(pair[0], sitk.Cast(pair[1], sitk.sitkInt32))
        found = dict(zip(feature_names(), radiomic_features(image[None])[0], strict=True))
        compared = 0
        for name, value in found.items():
            if is_plain(name):
                expected = float(reference[name])
                assert value == pytest.approx(expected, rel=1e-5, abs=1e-6), name
                compared += 1
        assert compared == 385


def test_blurred_pictures_are_those_of_itk() -> None:
    """Whose recursive filter comes near the Gaussian: within a twentieth of a deviation."""
    sitk = pytest.importorskip("SimpleITK")
    pixels = prepared(made_up(128, 3, 2.0)[None])
    image = sitk.GetImageFromArray(pixels[0])
    image.SetSpacing((2.0, 2.0))
    for sigma, found in zip((2, 3, 4, 5), blurred_pictures(pixels)[0], strict=True):
        blur = sitk.LaplacianRecursiveGaussianImageFilter()
        blur.SetNormalizeAcrossScale(True)
        blur.SetSigma(float(sigma))
        expected = sitk.GetArrayFromImage(blur.Execute(image))
        assert np.abs(found - expected).max() < 0.05 * expected.std() + 0.5
