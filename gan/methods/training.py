"""The training that a method moves: begun anew or from `init`, and kept in checkpoints."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from gan.package.conditions import encode
from gan.package.model import load_generator
from gan.package.networks import TrainedGenerator
from gan.plans.train import GanPlan
from gan.settings.train import TrainGanSettings
from gan.training.checkpoint import Companion, LearnedRows, checkpointed
from gan.training.loop import Training, new_training
from synthdp.data.identity import keyed_digest
from synthdp.runs.folder import Run


def begun_training(settings: TrainGanSettings, plan: GanPlan, device: torch.device) -> Training:
    """A new training of the settings' networks, from the weights of `init` where it is given."""
    training = new_training(settings, device, plan.conditions)
    start_from(settings.init, training.generator, training.averaged)
    return training


def start_from(init: Path | None, *generators: TrainedGenerator) -> None:
    """Give generators the weights of a finished one of the same shape; None leaves them.

    Its film, if any, is left out: training goes on without one, and fits another at its end.
    """
    if init is not None:
        weights = load_generator(init, torch.device("cpu")).state_dict()
        unfilmed = {k: tensor for k, tensor in weights.items() if not k.startswith("film.")}
        for generator in generators:
            generator.load_state_dict(unfilmed)


def checkpointed_training(
    settings: TrainGanSettings,
    run: Run,
    plan: GanPlan,
    training: Training,
    companion: Companion | None = None,
) -> AbstractContextManager[tuple[Callable[..., None], Callable[[], None]]]:
    """The training restored from the run's newest checkpoint, and saved from there on."""
    rows = LearnedRows(
        digest=keyed_digest(plan.privacy.dataset, plan.rows),
        attributes=encode(plan.conditions, plan.rows),
        conditions=plan.conditions,
    )

    def picture_name(step: int) -> str:
        if settings.method == "adversarial":
            return f"{step * settings.batch / 1000:08.1f}-kimg"
        return f"{step:06d}-steps"

    return checkpointed(
        run,
        training,
        rows,
        companion,
        seed=settings.seed,
        batch=settings.batch,
        picture_name=picture_name,
        tensorboard=settings.tensorboard,
    )
