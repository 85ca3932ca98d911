"""The network that FID is named after, from a file of its weights.

The class is pytorch-fid's, so that the figure is the one that others report; its download and its
Frechet function are not used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.settings.assess import InceptionSettings
from synthdp.data.dataset import Dataset, Row
from synthdp.errors import InputError
from synthdp.networks.cache import cached_features
from synthdp.storage.files import sha256_file
from synthdp.storage.torch_files import load_torch

Array = NDArray[Any]

#: Where pytorch-fid looks for what fetches its weights.
_LOADER = "load_state_dict_from_url"


def load_inception(settings: InceptionSettings) -> Any:
    """Build pytorch-fid's InceptionV3, up to its last pooling, with the weights of the file."""
    if not settings.weights.is_file():
        raise InputError(
            "inception.weights: there is no such file; name pytorch-fid's "
            "pt_inception-2015-12-05-6726825d.pth, or leave inception out"
        )
    if (sha256 := sha256_file(settings.weights)) != settings.sha256:
        raise InputError(
            f"inception.weights: the file's SHA-256 is {sha256}, not {settings.sha256}; name the "
            "file that you mean"
        )
    state = load_torch(settings.weights, what="inception.weights")
    from pytorch_fid import inception  # noqa: PLC0415 (slow to import, seldom wanted)

    try:
        with _without_download(inception, state):
            return inception.InceptionV3().eval()
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(
            "inception.weights: not the weights of pytorch-fid's Inception; name its "
            "pt_inception-2015-12-05-6726825d.pth"
        ) from error


@contextmanager
def _without_download(inception: ModuleType, state: Any) -> Iterator[None]:
    """Give pytorch-fid these weights where it would download its own."""
    fetches = getattr(inception, _LOADER)
    setattr(inception, _LOADER, lambda *_, **__: state)
    try:
        yield
    finally:
        setattr(inception, _LOADER, fetches)


def inception_features(network: Any, dataset: Dataset, rows: list[Row], sha256: str) -> Array:
    """Pooled features (N, 2048) float32 of grey images, from the data set's cache where known.

    The class itself resamples to 299 px; it is fed three equal channels in [0, 1].
    """

    def compute(images: Array) -> Array:
        with torch.inference_mode():
            grey: Tensor = (torch.from_numpy(images) + 1) / 2
            features: Array = network(grey.expand(-1, 3, -1, -1))[0].flatten(1).numpy()
        return features

    return cached_features(
        dataset,
        rows,
        extractor_id=f"pytorch-fid inception {sha256}",
        size_px=dataset.info.size_px,
        compute=compute,
        batch=16,
        what="Inception features",
    )
