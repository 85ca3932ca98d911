"""Where networks run, and in which precision."""

from collections.abc import Mapping
from typing import Any

import torch

from synthdp.errors import InputError


def chosen_device(name: str) -> torch.device:
    """The device that a setting names; `auto` takes CUDA where there is one.

    Raises:
        InputError: when CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda was asked for, but torch finds no CUDA device; use auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def reduced_precision(device: torch.device) -> torch.autocast:
    """Bfloat16 where the hardware multiplies it, else a context that changes nothing."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast)
