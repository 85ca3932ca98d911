"""Metrics and sample grids for TensorBoard, on request; its package is an extra."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from synthdp.errors import InputError


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
