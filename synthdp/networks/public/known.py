"""Public networks whose licence and makers are known: what may go along with a model, and credit.

A network is known by what it holds, or by the repository that timm fetched it from: never by its
name alone, since a file that a setting calls by a public network's name may have been trained on
patients.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from synthdp.networks.public.weights import UNUSED

#: Licences under which weights may be passed on, by their SPDX names; their texts stand beside.
FREE_LICENCES = ("Apache-2.0", "MIT")
_LICENCES = Path(__file__).parent / "licences"


@dataclass(frozen=True)
class KnownNetwork:
    """Where public weights come from.

    licence: its SPDX name, or what timm calls one that is none of `FREE_LICENCES`; credit: who
    made it, and where that is written; hub: its repository, where it is known to hold this very
    content.
    """

    licence: str
    credit: str
    hub: str = ""

    @property
    def may_be_passed_on(self) -> bool:
        """Whether its licence lets a copy of it go along with a model."""
        return self.licence in FREE_LICENCES


_DINOV2 = KnownNetwork(
    "Apache-2.0",
    "DINOv2, Meta AI (Copyright (c) Meta Platforms, Inc. and affiliates): Oquab et al., arXiv "
    "2304.07193; https://github.com/facebookresearch/dinov2",
)
_EFFICIENTNET_LITE = KnownNetwork(
    "Apache-2.0",
    "EfficientNet-Lite, Google (Copyright The TensorFlow Authors), trained on ImageNet-1k: Tan and "
    "Le, arXiv 1905.11946; https://github.com/tensorflow/tpu; brought to PyTorch by Ross Wightman",
)
_AUGREG = KnownNetwork(
    "Apache-2.0",
    "ViT, Google (Copyright Google LLC): Steiner et al., arXiv 2106.10270; "
    "https://github.com/google-research/vision_transformer; brought to PyTorch by Ross Wightman",
)
_SWIN = KnownNetwork(
    "MIT",
    "Swin Transformer, Microsoft (Copyright (c) Microsoft Corporation): Liu et al., arXiv "
    "2103.14030; https://github.com/microsoft/Swin-Transformer",
)
_RESNET = KnownNetwork(
    "Apache-2.0",
    "ResNet of timm (Copyright Ross Wightman): Wightman et al., arXiv 2110.00476; "
    "https://github.com/huggingface/pytorch-image-models",
)
_TIMM_TEST = KnownNetwork(
    "Apache-2.0",
    "a test network of timm (Copyright Ross Wightman); "
    "https://github.com/huggingface/pytorch-image-models",
)
#: Repositories of timm on the hub, by a pattern, and what they hold.
_OF_HUB = {
    r"timm/vit_(small|base|large|giant)_patch14(_reg4)?_dinov2\.lvd142m": _DINOV2,
    r"timm/tf_efficientnet_lite[0-4]\.in1k": _EFFICIENTNET_LITE,
    r"timm/vit_(tiny|small|base|large)_patch(16|32)_(224|384)\.augreg[\w.]*": _AUGREG,
    r"timm/swin_\w+\.ms_in(1k|22k|22k_ft_in1k)": _SWIN,
    r"timm/resnet(18|34|50|101|152)\.a[123]_in1k": _RESNET,
    r"timm/test_\w+\.r160_in1k": _TIMM_TEST,
}
#: What files hold, by `tensors_digest`.
_BY_CONTENT = {
    "68200044327e738d52e18857bdbb78454d883c71576d9295cf019c2aaa23c0e8": _DINOV2,
    "94dfa4480133d7b8e54281bc41d185ffd657ae9166f1a462008e4c7cc7a2170a": _EFFICIENTNET_LITE,
}


def known_by_hub(repository: str) -> KnownNetwork | None:
    """What a repository of the hub is known to hold, such as `timm/resnet18.a1_in1k`."""
    for pattern, known in _OF_HUB.items():
        if re.fullmatch(pattern, repository):
            return replace(known, hub=repository)
    return None


def known_by_content(tensors: Mapping[str, Tensor]) -> KnownNetwork | None:
    """What tensors are known to be, in whatever precision they are stored."""
    return _BY_CONTENT.get(tensors_digest(tensors))


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors that a network reads, floating ones rounded to half precision.

    It is the same for a file in single precision and for its copy in half.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if not name.startswith(UNUSED):
            plain = tensor.detach().cpu().contiguous()
            plain = plain.to(torch.float16) if plain.is_floating_point() else plain
            digest.update(f"{name} {tuple(plain.shape)} {plain.dtype}".encode())
            digest.update(plain.numpy().tobytes())
    return digest.hexdigest()


def licence_file_text(licence: str, credits: str) -> str:
    """The text of a free licence, below the names of those whose work is under it."""
    text = (_LICENCES / f"{licence}.txt").read_text(encoding="utf-8")
    return f"{credits}\n\n{text}"
