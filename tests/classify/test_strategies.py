import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up import clinic_set

from classify.finetune import run_finetune
from classify.head.train import lr_times_steps
from classify.settings.head import HeadSettings
from classify.strategies import expand
from synthdp.config.settings import dump_settings, validate_settings
from synthdp.errors import InputError
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.promise.stated import read_statement
from synthdp.runs.folder import StageCall
from synthdp.stages import STAGES

BACKBONE = {"name": "test_vit", "size_px": 32, "layers": [2, 4], "pools": ["centre", "spread"]}
BESIDE = {"name": "test_efficientnet", "size_px": 32, "layers": [1]}


def lineage(epsilon: float) -> Lineage:
    mu = math.inf if math.isinf(epsilon) else gaussian_mu(epsilon, 1e-3)
    mechanism = None
    if math.isfinite(mu):
        mechanism = Mechanism(noise_multiplier=1 / mu, steps=1, normaliser=50)
    note = "" if mechanism else "trained without differential privacy"
    release = Release(stage="train-gan", data="clinic", mu=mu, mechanism=mechanism, note=note)
    return Lineage(releases=(release,))


@pytest.fixture
def ingredients(tmp_path: Path) -> dict[str, Any]:
    made = {
        "synthetic": lineage(math.inf),
        "private_synthetic": lineage(3.0),
    }
    sets = {
        name: str(clinic_set(tmp_path / name, "synthetic", lineage=one))
        for name, one in made.items()
    }
    return {
        **sets,
        "data": str(clinic_set(tmp_path / "clinic", "real")),
        "phantoms": str(clinic_set(tmp_path / "phantoms", "phantom")),
        "public": str(clinic_set(tmp_path / "children", "public", n_patients=4)),
        "privacy": {"delta": 1e-3, "population": 50},
        "backbone": BACKBONE,
        "beside": [BESIDE],
        "teacher": BESIDE,
        "pretrain": {"trainable_blocks": 3, "epochs": 1, "views": 1},
        "finetune": {"head": {"steps": 5, "block_steps": 5}},
        "trained_backbone": {"name": "test_efficientnet_gn", "size_px": 16, "precision": "float32"},
        "network": {"steps": 1, "sampling_rate": 0.3, "block_steps": 1},
    }


def calls(name: str, ingredients: dict[str, Any], root: Path, epsilon: float | None = 6.0) -> Any:
    return expand(name, ingredients, epsilon=epsilon, seed=0, root=root)


def run(call: StageCall) -> Path:
    return STAGES[call.stage].start(call.settings)


#: What each recipe promises at a target of 6, where it crosses the grid.
PROMISED = {
    "real_only": 6.0,
    "transformer_only": 6.0,
    "synthetic_only": math.inf,
    "phantoms_only": 0.0,
    "pretrain_then_finetune": math.inf,
    "pretrain_keep_head": math.inf,
    "private_pretrain_then_finetune": 6.0,
    "phantoms_then_finetune": 6.0,
    "distilled_then_finetune": 6.0,
    "real_and_synthetic": math.inf,
    "real_and_private_synthetic": 6.0,
    "real_and_phantoms": 6.0,
    "phantoms_start": 6.0,
    "private_synthetic_start": 6.0,
    "private_pretrain_keep_head": 6.0,
    "phantoms_keep_head": 6.0,
    "whole_only": 6.0,
    "public_only": 0.0,
    "public_then_whole": 6.0,
}


@pytest.mark.parametrize("name", PROMISED)
def test_every_recipe_runs_and_its_statement_says_what_it_is_worth(
    name: str, ingredients: dict[str, Any], tmp_path: Path
) -> None:
    for call in calls(name, ingredients, tmp_path / "runs"):
        last = run(call)
    promised = PROMISED[name]
    assert read_statement(last).epsilon == pytest.approx(promised, rel=2e-3)


