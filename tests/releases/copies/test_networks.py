"""Public networks in a release: carried where known and free, else named with a command."""

import os
import tomllib
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from classify.model.folder import load_classifier
from classify.predict import run_predict
from classify.settings.finished import PredictSettings
from synthdp.checkpoint import save_weights
from synthdp.data.manifest.tables import read_table
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.networks.backbone import build_backbone
from synthdp.networks.public import known
from synthdp.networks.public.carried import read_networks
from synthdp.networks.public.known import KnownNetwork, known_by_hub, tensors_digest
from synthdp.networks.settings import FeatureSettings
from synthdp.releases.contents import check_release, read_contents
from synthdp.releases.release import release
from synthdp.storage.files import read_json, sha256_file
from tests.releases.test_release import CLASSIFIER, RANDOM, files_in, finetuned

FREE = KnownNetwork("Apache-2.0", "Copyright somebody, arXiv 0000.00000")
CLOSED = KnownNetwork("dinov3-license", "somebody else")
WEIGHTS = Path(os.environ.get("SYNTHDP_WEIGHTS", "../shared/weights"))


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("house") / "clinic"
    return run_phantoms(
        PhantomSettings(out=out, patients=20, size_px=32, name="clinic", as_real=True)
    )


def public_file(path: Path, *, half: bool = False) -> FeatureSettings:
    """Public weights of the test network in a file, and the settings that name them."""
    tensors = build_backbone(RANDOM, seed=5).network.state_dict()
    save_weights(path, {n: t.half() if half and t.is_floating_point() else t
                        for n, t in tensors.items()})  # fmt: skip
    return RANDOM.model_copy(update={"weights": path, "sha256": sha256_file(path)})


def known_as(monkeypatch: pytest.MonkeyPatch, file: Path, network: KnownNetwork) -> None:
    digest = tensors_digest(load_file(file))
    monkeypatch.setitem(known._BY_CONTENT, digest, network)


def scores(run: Path, images: Path, out: Path) -> np.ndarray:
    run_predict(PredictSettings(run=run, images=images, out=out))
    return np.array([float(one["score_malignant"]) for one in read_table(out).records.values()])


def test_a_file_of_unknown_content_stays_whatever_it_is_called(
    clinic: Path, tmp_path: Path
) -> None:
    """A network that a setting calls by a public one's name may have been trained on patients."""
    file = tmp_path / "downloads-of-frau-mueller" / "public-mueller.safetensors"
    run = finetuned(clinic, tmp_path / "run", backbone=public_file(file))
    out = tmp_path / "out"
    release(run, out)
    assert files_in(out) == {*CLASSIFIER, "model/networks/networks.json"}
    backbone = read_json(out / "model" / "settings.json")["sources"][0]["backbone"]
    assert backbone["weights"] == "test_vit.safetensors"
    assert "mueller" not in (out / "model" / "settings.json").read_text()
    with pytest.raises(InputError) as told:
        load_classifier(out)
    assert sha256_file(file) in str(told.value)
    assert "out/model/networks/test_vit.safetensors" in str(told.value)
    place = out / "model" / "networks" / "test_vit.safetensors"
    file.rename(place)
    assert load_classifier(out).feature_sources[0].backbone.weights == place
    check_release(out)


def test_a_known_network_goes_along_in_half_precision_and_the_card_says_what_that_does(
    clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "public.safetensors"
    backbone = public_file(file)
    known_as(monkeypatch, file, FREE)
    run = finetuned(clinic, tmp_path / "run", backbone=backbone)
    out = tmp_path / "out"
    release(run, out)
    carried = "model/networks/test_vit.fp16.safetensors"
    beside = {"networks.json", "LICENSE-Apache-2.0.txt"}
    assert files_in(out) == {*CLASSIFIER, carried, *(f"model/networks/{one}" for one in beside)}
    tensors = load_file(out / carried)
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float16}
    told = read_networks(out / "model")
    assert told.networks[0].used_sha256 == sha256_file(file)
    assert read_contents(out).licences == {carried: "Apache-2.0"}
    assert told.score_difference is not None
    file.unlink()
    there = scores(out, clinic / "images", tmp_path / "there.csv")
    assert len(there) > 20
    card = (out / "README.md").read_text()
    assert f"{told.score_difference:.1e}" in card
    assert "arXiv 0000.00000" in card
    assert "Apache License" in (out / "model/networks/LICENSE-Apache-2.0.txt").read_text()
    release(out, tmp_path / "again")
    for name in files_in(out) - {"README.md", "privacy.json", "release.json"}:
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes(), name


