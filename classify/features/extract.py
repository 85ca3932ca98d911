"""What a backbone gives for the images of a data set, from its cache or computed now.

What an image gives does not depend on who else is there (`synthdp.networks.alone`), in bfloat16
neither. Random views of an image are the same in every run, so that all runs on a data set share
what is kept of them.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.features.input_form import (
    refuse_kept_views,
    refuse_other_form,
    refuse_views_for_head,
)
from classify.features.volumes import VOLUMES_AT_ONCE, OnArrays, of_slices
from synthdp import __version__
from synthdp.data.dataset import Dataset, Row, load_images, load_volumes
from synthdp.data.views.augment import augment_views
from synthdp.data.views.grain import GRAIN_VERSION, with_grain
from synthdp.errors import RunError
from synthdp.machine.devices import auto_device, reduced_precision
from synthdp.networks.alone import BATCH, Alone
from synthdp.networks.backbone import Backbone
from synthdp.networks.cache import cached_array, cached_features
from synthdp.networks.denoise import preparation
from synthdp.networks.readout import dihedral_views
from synthdp.networks.volume_network import VolumeNetwork

#: Random views are the same in every run; a training's own seed moves which of them it shows.
_VIEWS_SEED = 0


def on_arrays(
    module: Callable[[Tensor], Tensor], backbone: Backbone
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """`module` of a backbone, for arrays in and out, without gradients, each row by itself."""
    device = auto_device()
    backbone.to(device)
    wanted = backbone.settings.precision == "auto"

    alone = Alone(module)

    def compute(values: NDArray[Any]) -> NDArray[Any]:
        rows = torch.from_numpy(values).to(device, torch.float32)
        with torch.inference_mode(), reduced_precision(device, wanted=wanted):
            result = alone(rows)
        computed: NDArray[Any] = result.float().cpu().numpy()
        return computed

    return compute


def refuse_damaged(backbone: Backbone) -> None:
    """Refuse a network with weights that are no numbers, whatever the images.

    Where single images may give what is no number, this is left to tell weights that never give
    anything else; and they are known before a patient is read.

    Raises:
        RunError: when a weight is not finite.
    """
    tensors = backbone.network.state_dict().values()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise RunError(
            f"{backbone.settings.name}: weights that are not finite; they have diverged or are "
            "damaged"
        )


def features_on_arrays(
    backbone: Backbone,
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """What computes the features that `backbone_features` gives, and keeps nothing.

    It takes at most `BATCH` images, (B, 1, S, S) in [-1, 1] at the backbone's own side, and gives
    (B, D) float32.
    """
    if backbone.in_one_piece:
        return on_arrays(backbone, backbone)
    trunk, top = on_arrays(backbone.trunk, backbone), on_arrays(backbone.top, backbone)
    return lambda images: top(trunk(images).astype(np.float16))


def backbone_features(
    backbone: Backbone, dataset: Dataset, rows: Sequence[Row], *, finite: bool = True
) -> Tensor:
    """Features of `rows`, (N, D) float32 on the CPU, from the data set's cache.

    Where some blocks are trained and one view is read, they run on the cached tokens of the frozen
    trunk; these pass through float16 whether or not they can be kept, so that scores don't depend
    on it. Of several views features are those of the network in one piece (`_of_views`).

    Raises:
        InputError: when an image is unreadable.
        RunError: when a feature is not finite, unless these are allowed (`cached_array`).
    """
    if not finite:
        refuse_damaged(backbone)
    refuse_other_form(backbone.settings, dataset.info)
    if dataset.info.depth is not None:
        return _of_volumes(backbone, dataset, rows, finite=finite)
    if backbone.cuts_tokens and backbone.settings.views > 1:
        return _of_views(backbone, dataset, rows, finite=finite)
    if backbone.in_one_piece:
        values = cached_features(
            dataset,
            rows,
            extractor_id=backbone.identity(),
            size_px=backbone.settings.size_px,
            compute=on_arrays(backbone, backbone),
            batch=BATCH,
            what=f"features by {backbone.settings.name}",  # one of several networks
            finite=finite,
            prepare=preparation(backbone.settings),
        )
        return torch.from_numpy(values)

    @cache  # read when they are needed, and then once
    def tokens() -> NDArray[np.float16]:
        return _trunk_tokens(backbone, dataset, rows, finite=finite)

    top = on_arrays(backbone.top, backbone)
    values = cached_array(
        dataset,
        rows,
        name=f"{backbone.identity()} after tokens",
        dtype="float32",
        compute=lambda begin, end: top(tokens()[begin:end]),
        batch=BATCH,
        finite=finite,
    )
    return torch.from_numpy(values)


#: Bytes of the tokens of all views, up to which they are kept for other networks on the trunk.
_MOST_KEPT = 2**31


def _of_views(backbone: Backbone, dataset: Dataset, rows: Sequence[Row], *, finite: bool) -> Tensor:
    """Features in several views by a network whose last blocks are trained, (N, D).

    They are to the bit those of the network in one piece, and stand in the cache under its name.
    Of few images the trunk's tokens are kept, in float32, which other networks on it share.
    """
    size_px, views = backbone.settings.size_px, backbone.settings.views
    prepare = preparation(backbone.settings)
    whole, top = on_arrays(backbone, backbone), on_arrays(backbone.top, backbone)

    keeps = cache(lambda: _keeps_views(backbone, len(rows)))  # asked where they are computed

    @cache  # read when they are needed, and then once
    def tokens(view: int) -> NDArray[np.float32]:
        return _tokens_of_view(backbone, dataset, rows, view, finite=finite)

    def compute(begin: int, end: int) -> NDArray[Any]:
        if not keeps():
            return whole(load_images(dataset, rows[begin:end], size_px, prepare))
        mean: NDArray[Any] = top(tokens(0)[begin:end])
        for view in range(1, views):
            mean += top(tokens(view)[begin:end])
        mean /= views
        return mean

    values = cached_array(
        dataset,
        rows,
        name=f"{backbone.identity()} at {size_px} px",
        dtype="float32",
        compute=compute,
        batch=BATCH,
        what=f"features by {backbone.settings.name}",
        finite=finite,
    )
    return torch.from_numpy(values)


def _keeps_views(backbone: Backbone, n_images: int) -> bool:
    """Whether the tokens of each view that features are the mean of are few enough to be kept."""
    side = backbone.settings.size_px
    device = next(backbone.network.parameters()).device
    with torch.inference_mode():
        tokens = backbone.trunk(torch.zeros(1, 1, side, side, device=device))
    return n_images * backbone.settings.views * tokens.numel() * 4 <= _MOST_KEPT


def _tokens_of_view(
    backbone: Backbone, dataset: Dataset, rows: Sequence[Row], view: int, *, finite: bool
) -> NDArray[np.float32]:
    """What the trunk gives for one of the views that features are the mean of, (N, ...)."""
    order = backbone.settings.view_order

    def trunk(images: Tensor) -> Tensor:
        return backbone.trunk([*dihedral_views(images, view + 1, order)][view])

    return cached_features(
        dataset,
        rows,
        extractor_id=f"{backbone.trunk_identity()} view {view + 1}",
        size_px=backbone.settings.size_px,
        compute=on_arrays(trunk, backbone),
        batch=BATCH,
        what=f"trunk tokens of view {view + 1}",
        finite=finite,
        prepare=preparation(backbone.settings),
    )


def volume_features(backbone: Backbone) -> OnArrays:
    """What computes the features, (n, F), of volumes (n, D, S, S), and keeps nothing.

    A frozen network sees slices, each by itself, which are pooled; a network that was trained on
    volumes sees each volume by itself.
    """
    network = on_arrays(backbone, backbone)
    if isinstance(backbone, VolumeNetwork):
        return network
    return of_slices(backbone.settings, network)


def _of_volumes(
    backbone: Backbone, dataset: Dataset, rows: Sequence[Row], *, finite: bool
) -> Tensor:
    """Features of volumes, (N, D), from the data set's cache."""
    compute = volume_features(backbone)
    values = cached_array(
        dataset,
        rows,
        name=f"{backbone.identity()} of volumes",
        dtype="float32",
        compute=lambda begin, end: compute(load_volumes(dataset, rows[begin:end])),
        batch=VOLUMES_AT_ONCE,
        what=f"features by {backbone.settings.name}",
        finite=finite,
    )
    return torch.from_numpy(values)