def test_networks_are_trained_by_the_recipes_that_say_so(
    ingredients: dict[str, Any], tmp_path: Path
) -> None:
    def network(name: str) -> Any:
        last = calls(name, ingredients, tmp_path)[-1].settings
        return last.network and last.network.trainable_blocks

    assert network("real_only") is None
    assert network("public_then_finetune") is None
    assert network("blocks_only") == 2
    for name in ("whole_only", "whole_from_random", "phantoms_then_whole", "pretrain_then_whole"):
        assert network(name) == "all"
    (backbone,) = calls("whole_backbone", ingredients, tmp_path)
    assert backbone.settings.network.trainable_blocks == "all"
    assert backbone.settings.backbone.name == ingredients["backbone"]["name"]
    weights = tmp_path / "public.safetensors"
    named = {**ingredients["trained_backbone"], "weights": weights, "sha256": "0" * 64}
    asked = {**ingredients, "trained_backbone": named}
    (whole,), (random,) = (calls(n, asked, tmp_path) for n in ("whole_only", "whole_from_random"))
    assert whole.settings.backbone.weights == weights
    assert random.settings.backbone.weights is None
    assert random.settings.network.steps == 1
    before, after = calls("public_then_whole", ingredients, tmp_path)
    assert before.settings.trainable_blocks == "all"
    assert before.settings.backbone.name == "test_efficientnet_gn"
    assert after.settings.init == before.settings.out


def test_networks_that_are_trained_see_images_as_they_are(
    ingredients: dict[str, Any], tmp_path: Path
) -> None:
    """Noise is taken out for frozen networks alone, and a study may ask for it all the same."""
    auto = {"backbone": {**BACKBONE, "denoise": "auto"}, "trained_backbone": None}

    def first(name: str) -> Any:
        return calls(name, ingredients | auto, tmp_path)[0].settings.backbone

    assert first("real_only").denoise == "auto"
    for name in ("blocks_only", "whole_only", "whole_backbone", "phantoms_only"):
        assert first(name).denoise is None
    noisy = {"finetune": {"head": {"steps": 20, "image_noise": 0.08}}}
    of_head = [calls(name, ingredients | auto | noisy, tmp_path)[-1].settings.head.image_noise
               for name in ("real_only", "blocks_only", "paper")]  # fmt: skip
    assert of_head == [0.08, None, None]


def test_the_papers_recipe_is_its_own(ingredients: dict[str, Any], tmp_path: Path) -> None:
    turned = {"backbone": {**BACKBONE, "views": 4, "view_order": "turns"}}
    (call,) = calls("paper", ingredients | turned, tmp_path)
    head, backbone = call.settings.head, call.settings.backbone
    assert (head.kind, head.hidden, head.optimizer) == ("mlp", 384, "adamw")
    assert head.lr_times_steps / head.steps == pytest.approx(1e-5)
    assert head.sampling_rate == pytest.approx(1 / 9)
    assert (backbone.layers, backbone.pools, backbone.views) == ((), ("mean",), 1)
    assert backbone == type(backbone).model_validate(backbone.model_dump())  # reads back as it is
    assert call.settings.centre is None
    short = head.model_copy(update={"steps": 20, "lr_times_steps": 1.0})
    statement = read_statement(run_finetune(call.settings.model_copy(update={"head": short})))
    assert statement.epsilon <= 6
    assert statement.epsilon > 5.9
    before, after = calls("paper_pretrained", ingredients, tmp_path)
    assert before.stage == "pretrain"
    assert after.settings.head.start == "pretrained"
    assert after.settings.init == before.settings.out


def test_a_generator_that_spent_the_target_leaves_no_cell(
    ingredients: dict[str, Any], tmp_path: Path
) -> None:
    for name in (
        "private_pretrain_then_finetune",
        "private_pretrain_keep_head",
        "real_and_private_synthetic",
        "private_synthetic_start",
    ):
        assert calls(name, ingredients, tmp_path, epsilon=2.0) == ()
        assert len(calls(name, ingredients, tmp_path, epsilon=None)) >= 1


#: As they were before a call held typed settings: a study finds its runs by them.
FOLDERS = {
    "real_only": ["finetune-cc0db8f58de1"],
    "transformer_only": ["finetune-2364afe6b9b6"],
    "synthetic_only": ["pretrain-0611cc0d78ec"],
    "pretrain_then_finetune": ["pretrain-0611cc0d78ec", "finetune-8d417adf46af"],
    "pretrain_keep_head": ["pretrain-0611cc0d78ec", "finetune-e0330fd57422"],
    "pretrain_then_lora": ["pretrain-0611cc0d78ec", "finetune-0af70dd86c22"],
    "real_and_synthetic": ["finetune-87000035b517"],
    "paper": ["finetune-85af2688e990"],
    "paper_pretrained": ["pretrain-e4ed7e284d90", "finetune-bdf0328b8974"],
    "without privacy": ["finetune-852679315b16"],
    "one site": ["finetune-2128d280a3d5"],
    "one norm": ["finetune-d54da18c6fd2"],
}


