"""A classifier as one file gives the scores of `synthdp predict`, without synthdp."""

import json
import math
import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import random_run, received_run

from classify.features.extract import features_on_arrays
from classify.library.exported import TOLERANCE, run_export_model, write_classifier_file
from classify.model.classifier import (
    Classifier,
    OperatingPoint,
    logits,
    new_classifier,
    new_feature_source,
    probabilities,
    restore_backbone,
)
from classify.model.folder import load_classifier
from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.config.settings import Settings
from synthdp.data.images import resample
from synthdp.errors import InputError, RunError
from synthdp.networks.denoise import resampled_for
from synthdp.networks.exported.model_file import FILES
from synthdp.networks.exported.settings import ExportModelSettings
from synthdp.networks.public.carried import PublicNetwork
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import make_statement
from synthdp.releases.copies.networks import write_networks
from synthdp.releases.release import Asked, release
from synthdp.runs.cards import model_card
from synthdp.runs.folder import open_run
from synthdp.storage.files import read_json


def onnx_run(path: Path, images: np.ndarray) -> np.ndarray:
    import onnxruntime  # noqa: PLC0415 (an extra)

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def torch_run(path: Path, images: np.ndarray) -> np.ndarray:
    module = torch.export.load(path).module()
    return module(torch.from_numpy(images)).detach().numpy()


RUNNERS = {"onnx": onnx_run, "torch-export": torch_run}


def random_classifier() -> Classifier:
    """Two networks of other sides, one of two stages and views; a hidden layer; two targets."""
    sources = [
        new_feature_source(
            FeatureSettings(
                name="test_vit", size_px=32, intensity="standardised", precision="float32"
            ),
            seed=1,
            trainable_blocks=1,
        ),
        new_feature_source(
            FeatureSettings(
                name="test_efficientnet", size_px=48, layers=(1, 2), pools=("centre", "spread"),
                views=2, precision="float32",
            ),
            seed=2,
        ),
    ]  # fmt: skip
    plain = new_classifier(sources, ("malignant", "edema"))
    generator = torch.Generator().manual_seed(3)
    n_features = plain.head_weight.shape[1]
    public = [torch.randn(40, sum(one.scaling.parts), generator=generator) for one in sources]
    scaled = [
        replace(one, scaling=one.scaling.fitted(values, 0.5))
        for one, values in zip(sources, public, strict=True)
    ]
    point = OperatingPoint(slope=1.7, offset=-0.3, threshold=0.4, sensitivity=0.9, fitted_on="x")
    return replace(
        plain,
        feature_sources=tuple(scaled),
        hidden=(torch.randn(8, n_features, generator=generator), torch.linspace(-1, 1, 8)),
        head_weight=3 * torch.randn(2, 8, generator=generator),
        head_bias=torch.randn(2, generator=generator),
        points=(point, point),
    )


def predicted(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """By the functions of the predict stage, on images (B, 1, S, S) in [0, 1]."""
    raws = []
    for one in classifier.feature_sources:
        seen = np.stack([resample(image, one.backbone.size_px) for image in images[:, 0] * 2 - 1])
        compute = features_on_arrays(restore_backbone(one))
        raws.append(torch.from_numpy(compute(seen[:, None])))
    return probabilities(classifier, logits(classifier, raws))


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["onnx", "torch-export"])
def test_networks_views_head_and_calibration_are_inside(file_format: str, tmp_path: Path) -> None:
    classifier = random_classifier()
    difference = write_classifier_file(classifier, tmp_path, file_format, {}, size_px=40)
    assert difference <= TOLERANCE
    about = read_json(tmp_path / "export.json")
    assert about["inputs"][0]["shape"] == ["batch", 1, 40, 40]
    assert about["thresholds"] == {"malignant": 0.4, "edema": 0.4}
    assert about["checked"]["largest_difference"] == difference
    images = np.random.default_rng(5).random((7, 1, 40, 40)).astype(np.float32)
    scores = RUNNERS[file_format](tmp_path / about["file"], images)
    assert np.abs(scores - predicted(classifier, images)).max() <= 1e-3
    assert scores.std() > 0.01  # it tells images apart
    alone = RUNNERS[file_format](tmp_path / about["file"], images[:1])
    assert np.abs(alone - scores[:1]).max() <= TOLERANCE


