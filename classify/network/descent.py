"""Steps of a network's weights on gradients that are public by then: all of it is post-processing.

Momentum (Abadi et al. 2016, arXiv 1607.00133, adds it after the noise, too) or NAdam (Dozat 2016,
*Incorporating Nesterov Momentum into Adam*, ICLR workshop), as torch has it; then an average of
the later iterates, even or exponential.
"""

import math
from typing import Any

import torch
from torch import Tensor

from classify.settings.network import NetworkSettings
from synthdp.checkpoint import Checkpoint

_SECOND_BETA = 0.999


class Descent:
    """The newest iterate of a training, what moves it, and the average of the later ones.

    Args:
        weights: (P,), where the training begins.
        units: (P,), of each entry: gradients are with respect to weights over their units, and a
            step counts in them.
        recipe: optimizer, one rate (`NetworkSettings.at`) and averaging.
    """

    def __init__(self, weights: Tensor, units: Tensor, recipe: NetworkSettings) -> None:
        self.weights = weights
        self._average = torch.zeros_like(weights)
        self._averaged = 0
        self._units, self._recipe = units, recipe
        self._velocity = torch.zeros_like(weights)
        assert isinstance(recipe.lr, float)  # the stage has chosen that of its epsilon
        self._lr = recipe.lr
        self._nadam: torch.optim.NAdam | None = None
        if recipe.optimizer == "nadam":
            betas = (recipe.momentum, _SECOND_BETA)
            # moved from zero in each step, since no step of NAdam depends on where it stands
            self._moved = torch.nn.Parameter(torch.zeros_like(weights))
            self._nadam = torch.optim.NAdam([self._moved], lr=self._lr, betas=betas)

    @property
    def result(self) -> Tensor:
        """The averaged iterate, or the last one where none was averaged."""
        return self._average if self._averaged else self.weights

    def take(self, gradient: Tensor, step: int) -> None:
        """Move the weights by the gradient of a step, (P,)."""
        recipe = self._recipe
        if self._nadam is None:
            self._velocity = recipe.momentum * self._velocity + gradient
            self.weights = self.weights - self._lr * self._units * self._velocity
        else:
            self._moved.data.zero_()
            self._moved.grad = gradient.to(self._moved)
            self._nadam.step()
            self.weights = self.weights + self._units * self._moved.data
        if step >= math.floor(recipe.average_from * recipe.steps):
            self._averaged += 1
            # the mean of n iterates moves by 1/n of the way to the newest, the exponential one by
            # 1 - decay of it, after it has begun with the first
            divisor = float(self._averaged)
            if recipe.average_decay is not None and self._averaged > 1:
                divisor = 1 / (1 - recipe.average_decay)
            self._average = self._average + (self.weights - self._average) / divisor

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps, by name."""
        return {"weights": self.weights, "average": self._average, "velocity": self._velocity}

    @property
    def state(self) -> dict[str, Any]:
        """What it keeps beside the tensors."""
        nadam = {} if self._nadam is None else {"optimizer": self._nadam.state_dict()}
        return {"averaged": self._averaged, **nadam}

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        stored = {name: one.to(self.weights) for name, one in checkpoint.weights.items()}
        self.weights, self._average = stored["weights"], stored["average"]
        self._velocity = stored["velocity"]
        self._averaged = int(checkpoint.state["averaged"])
        if self._nadam is not None:
            self._nadam.load_state_dict(checkpoint.state["optimizer"])
