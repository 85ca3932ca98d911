from hashlib import sha256
from pathlib import Path

import pytest

from synthdp.errors import InputError
from synthdp.networks.public.carried import find_public_weights
from synthdp.networks.settings import BackboneSettings


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A public network's weights, whose file is called as a run's own."""
    path = tmp_path / "public" / "weights.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"public")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A run's `model/`."""
    folder = tmp_path / "run" / "model"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"of the run")
    return folder


def settings_of(weights: Path) -> BackboneSettings:
    digest = sha256(b"public").hexdigest()
    return BackboneSettings(name="test_vit", weights=weights, sha256=digest, size_px=32)


def test_a_runs_own_weights_are_no_public_ones_of_that_name(public: Path, model: Path) -> None:
    assert find_public_weights(settings_of(public), model) == public


def test_weights_that_were_put_beside_a_model_are_found(public: Path, model: Path) -> None:
    (model / "other.safetensors").write_bytes(b"public")
    elsewhere = settings_of(public.with_name("other.safetensors"))
    assert find_public_weights(elsewhere, model) == model / "other.safetensors"


def test_only_a_runs_own_weights_are_none(public: Path, model: Path) -> None:
    public.unlink()
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        find_public_weights(settings_of(public), model)