@pytest.mark.parametrize("file_format", ["onnx", "torch-export"])
def test_noise_is_taken_out_inside_too(file_format: str, tmp_path: Path) -> None:
    settings = FeatureSettings(
        name="test_efficientnet", size_px=48, layers=(1, 2), denoise="auto", precision="float32"
    )
    beside = settings.model_copy(update={"denoise": None})
    sources = []
    for one in (new_feature_source(settings, seed=2), new_feature_source(beside, seed=2)):
        grey = features_on_arrays(restore_backbone(one))(np.zeros((1, 1, 48, 48), np.float32))
        scaling = one.scaling.fitted(torch.from_numpy(grey), 0)
        sources.append(replace(one, scaling=scaling))
    plain = new_classifier(sources, ("malignant",))
    weight = torch.randn(plain.head_weight.shape, generator=torch.Generator().manual_seed(3))
    classifier = plain.with_head(weight, plain.head_bias)
    write_classifier_file(classifier, tmp_path, file_format, {}, size_px=40)
    images = np.full((6, 1, 40, 40), 0.5, np.float32) + np.linspace(0, 0.3, 40, dtype=np.float32)
    images[3:] += 0.04 * np.random.default_rng(5).standard_normal((3, 1, 40, 40), dtype=np.float32)
    scores = RUNNERS[file_format](tmp_path / FILES[file_format], images)
    seen = [resampled_for(settings, image * 2 - 1) for image in images[:, 0]]
    assert np.abs(scores - of_seen(classifier, seen, images)).max() <= TOLERANCE
    untouched = predicted(classifier, images)
    assert np.abs(scores - untouched)[:3].max() <= TOLERANCE
    assert np.abs(scores - untouched)[3:].max() > 20 * TOLERANCE
    with pytest.raises(InputError, match="size_px is 600, and noise is taken out"):
        write_classifier_file(classifier, tmp_path, file_format, {}, size_px=600)
    with pytest.raises(InputError, match="size_px: name the side of the training's images"):
        write_classifier_file(classifier, tmp_path, file_format, {})


def of_seen(classifier: Classifier, seen: list[np.ndarray], images: np.ndarray) -> np.ndarray:
    """Probabilities where the first network sees these, and the second the images."""
    first, second = (features_on_arrays(restore_backbone(o)) for o in classifier.feature_sources)
    others = np.stack([resample(image, 48) for image in images[:, 0] * 2 - 1])
    raws = [first(np.stack(seen)[:, None]), second(others[:, None])]
    return probabilities(classifier, logits(classifier, [torch.from_numpy(raw) for raw in raws]))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return received_run(random_run(folder / "run"), folder / "released")


