"""Who was in? Asked of a network's finished model: shadows, as for heads, would take hours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from classify.auditing.network.subject import NetworkSubject
from classify.model.classifier import features, logits
from classify.model.folder import load_classifier
from synthdp.data.dataset import Row, targets_array, units_of
from synthdp.privacy.attacks.membership import MembersFound, members_of_one_model
from synthdp.privacy.noisy_sum.clipping import unit_means


def held_out_membership(
    run: Path,
    subject: NetworkSubject,
    generator: np.random.Generator,
    *,
    rates: Sequence[float],
    confidence: float,
) -> list[MembersFound]:
    """How many patients of train the finished model tells from those of val and test.

    By its confidence in the labels, the mean over a patient's images; one threshold for all. Both
    sides may differ in more than membership, so that no verdict follows from it. None where nobody
    was held out.
    """
    if subject.dataset is None:
        return []
    dataset, classifier = subject.dataset, load_classifier(run)

    def scores(rows: Sequence[Row]) -> NDArray[np.float64]:
        values = logits(classifier, features(classifier, dataset, rows, finite=False))
        targets = torch.from_numpy(targets_array(rows, len(dataset.info.targets)))
        towards = torch.nan_to_num((2 * targets - 1) * values).mean(dim=1, keepdim=True)
        names, units = np.unique(units_of(rows, subject.mechanism.unit), return_inverse=True)
        means = unit_means(towards.double(), torch.from_numpy(units), len(names))
        result: NDArray[np.float64] = means[:, 0].numpy()
        return result

    members = dataset.split("train", may_be_empty=True)
    strangers = [
        row for split in ("val", "test") for row in dataset.split(split, may_be_empty=True)
    ]
    if not members or not strangers:
        return []
    return members_of_one_model(
        scores(members),
        scores(strangers),
        promised=subject.mechanism.loss(),
        rates=rates,
        confidence=confidence,
        generator=generator,
    )
