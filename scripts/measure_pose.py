"""Measure how many inverted and turned radiographs `synthdp data check` tells, and falsely.

    python scripts/measure_pose.py data/nih-cxr [--split train]

Of each twentieth part of a set in turn the images are altered, so that each is altered once among
others that are not. Printed are the share told in the right pose and that told in any; and of the
images as they are, how many are told although nothing was done to them.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dataset import open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.importing.images.survey import thumbnail
from synthdp.data.importing.images.thumbnails import Thumbnails
from synthdp.data.looks.pose import unlike_poses

PARTS = 20
Pixels = NDArray[np.uint8] | NDArray[np.uint16]
TURNS: dict[str, list[Callable[[Pixels], Pixels]]] = {
    "inverted": [np.invert],
    "upside down": [lambda image: image[::-1, ::-1], lambda image: image[::-1]],
    "turned by a quarter": [lambda image: np.rot90(image, 1), lambda image: np.rot90(image, 3)],
}


def main() -> None:
    """Print what was found in the set of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example: python scripts/measure_pose.py data/nih-cxr --split train",
    )
    parser.add_argument("data", type=Path, help="the folder of a data set")
    parser.add_argument("--split", help="its images of one split alone")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data)
    images = [
        decode_pixels(dataset.root / row.image)
        for row in dataset.rows
        if arguments.split in (None, row.split)
    ]
    plain = [thumbnail(image) for image in images]
    not_upright = _unlike(plain)
    print(f"{len(images)} images as they are: {len(not_upright)} told")
    for pose, turns in TURNS.items():
        for number, turn in enumerate(turns, start=1):
            turned = [thumbnail(turn(image)) for image in images]
            right = judged = 0
            for part in range(PARTS):
                altered = set(range(part, len(images), PARTS))
                mixed = [turned[i] if i in altered else plain[i] for i in range(len(images))]
                of_part = {index: said for index, said in _unlike(mixed) if index in altered}
                judged += len(of_part)
                right += sum(said == pose for said in of_part.values())
            shares = f"{right / len(images):.3f} rightly, {judged / len(images):.3f} in any pose"
            print(f"{pose} ({number}): {shares}")


def _unlike(thumbnails: list[NDArray[np.float16]]) -> list[tuple[int, str]]:
    store = Thumbnails()
    store.append(np.stack(thumbnails))
    return [(index, str(pose)) for index, pose in unlike_poses(store).of_images]


if __name__ == "__main__":
    main()
