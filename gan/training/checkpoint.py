"""The state of a training on disk, restored to the bit; its metrics and sample pictures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gan.package.conditions import Conditions
from gan.training.loop import Training, sample_grid
from synthdp.checkpoint import load_checkpoint, save_checkpoint
from synthdp.data.images import encode_png, to_uint8
from synthdp.errors import InputError
from synthdp.runs.folder import Run
from synthdp.storage.files import write_atomic


class Companion(Protocol):
    """State beside the networks and their optimisers that moves with a training."""

    modules: dict[str, nn.Module]

    def state(self) -> dict[str, Any]:
        """All but the weights of the modules."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""


@dataclass(frozen=True, eq=False)
class LearnedRows:
    """The rows that a training learns from, as its checkpoints name them.

    digest: keyed digest of the rows; attributes: (N, A) int64, the code of each condition.
    """

    digest: str
    attributes: Tensor
    conditions: Conditions


@contextmanager
def checkpointed(
    run: Run,
    training: Training,
    rows: LearnedRows,
    companion: Companion | None = None,
    *,
    seed: int,
    batch: int,
    picture_name: Callable[[int], str],
    tensorboard: bool,
) -> Iterator[tuple[Callable[..., None], Callable[[], None]]]:
    """Restore `training` from the run's newest checkpoint, and save it from there on.

    Args:
        run: whose checkpoints, metrics and pictures these are.
        training: moved in place.
        rows: what it learns from.
        companion: what moves with it; moved in place too.
        seed: of the pictures' latent vectors.
        batch: how many images of a picture are drawn at a time.
        picture_name: names the picture of a step.
        tensorboard: whether metrics and pictures also go to `private/tensorboard`.

    Yields:
        What takes a line of metrics, and what saves a checkpoint with a picture of samples.

    Raises:
        InputError: when the checkpoint was taken on other rows, or tensorboard is asked for and not
            installed.
    """
    _restore(run.checkpoints, training, rows, companion)
    folder = run.private / "tensorboard" if tensorboard else None
    with _open_board(folder, training.step) as board:

        def log(**metrics: float) -> None:
            run.log(**metrics)
            board.scalars(**metrics)

        def keep() -> None:
            _save(run.checkpoints, training, rows, companion)
            grid = sample_grid(training.averaged, rows.conditions, seed=seed, batch=batch)
            path = run.private / "samples" / f"{picture_name(training.step)}.png"
            write_atomic(path, encode_png(to_uint8(grid.numpy())))
            board.picture(grid, training.step)

        yield log, keep


def _save(folder: Path, training: Training, rows: LearnedRows, companion: Companion | None) -> None:
    weights = {
        f"{network}.{name}": tensor
        for network, module in _modules(training, companion).items()
        for name, tensor in module.state_dict().items()
    }
    state = {
        "generator_optimiser": training.generator_optimiser.state_dict(),
        "discriminator_optimiser": training.discriminator_optimiser.state_dict(),
        "rng": training.rng.get_state(),
        "strength": training.strength,
        "sign_mean": training.sign_mean,
        "budget": training.budget.state(),
        "data": rows.digest,
        "attributes": rows.attributes,
        "conditions": rows.conditions.model_dump_json(),
        "guidance": companion.state() if companion is not None else None,
    }
    save_checkpoint(folder, training.step, weights, state)


def _restore(
    folder: Path, training: Training, rows: LearnedRows, companion: Companion | None
) -> None:
    checkpoint = load_checkpoint(folder)
    if checkpoint is None:
        return
    state = checkpoint.state
    same_rows = (
        state["data"] == rows.digest
        and state["conditions"] == rows.conditions.model_dump_json()
        and torch.equal(state["attributes"], rows.attributes)
    )
    if not same_rows:
        raise InputError(
            "data: the train split has changed since this run began; name a new `out`, or bring "
            "the data set back to what it was"
        )
    for network, module in _modules(training, companion).items():
        prefix = f"{network}."
        module.load_state_dict(
            {
                name.removeprefix(prefix): tensor
                for name, tensor in checkpoint.weights.items()
                if name.startswith(prefix)
            }
        )
    training.generator_optimiser.load_state_dict(state["generator_optimiser"])
    training.discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])
    training.rng.set_state(state["rng"])
    training.strength = state["strength"]
    training.sign_mean = state["sign_mean"]
    training.step = checkpoint.step
    if "budget" in state:  # those of earlier versions have none
        training.budget.load(state["budget"])
    if companion is not None:
        companion.load_state(state["guidance"])


def _modules(training: Training, companion: Companion | None) -> dict[str, nn.Module]:
    """What has weights, by the name that leads theirs in a checkpoint."""
    return {
        "generator": training.generator,
        "averaged": training.averaged,
        "discriminator": training.discriminator,
        **({} if companion is None else companion.modules),
    }


@dataclass(frozen=True)
class _Board:
    """TensorBoard, or nothing: `scalars` takes a line of metrics, `picture` a grid of samples."""

    scalars: Callable[..., None]
    picture: Callable[[Tensor, int], None]


@contextmanager
def _open_board(folder: Path | None, step: int) -> Iterator[_Board]:
    """Write to `folder` from `step` on, dropping what a killed process wrote beyond it.

    Raises:
        InputError: when tensorboard, which is an extra, is not installed.
    """
    if folder is None:
        yield _Board(scalars=lambda **_: None, picture=lambda *_: None)
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
        yield _Board(scalars, picture)
    finally:
        writer.close()
