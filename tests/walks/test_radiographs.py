"""Radiographs by command line alone, from phantoms to a whole network with a promise.

Phantoms, a generator of several findings, what it draws and how that is judged, a network that is
trained whole on it and then, with a promise, on patients; and the same as a study's recipe.
"""

import json
from pathlib import Path

import pytest

from synthdp.cli import EXIT_DONE, main
from synthdp.data.dataset import open_dataset
from synthdp.study.compare.results import read_results

FINDINGS = ["cardiomegaly", "effusion", "infiltration"]
PHANTOMS = ["subject=chest", "size_px=32", "separation=3", f"targets=[{', '.join(FINDINGS)}]",
            "workers=1", "val_fraction=0.2", "test_fraction=0.2"]  # fmt: skip
BACKBONE = "backbone={name: resnet9, size_px: 32}"
PRIVACY = "privacy={epsilon: 8, delta: 1.0e-3, population: 100}"
STEPS = "steps: 2, sampling_rate: 0.1, max_images: 1, augment: {}"
NETWORK = f"network={{trainable_blocks: all, {STEPS}}}"
SPACE = "features=[{label: Tiny, name: test_vit, size_px: 32}]"


def ran(*typed: object) -> None:
    assert main([str(word) for word in typed]) == EXIT_DONE, typed


@pytest.mark.slow
def test_from_phantoms_to_a_whole_network_by_config_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran("data", "phantoms", "--out", "public", "--patients", "24", *PHANTOMS)
    patients = ("--patients", "30", "--seed", "4", "--as-real", "--name", "clinic")
    ran("data", "phantoms", "--out", "clinic", *patients, *PHANTOMS)
    public = ("data=public", "out=gan", f"targets=[{', '.join(FINDINGS)}]", "conditions=[view]")
    small = ("size_px=32", "haar_levels=2", "channels=[16, 8]", "kimg=0.08", "batch=8")
    ran("train-gan", *public, *small, "augmentation={symmetry: none}")
    ran("generate", "gan", "--out", "synthetic", "--total", "40")
    ran("assess", "synthetic", "--real", "public", "--out", "assessment", SPACE, "redraws=100",
        "neighbours=3")  # fmt: skip
    ran("pretrain", "data=synthetic", "out=pretrained", BACKBONE, "trainable_blocks=all",
        "epochs=1", "augment={}")  # fmt: skip
    ran("finetune", "data=clinic", "out=tuned", "init=pretrained", PRIVACY, NETWORK)
    ran("evaluate", "tuned", "clinic", "--split", "test", "--out", "figures", "redraws=50")

    judged = json.loads(Path("assessment/quality.json").read_text())
    told = {one["measure"].rpartition(", ")[2] for one in judged["figures"]
            if one["section"] == "Labels"}  # fmt: skip
    assert told == {*FINDINGS, "view AP"}
    promise = json.loads(Path("tuned/privacy.json").read_text())
    assert 7.9 < promise["epsilon"] <= 8
    assert promise["lineage"]["releases"][0]["data"] == "clinic"
    assert set(json.loads(Path("figures/metrics.json").read_text())["targets"]) == set(FINDINGS)


@pytest.mark.slow
def test_the_recipe_of_a_study_walks_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pretrain_then_whole` on a set of several findings that a private generator drew."""
    monkeypatch.chdir(tmp_path)
    ran("data", "phantoms", "--out", "public", "--patients", "20", *PHANTOMS)
    patients = ("--patients", "30", "--seed", "4", "--as-real", "--name", "clinic")
    ran("data", "phantoms", "--out", "clinic", *patients, *PHANTOMS)
    features = "{name: test_efficientnet, size_px: 32}"
    private = f"embedding={{features: {features}, public: public, components: 8}}"
    shares = f"findings={{{', '.join(f'{name}: 0.2' for name in FINDINGS)}}}"
    ran("train-gan", "data=clinic", "out=gan", "method=embedding", private, shares,
        "privacy={epsilon: 4, delta: 1.0e-3, population: 100}", "size_px=32", "haar_levels=2",
        "channels=[16, 8]", "kimg=0.08", "batch=8")  # fmt: skip
    ran("generate", "gan", "--out", "drawn", "--total", "40")
    Path("study.yaml").write_text(
        "data: clinic\nout: study\nphantoms: public\nprivate_synthetic: drawn\n"
        "strategies: [private_pretrain_then_whole, whole_from_random]\n"
        "epsilons: [8]\nseeds: [0]\nworkers: 1\n"
        "evaluate_on: [{data: clinic, split: test}]\n"
        "privacy: {delta: 1.0e-3, population: 100}\n"
        "backbone: {name: test_vit, size_px: 32}\n"
        "trained_backbone: {name: resnet9, size_px: 32}\n"
        "pretrain: {epochs: 1, augment: {}}\n"
        f"network: {{{STEPS}}}\n"
    )
    ran("study", "study.yaml")
    ran("report", "study")
    rows = read_results(Path("study/results.csv"))
    assert {row.strategy for row in rows} == {"private_pretrain_then_whole", "whole_from_random"}
    assert "macro" in {row.target for row in rows}
    assert all(row.epsilon <= 8 for row in rows if row.epsilon is not None)
    assert open_dataset(Path("drawn")).info.lineage.releases
