"""How many images of each class a split holds, and which classes it lacks, in words."""

import math
from collections.abc import Sequence

from synthdp.data.manifest.contract import SPLITS


def class_words(target: str) -> tuple[str, str]:
    """What images are called that have a target not, and that have it: benign, malignant."""
    return ("benign" if target == "malignant" else f"no_{target}", target)


def class_counts(names: Sequence[str], targets: Sequence[Sequence[float]]) -> str:
    """How many images have each of the targets, have it not, or may have it.

    Args:
        names: of the T targets.
        targets: of each image, T of them: 1, 0, or nan for unknown.
    """
    words = []
    for index, name in enumerate(names):
        values = [of_image[index] for of_image in targets]
        unknown = sum(map(math.isnan, values))
        counts = f"{name} {values.count(1)} yes, {values.count(0)} no"
        words.append(f"{counts}, {unknown} unknown" if unknown else counts)
    return ", ".join(words)


def missing_classes(
    names: Sequence[str], targets: Sequence[Sequence[float]], splits: Sequence[str]
) -> list[str]:
    """Which splits have no image of a class, for each that any has none of.

    Args:
        names: of the T targets.
        targets: of each of N images, T of them: 1, 0, or nan for unknown.
        splits: of each image.
    """
    words = []
    for index, name in enumerate(names):
        for value, called in ((1, "yes"), (0, "no")):
            holding = {
                split
                for split, of_image in zip(splits, targets, strict=True)
                if of_image[index] == value
            }
            lacking = [one for one in SPLITS if one in splits and one not in holding]
            if not holding:
                words.append(
                    f"no image has {name} {called}, so that there is nothing to tell apart"
                )
            elif lacking:
                have = "has" if len(lacking) == 1 else "have"
                words.append(
                    f"{' and '.join(lacking)} {have} no image with {name} {called}, so that "
                    "nothing can be learned or measured there"
                )
    return words
