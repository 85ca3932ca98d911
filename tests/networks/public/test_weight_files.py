import os
from pathlib import Path

import pytest

from synthdp.errors import InputError
from synthdp.networks.public import weight_files
from synthdp.networks.public.weight_files import found_weights, weight_folders, weights_file
from synthdp.networks.settings import FeatureSettings

SHA256 = "0" * 64


def named(weights: str | Path, sha256: str | None = SHA256) -> FeatureSettings:
    return FeatureSettings(name="test_vit", weights=Path(weights), sha256=sha256, size_px=32)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three folders that are searched, the last one the user's own."""
    made = [tmp_path / "a", tmp_path / "b", tmp_path / "cache" / "synthdp" / "weights"]
    for folder in made:
        folder.mkdir(parents=True)
    monkeypatch.setenv("SYNTHDP_WEIGHTS", os.pathsep.join(map(str, made[:2])))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weight_files, "_SHARED", tmp_path / "absent")
    monkeypatch.chdir(tmp_path)
    return made


def test_a_file_is_searched_for_by_name_in_order(folders: list[Path]) -> None:
    assert weight_folders() == folders
    assert found_weights(named("one.safetensors")) is None
    for folder in reversed(folders):
        (folder / "one.safetensors").touch()
        assert weights_file(named("one.safetensors")) == folder / "one.safetensors"
        # as settings of earlier versions name it
        assert weights_file(named("../shared/weights/one.safetensors")).parent == folder
    Path("one.safetensors").touch()
    assert weights_file(named("one.safetensors")) == Path("one.safetensors")


def test_only_a_file_that_is_checked_is_searched_for(folders: list[Path]) -> None:
    (folders[0] / "one.safetensors").touch()
    assert found_weights(named("one.safetensors", None)) is None
    assert found_weights(named("hub", None)) is None
    with pytest.raises(InputError, match="no such weights file"):
        weights_file(named("one.safetensors", None))


def test_the_error_names_the_folders_the_file_and_the_command(folders: list[Path]) -> None:
    with pytest.raises(InputError) as caught:
        weights_file(named("one.safetensors"))
    said = str(caught.value)
    assert all(str(folder) in said for folder in folders)
    assert SHA256 in said
    assert "timm.create_model('test_vit', pretrained=True)" in said
    assert "--weights hub" in said
