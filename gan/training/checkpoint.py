"""The state of a training on disk, restored to the bit; its metrics and sample pictures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gan.config import TrainGanSettings
from gan.plan import GanPlan
from gan.training.loop import Training, sample_grid
from synthdp.checkpoint import load_checkpoint, save_checkpoint
from synthdp.data.dataset import keyed_digest
from synthdp.data.images import encode_png, to_uint8
from synthdp.errors import InputError
from synthdp.files import write_atomic
from synthdp.runs import Run

# Metrics and sample grids for TensorBoard, on request; its package is an extra.


@dataclass(frozen=True)
class Board:
    """Where a training shows itself: `scalars` takes a line of metrics, `picture` a grid."""

    scalars: Callable[..., None]
    picture: Callable[[Tensor, int], None]


@contextmanager
def open_board(folder: Path, *, enabled: bool, step: int) -> Iterator[Board]:
    """Write to `folder` from `step` on, what a killed process wrote beyond it apart; or do nothing.

    Raises:
        InputError: when it is asked for and tensorboard is not installed.
    """
    if not enabled:
        yield Board(scalars=lambda **_: None, picture=lambda *_: None)
        return
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise InputError(
            "tensorboard: true was asked for, but the package is not installed; install it with "
            "pip install 'synthdp[tensorboard]', or leave it out"
        ) from error
    writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def scalars(*, step: int, **metrics: float) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    def picture(grid: Tensor, step: int) -> None:
        writer.add_image("samples", (grid.clamp(-1, 1) + 1) / 2, step, dataformats="HW")

    try:
        yield Board(scalars, picture)
    finally:
        writer.close()


NETWORKS = ("generator", "averaged", "discriminator")


@contextmanager
def kept(
    settings: TrainGanSettings, run: Run, plan: GanPlan, training: Training, attributes: Tensor
) -> Iterator[tuple[Callable[..., None], Callable[[], None]]]:
    """Put `training` where the run's newest checkpoint stands, and keep it from there on.

    Args:
        settings: of the run.
        run: whose checkpoints, metrics and pictures these are.
        plan: of the run.
        training: moved in place.
        attributes: codes (N, A) of the rows learned from.

    Yields:
        What takes a line of metrics, and what saves a checkpoint with a picture of samples.

    Raises:
        InputError: when the checkpoint was taken on other rows.
    """
    digest = keyed_digest(plan.dataset, plan.rows)
    restore_training(run, training, digest, attributes)
    folder = run.private / "tensorboard"
    with open_board(folder, enabled=settings.tensorboard, step=training.step) as board:

        def log(**metrics: float) -> None:
            run.log(**metrics)
            board.scalars(**metrics)

        def keep() -> None:
            save_training(run, training, digest, attributes)
            grid = sample_grid(training, settings)
            save_picture(run, grid, _picture_name(training, settings))
            board.picture(grid, training.step)

        yield log, keep


def _picture_name(training: Training, settings: TrainGanSettings) -> str:
    if settings.method == "adversarial":
        return f"{training.step * settings.batch / 1000:08.1f}-kimg"
    return f"{training.step:06d}-steps"


def save_training(run: Run, training: Training, digest: str, attributes: Tensor) -> None:
    """Save all that the training would need to go on.

    Args:
        run: whose checkpoints these are.
        training: the state.
        digest: keyed digest of the rows learned from.
        attributes: their codes (N, A).
    """
    state = {
        "generator_optimiser": training.generator_optimiser.state_dict(),
        "discriminator_optimiser": training.discriminator_optimiser.state_dict(),
        "rng": training.rng.get_state(),
        "strength": training.strength,
        "sign_mean": training.sign_mean,
        "data": digest,
        "attributes": attributes,
        "conditions": training.conditions.model_dump_json(),
        "guidance": training.guidance.state() if training.guidance is not None else None,
    }
    save_checkpoint(run.checkpoints, training.step, network_weights(training), state)


def network_weights(training: Training) -> dict[str, Tensor]:
    """The weights of every network in training, each under the name of its network."""
    return {
        f"{network}.{name}": tensor
        for network, module in _networks(training).items()
        for name, tensor in module.state_dict().items()
    }


def _networks(training: Training) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {name: getattr(training, name) for name in NETWORKS}
    if training.guidance is not None:
        modules |= training.guidance.modules
    return modules


def restore_networks(training: Training, weights: dict[str, Tensor]) -> None:
    """Put the weights that `network_weights` gave back in place."""
    for network, module in _networks(training).items():
        prefix = f"{network}."
        part = {
            name.removeprefix(prefix): tensor
            for name, tensor in weights.items()
            if name.startswith(prefix)
        }
        module.load_state_dict(part)


def restore_training(run: Run, training: Training, digest: str, attributes: Tensor) -> None:
    """Put `training` where the run's newest checkpoint stands; leave it when there is none.

    Raises:
        InputError: when the checkpoint was taken on other rows.
    """
    checkpoint = load_checkpoint(run.checkpoints)
    if checkpoint is None:
        return
    state = checkpoint.state
    told = training.conditions.model_dump_json()
    same = state["data"] == digest and state["conditions"] == told
    if not same or not torch.equal(state["attributes"], attributes):
        raise InputError(
            "data: the train split has changed since this run began; name a new `out`, or bring "
            "the data set back to what it was"
        )
    restore_networks(training, checkpoint.weights)
    training.generator_optimiser.load_state_dict(state["generator_optimiser"])
    training.discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])
    training.rng.set_state(state["rng"])
    training.strength = state["strength"]
    training.sign_mean = state["sign_mean"]
    training.step = checkpoint.step
    if training.guidance is not None:
        training.guidance.load_state(state["guidance"])


def save_picture(run: Run, grid: Tensor, name: str) -> None:
    """Write a grid of samples, (H, W) about [-1, 1], to the private part of the run."""
    picture = encode_png(to_uint8(grid.numpy()))
    write_atomic(run.private / "samples" / f"{name}.png", picture)
