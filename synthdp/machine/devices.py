"""Where networks run, and in which precision."""

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
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


def kernels(*, threads: bool = True) -> str:
    """What decides which code of a library computes here, and in which order it adds up.

    Without `threads` that of functions whose sums are never shared among them.
    """
    processor = ""
    with contextlib.suppress(OSError):  # Linux alone has it
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line for line in lines if line.startswith("model name")), "")
    here = torch.cuda.is_available()
    return "|".join(
        [
            platform.machine(),
            processor,
            torch.backends.cpu.get_cpu_capability(),
            torch.__version__,
            str(torch.get_num_threads()) if threads else "",
            torch.cuda.get_device_name() if here else "no GPU",
        ]
    )


@contextlib.contextmanager
def reproducible() -> Iterator[None]:
    """Let torch use only kernels that give the same bits again for the same numbers.

    Without it some add up in the order in which threads come, on a processor too: of a Swin's table
    of positions the gradient is summed so.

    Raises:
        InputError: when an operation inside has no such kernel on this device; names it.
    """
    # what cuBLAS asks for; it is read when a product is taken
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # a check that takes time
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        reason = str(error).split(".")[0]
        raise InputError(
            f"{reason}, so that a patient's gradient would differ from run to run; train on "
            "another device, or a network without that operation"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        memory.fill_uninitialized_memory = filled