def test_the_command_exports_what_a_release_lets_leave(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = random_run(tmp_path / "run")
    card = model_card(title="T", summary="S", statement=read_statement(run), settings={})
    (run / "card.md").write_text(card)
    out = tmp_path / "file"
    command = ["export-model", str(run), str(out), "--format", "torch-export"]
    assert main(command) == EXIT_DONE
    assert capsys.readouterr().out.strip() == str(out)
    assert {path.name for path in out.iterdir()} == {
        "model.pt2", "export.json", "privacy.json", "README.md",
    }  # fmt: skip
    assert read_json(out / "export.json")["privacy"]["epsilon"] == read_statement(run).epsilon
    inside = {"synthdp.json": ""}
    torch.export.load(out / "model.pt2", extra_files=inside)
    assert json.loads(inside["synthdp.json"])["privacy"]["unit"] == "patient"
    assert str(tmp_path) not in (out / "export.json").read_text()
    assert main(command) == EXIT_DONE  # once more: done
    assert main([*command[:-1], "onnx"]) == EXIT_BAD_INPUT
    assert "holds another exported model" in capsys.readouterr().err


@pytest.mark.parametrize("file_format", ["onnx", "torch-export"])
def test_the_card_tells_what_stands_there_and_its_code_runs(
    file_format: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is exported is a release, whose card told of `synthdp predict .` and `release.json`."""
    run = random_run(tmp_path / "run")
    card = model_card(title="T", summary="S", statement=read_statement(run), settings={"a": 1})
    (run / "card.md").write_text(card)
    release(run, tmp_path / "released", Asked(licence="CC-BY-4.0"))
    told = PublicNetwork(
        name="test_vit", file="test_vit.fp16.safetensors", sha256="0" * 64, carried=True,
        precision="half", used_sha256="1" * 64, licence="MIT", credit="Somebody_else (arXiv 1)",
    )  # fmt: skip
    write_networks(tmp_path / "released" / "model", (told,), score_difference=None)
    out = tmp_path / "file"
    run_export_model(ExportModelSettings(run=tmp_path / "released", out=out, format=file_format))
    text = (out / "README.md").read_text()
    for gone in ("synthdp predict", "--check", "release.json", "safetensors", "config.yaml"):
        assert gone not in text
    assert "Privacy of this classifier: epsilon = 0" in text
    assert "- the model's own weights: CC-BY-4.0" in text
    listed = re.findall(r"^- ([\w.-]+): ", text.partition("## Files")[2], flags=re.MULTILINE)
    assert {*listed} == {path.name for path in out.iterdir()}
    (network,) = [line for line in text.splitlines() if line.startswith("- test_vit: MIT, inside")]
    assert network.endswith("Somebody_else (arXiv 1)")
    licence = (out / "LICENSE-MIT.txt").read_text()
    assert licence.startswith("test_vit: Somebody_else (arXiv 1)\n")
    assert "Permission is hereby granted" in licence
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "use.py").write_text(code)
    monkeypatch.chdir(out)
    capsys.readouterr()
    runpy.run_path(str(tmp_path / "use.py"))
    assert capsys.readouterr().out == "(2, 1)\n"


def test_a_model_without_protection_asks_for_the_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    lineage = Lineage(releases=(Release(stage="finetune", data="clinic", mu=math.inf),))
    statement = make_statement(lineage, subject="classifier")
    with open_run(run, "finetune", Settings()) as opened:
        shutil.copytree(random_run(tmp_path / "other") / "model", opened.model, dirs_exist_ok=True)
        opened.finish(
            statement, model_card(title="T", summary="S", statement=statement, settings={})
        )
    out = tmp_path / "file"
    command = ["export-model", str(run), str(out), "--format", "torch-export"]
    assert main(command) == EXIT_BAD_INPUT
    assert "--yes-without-protection" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command, "--yes-without-protection"]) == EXIT_DONE


def test_a_dry_run_tells_the_promise(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export-model", str(released), "nowhere", "--dry-run"]) == EXIT_DONE
    assert "epsilon = 0" in capsys.readouterr().out
    assert not Path("nowhere").exists()


def test_onnx_holds_the_statement_and_no_path_of_this_machine(
    released: Path, tmp_path: Path
) -> None:
    import onnx  # noqa: PLC0415 (an extra)

    out = run_export_model(ExportModelSettings(run=released, out=tmp_path / "file"))
    model = onnx.load(out / "model.onnx")
    about = json.loads({one.key: one.value for one in model.metadata_props}["synthdp"])
    assert about["privacy"]["subject"] == "classifier"
    content = (out / "model.onnx").read_bytes()
    assert b"/site-packages/" not in content
    assert b"exported.py" not in content


def test_a_run_with_a_private_part_is_not_exported(tmp_path: Path) -> None:
    run = random_run(tmp_path / "run")
    with pytest.raises(InputError, match="has a private part"):
        run_export_model(ExportModelSettings(run=run, out=tmp_path / "file"))


def test_a_file_that_gives_something_else_is_not_kept(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classify.library.exported.TOLERANCE", -1.0)
    with pytest.raises(RunError, match="differs from the original"):
        write_classifier_file(load_classifier(released), tmp_path, "torch-export", {})
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"synthdp\[onnx\]"):
        write_classifier_file(load_classifier(released), tmp_path, "onnx", {})
    assert not list(tmp_path.iterdir())