@pytest.mark.parametrize("name", FOLDERS)
def test_run_folders_keep_their_names(name: str) -> None:
    asked = {
        "data": "sets/clinic",
        "synthetic": "sets/synthetic",
        "phantoms": "sets/phantoms",
        "privacy": {"delta": 1e-4, "population": 600},
        "backbone": {
            "name": "vit_small_patch14_dinov2",
            "layers": [7, 11],
            "pools": ["mean", "centre"],
            "views": 2,
            "whiten": 0.5,
        },
        "beside": [{"name": "convnext_tiny", "size_px": 224}],
        "pretrain": {"epochs": 3},
        "finetune": {
            "head": {"lr_times_steps": {1: 80.0, 6: 300.0, "none": 2000.0}, "input_norm": None}
        },
    }
    where = {"where": {"site": ["A", "B"]}, "cohort": "1/2"}
    changes: dict[str, dict[str, Any]] = {
        "without privacy": {"epsilon": None},
        "one site": {"finetune": where},
        "one norm": {"finetune": {"head": {"input_norm": 39.0}}},
    }
    changed = {"epsilon": 6.0, **changes.get(name, {})}
    epsilon = changed.pop("epsilon")
    strategy = name if name not in changes else "real_only"
    found = expand(strategy, {**asked, **changed}, epsilon=epsilon, seed=3, root=Path("runs"))
    assert [call.folder for call in found] == FOLDERS[name]
    assert [call.settings.out for call in found] == [Path("runs") / call for call in FOLDERS[name]]


def test_a_missing_ingredient_is_named_with_its_recipe(
    ingredients: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="distilled_then_finetune needs `teacher`"):
        calls("distilled_then_finetune", {**ingredients, "teacher": None}, tmp_path)


def test_recipes_share_their_pretraining(ingredients: dict[str, Any], tmp_path: Path) -> None:
    shared = {**ingredients, "pretrain_seed": 0}
    first = expand("pretrain_then_finetune", shared, epsilon=1.0, seed=0, root=tmp_path)
    second = expand("pretrain_keep_head", shared, epsilon=6.0, seed=4, root=tmp_path)
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_distillation_moves_the_features_towards_the_teachers(
    ingredients: dict[str, Any], tmp_path: Path
) -> None:
    before, _ = calls("distilled_then_finetune", ingredients, tmp_path)
    longer = StageCall("pretrain", before.settings.model_copy(update={"epochs": 12, "lr": 1e-3}))
    folder = run(longer)
    lines = (folder / "private" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines if "epoch" in line]
    assert losses[-1] < 0.7 * losses[0]
    assert read_statement(folder).epsilon == 0


@pytest.mark.parametrize(
    ("epsilon", "rule", "expected"),
    [
        (6.0, 250.0, 250.0),
        (6.0, {1.0: 100.0, 36.0: 400.0}, 200.0),
        (0.1, {1.0: 100.0, 6.0: 400.0}, 100.0),
        (60.0, {1.0: 100.0, 6.0: 400.0, math.inf: 900.0}, 400.0),
        (math.inf, {1.0: 100.0, 6.0: 400.0, math.inf: 900.0}, 900.0),
        (math.inf, {1.0: 100.0, 6.0: 400.0}, 400.0),
        (3.0, {math.inf: 900.0}, 900.0),
    ],
)
def test_learning_rates_may_be_given_by_epsilon(
    epsilon: float, rule: float | dict[float, float], expected: float
) -> None:
    assert lr_times_steps(epsilon, rule) == pytest.approx(expected)


def test_rates_by_epsilon_survive_being_written_and_read() -> None:
    head = validate_settings(HeadSettings, {"lr_times_steps": {1: 100, "none": 3200}}, where="head")
    assert head.lr_times_steps == {1: 100, math.inf: 3200}
    for written in (head.model_dump(), yaml.safe_load(dump_settings(head))):
        assert validate_settings(HeadSettings, written, where="head") == head
