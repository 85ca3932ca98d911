"""How far apart the scores of two classifiers are, on images that are nobody's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from classify.features.extract import features_on_arrays
from classify.model.classifier import Classifier, logits, probabilities, restore_backbone
from classify.model.folder import load_classifier
from synthdp.data.phantoms.phantoms import draw_patient
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.networks.alone import BATCH
from synthdp.networks.denoise import resampled_for

#: Public images on which two classifiers are laid side by side, and of how many phantom patients.
_COMPARED = PhantomSettings(out=Path("never-written"), size_px=128)
_N_COMPARED = 4


def score_difference(run: Path, other: Path) -> float:
    """The largest difference between the scores of two classifiers on public phantoms.

    Raises:
        InputError: as `load_classifier`.
    """
    patients = (draw_patient(_COMPARED, index) for index in range(_N_COMPARED))
    images = [
        patch.pixels.astype(np.float32) / 127.5 - 1 for one in patients for patch in one.patches
    ]
    first, second = (_scores_of(load_classifier(folder), images) for folder in (run, other))
    return float(np.abs(first - second).max())


def _scores_of(
    classifier: Classifier, images: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Probabilities of each target, (N, T), for images (S, S) in [-1, 1]."""
    raws = []
    for one in classifier.feature_sources:
        compute = features_on_arrays(restore_backbone(one))
        pixels = np.stack([resampled_for(one.backbone, image) for image in images])[:, None]
        parts = [compute(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        raws.append(torch.from_numpy(np.concatenate(parts)))
    return probabilities(classifier, logits(classifier, raws))
