"""Radiomic features beside pyradiomics': how far values are apart, and how much faster they come.

Needs an environment with pyradiomics (numpy below 2), where nothing else of synthdp is wanted:
docs/generator.md, "Judging", makes one.
"""

import argparse
import importlib
import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

#: As the package of the Frechet radiomics distance has them.
SETTINGS: dict[str, Any] = {
    "normalize": True, "normalizeScale": 100, "interpolator": "sitkBSpline",
    "resampledPixelSpacing": [2, 2, 0], "padDistance": 10, "preCrop": True, "force2D": True,
    "force2Ddimension": 0, "binWidth": 5, "voxelArrayShift": 300,
}  # fmt: skip
BOUNDS = (1e-6, 1e-4, 1e-2)
#: A difference beside this is none: some features are 0 but for rounding.
LEAST = 1e-6


def main() -> None:
    """Print how many values agree how well, which agree least, and the ratio of times."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:  PYTHONPATH=. python scripts/compare_radiomics.py data/phantoms/images",
    )
    parser.add_argument("images", type=Path, help="a folder of grey PNG files")
    parser.add_argument("--count", type=int, default=20, help="how many of them, evenly spaced")
    arguments = parser.parse_args()
    files = sorted(arguments.images.glob("*.png"))
    chosen = [files[place] for place in np.linspace(0, len(files) - 1, arguments.count, dtype=int)]
    sitk = importlib.import_module("SimpleITK")
    images = [sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in chosen]
    features = importlib.import_module("gan.quality.radiomics.features")
    names = features.feature_names()
    began = time.process_time()
    theirs = _by_pyradiomics(images, names)
    their_seconds = time.process_time() - began
    began = time.process_time()
    ours = np.concatenate([features.radiomic_features(image[None]) for image in images])
    our_seconds = time.process_time() - began
    _print_agreement(theirs, [dict(zip(names, row, strict=True)) for row in ours])
    per_feature = [
        their_seconds / sum(map(len, theirs)),
        our_seconds / (len(names) * len(images)),
    ]
    print(
        f"an image: {len(theirs[0])} features of pyradiomics in "
        f"{1000 * their_seconds / len(images):.0f} ms, {len(names)} of ours in "
        f"{1000 * our_seconds / len(images):.0f} ms of processor time; "
        f"{per_feature[0] / per_feature[1]:.1f} times as fast a feature"
    )


def _by_pyradiomics(images: list[np.ndarray], names: Sequence[str]) -> list[dict[str, float]]:
    """The features of these names of each image, but those of pictures with LoG."""
    sitk = importlib.import_module("SimpleITK")
    logging.getLogger("radiomics").setLevel(logging.ERROR)
    extractor = importlib.import_module("radiomics.featureextractor").RadiomicsFeatureExtractor(
        **SETTINGS
    )
    extractor.disableAllImageTypes()
    extractor.enableImageTypes(Original={}, Wavelet={})
    extractor.disableAllFeatures()
    wanted: dict[str, list[str]] = {}
    for name in names:
        picture, kind, feature = name.split("_")
        if picture == "original":
            wanted.setdefault(kind, []).append(feature)
    extractor.enableFeaturesByName(**wanted)
    found = []
    for image in images:
        whole = np.ones(image.shape, dtype=np.int32)
        whole[0, 0] = 0  # a mask that is all ones is refused
        pair = [sitk.JoinSeries(sitk.GetImageFromArray(each)) for each in (image, whole)]
        values = extractor.execute(*pair)
        found.append({name: float(values[name]) for name in names if name in values})
    return found


def _print_agreement(theirs: list[dict[str, float]], ours: list[dict[str, float]]) -> None:
    worst = Counter[str]()
    apart = []
    for reference, found in zip(theirs, ours, strict=True):
        for name in reference.keys() & found.keys():
            difference = abs(found[name] - reference[name]) / max(abs(reference[name]), LEAST)
            apart.append(difference)
            worst[name] = max(worst[name], difference)
    shares = ", ".join(
        f"{100 * np.mean(np.array(apart) < bound):.2f} % within {bound:g}" for bound in BOUNDS
    )
    print(f"{len(apart)} values of {len(worst)} features: {shares}")
    for name, difference in worst.most_common(5):
        print(f"  {name}: {difference:.2g} at most")


if __name__ == "__main__":
    main()
