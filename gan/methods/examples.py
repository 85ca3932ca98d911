"""What a private method reads of patients: their images, and whose each is."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gan.package.conditions import encode_known
from gan.plans.train import GanPlan
from gan.private.condition_means import ConditionPart
from gan.training.examples import Examples, load_examples, load_protected


def images_of_plan(plan: GanPlan, size_px: int) -> Examples:
    """The images of a private method; some may be unlabelled where something is promised."""
    if plan.privacy.mechanism is None:
        dataset = plan.privacy.dataset
        return load_examples(dataset, plan.rows, size_px, targets=plan.targets)
    return load_protected(plan.privacy.dataset, plan.rows, size_px, plan.targets)


def protected_examples(
    plan: GanPlan, size_px: int, part: ConditionPart | None = None
) -> tuple[Examples, Tensor]:
    """What a run with a promise learns from: images, and (N,) int64 whose each is, from 0."""
    examples = load_protected(plan.privacy.dataset, plan.rows, size_px, plan.targets)
    if part is not None:
        examples = replace(examples, attributes=encode_known(plan.conditions, plan.rows))
    return examples, unit_indices(plan)[1]


def unit_indices(plan: GanPlan) -> tuple[list[str], Tensor]:
    """The names of the units, and for each row (N,) int64 the index of its own among them."""
    names, units = np.unique(plan.units, return_inverse=True)
    return [str(name) for name in names], torch.from_numpy(units)
