"""What follows a head's gradient, private or not: gradient descent or AdamW, and averaging.

All of it is computed from what was released, so that it costs nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Optimizer = Literal["sgd", "adamw"]
#: AdamW's constants, those of torch.optim.AdamW (arXiv 1711.05101).
_BETAS, _EPS, _WEIGHT_DECAY = (0.9, 0.999), 1e-8, 0.01


@dataclass(frozen=True)
class HeadRecipe:
    """How the head is trained: public numbers.

    steps and lr set the optimizer; the iterates from `average_from` (a share of the steps) on are
    averaged, none for 1; `block_steps` are reserved in the ledger at a time.
    """

    steps: int
    lr: float
    average_from: float
    block_steps: int
    optimizer: Optimizer = "sgd"


@dataclass
class HeadState:
    """Where a training stands: weights, their average, and AdamW's two moments, if any."""

    weights: Tensor
    average: Tensor
    moments: tuple[Tensor, ...] = ()
    averaged: int = 0

    @property
    def result(self) -> Tensor:
        """The averaged iterate, or the last one where none was averaged."""
        return self.average if self.averaged else self.weights

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for a checkpoint."""
        moments = {f"moment.{index}": value for index, value in enumerate(self.moments)}
        return {"weights": self.weights, "average": self.average, **moments}

    def load(self, tensors: Mapping[str, Tensor], *, averaged: int) -> None:
        """Go on from what `tensors` gave."""
        self.weights, self.average = tensors["weights"], tensors["average"]
        self.moments = tuple(tensors[f"moment.{index}"] for index in range(len(self.moments)))
        self.averaged = averaged


def new_state(start: Tensor, recipe: HeadRecipe) -> HeadState:
    """The state before the first step."""
    zeros = torch.zeros_like(start)
    moments = (zeros, zeros.clone()) if recipe.optimizer == "adamw" else ()
    return HeadState(start.clone(), zeros.clone(), moments)


def descend(state: HeadState, gradient: Tensor, step: int, recipe: HeadRecipe) -> None:
    """Take step number `step`, in place."""
    if recipe.optimizer == "adamw":
        _adamw(state, gradient, step, recipe.lr)
    else:
        state.weights = state.weights - recipe.lr * gradient
    if step >= math.floor(recipe.average_from * recipe.steps):
        state.averaged += 1
        state.average = state.average + (state.weights - state.average) / state.averaged


def _adamw(state: HeadState, gradient: Tensor, step: int, lr: float) -> None:
    first, second = (
        beta * moment + (1 - beta) * power
        for beta, moment, power in zip(
            _BETAS, state.moments, (gradient, gradient.square()), strict=True
        )
    )
    state.moments = (first, second)
    unbiased = [m / (1 - beta ** (step + 1)) for m, beta in zip(state.moments, _BETAS, strict=True)]
    decayed = state.weights * (1 - lr * _WEIGHT_DECAY)
    state.weights = decayed - lr * unbiased[0] / (unbiased[1].sqrt() + _EPS)
