"""The sum of patients' clipped gradients, of any network that keeps the images of a batch apart.

A patient's gradient is the mean over all views of its images, all parameters together, and is
clipped as one vector. Patients are taken one at a time: then it is the gradient of an ordinary
backward pass over the patient's own images (`added_gradients`), exact for every kind of layer, and
a function of that patient alone to the last bit, which the lattice's bound rests on
(`synthdp.privacy.noisy_sum.lattice`). What a kernel gives for one image may differ in its last bits
with the number of images beside it, and in bfloat16 those are no small part; kernels that add up
in the order in which threads come are not used at all (`synthdp.machine.devices.reproducible`).

Other ways were measured, in processor time over that of the plain step in batches of 16: a whole
ResNet9 at 64 px, patients of 1 to 8 images, one thread (`scripts/bench_dp_step.py`). One at a time
takes 1.8 times, Opacus's hooks 4.1 and its ghost clipping 3.9. Of groups of patients of as
many images by `torch.func.vmap`, a patient's bits did not move with its neighbours here, but a
group takes 1.2 to 1.3 times as long as its patients one by one, and would have to be looked at on
every machine as `synthdp.networks.alone` does. Ghost clipping gives a float32 sum over patients, in
which each is rounded with the others. Of n terms (images times places of a map) of N patients and
clip norm C, a patient moves such a sum by up to C (1 + 2 n N 2^-24), even if no terms of a patient
cancel: five times C for 64 patients of 8 images on maps of 32 x 32. So it is not taken.

The size of a physical batch, the precision, the order in memory and the number of threads change
memory and time, and a patient's vector by rounding (1e-5 of it in float32). They are public and
the same for all patients: a patient's views are cut into batches by their own number.

The last blocks of a ViT on cached tokens keep Opacus's hooks, summed within the patient
(`classify.network.hooks`): runs that were made with them stay what they were, to the last bit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from classify.network.added import added_gradients
from classify.network.apart import refuse_coupled_examples, refuse_coupling_layers
from classify.network.hooks import ViewSums
from classify.network.top import TrainedNetwork, TrainedTop
from synthdp.errors import InputError
from synthdp.machine.devices import reproducible
from synthdp.machine.progress import progress
from synthdp.privacy.noisy_sum.clipped_total import ClippedTotal


class Examples(Protocol):
    """Patients' images, each in views: what a network is trained on."""

    @property
    def targets(self) -> Tensor:
        """Of each image, (N, T) float32 in {0, 1}, nan unknown."""

    @property
    def units(self) -> Tensor:
        """The patient of each image, counted from 0, (N,) int64."""

    @property
    def tags(self) -> Sequence[bytes]:
        """A secret name for each patient."""

    @property
    def n_views(self) -> int:
        """How many views an image has."""

    @property
    def positive_weights(self) -> Tensor | None:
        """What the loss of a positive is multiplied by, (T,) float32, public; None for no such."""

    def inputs(self, images: Tensor, views: Tensor) -> Tensor:
        """What the network sees of some views: for (R,) int64 each, float (R, ...).

        Guarantee: each row is a function of that patient's images and of public values alone.
        """


@dataclass(frozen=True, eq=False)
class TokenExamples:
    """Patients' images as the frozen trunk hands them on, each in K views.

    tokens: (N, J, L, C) float16, the first J views; others: (N, K - J, L, C) float16, those behind
    them, none where J is K. They stay apart, as their files in the cache are: joined, a large set
    would stand in memory whole. The rest as in `Examples`.
    """

    tokens: NDArray[np.float16]
    targets: Tensor
    units: Tensor
    tags: Sequence[bytes]
    positive_weights: Tensor | None = None
    others: NDArray[np.float16] | None = None

    @property
    def n_views(self) -> int:
        """K."""
        return int(self.tokens.shape[1]) + (0 if self.others is None else self.others.shape[1])

    def inputs(self, images: Tensor, views: Tensor) -> Tensor:
        """The tokens of some views, (R, L, C) float16."""
        image, view, n_first = images.numpy(), views.numpy(), self.tokens.shape[1]
        if self.others is None:
            return torch.from_numpy(self.tokens[image, view])
        values = np.empty((len(image), *self.tokens.shape[2:]), dtype=self.tokens.dtype)
        first = view < n_first
        values[first] = self.tokens[image[first], view[first]]
        values[~first] = self.others[image[~first], view[~first] - n_first]
        return torch.from_numpy(values)


