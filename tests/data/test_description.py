from collections.abc import Callable
from pathlib import Path

import pytest

from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo, read_info
from synthdp.errors import InputError

MakeSet = Callable[..., Path]


def info(**changes: object) -> DatasetInfo:
    return DatasetInfo.model_validate({"name": "tiny", "kind": "real", "size_px": 32, **changes})


def test_what_a_set_is_stands_apart_from_its_manifest(make_set: MakeSet, tmp_path: Path) -> None:
    root = make_set()
    info = open_dataset(root).info
    (root / "manifest.csv").unlink()
    assert read_info(root) == info
    with pytest.raises(InputError, match=r"no dataset\.json"):
        read_info(tmp_path / "nowhere")


def test_who_is_protected() -> None:
    assert info().protects_patients
    assert not info(kind="synthetic").protects_patients
    assert not info(kind="phantom").protects_patients
    assert info(kind="phantom", as_real=True).protects_patients


def test_a_name_that_no_file_system_takes_is_no_data_set() -> None:
    for name in ("9" * 300, "a\0b"):
        with pytest.raises(InputError, match="not a data-set folder"):
            read_info(Path(name))