def test_what_is_in_half_precision_already_gives_the_same_bits(
    clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "public.safetensors"
    backbone = public_file(file, half=True)
    known_as(monkeypatch, file, FREE)
    run = finetuned(clinic, tmp_path / "run", backbone=backbone)
    here = scores(run, clinic / "images", tmp_path / "here.csv")
    release(run, tmp_path / "out")
    carried = tmp_path / "out" / "model" / "networks" / "test_vit.fp16.safetensors"
    assert carried.read_bytes() == file.read_bytes()
    file.unlink()
    assert (scores(tmp_path / "out", clinic / "images", tmp_path / "there.csv") == here).all()
    assert read_networks(tmp_path / "out" / "model").score_difference is None


def test_what_a_network_does_not_read_stays(
    clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head beside a public trunk may have been trained on patients; so may any note."""
    file = tmp_path / "public.safetensors"
    public_file(file, half=True)
    known_as(monkeypatch, file, FREE)
    private = {**load_file(file), "head.weight": torch.full((2, 64), 0.123)}
    save_file(private, file, metadata={"note": "patient 4711"})
    backbone = RANDOM.model_copy(update={"weights": file, "sha256": sha256_file(file)})
    run = finetuned(clinic, tmp_path / "run", backbone=backbone)
    here = scores(run, clinic / "images", tmp_path / "here.csv")
    release(run, tmp_path / "out")
    carried = tmp_path / "out" / "model" / "networks" / "test_vit.fp16.safetensors"
    assert "head.weight" not in load_file(carried)
    assert b"4711" not in carried.read_bytes()
    assert (scores(tmp_path / "out", clinic / "images", tmp_path / "there.csv") == here).all()


def test_a_network_under_another_licence_stays_and_one_command_fetches_it(
    clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's file, whose licence lets nobody pass it on, is found again where `hf` puts it."""
    cache, network = tmp_path / "cache", timm.create_model("test_vit")
    repository = timm.get_pretrained_cfg("test_vit").hf_hub_id
    snapshot = cache / f"models--{repository.replace('/', '--')}"
    file = snapshot / "snapshots" / "abc123" / "model.safetensors"
    save_weights(file, network.state_dict())
    (snapshot / "refs").mkdir()
    (snapshot / "refs" / "main").write_text("abc123")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    look = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda *args, **more: look(*args, **{**more, "cache_dir": cache}),
    )
    pattern = next(one for one in known._OF_HUB if "test_" in one)
    monkeypatch.setitem(known._OF_HUB, pattern, CLOSED)
    hub = RANDOM.model_copy(update={"weights": Path("hub")})
    run = finetuned(clinic, tmp_path / "run", backbone=hub)
    release(run, tmp_path / "out")
    backbone = read_json(tmp_path / "out/model/settings.json")["sources"][0]["backbone"]
    assert backbone["sha256"] == sha256_file(file)
    here = scores(run, clinic / "images", tmp_path / "here.csv")
    assert (scores(tmp_path / "out", clinic / "images", tmp_path / "out.csv") == here).all()
    file.unlink()
    with pytest.raises(InputError) as told:
        load_classifier(tmp_path / "out")
    assert f"hf download {repository} model.safetensors --revision abc123" in str(told.value)
    assert "dinov3-license" in str(told.value)


def test_weights_that_half_precision_does_not_hold_are_refused(
    clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "public.safetensors"
    tensors = build_backbone(RANDOM, seed=5).network.state_dict()
    save_weights(file, {**tensors, "norm.bias": tensors["norm.bias"] + 1e6})
    backbone = RANDOM.model_copy(update={"weights": file, "sha256": sha256_file(file)})
    known_as(monkeypatch, file, FREE)
    run = finetuned(clinic, tmp_path / "run", backbone=backbone)
    with pytest.raises(InputError, match="beyond half precision"):
        release(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_public_weights_that_are_gone_are_asked_for(clinic: Path, tmp_path: Path) -> None:
    file = tmp_path / "public.safetensors"
    run = finetuned(clinic, tmp_path / "run", backbone=public_file(file))
    file.unlink()
    with pytest.raises(InputError, match="public weights of test_vit"):
        release(run, tmp_path / "out")


def test_known_networks_are_what_timm_says_of_their_licence() -> None:
    for name in (
        *("vit_small_patch14_dinov2", "vit_base_patch14_reg4_dinov2", "tf_efficientnet_lite0"),
        *("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet50", "test_vit"),
    ):
        told = timm.get_pretrained_cfg(name)
        network = known_by_hub(told.hf_hub_id)
        assert network is not None, name
        assert network.licence.lower() == told.license, name
        assert network.may_be_passed_on
        assert network.credit
    assert known_by_hub("timm/vit_small_patch16_dinov3.lvd1689m") is None
    assert known_by_hub("somebody/vit_small_patch14_dinov2.lvd142m") is None


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="public weights are not at hand")
@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "tf_efficientnet_lite0"])
def test_public_files_are_known_by_what_they_hold_in_any_precision(name: str) -> None:
    tensors = load_file(WEIGHTS / f"{name}.fp16.safetensors")
    wide = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
    for one in (tensors, wide):
        found = known.known_by_content(one)
        assert found is not None
        assert found.may_be_passed_on
    changed = {n: t + 1 if t.is_floating_point() else t for n, t in tensors.items()}
    assert known.known_by_content(changed) is None


def test_the_package_carries_the_licences_that_it_writes_beside_weights() -> None:
    about = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    carried = about["tool"]["setuptools"]["package-data"]["synthdp"]
    folder = Path(known.__file__).parent / "licences"
    assert {path.stem for path in folder.iterdir()} == {*known.FREE_LICENCES}
    assert "networks/public/licences/*.txt" in carried