@dataclass(frozen=True, eq=False)
class Views:
    """Views of images, ordered by patient: (R,) int64 each, `patients` counted from 0."""

    images: Tensor
    views: Tensor
    patients: Tensor

    @cached_property
    def shares(self) -> Tensor:
        """What each view counts in the mean of its patient, (R,) float32."""
        return 1 / torch.bincount(self.patients)[self.patients].to(torch.float32)

    def batches(self, size: int) -> Iterator[slice]:
        """Slices of `size` views at most."""
        for start in range(0, len(self.images), size):
            yield slice(start, min(start + size, len(self.images)))


def all_views(examples: Examples, drawn: Tensor) -> Views:
    """All views of all images of the patients `drawn`, (U,) int64, ascending."""
    order = torch.argsort(examples.units, stable=True)  # a patient's images one after another
    images = order[torch.isin(examples.units[order], drawn)]
    n_views = examples.n_views
    patients = torch.searchsorted(drawn, examples.units[images])
    return Views(
        images=images.repeat_interleave(n_views),
        views=torch.arange(n_views).repeat(len(images)),
        patients=patients.repeat_interleave(n_views),
    )


def weighted_loss(
    module: nn.Module,
    examples: Examples,
    views: Views,
    part: slice,
    shares: Tensor,
    *,
    towards_inputs: bool = True,
) -> tuple[Tensor, Tensor]:
    """The sum over some views of their loss times their share, and the inputs that it is of.

    The loss of a view is the logistic loss summed over the known targets of its image, that of a
    positive times its weight where there are such. Without `towards_inputs` there is no gradient
    towards the inputs, which saves the first layer's.
    """
    images, device = views.images[part], next(module.parameters()).device
    seen = examples.inputs(images, views.views[part])
    # always new memory: addresses decide in which order a library adds up
    inputs = torch.empty(seen.shape, dtype=torch.float32, device=device).copy_(seen)
    inputs.requires_grad_(towards_inputs)
    targets = examples.targets[images].to(device)
    known = ~torch.isnan(targets)
    # an unknown label is left out by `where`, before the loss and after it: 0 * nan would be nan,
    # in the gradient too
    filled = torch.where(known, targets, torch.zeros_like(targets))
    weights = examples.positive_weights
    losses = F.binary_cross_entropy_with_logits(
        module(inputs),
        filled,
        reduction="none",
        pos_weight=None if weights is None else weights.to(device),
    )
    by_view = torch.where(known, losses, torch.zeros_like(losses)).sum(dim=1)
    return (by_view * shares[part].to(device)).sum(), inputs


