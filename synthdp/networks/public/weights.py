"""Public weights of a timm network: a checked file or the hub, fitted to the input side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from timm.models import swin_transformer, swin_transformer_v2
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from synthdp.checkpoint import load_weights
from synthdp.errors import InputError
from synthdp.networks.public.weight_files import HUB, fetch_command, weights_file
from synthdp.networks.settings import BackboneSettings
from synthdp.storage.files import sha256_file

#: The file of weights in a repository of the hub.
HUB_FILE = "model.safetensors"
#: Tensors of published files that no network here reads: classifiers, and poolings of timm's own.
UNUSED = ("head.", "head_dist.", "classifier.", "attn_pool.", "mask_token")
_SWIN_FILTERS = {
    SwinTransformer: swin_transformer.checkpoint_filter_fn,
    SwinTransformerV2: swin_transformer_v2.checkpoint_filter_fn,
}
_SHOWN_NAMES = 5


def load_public_weights(
    network: Any, settings: BackboneSettings, *, setting: str = "backbone"
) -> None:
    """Load the weights that `settings` names, fitted to the network's input side.

    Without weights in the settings the network keeps its random start.

    Args:
        network: of timm.
        settings: name the network and its weights.
        setting: what the settings are called in errors.

    Raises:
        InputError: when they are missing, of another sha256, or of another network.
    """
    if settings.weights is None:
        return
    published = _published(settings, settings.weights, setting)
    state = {name: value for name, value in published.items() if not name.startswith(UNUSED)}
    _sum_colours(network, state)
    if isinstance(network, VisionTransformer):
        if "pos_embed" in state and network.pos_embed is not None:
            state["pos_embed"] = _resampled(state["pos_embed"], network)
    elif type(network) in _SWIN_FILTERS:
        state = _SWIN_FILTERS[type(network)](state, network)
    load_tensors(network, state, what=f"the weights for {settings.name}")


def _published(settings: BackboneSettings, weights: Path, setting: str) -> dict[str, Tensor]:
    """The tensors of the hub or of the file, floating ones in float32."""
    if weights == HUB:
        cached = hub_file(settings.name)
        # without `file` timm asks the hub whether there is a newer one
        overlay = {"file": str(cached), "custom_load": False} if cached is not None else None
        try:
            state = timm.create_model(
                settings.name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay
            ).state_dict()
        except Exception as error:  # whatever the hub's client raises offline
            raise InputError(
                f"{setting}.weights: the hub did not give weights for {settings.name} "
                f"({type(error).__name__}); connect, or name a local file with its sha256"
            ) from error
    else:
        if settings.sha256 is None and weights.is_file():
            raise InputError(
                f"{setting}.sha256 is missing: weights from a file are checked; if this file is "
                f"the one that you mean, set {setting}.sha256={sha256_file(weights)}"
            )
        state = load_weights(weights_file(settings, setting=setting), settings.sha256)
    return {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }


def hub_file(name: str) -> Path | None:
    """The file of a network's weights that timm has downloaded before; None where there is none."""
    named, in_repository = hub_repository(name)
    if not named:
        return None
    repository, _, revision = named.partition("@")
    file = huggingface_hub.try_to_load_from_cache(
        repository, in_repository, revision=revision or None
    )
    return Path(file) if isinstance(file, str) and file.endswith(".safetensors") else None


def hub_repository(name: str) -> tuple[str, str]:
    """The repository of a network's weights on the hub, and the file in it; empty without one."""
    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if known is None or not known.hf_hub_id:
        return "", ""
    return known.hf_hub_id, known.hf_hub_filename or HUB_FILE


def refuse_download(name: str) -> None:
    """Refuse weights of the hub that are not on this machine: a received model names them.

    Raises:
        InputError: when timm would download them.
    """
    if hub_file(name) is None:
        raise InputError(
            f"backbone.weights: this model asks for a download of {name} from the hub, and a model "
            "that was received downloads nothing; if you want these weights, fetch them once with "
            f"{fetch_command(name)}"
        )


def _sum_colours(network: Any, state: dict[str, Tensor]) -> None:
    """For a network of grey images, sum the first layer's weights of three colours, in place."""
    first = f"{network.pretrained_cfg['first_conv']}.weight"
    own = network.state_dict().get(first)
    given = state.get(first)
    if own is not None and given is not None and (own.shape[1], given.shape[1]) == (1, 3):
        state[first] = given.sum(dim=1, keepdim=True)


def _resampled(embedding: Tensor, network: Any) -> Tensor:
    """A ViT's position embedding (1, L, C) for the network's grid.

    Bicubic without antialias, as DINOv2's own code does; timm would antialias.
    """
    grid = network.patch_embed.grid_size
    n_prefix = 0 if network.no_embed_class else network.num_prefix_tokens
    n_patches = embedding.shape[1] - n_prefix
    side = round(max(n_patches, 0) ** 0.5)
    if embedding.ndim != 3 or side * side != n_patches or (side, side) == tuple(grid):
        return embedding
    prefix, patches = embedding[:, :n_prefix], embedding[:, n_prefix:]
    square = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False, antialias=False)
    return torch.cat([prefix, resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def load_tensors(network: nn.Module, state: Mapping[str, Tensor], *, what: str) -> None:
    """Load all tensors of a network; `what` names them in the error.

    Raises:
        InputError: naming the tensors that are missing, unknown or of another shape.
    """
    own = network.state_dict()
    misfits = {
        "missing": sorted(own.keys() - state.keys()),
        "unknown": sorted(state.keys() - own.keys()),
        "of another shape": sorted(
            name for name in own.keys() & state.keys() if own[name].shape != state[name].shape
        ),
    }
    problems = [f"{kind}: {_listed(names)}" for kind, names in misfits.items() if names]
    if problems:
        raise InputError(
            f"{what} don't fit ({'; '.join(problems)}); name the model that they are of"
        )
    network.load_state_dict(state)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more
