"""Torch files from elsewhere: tensors and plain values, read within bounds, running nothing.

A torch file is a pickle and the bytes of its tensors, in a zip archive or, before torch 1.6, one
after the other. torch's own `weights_only` reader runs no foreign code, yet a file of a few bytes
may still ask it for any amount of memory: a compressed archive, a `bytearray` of a billion bytes, a
tensor of ten billion numbers that are all the same one. Here the pickle's instructions are looked
at before they are followed, and every tensor's bytes must be in the file.
"""

import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from synthdp.errors import InputError

MAX_TORCH_BYTES = 2**30
#: The pickle alone, which names tensors and holds plain values.
MAX_PICKLE_BYTES = 8 * 2**20
#: How often a tensor's bytes may be shared: some layers stand under two names.
MAX_REPEATS = 4
#: What the pickle of a state dict calls; torch's reader knows more, some of which take memory.
_NAMES = re.compile(
    r"(collections OrderedDict"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
    r"|torch (\w+Storage|float16|float32|float64|bfloat16|u?int(8|16|32|64)|bool|device|Size)"
    r"|torch\.storage _?\w+Storage)"
)
_STACK_GLOBAL = ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4")
_LEGACY_PICKLES = 5  # magic number, protocol, system, the object, the keys of its storages
_FAILURES = (
    *(RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, MemoryError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, AssertionError, OSError),
    *(RecursionError, ArithmeticError, NotImplementedError),
)


def load_torch(path: Path, *, what: str, max_bytes: int = MAX_TORCH_BYTES) -> Any:
    """What `torch.save` wrote of tensors and plain values, on the CPU.

    Args:
        path: the file.
        what: it is, for errors.
        max_bytes: of the file, and of all that is unpacked from it.

    Raises:
        InputError: when the file is missing, larger, damaged, or holds anything else.
    """
    if not path.is_file():
        raise InputError(f"{what}: there is no such file; correct the path")
    if path.stat().st_size > max_bytes:
        raise InputError(f"{what}: larger than {max_bytes:,} bytes, so it was not read")
    try:
        _refuse_unsafe(path, max_bytes)
        content = torch.load(path, map_location="cpu", weights_only=True)
        _refuse_repeats(content, MAX_REPEATS * path.stat().st_size)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    except _FAILURES as error:
        raise InputError(
            f"{what}: not a torch file of tensors alone, or a damaged one; fetch it again"
        ) from error
    return content


def _refuse_unsafe(path: Path, max_bytes: int) -> None:
    """Look at all that the file asks for before any of it is done."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as stream:
            for _ in range(_LEGACY_PICKLES):
                _refuse_instructions(stream)
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > max_bytes or any(
            entry.compress_type != zipfile.ZIP_STORED for entry in entries
        ):
            raise InputError(
                f"its archive is compressed, or unpacks to more than {max_bytes:,} bytes; "
                "torch.save never writes such a file, so fetch it again"
            )
        pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
        for entry in pickles:
            with archive.open(entry) as stream:
                _refuse_instructions(stream)


def _refuse_instructions(stream: IO[bytes]) -> None:
    """Follow one pickle without doing what it says; refuse what no state dict needs."""
    start = stream.tell()
    for opcode, argument, position in pickletools.genops(stream):
        if position is not None and position - start > MAX_PICKLE_BYTES:
            raise InputError(f"its pickle is longer than {MAX_PICKLE_BYTES:,} bytes")
        if opcode.name in _STACK_GLOBAL:
            raise InputError("its pickle calls something by a name made as it is read")
        if opcode.name == "GLOBAL" and not _NAMES.fullmatch(str(argument)):
            raise InputError(
                f"its pickle asks for {str(argument)[:60]!r}, which is no tensor; save the state "
                "dict alone, and name that file"
            )


def _refuse_repeats(value: Any, max_bytes: int) -> None:
    """Refuse tensors of more numbers than the file holds for them, each and all together."""
    total = 0
    for tensor in _tensors(value, set()):
        size = tensor.numel() * tensor.element_size()
        total += size
        if size > tensor.untyped_storage().nbytes() or total > max_bytes:
            raise InputError("its tensors repeat their numbers instead of holding them")


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor in nested lists and mappings; what stands in several places is met once."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
        seen.add(id(value))
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(part, seen)
