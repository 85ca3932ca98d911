"""What a patient's images, set beside generated ones, ask of a discriminator: one bounded vector.

Each patient's vector is computed alone, by one backward pass over its few images: no example meets
another, and at these sizes it is also faster than gradients of all samples at once.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gan import augment, losses
from gan.config import AugmentationSettings
from gan.networks import Discriminator
from synthdp.privacy.clipping import clip_rows

_SEED_BYTES = 8
_SIGN_BIT = 2**63 - 1


@dataclass(frozen=True, eq=False)
class PatientImages:
    """Patients' images and who they are of.

    images: (N, 1, S, S) float32 in [-1, 1]; labels: (N,) int64; places: for each patient the (n,)
    int64 of its images; tags: a secret name for each patient.
    """

    images: Tensor
    labels: Tensor
    places: Sequence[Tensor]
    tags: Sequence[bytes]

    @classmethod
    def of(
        cls, images: Tensor, labels: Tensor, units: Tensor, tags: Sequence[bytes]
    ) -> "PatientImages":
        """Grouped by `units`, (N,) int64 that count the patients from 0."""
        places = [(units == unit).nonzero()[:, 0] for unit in range(len(tags))]
        return cls(images, labels, places, tags)


@dataclass(frozen=True, eq=False)
class Fakes:
    """Generated images (M, 1, S, S) and their labels (M,), of public randomness alone."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class View:
    """What of a step decides how a patient's images are looked at; all of it public."""

    seed: int
    step: int
    class_strength: float
    augmentation: AugmentationSettings


def clipped_sum(
    discriminator: Discriminator,
    patients: PatientImages,
    drawn: Tensor,
    fakes: Fakes,
    view: View,
    *,
    clip_norm: float | None,
) -> Tensor:
    """The sum over the patients `drawn`, (U,) int64, of their clipped mean gradients, (P,) float32.

    Args:
        discriminator: judges each image alone (no `batch_deviation`).
        patients: all of them.
        drawn: the ones that take part; nobody gives zeros.
        fakes: the generated images to pair with, on the discriminator's device.
        view: of the step.
        clip_norm: bound on each patient's whole vector; None leaves them as they are.

    Guarantee: adding or removing a patient moves it by at most `clip_norm`, beyond float32 rounding
    of the sum: nobody else's vector changes. A patient whose gradient is not finite counts as zero.
    """
    total = torch.cat([torch.zeros_like(p).flatten() for p in discriminator.parameters()])
    for patient in drawn.tolist():
        gradient = patient_gradient(discriminator, patients, patient, fakes, view)
        if clip_norm is not None:
            gradient = clip_rows(gradient.unsqueeze(0), clip_norm)[0]
        total += gradient
    return total


def patient_gradient(
    discriminator: Discriminator, patients: PatientImages, patient: int, fakes: Fakes, view: View
) -> Tensor:
    """The mean over a patient's images of the loss's gradient, (P,) float32, not clipped.

    Each image is paired with a generated one of any class. What is random here, the choice of these
    and the augmentation of both, comes from a hash of seed, step and the patient's tag.

    Guarantee: a function of the patient's own images, public state, and its tag alone.
    """
    rng = _stream(view, patients.tags[patient])
    places = patients.places[patient]
    device = fakes.images.device
    chosen = torch.randint(0, len(fakes.labels), (len(places),), generator=rng).to(device)
    real = patients.images[places]
    real = augment.random_symmetry(real, view.augmentation.symmetry, rng)
    images = torch.cat([real.to(device), fakes.images[chosen]])
    labels = torch.cat([patients.labels[places].to(device), fakes.labels[chosen]])
    strength = view.augmentation.strength_start
    seen = augment.augment(images, strength, view.augmentation, rng)
    logits = discriminator(seen, labels, view.class_strength)
    of_real, of_fake = logits.split(len(places))
    loss = losses.non_saturating_discriminator_loss(of_real, of_fake)
    gradients = torch.autograd.grad(loss, list(discriminator.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])


def _stream(view: View, tag: bytes) -> torch.Generator:
    """Randomness of one patient in one step, whoever else is there."""
    digest = hashlib.sha256(f"patient {view.seed} {view.step} ".encode() + tag).digest()
    seed = int.from_bytes(digest[:_SEED_BYTES], "big") & _SIGN_BIT
    return torch.Generator().manual_seed(seed)
