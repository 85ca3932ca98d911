"""The clipped sum that a step of a network's training declares, taken by code of its own.

It shares no line with the training, so that a fault in one shows against the other.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from classify.auditing.network.planted import PlantedPatients
from classify.network.gradients import Examples, Views
from classify.network.top import TrainedNetwork
from synthdp.machine.progress import progress
from synthdp.privacy.attacks.rerun import declared_bound


def patient_gradient(top: TrainedNetwork, examples: Examples, shown: Views) -> Tensor:
    """A patient's mean gradient (P,) float64, by plain autograd: no hooks, no groups.

    Of the logistic loss summed over the known targets, averaged over all that is shown of the
    patient.
    """
    targets = examples.targets[shown.images]
    parameters = top.trained()
    device = parameters[0].device
    inputs = examples.inputs(shown.images, shown.views)
    values = top(inputs.to(device, torch.float32)).cpu()
    signs = 1 - 2 * targets.nan_to_num()  # softplus of minus the margin is the logistic loss
    losses = F.softplus(values * signs) * (~torch.isnan(targets)).float()
    if examples.positive_weights is not None:
        losses = torch.where(targets == 1, losses * examples.positive_weights.to(losses), losses)
    loss = losses.sum() / len(values)
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return torch.cat([gradient.flatten().double().cpu() for gradient in gradients])


def declared_sum(
    top: TrainedNetwork,
    planted: PlantedPatients,
    drawn: Sequence[int],
    shown: Views,
    clip_norm: float,
) -> tuple[Tensor, dict[int, float]]:
    """The clipped sum that a step declares, (P,) float64, and the norm of each patient's gradient.

    A patient at a time, scaled in float64 where the mean gradient is too long, left out where it is
    not finite.

    Args:
        top: the network at the weights of the step.
        planted: the patients.
        drawn: which of them the step samples.
        shown: what it shows of them; `shown.patients` counts in `drawn`.
        clip_norm: the bound on each patient's mean gradient.
    """
    total = torch.zeros(len(top.flat()), dtype=torch.float64)
    norms = {}
    for index, patient in enumerate(progress(drawn, what="the sum that is declared")):
        own = shown.patients == index
        of_patient = Views(shown.images[own], shown.views[own], shown.patients[own])
        images = of_patient.images
        if not len(images):
            continue
        if bool((planted.coordinates[images] >= 0).any()):
            vector = torch.zeros_like(total)
            lengths = planted.lengths[images].double() / len(images)
            vector.index_add_(0, planted.coordinates[images], lengths)
        else:
            vector = patient_gradient(top, planted.examples, of_patient)
        norm = float(vector.norm())
        if np.isfinite(norm):
            norms[patient] = norm
            bound = declared_bound(clip_norm, len(vector))
            total += vector * min(1.0, bound / norm if norm else 1.0)
    return total, norms
