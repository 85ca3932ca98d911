"""Whether a network keeps the images of a batch apart: by the kinds of its layers, and by trial.

The mean of per-image gradients is the gradient of the mean loss only where no image's output
depends on another image. And what a layer keeps of the images that it saw, no noise covers. Kinds
that do either are known by name (`refuse_coupling_layers`); what no list names shows on public
noise (`refuse_coupled_examples`).
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from synthdp.errors import InputError
from synthdp.machine.devices import reproducible

#: Images of noise that go through a network together.
_IMAGES = 3
#: How far an image's output may move, as a share of the largest, when nothing moves it: rounding.
_ROUNDING = 1e-4
#: The same from one size of batch to another, in bfloat16 too.
_OF_SIZES = 5e-2
#: How many images there are where gradients are tried, and what is left in memory before each.
_ALONE_AND_NOT = (1, 2)
LEFT_IN_MEMORY = (0.0, math.nan, 3e9, -1.0, math.inf, 7e-9)
#: Entries of the blocks of memory that are filled so: small and large ones.
_BLOCKS = tuple(2**power for power in range(6, 21, 2))
#: What the trial adds to weights, over the root of how many are summed: so that none hides a layer
#: behind zeros, as new heads, residual scales and norms have them.
_STIRRED = 0.5


def couples(layer: nn.Module) -> bool:
    """Whether a layer, in its present mode, mixes images or keeps figures of those it saw."""
    if not isinstance(layer, _NormBase) or not layer.training:
        return False
    return isinstance(layer, _BatchNorm) or layer.track_running_stats


def refuse_mixing_layers(module: nn.Module) -> None:
    """Refuse layers that mix the images of a batch, or keep figures of the images they saw.

    A BatchNorm in evaluation mode does neither.

    Raises:
        InputError: naming the layer, and what to put in its place.
    """
    for name, layer in module.named_modules():
        if couples(layer):
            raise InputError(
                f"the layer {name or 'itself'} ({type(layer).__name__}) mixes the images of a "
                "batch, or keeps figures of patients that no noise covers; put torch.nn.GroupNorm "
                "in its place, or freeze it: call eval() on it after model.train()"
            )


def refuse_complex_weights(module: nn.Module) -> None:
    """Refuse trained weights that are complex: clipping and noise are of real vectors.

    Raises:
        InputError: naming the weight.
    """
    for name, weights in module.named_parameters():
        if weights.requires_grad and weights.is_complex():
            raise InputError(
                f"the weight {name} is complex, and a patient's vector is clipped and noised as "
                "real numbers; hold its real and its imaginary part as weights of their own"
            )


def draws_at_random(layer: nn.Module) -> bool:
    """Whether a layer, in its present mode, drops at random: dropout and drop path."""
    rates = (getattr(layer, name, 0) for name in ("p", "drop_prob", "dropout", "drop_rate"))
    return layer.training and any(isinstance(rate, float) and rate > 0 for rate in rates)


def refuse_coupling_layers(module: nn.Module) -> None:
    """Refuse layers that mix images, keep figures of them, or draw at random.

    Raises:
        InputError: naming the layer, and the mend.
    """
    refuse_mixing_layers(module)
    refuse_complex_weights(module)
    for name, layer in module.named_modules():
        if draws_at_random(layer):
            raise InputError(
                f"the layer {name or 'itself'} ({type(layer).__name__}) drops at random, so that a "
                "patient's gradient depends on who was drawn before; set its rate to 0, or call "
                "eval() on it"
            )


def refuse_coupled_examples(
    module: nn.Module, shape: tuple[int, ...], *, what: str = "the network"
) -> None:
    """Refuse a module in which, on noise, one image moves the output of another.

    It is tried as a copy whose weights are stirred, since a layer behind a zero would not show.
    Tried too: that it draws nothing, writes no buffer, gives an image alone what it gives it in a
    batch, and that no gradient holds what stood in memory before. Some kernels read memory that
    nobody wrote, where other patients' numbers may stand; one that does is known by its layer
    (`_reads_unwritten`), since a trial finds such memory now and then alone.

    Args:
        module: inputs (B, ...) to outputs (B, ...).
        shape: of one input.
        what: the module's name in errors.

    Raises:
        InputError: naming the first layer that shows it.
    """
    generator = torch.Generator().manual_seed(0)
    tried = _Tried(module, generator)
    images = torch.randn(_IMAGES, *shape, generator=generator).clamp_(-1, 1)
    tried.refuse_moved(
        (images, images),
        range(_IMAGES),
        f"{what} gives the same images another output: it draws at random or remembers; set its "
        "dropout to 0",
    )
    for moved in range(_IMAGES):
        changed = images.clone()
        changed[moved] = 3 * torch.randn(shape, generator=generator)
        tried.refuse_moved(
            (images, changed),
            [index for index in range(_IMAGES) if index != moved],
            f"{what} mixes the images of a batch: one moves the output of another, so that no "
            "gradient is a patient's own; take GroupNorm or LayerNorm for a norm over the batch, "
            "and no layer that looks along the first axis",
        )
    together, alone = tried.outputs(images)[0], tried.outputs(images[:1])[0]
    if not torch.allclose(alone, together, _OF_SIZES, _OF_SIZES * float(alone.abs().max())):
        raise InputError(
            f"{what} gives an image alone another output than in a batch, so that no gradient is "
            "a patient's own; take a network whose output for an image depends on it alone"
        )
    if (changed_one := tried.moved_tensor()) is not None:
        raise InputError(
            f"{what}: its {changed_one} changes while images go through it, and no noise covers "
            "what it keeps of patients; take a network without it"
        )
    tried.refuse_unwritten(images[:1], what)
    for n_images in _ALONE_AND_NOT:
        tried.refuse_leftovers(images[:n_images], what)


@contextmanager
def weights_of_unwritten(module: nn.Module) -> Iterator[list[str]]:
    """Names of weights whose gradients are known to hold memory that nobody wrote.

    Filled while images go through the module; empty where no such layer was called.
    """
    known: list[str] = []

    def look(name: str, layer: nn.Module, inputs: object, output: object) -> None:
        if not isinstance(inputs, Tensor) or not isinstance(output, Tensor):
            return
        if _reads_unwritten(layer, inputs, output):
            known.append(f"{name}.weight".removeprefix("."))

    with _watched(module, look):
        yield known


def _reads_unwritten(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> bool:
    """Whether the gradient of a layer's weights is known to hold memory that nobody wrote.

    That of a convolution in bfloat16 by oneDNN 3.11 does, where a padded map is narrower than the
    stride: of some 7,000 kernels, strides, paddings, groups, sides and layouts these, and no other;
    nor do outputs, or gradients of inputs and biases, nor any in float32 or float16.

    Args:
        layer: of any kind.
        inputs: of a forward pass, (B, C, ..., W).
        outputs: what it gave for them.
    """
    if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) or isinstance(layer.padding, str):
        return False  # padding in words goes with a stride of 1, or is none
    in_bfloat16 = outputs.dtype == torch.bfloat16 and outputs.device.type == "cpu"
    narrow = inputs.shape[-1] < layer.stride[-1] and layer.padding[-1] > 0
    # a weight may be made of parameters of its own, as a norm of weights makes it
    trained = any(one.requires_grad for name, one in layer.named_parameters() if name != "bias")
    return in_bfloat16 and narrow and trained


@contextmanager
def _watched(
    module: nn.Module, look: Callable[[str, nn.Module, object, object], None]
) -> Iterator[None]:
    """Let `look` see each layer's calls: its name, itself, its first input and its output."""

    def hook(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        return lambda layer, inputs, output: look(name, layer, next(iter(inputs), None), output)

    hooks = [layer.register_forward_hook(hook(name)) for name, layer in module.named_modules()]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


def _leftover_words(what: str, weight: str) -> str:
    return (
        f"{what}: on this processor the gradient of {weight} holds what stood in memory before, "
        "which may be another patient's; set backbone.precision: float32, or a larger "
        "backbone.size_px"
    )


def leave_in_memory(value: float, device: torch.device) -> None:
    """Let a value stand in memory that is free again, which what asks for memory next gets."""
    for size in _BLOCKS:
        torch.full((size,), value, dtype=torch.float32, device=device)


class _Tried:
    """A copy of a module with its weights stirred, and what it gives for noise."""

    def __init__(self, module: nn.Module, generator: torch.Generator) -> None:
        self._module = copy.deepcopy(module)
        self._device = next(module.parameters()).device
        for weights in self._module.parameters():
            summed = weights.numel() / max(1, *weights.shape[:1])
            stirred = torch.randn(weights.shape, generator=generator) * _STIRRED / summed**0.5
            weights.data += stirred.to(weights)
        self._began_with = {name: tensor.clone() for name, tensor in self._tensors().items()}

    def _tensors(self) -> dict[str, Tensor]:
        """All that the copy holds, by words for each."""
        held = {f"buffer {name}": tensor for name, tensor in self._module.named_buffers()}
        held |= {f"weight {name}": one.detach() for name, one in self._module.named_parameters()}
        return held

    def moved_tensor(self) -> str | None:
        """A buffer or a weight that images have moved, in words; None where none is."""
        for name, now in self._tensors().items():
            before = self._began_with.get(name)
            if before is None or not torch.equal(_numbers(now), _numbers(before)):
                return name
        return None

    def outputs(self, images: Tensor) -> Tensor:
        """What it gives for images, (B, ...)."""
        with torch.no_grad():
            outputs: Tensor = self._module(images.to(self._device))
        return outputs

    def refuse_moved(self, images: tuple[Tensor, Tensor], rows: Sequence[int], words: str) -> None:
        """Refuse a module that gives other outputs, in `rows`, for the second images."""
        first, second = (self.outputs(one) for one in images)
        if _moved(first, second, rows):
            inside = (self._of_layers(one) for one in images)
            layers = zip(*(outputs.items() for outputs in inside), strict=False)
            seen = [name for (name, old), (_, new) in layers if _moved(old, new, rows)]
            raise InputError(f"{words}{f' (seen first after the layer {seen[0]})' if seen else ''}")

    def refuse_unwritten(self, images: Tensor, what: str) -> None:
        """Refuse a module in which a layer is known to read memory that nobody wrote."""
        with weights_of_unwritten(self._module) as known:
            self.outputs(images)
        if known:
            raise InputError(_leftover_words(what, known[0]))

    def refuse_leftovers(self, images: Tensor, what: str) -> None:
        """Refuse a module whose gradients for the same images depend on what memory held before."""
        weights = {name: one for name, one in self._module.named_parameters() if one.requires_grad}
        seen: tuple[Tensor, ...] = ()
        for left in LEFT_IN_MEMORY:
            leave_in_memory(left, self._device)
            with torch.enable_grad(), reproducible():
                total = self._module(images.to(self._device)).float().square().sum()
                gradients = torch.autograd.grad(
                    total, list(weights.values()), allow_unused=True, materialize_grads=True
                )
            for name, old, new in zip(weights, seen, gradients, strict=False):
                if not torch.equal(old.nan_to_num(), new.nan_to_num()):
                    raise InputError(_leftover_words(what, name))
            seen = gradients

    def _of_layers(self, images: Tensor) -> dict[str, Tensor]:
        """What the innermost layers give for each image, (B, ...), in the order of calls."""
        outputs: dict[str, Tensor] = {}

        def keep(name: str, layer: nn.Module, _inputs: object, output: object) -> None:
            if not name or any(True for _ in layer.children()):
                return
            if isinstance(output, Tensor) and output.ndim and len(output) % len(images) == 0:
                # windows of an image stand one after another
                outputs.setdefault(name, output.reshape(len(images), -1).clone())

        with _watched(self._module, keep):
            self.outputs(images)
        return outputs


def _numbers(values: Tensor) -> Tensor:
    """The same, real and without what is no number, so that equal ones compare as equal."""
    return (torch.view_as_real(values) if values.is_complex() else values).nan_to_num()


def _moved(old: Tensor, new: Tensor, rows: Sequence[int]) -> bool:
    """Whether rows of two outputs differ by more than rounding."""
    rounding = _ROUNDING * float(old.nan_to_num().abs().max())
    return not torch.allclose(old[list(rows)], new[list(rows)], 0, rounding, equal_nan=True)
