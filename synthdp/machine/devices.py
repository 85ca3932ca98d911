"""Where networks run, and in which precision."""

from collections.abc import Mapping
from typing import Any

import torch

from synthdp.errors import InputError


def auto_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def chosen_device(name: str) -> torch.device:
    """The device that a setting names; `auto` takes CUDA where there is one.

    Raises:
        InputError: when CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda was asked for, but torch finds no CUDA device; use auto")
    return torch.device("cpu") if name == "cpu" else auto_device()


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies in bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def reduced_precision(device: torch.device, *, wanted: bool = True) -> torch.autocast:
    """Bfloat16 where it is wanted and the hardware multiplies it, else float32."""
    enabled = wanted and has_bfloat16(device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
