"""More views of an image: flips, quarter turns, small shifts; the only user of albumentations.

`augment_views` makes the same few views of each image in every run, which may be kept.
`RandomViews` draws one at a time, as an `Augmentation` says, for trainings that never show an image
twice.
"""

import os
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network on import
import albumentations as A

from synthdp.data.views.augmentation import Augmentation
from synthdp.machine.progress import progress

#: Reflected at the edge, as cv2.BORDER_REFLECT_101.
_REFLECTED = 4


def _transform() -> A.Compose:
    return A.Compose(
        [
            A.D4(p=1.0),
            A.Affine(
                scale=(0.92, 1.08),
                translate_percent=(-0.05, 0.05),
                rotate=(-10, 10),
                border_mode=_REFLECTED,
                p=1.0,
            ),
            A.RandomBrightnessContrast(brightness_limit=0.08, contrast_limit=0.1, p=1.0),
        ]
    )


def augment_views(images: NDArray[np.float32], *, views: int, seed: int) -> NDArray[np.float32]:
    """Several views of each image: itself, then randomly turned, shifted and re-exposed copies.

    Args:
        images: (N, 1, H, W) float32 in [-1, 1], H = W.
        views: how many views of each image, at least 1.
        seed: moves the views.

    Returns:
        (N, views, 1, H, W) float32 in [-1, 1]; the first view is the image.

    Guarantee: the views of an image are a function of its pixels and `seed` alone, so adding or
    removing a patient changes nobody else's.
    """
    transform = _transform()
    out = np.empty((len(images), views, *images.shape[1:]), dtype=np.float32)
    out[:, 0] = images
    if views == 1:
        return out
    for index, image in enumerate(progress(images, what="augmenting")):
        unit = (image[0, :, :, None] + 1) / 2
        digest = sha256(seed.to_bytes(8, "big", signed=True) + image.tobytes()).digest()
        transform.set_random_seed(int.from_bytes(digest[:4], "big"))
        for view in range(1, views):
            out[index, view, 0] = transform(image=unit)["image"][..., 0] * 2 - 1
    return out


class RandomViews:
    """Random views of images, one at a time, as `settings` say."""

    def __init__(self, settings: Augmentation) -> None:
        moves: list[A.BasicTransform] = []
        if settings.turns:
            moves.append(A.D4(p=1.0))
        elif settings.flip:
            moves.append(A.HorizontalFlip(p=0.5))
        if settings.scale or settings.shift or settings.rotate:
            moves.append(
                A.Affine(
                    scale=(1 - settings.scale, 1 + settings.scale),
                    translate_percent=(-settings.shift, settings.shift),
                    rotate=(-settings.rotate, settings.rotate),
                    border_mode=_REFLECTED,
                    p=1.0,
                )
            )
        if settings.brightness or settings.contrast:
            moves.append(
                A.RandomBrightnessContrast(
                    brightness_limit=settings.brightness,
                    contrast_limit=settings.contrast,
                    p=1.0,
                )
            )
        self._transform = A.Compose(moves)

    def view(self, image: NDArray[np.float32], name: bytes) -> NDArray[np.float32]:
        """One view of an image.

        Args:
            image: (H, W) float32 in [-1, 1], H = W.
            name: what the draw is called; another name draws another view.

        Returns:
            (H, W) float32 in [-1, 1].

        Guarantee: a function of the image, the name and the settings alone.
        """
        self._transform.set_random_seed(int.from_bytes(sha256(name).digest()[:4], "big"))
        unit = (image[:, :, None] + 1) / 2
        drawn: NDArray[np.float32] = self._transform(image=unit)["image"][..., 0] * 2 - 1
        return drawn