def augmented_features(
    backbone: Backbone,
    dataset: Dataset,
    rows: Sequence[Row],
    views: int,
    *,
    grain: float | None = None,
    finite: bool = True,
) -> Tensor:
    """Features of each image, of `views` - 1 random views of it, and of a copy with noise.

    Args:
        backbone: the network.
        dataset: the opened data set.
        rows: N of its rows.
        views: of each image, itself among them.
        grain: the largest standard deviation of the noise of a last one (`with_grain`), if any.
        finite: as `backbone_features`.

    Returns:
        (N, V, D) float32, V `views` and one more with `grain`; the first is the image.
    """
    refuse_views_for_head(dataset.info, views=views, grain=grain)
    shown = [backbone_features(backbone, dataset, rows, finite=finite).unsqueeze(1)]
    if views > 1:
        shown.append(_of_random_views(backbone, dataset, rows, views, finite=finite))
    if grain is not None:
        shown.append(_of_grainy_copies(backbone, dataset, rows, grain, finite=finite))
    return torch.cat(shown, dim=1)


def _of_grainy_copies(
    backbone: Backbone, dataset: Dataset, rows: Sequence[Row], grain: float, *, finite: bool
) -> Tensor:
    """Features of a copy of each image with noise, (N, 1, D)."""
    denoise = preparation(backbone.settings)

    def prepare(image: NDArray[np.float32]) -> NDArray[np.float32]:
        copy = with_grain(image, grain)
        return copy if denoise is None else denoise(copy)

    values = cached_features(
        dataset,
        rows,
        extractor_id=f"{backbone.identity()} grain {GRAIN_VERSION} up to {grain:g}",
        size_px=backbone.settings.size_px,
        compute=on_arrays(backbone, backbone),
        batch=BATCH,
        what=f"noisy copies of {dataset.info.name}",
        finite=finite,
        prepare=prepare,
    )
    return torch.from_numpy(values).unsqueeze(1)


