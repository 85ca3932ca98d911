"""How features are read: views of an image, its intensities, and maps to vectors."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from synthdp.networks.settings import Pool, ViewOrder

#: Standard deviation of the window around the centre, as a share of the image's side.
WINDOW_SD = 0.18
#: Mean and spread that `standardised` gives to each image, and the least spread it divides by:
#: about those of the CBIS-DDSM patches, so that public weights see what they would without it.
_MEAN, _SPREAD, _LEAST_SPREAD = 0.0, 0.4, 0.02


#: The eight views by `view_order`: 2 n is the image turned n quarters, 2 n + 1 its mirror image. By
#: `turns` the first 1, 2, 4 and 8 are groups, each in the next, so that their mean is the same for
#: an image that is turned so.
_VIEWS: dict[ViewOrder | None, Sequence[int]] = {None: range(8), "turns": (0, 4, 2, 6, 1, 5, 3, 7)}


def dihedral_views(images: Tensor, views: int, order: ViewOrder | None = None) -> Iterator[Tensor]:
    """The first `views` of the eight flips and quarter turns of (B, C, S, S); itself first."""
    for index in _VIEWS[order][:views]:
        turned = torch.rot90(images, index // 2, dims=(2, 3))
        yield turned.flip(3) if index % 2 else turned


def dihedral_copy(images: Tensor, number: int) -> Tensor:
    """Copy `number` (0 to 7) of images (..., S, S): mirrored from 4 on, then turned; 0 is itself.

    They are the eight of `dihedral_views`, by other numbers.
    """
    return torch.rot90(images if number < 4 else images.flip(-1), number % 4, dims=(-2, -1))


def standardised(images: Tensor) -> Tensor:
    """Images (B, 1, H, W), each shifted and scaled to one mean and spread, held in [-2, 2]."""
    means = images.mean(dim=(1, 2, 3), keepdim=True)
    spreads = images.std(dim=(1, 2, 3), keepdim=True).clamp(min=_LEAST_SPREAD)
    return ((images - means) / spreads * _SPREAD + _MEAN).clamp(-2, 2)


def centre_window(height: int, width: int, *, device: torch.device) -> Tensor:
    """A Gaussian around the middle, (height, width), that sums to 1."""
    rows = (torch.arange(height, device=device) + 0.5) / height - 0.5
    columns = (torch.arange(width, device=device) + 0.5) / width - 0.5
    squares = rows.square().unsqueeze(1) + columns.square()
    window = torch.exp(-squares / (2 * WINDOW_SD**2))
    return window / window.sum()


def pooled(feature_map: Tensor, class_token: Tensor | None, pools: Sequence[Pool]) -> list[Tensor]:
    """What a layer gives, as one vector for each way of pooling.

    Args:
        feature_map: (B, C, H, W).
        class_token: (B, C), or None where the network has none.
        pools: what is asked for; `class_token` only where there is one.

    Returns:
        (B, C) float32 each, in the order of `pools`.
    """
    feature_map = feature_map.float()
    vectors = {}
    if "class_token" in pools:
        assert class_token is not None  # the network was asked for it when it was built
        vectors["class_token"] = class_token.float()
    if "mean" in pools:
        vectors["mean"] = feature_map.mean(dim=(2, 3))
    if "centre" in pools:
        window = centre_window(*feature_map.shape[2:], device=feature_map.device)
        vectors["centre"] = (feature_map * window).sum(dim=(2, 3))
    if "spread" in pools:
        vectors["spread"] = feature_map.flatten(2).std(dim=2, correction=0)
    return [vectors[pool] for pool in pools]
