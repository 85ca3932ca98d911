"""What a module keeps of images that went through it: weights, figures of layers, and memory.

A private step may let nothing through but the noisy sum. What a layer or a loss keeps beside it
would tell of patients without noise, and is refused.
"""

import pickle
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from classify.network.apart import LEFT_IN_MEMORY, leave_in_memory, weights_of_unwritten
from synthdp.errors import InputError

#: How far apart two computations of one gradient may come, relatively.
_SAME = 1e-3


def held_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all that a module holds: parameters and buffers."""
    tensors = chain(model.named_parameters(), model.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in tensors}


def kept_values(model: nn.Module) -> dict[str, Any]:
    """What layers keep beside parameters and buffers, and what leaves with them: a copy.

    Numbers and tensors that are plain attributes, and what a layer adds to `state_dict`.
    """
    kept: dict[str, Any] = {}
    for layer_name, layer in model.named_modules():
        for name, value in vars(layer).items():
            if isinstance(value, Tensor):
                kept[f"{layer_name}.{name}"] = value.detach().clone()
            elif isinstance(value, int | float) and name != "training":
                kept[f"{layer_name}.{name}"] = torch.tensor(float(value), dtype=torch.float64)
        if type(layer).get_extra_state is not nn.Module.get_extra_state:
            kept[f"{layer_name}.get_extra_state()"] = pickle.dumps(layer.get_extra_state())
    return kept


def refuse_changed_values(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Refuse a layer that keeps something else since patients' images went through it.

    Raises:
        InputError: naming it.
    """
    for name, value in after.items():
        if name not in before or differ(value, before[name]):
            raise InputError(
                f"{name.lstrip('.')}: changed while patients' images went through it, and no noise "
                "covers what it keeps; take it out of the module (where it is a constant that is "
                "made in the first call, call the module once on a made-up image before)"
            )


def differ(one: Any, other: Any) -> bool:
    """Whether two tensors, or bytes, differ; what is no number is alike in both."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return bool(one != other)
    return not (
        torch.equal(one, other) or torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))
    )


def refuse_memory(before: list[Tensor], after: list[Tensor]) -> None:
    """Refuse a loss, or a module, that gives a patient another gradient after others came.

    Args:
        before: the gradient as it was, one tensor a parameter.
        after: as it is once other patients' images went through.

    Raises:
        InputError: when they differ by more than rounding.
    """
    one, other = (
        torch.cat([part.flatten() for part in parts]).nan_to_num() for parts in (before, after)
    )
    if float((one - other).norm()) > _SAME * float(one.norm()):
        raise InputError(
            "the loss gives the same patient another gradient once others were seen: it, or "
            "the module, remembers what it saw (a running mean, a memory bank), or draws at "
            "random from a generator of its own; take what depends on one patient out of it, and "
            "draw by torch, random or numpy.random"
        )


def refuse_leftovers(
    model: nn.Module, first: list[Tensor], again: Callable[[], list[Tensor]]
) -> None:
    """Refuse kernels whose gradient holds what stood in memory before, as another patient's.

    Args:
        model: the module that is trained.
        first: a patient's gradient, one tensor a parameter.
        again: computes it once more.

    Raises:
        InputError: when it differs after the memory was filled with something else, or a layer of
            the module is known for such a kernel (`weights_of_unwritten`).
    """
    one = torch.cat([part.flatten() for part in first])
    for value in LEFT_IN_MEMORY:
        leave_in_memory(value, one.device)
        with weights_of_unwritten(model) as known:
            other = torch.cat([part.flatten() for part in again()])
        moved = (one.nan_to_num() - other.nan_to_num()).norm() > _SAME * one.nan_to_num().norm()
        if known or bool(moved) or not torch.equal(one.isfinite(), other.isfinite()):
            raise InputError(
                "on this processor the gradient of a patient holds what stood in memory "
                "before, which may be another patient's; compute in float32 (without "
                "autocast), or take larger images"
            )
