"""Atomic checkpoints: weights in safetensors, the rest of the state beside them.

A checkpoint is two files and an index; the index is written last and holds the files' SHA-256, so
that a torn write is never loaded. The two newest stand; the newest valid one is loaded.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import Field
from torch import Tensor

from synthdp.config.settings import Settings, read_json_as
from synthdp.errors import InputError
from synthdp.storage.files import sha256_file, write_atomic, write_json
from synthdp.storage.torch_files import load_torch

GENERATIONS = 2
#: Of the state beside the weights: optimisers hold two numbers for each weight.
MAX_STATE_BYTES = 2**36
PARTS = (".safetensors", ".state")


class _Index(Settings):
    """What the index of a checkpoint holds."""

    step: int = Field(ge=0)
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """What `load_checkpoint` returns: the step it was taken after, weights and other state."""

    step: int
    weights: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path, step: int, weights: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    """Save one checkpoint and drop all but the two newest.

    Args:
        folder: where checkpoints of this run stand.
        step: a number that grows from checkpoint to checkpoint.
        weights: named tensors.
        state: anything that `torch.save` takes and `weights_only` loading gives back.

    Raises:
        RunError: when the disk is full; older checkpoints stand.
    """
    for torn in folder.glob(".*.part"):  # a killed process left it
        torn.unlink()
    name = f"{step:09d}"
    save_weights(folder / f"{name}.safetensors", weights)
    stream = io.BytesIO()
    torch.save(dict(state), stream)
    write_atomic(folder / f"{name}.state", stream.getvalue())
    write_json(
        folder / f"{name}.json",
        {"step": step, "sha256": _hashes(folder / f"{name}.json")},
    )
    _drop_all_but(folder, sorted(index.stem for index in folder.glob("*.json")), name)


def _hashes(index: Path) -> dict[str, str]:
    """The SHA-256 of each file that belongs to the index of a checkpoint."""
    files = [index.with_suffix(end) for end in PARTS]
    return {file.name: sha256_file(file) for file in files}


def _drop_all_but(folder: Path, names: Sequence[str], newest: str) -> None:
    """Drop older checkpoints, and later ones: those were torn, or this one would follow them."""
    kept = [name for name in names if name <= newest][-GENERATIONS:]
    for end in (".json", *PARTS):  # the index goes first
        for path in folder.glob(f"*{end}"):
            if path.stem not in kept:
                path.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose files are whole; None when there is none."""
    for index in sorted(folder.glob("*.json"), reverse=True):
        try:
            entry = read_json_as(_Index, index)
            state_file = index.with_suffix(".state")
            if entry.sha256 == _hashes(index):
                return Checkpoint(
                    step=entry.step,
                    weights=load_weights(index.with_suffix(".safetensors")),
                    state=load_torch(state_file, what=state_file.name, max_bytes=MAX_STATE_BYTES),
                )
        except (InputError, OSError):
            continue
    return None


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Save named tensors as safetensors, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_atomic(path, safetensors.torch.save(plain))


def load_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Load named tensors from a safetensors file, as stored.

    Raises:
        InputError: when the file is missing, is not safetensors, or has another SHA-256.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such weights file; correct the path")
    if sha256 is not None and (actual := sha256_file(path)) != sha256:
        raise InputError(
            f"{path}: its sha256 is {actual}, but {sha256} was asked for; the file is damaged or "
            "another one: fetch it again, or correct the sha256 that is asked for"
        )
    with _readable(path):
        stored = safetensors.torch.load_file(path)
        # Views of the file stand at odd addresses, where sums round otherwise than at those of new
        # tensors: a training that goes on from a copy goes on to the bit.
        return {name: tensor.clone() for name, tensor in stored.items()}


def load_tensor(path: Path, name: str) -> Tensor:
    """The tensor of that name in a safetensors file.

    Raises:
        InputError: as `load_weights`, or when the file holds no such tensor.
    """
    tensors = load_weights(path)
    if name not in tensors:
        raise InputError(f"{path.name}: holds no {name!r}, so it is another file; restore it")
    return tensors[name]


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a safetensors file, none of which is read.

    Raises:
        InputError: when the file is missing or is not safetensors.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such weights file; correct the path")
    with _readable(path), safetensors.safe_open(path, framework="pt") as stored:
        return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118 (no mapping)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what the reader of a damaged safetensors file raises into one error."""
    try:
        yield
    except (safetensors.SafetensorError, OSError, ValueError, LookupError, RuntimeError) as error:
        raise InputError(f"{path}: not a readable safetensors file") from error