def _of_random_views(
    backbone: Backbone, dataset: Dataset, rows: Sequence[Row], views: int, *, finite: bool
) -> Tensor:
    """Features of `views` - 1 random views of each image, (N, views - 1, D)."""
    others = _of_other_views(
        backbone,
        backbone,
        dataset,
        rows,
        views=views,
        module_id=backbone.identity(),
        dtype="float32",
        finite=finite,
    )
    return torch.from_numpy(others)


def seen_views(
    backbone: Backbone, dataset: Dataset, rows: Sequence[Row], views: int
) -> NDArray[np.float16]:
    """The views themselves that a trunk hands on, (N, views, 1, S, S); of volumes the one.

    Those of an image are the same whichever images are asked for with it.
    """
    refuse_other_form(backbone.settings, dataset.info)
    refuse_kept_views(dataset.info, views)
    if dataset.info.depth is not None:
        return load_volumes(dataset, rows).astype(np.float16)[:, None]
    images = load_images(dataset, rows, backbone.settings.size_px, preparation(backbone.settings))
    return augment_views(images, views=views, seed=_VIEWS_SEED).astype(np.float16)


def kept_views(
    backbone: Backbone, dataset: Dataset, rows: Sequence[Row], views: int, *, finite: bool = True
) -> tuple[NDArray[np.float16], NDArray[np.float16] | None]:
    """What a trunk of tokens gives for each image, (N, ...), and for its other views, if any.

    Both are in memory that the system may take back, where they are large: the cache's file has
    them.

    Raises:
        InputError: when an image is unreadable.
        RunError: when a token is not finite, unless these are allowed (`cached_array`).
    """
    if not finite:
        refuse_damaged(backbone)
    refuse_other_form(backbone.settings, dataset.info)
    own = _trunk_tokens(backbone, dataset, rows, finite=finite)
    if views == 1:
        return own, None
    others = _of_other_views(
        backbone.trunk,
        backbone,
        dataset,
        rows,
        views=views,
        module_id=backbone.trunk_identity(),
        dtype="float16",
        finite=finite,
    )
    return own, others


def _trunk_tokens(
    backbone: Backbone, dataset: Dataset, rows: Sequence[Row], *, finite: bool
) -> NDArray[np.float16]:
    """What the frozen trunk gives for `rows`, (N, ...) float16, from the data set's cache.

    Every classifier with the same frozen trunk shares it.
    """
    size_px, trunk = backbone.settings.size_px, on_arrays(backbone.trunk, backbone)
    prepare = preparation(backbone.settings)
    shares = cache(lambda: backbone.settings.views > 1 and _keeps_views(backbone, len(rows)))

    @cache  # what features in several views begin with, which is the image itself
    def own() -> NDArray[np.float32]:
        return _tokens_of_view(backbone, dataset, rows, 0, finite=finite)

    return cached_array(
        dataset,
        rows,
        name=f"{backbone.trunk_identity()} at {size_px} px",
        dtype="float16",
        compute=lambda begin, end: (
            own()[begin:end]
            if shares()
            else trunk(load_images(dataset, rows[begin:end], size_px, prepare))
        ),
        batch=BATCH,
        what="trunk tokens",
        finite=finite,
    )


def _of_other_views(
    module: Callable[[Tensor], Tensor],
    backbone: Backbone,
    dataset: Dataset,
    rows: Sequence[Row],
    *,
    views: int,
    module_id: str,
    dtype: str,
    finite: bool,
) -> NDArray[Any]:
    """What `module` of a backbone gives for random views of each image, (N, views - 1, ...)."""
    compute_view = on_arrays(module, backbone)

    def of_others(images: NDArray[np.float32]) -> NDArray[Any]:
        others = augment_views(images, views=views, seed=_VIEWS_SEED)[:, 1:]
        return np.stack([compute_view(others[:, index]) for index in range(views - 1)], axis=1)

    return cached_features(
        dataset,
        rows,
        extractor_id=f"{module_id} views 2 to {views} by synthdp {__version__}",
        size_px=backbone.settings.size_px,
        compute=of_others,
        batch=BATCH,
        what=f"augmented views of {dataset.info.name}",
        dtype=dtype,
        finite=finite,
        prepare=preparation(backbone.settings),
    )
