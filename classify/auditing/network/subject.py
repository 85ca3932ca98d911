"""What an audit attacks: a network's training, with everything that decides it but the noise."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from classify.network.gradients import Examples, PatientGradients, Views
from classify.network.images import step_views
from classify.network.top import TrainedNetwork
from classify.network.train import train_private_network
from classify.settings.network import NetworkSettings
from synthdp.data.dataset import Dataset
from synthdp.privacy.attacks.rerun import PromisedTraining, audit_ledger
from synthdp.privacy.ledger.steps import Observer
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseKind, NoiseSource
from synthdp.runs.audit_record import Audited


@dataclass(frozen=True, eq=False)
class NetworkSubject(PromisedTraining):
    """A private training of a network and head, ready to be run again; `top` is never moved.

    seed: moves what a step shows of patients; dataset: whose train split `examples` are of; delta:
    at which the mechanism's epsilon is stated; the rest as in `train_private_network`.
    """

    top: TrainedNetwork
    examples: Examples
    recipe: NetworkSettings
    mechanism: Mechanism
    delta: float
    seed: int = 0
    dataset: Dataset | None = None
    noise: NoiseKind = "shake256"

    @property
    def audited(self) -> Audited:
        """Whose promise is tried, for the record."""
        return Audited("network", self.epsilon, self.delta, self.mechanism.mu)

    def shown(self, examples: Examples, drawn: Tensor, step: int) -> Views:
        """What a step shows of the patients that it draws among `examples`."""
        return step_views(
            examples,
            drawn,
            step,
            fresh=self.recipe.augment is not None,
            max_images=self.recipe.max_images,
            seed=self.seed,
        )

    def shortened(self, steps: int, block_steps: int) -> "NetworkSubject":
        """The first steps of the training, under the same noise."""
        steps = min(steps, self.mechanism.steps)
        changes = {"steps": steps, "block_steps": min(steps, block_steps)}
        return replace(
            self,
            mechanism=self.mechanism.model_copy(update={"steps": steps}),
            recipe=self.recipe.model_copy(update=changes),
        )


def train_subject(
    subject: NetworkSubject,
    noise_source: NoiseSource,
    folder: Path,
    *,
    observe: Observer = lambda step, weights, released: None,
    on_block: Callable[[int], None] = lambda spent: None,
    gradients: Callable[[TrainedNetwork], PatientGradients] = PatientGradients,
) -> None:
    """Run the real training with its ledger and checkpoints in `folder`, or resume it there."""
    recipe, mechanism = subject.recipe, subject.mechanism
    train_private_network(
        copy.deepcopy(subject.top),
        subject.examples,
        recipe,
        ledger=audit_ledger(mechanism, folder, block_steps=recipe.block_steps),
        noise_source=noise_source,
        checkpoints=folder / "checkpoints",
        seed=subject.seed,
        on_block=on_block,
        observe=observe,
        gradients=gradients,
    )