class PatientGradients:
    """Sums over patients of their clipped mean gradients, for any module that keeps images apart.

    module: `inputs` of the examples to logits (R, T); its parameters that require gradients, each
    counted once however often it is used, are one vector, in the order of `parameters()`.

    Raises:
        InputError: when nothing is trained, or a layer couples images or draws at random; names it.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        if not self._parameters:
            raise InputError("no parameter of the network requires gradients: nothing is trained")
        self._hooked = ViewSums(module) if isinstance(module, TrainedTop) else None
        if not isinstance(module, TrainedNetwork):
            refuse_coupling_layers(module)
        self._tried = isinstance(module, TrainedNetwork)  # by whoever made it
        self._buffers = _versions(module.named_buffers())

    def clipped_sum(
        self,
        examples: Examples,
        views: Views,
        *,
        clip_norm: float,
        batch: int,
        add_up: Callable[[Sequence[Tensor]], None] = lambda sums: None,
    ) -> Tensor:
        """The sum over the patients of `views`, on the lattice of `clip_norm`: (P,) float64.

        Args:
            examples: the patients' images.
            views: what the step looks at.
            clip_norm: bound on each patient's whole vector.
            batch: how many views are computed at a time.
            add_up: adds other patients' sums in place, whole numbers of the finer step, before they
                are rounded: what other processes computed.

        Guarantee: adding or removing a patient moves it by at most `clip_norm`; a patient whose
        gradient is not finite counts as zero. Assumed: that the same kernels, of as many threads,
        give the same bits for the same patient in two runs on one machine; the sum over patients
        assumes nothing (`synthdp.privacy.noisy_sum.lattice`).

        Raises:
            InputError: when the module couples the images of a batch, as noise shows before the
                first patient is looked at, or keeps something of images in a buffer.
        """
        clipped = ClippedTotal(self._parameters, clip_norm)
        self._try_on_noise(examples, views)
        weights = _versions(self._module.named_parameters())
        with self._kernels():
            # one patient at a time: nobody's bits may depend on who else is sampled
            for patient in progress(list(_patients(views.patients)), what="gradients of a step"):
                clipped.add(self._mean_gradient(examples, views, patient, batch))
        buffers = _versions(self._module.named_buffers())
        if buffers != self._buffers or weights != _versions(self._module.named_parameters()):
            raise InputError(
                "network: a buffer, or a weight, changes while images go through the network, and "
                "no noise covers what it keeps; train a network without it"
            )
        add_up(clipped.sums)
        return clipped.total

    @contextmanager
    def _kernels(self) -> Iterator[None]:
        """Let kernels give the same bits again, and weights be rounded to bfloat16 once a step."""
        if self._hooked is not None:
            yield
            return
        device = self._parameters[0].device.type
        # a network's own autocast keeps what it rounded until the outermost one ends: this
        with reproducible(), torch.autocast(device, enabled=False):
            yield

    def _try_on_noise(self, examples: Examples, views: Views) -> None:
        """Refuse a module that couples images, as noise of the shape of its inputs shows."""
        if self._tried or not len(views.images):
            return
        shape = examples.inputs(views.images[:1], views.views[:1]).shape[1:]
        refuse_coupled_examples(self._module, tuple(shape))
        self._tried = True

    def _mean_gradient(
        self, examples: Examples, views: Views, patient: slice, batch: int
    ) -> list[Tensor]:
        """The mean over a patient's views of their gradients, a part for each parameter."""
        starts = range(patient.start, patient.stop, batch)
        parts = [slice(start, min(start + batch, patient.stop)) for start in starts]
        # each view's loss counts its share, so that the parts add up to the patient's mean
        if self._hooked is None:
            losses = (
                weighted_loss(
                    self._module, examples, views, part, views.shares, towards_inputs=False
                )[0]
                for part in parts
            )
            return added_gradients(self._parameters, ((loss, 1.0) for loss in losses))
        mean: list[Tensor] = []
        for part in parts:
            sums = self._hooked.collect()
            loss, tokens = weighted_loss(self._hooked, examples, views, part, views.shares)
            # towards the tokens alone: the hooks make the parameters' gradients
            torch.autograd.grad(loss, tokens)
            own = [sums.pop(parameter) for parameter in self._parameters]
            mean = [m + p for m, p in zip(mean, own, strict=True)] if mean else own
        return mean


def _versions(named: Iterable[tuple[str, Tensor]]) -> dict[str, tuple[int, int]]:
    """Which tensors these are, and how often each was written."""
    return {name: (id(tensor), tensor._version) for name, tensor in named}


def _patients(patients: Tensor) -> Iterator[slice]:
    """Where each patient's views stand, from the ordered patients of views, (R,)."""
    _, counts = torch.unique_consecutive(patients, return_counts=True)
    start = 0
    for count in counts.tolist():
        yield slice(start, start + count)
        start += count
