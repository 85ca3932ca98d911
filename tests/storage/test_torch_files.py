import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from synthdp.errors import InputError
from synthdp.storage.torch_files import load_torch


def saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def rewritten(content: bytes, *, compressed: bool = False, pickled: bytes | None = None) -> bytes:
    """A torch archive again, compressed, or with another pickle in place of its own."""
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(stream, "w", kind) as new,
    ):
        for entry in old.infolist():
            own = old.read(entry)
            is_pickle = pickled is not None and entry.filename.endswith("data.pkl")
            new.writestr(entry.filename, pickled if is_pickle and pickled is not None else own)
    return stream.getvalue()


class Allocation:
    """Pickles to a call that takes a terabyte."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[int]]:
        return bytearray, (2**40,)


STATE = {"generator": {"weight": torch.arange(6.0).view(2, 3), "count": torch.tensor(3)}, "step": 7}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_tensors_and_plain_values_are_read(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(saved(STATE, _use_new_zipfile_serialization=zipped))
    read = load_torch(path, what="x")
    assert read["step"] == 7
    assert torch.equal(read["generator"]["weight"], STATE["generator"]["weight"])


def test_what_an_optimiser_keeps_is_read(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    path = tmp_path / "x.pt"
    path.write_bytes(saved({"optimiser": optimiser.state_dict(), "rng": torch.get_rng_state()}))
    assert load_torch(path, what="x").keys() == {"optimiser", "rng"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (rewritten(saved({"x": torch.zeros(2**16)}), compressed=True), "is compressed"),
        (rewritten(saved(STATE), pickled=pickle.dumps(Allocation(), 2)), "which is no tensor"),
        (rewritten(saved(STATE), pickled=pickle.dumps(Allocation(), 4)), "by a name made"),
        (pickle.dumps(Allocation(), 2), "which is no tensor"),
        (saved({"x": torch.zeros(1).expand(10**10)}), "repeat their numbers"),
        (saved({n: x for x in [torch.zeros(999)] for n in range(40)}), "repeat their numbers"),
        (saved({"x": torch.nn.Linear(1, 1)}), "which is no tensor"),
        (saved(STATE)[:-100], "not a torch file of tensors alone"),
        (b"nothing", "not a torch file of tensors alone"),
        (b"", "not a torch file of tensors alone"),
        (saved({"x": torch.zeros(2**16)}), "larger than 10,000 bytes"),
    ],
    ids=[
        *("compressed", "allocation", "by-stack", "no-zip", "expanded", "shared", "object", "cut"),
        *("text", "empty", "large"),
    ],
)
def test_what_would_take_memory_or_run_code_is_refused(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    limit = 10_000 if problem.startswith("larger") else 2**20
    with pytest.raises(InputError, match=rf"the file: .*{problem}"):
        load_torch(path, what="the file", max_bytes=limit)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file: there is no such file"):
        load_torch(tmp_path / "x.pt", what="the file")
