"""A study says beforehand what its runs would refuse, in a dry run and when it is started."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from made_up import clinic_set, of_own_generator, several_targets_set, study_settings

from synthdp.cli import main
from synthdp.config.settings import dump_settings
from synthdp.data.budget import change_budget
from synthdp.data.dataset import open_dataset
from synthdp.data.description import read_info
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.privacy.promise.plan import record_of
from synthdp.study.plan import plan_calls, plan_study
from synthdp.study.settings import StudySettings
from synthdp.study.stage import run_study
from synthdp.study.sweep.grid import expand_grid

#: A convolutional network with batch norm, and how it may be trained.
NORMED = {"name": "test_efficientnet", "size_px": 32}
FROZEN = {**NORMED, "batch_norm": "frozen"}
ONE_EPSILON: dict[str, Any] = {"epsilons": [6], "seeds": [0]}


def refused(settings: StudySettings) -> str:
    """What a dry run and a start refuse alike; nothing is made."""
    errors = []
    for stage in (plan_study, run_study):
        with pytest.raises(InputError) as error:
            stage(settings)
        errors.append(str(error.value))
    assert errors[0] == errors[1]
    assert not settings.out.exists()
    return errors[0]


def of_one_set(values: dict[str, object], data: Path) -> dict[str, object]:
    """A study of one epsilon on a set, scored there too."""
    scored = {"data": data, "split": "train"}
    return {**values, **ONE_EPSILON, "data": data, "evaluate_on": [scored]}


@pytest.fixture
def phantoms(tmp_path: Path) -> Path:
    return clinic_set(tmp_path / "phantoms", "phantom")


@pytest.fixture
def findings(values: dict[str, object], tmp_path: Path) -> dict[str, object]:
    """A study of patients with three targets, none of which phantoms know."""
    return of_one_set(values, several_targets_set(tmp_path / "several"))


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (
            "phantoms_start",
            "head.start: centre has to learn bright, dark, rare first",
        ),
        ("real_and_phantoms", "synthetic: phantoms has labels of malignant, and several"),
        ("phantoms_keep_head", "its head was trained for malignant, but the data set has bright"),
    ],
)
def test_phantoms_that_lack_the_studys_targets_are_refused_where_these_are_learned(
    findings: dict[str, object], phantoms: Path, strategy: str, words: str
) -> None:
    both = {"phantoms": phantoms, "strategies": [strategy, "real_only"]}
    assert refused(study_settings(findings, **both)).startswith(f"{strategy}: ")
    assert words in refused(study_settings(findings, **both))
    plan_study(study_settings(findings, **{**both, "strategies": ["real_only"]}))


def test_phantoms_of_one_class_teach_nothing(
    values: dict[str, object], tmp_path: Path, phantoms: Path
) -> None:
    manifest = phantoms / "manifest.csv"
    lines = [line for line in manifest.read_text().splitlines() if not line.endswith(",1")]
    manifest.write_text("\n".join([*lines, ""]))
    asked = {**ONE_EPSILON, "phantoms": phantoms}
    for strategy, where in (
        ("phantoms_start", "phantoms: its images"),
        ("phantoms_then_finetune", "phantoms, train: its images"),
        ("phantoms_only", "phantoms, train: its images"),
    ):
        epsilons = ["none"] if strategy == "phantoms_only" else [6]
        only = study_settings(values, **{**asked, "strategies": [strategy], "epsilons": epsilons})
        assert f"{where} are not of both classes of malignant" in refused(only)


@pytest.mark.parametrize("epsilon", [6, "none"])
def test_a_plan_tells_nothing_of_patients_that_only_their_labels_say(
    values: dict[str, object], epsilon: object
) -> None:
    manifest = Path(str(values["data"])) / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",train,1", ",train,0"))
    plan_study(study_settings(values, epsilons=[epsilon]))
    manifest.write_text(manifest.read_text().replace(",train,", ",test,"))
    elsewhere = [{"data": values["data"], "split": "test"}]
    plan_study(study_settings(values, epsilons=[epsilon], evaluate_on=elsewhere))


@pytest.mark.parametrize(
    "strategy", ["whole_only", "whole_from_random", "phantoms_then_whole", "blocks_only"]
)
def test_a_network_with_batch_norm_is_trained_only_where_it_is_frozen(
    values: dict[str, object], phantoms: Path, strategy: str
) -> None:
    def asking(network: dict[str, str]) -> StudySettings:
        networks = {"backbone": network, "trained_backbone": network, "network": {"steps": 2}}
        asked = {"strategies": ["real_only", strategy], "phantoms": phantoms}
        return study_settings(values, **ONE_EPSILON, **asked, **networks)

    words = refused(asking(NORMED))
    assert words.startswith(f"{strategy}: backbone.name: test_efficientnet gives frozen features")
    assert "\n" not in words  # the head of real_only stands on the same network
    plan_study(asking(FROZEN))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": {"name": "test_vitt", "size_px": 32}}, "timm has no model 'test_vitt'"),
        ({"backbone": {"name": "test_vit", "size_px": 33}}, "takes a multiple of its patch"),
        (
            {"backbone": {"name": "test_vit", "size_px": 32, "layers": [99]}},
            "backbone.layers: test_vit has blocks 0 to 5",
        ),
        ({"backbone": {**NORMED, "pools": ["class_token"]}}, "has no class token"),
        ({"beside": [{"name": "mixer_s16_224", "size_px": 224}]}, "is no plain ViT or Swin"),
        (
            {"backbone": {"name": "test_vit", "size_px": 32, "sha256": "0" * 64}},
            "backbone.sha256 belongs to a weights file",
        ),
        (
            {"backbone": {"name": "test_vit", "size_px": 32, "weights": "own.safetensors"}},
            "own.safetensors: there is no such weights file",
        ),
        ({"backbone": {"name": "test_vit", "size_px": 32, "axes": [0]}}, "holds flat images"),
        ({"finetune": {"where": {"site": "A"}}}, "where: clinic: has no column site"),
        ({"finetune": {"head": {"prior": {"cancer": 0.1}}}}, "clinic has no target cancer"),
        (
            {"strategies": ["blocks_only"], "network": {"trainable_blocks": 99}},
            "trainable_blocks is 99, but test_vit has 6",
        ),
        (
            {"strategies": ["whole_only"], "network": {"tune": "lora", "lora_rank": 900}},
            "network.lora_rank is 900",
        ),
    ],
)
def test_what_runs_would_refuse_is_refused_before_any_runs(
    values: dict[str, object], changes: dict[str, object], words: str
) -> None:
    assert words in refused(study_settings(values, **{**ONE_EPSILON, **changes}))


def test_a_study_that_its_set_may_not_be_asked_for_is_refused_as_a_whole(
    values: dict[str, object],
) -> None:
    data = Path(str(values["data"]))
    asked = {**ONE_EPSILON, "strategies": ["real_only"], "seeds": [0, 1]}
    settings = study_settings(values, **asked)
    change_budget(data, epsilon="5", delta=1e-3, because="one board")
    assert refused(settings).startswith("real_only: clinic: its privacy.budget is epsilon 5")
    change_budget(data, epsilon="8", delta=None, because="another board")
    assert "have spent 0, with these 2 it would be 9.463" in refused(settings)
    plan_study(study_settings(values, **{**asked, "seeds": [0]}))
    change_budget(data, epsilon="9.5", delta=None, because="a third board")
    run_study(settings)
    assert len(record_of(open_dataset(data)).releases) == 2
    plan_study(settings)  # its runs are on record, and ask for nothing more
    shutil.rmtree(settings.out / "runs")
    run_study(settings)  # nor does a study that stands


def test_parts_of_the_patients_count_for_those_who_are_in_several(
    values: dict[str, object],
) -> None:
    """Of three folds each patient is in two models, of which the budget has to allow both."""
    folds = {**ONE_EPSILON, "strategies": ["real_only"], "cross_validation": {"folds": 3}}
    settings = study_settings({**values, "evaluate_on": ()}, **folds)
    change_budget(Path(str(values["data"])), epsilon="8", delta=1e-3, because="a board")
    assert "with these 3 it would be" in refused(settings)


def test_volumes_are_told_from_flat_images_beforehand(
    values: dict[str, object], tmp_path: Path
) -> None:
    drawn = PhantomSettings(
        out=tmp_path / "ct", subject="ct", patients=9, size_px=16, depth=4, as_real=True
    )
    data = run_phantoms(drawn)
    assert read_info(data).depth == 4
    asked = of_one_set(values, data)
    flat = refused(study_settings(asked))
    assert "holds volumes of 4 slices" in flat
    assert "the network would see flat images" in flat
    sliced = {"name": "test_vit", "size_px": 32, "axes": [0]}
    plan_study(study_settings(asked, backbone=sliced))
    shown = refused(study_settings(asked, backbone=sliced, finetune={"head": {"views": 2}}))
    assert "no random views are made for a head" in shown
    learned = refused(study_settings(asked, backbone={**sliced, "slice_pool": "attention"}))
    assert "slice_pool: attention is learned" in learned


def test_images_of_a_generator_to_come_are_asked_for_as_it_draws_them(
    values: dict[str, object],
) -> None:
    settings = of_own_generator(values)
    plan_study(settings)
    own = settings.private_generator
    assert own is not None
    pool = Path(str(own.train["embedding"]["public"]))
    selection = {
        "features": {"name": "test_efficientnet"},
        "tokens": {"name": "test_vit"},
        "pool": [pool],
        "images": 2,
        "components": 4,
    }
    train = {"method": "selection", "size_px": 32, "selection": selection}

    def asking(train: dict[str, object], generate: dict[str, object]) -> StudySettings:
        changed = own.model_copy(update={"train": train, "generate": generate})
        return settings.model_copy(update={"private_generator": changed})

    plan_study(asking(train, {"per_class": 6}))
    assert "keeps images and has no styles" in refused(
        asking(train, {"per_class": 6, "truncation": 0.5})
    )
    assert "findings: the generator knows one target" in refused(
        asking(train, {"total": 6, "findings": {"malignant": 0.5}})
    )
    unknown = {**train, "selection": {**selection, "tokens": {"name": "test_vitt"}}}
    assert "timm has no model 'test_vitt'" in refused(asking(unknown, {"per_class": 6}))


def test_weights_that_are_not_at_hand_are_refused_at_the_start_alone(
    values: dict[str, object],
) -> None:
    settings = of_own_generator(values)
    own = settings.private_generator
    assert own is not None
    features = {"name": "test_vit", "weights": "none-such.safetensors", "sha256": "0" * 64}
    train = {**own.train, "embedding": {**own.train["embedding"], "features": features}}
    changed = own.model_copy(update={"train": train})
    settings = settings.model_copy(update={"private_generator": changed})
    plan_calls(expand_grid(settings))  # may be planned where they are not
    with pytest.raises(InputError, match="none-such"):
        run_study(settings)
    assert not settings.out.exists()


def test_a_dry_run_ends_with_what_is_wrong(
    values: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"strategies": ["whole_only", "whole_backbone"], "backbone": NORMED}
    (tmp_path / "study.yaml").write_text(dump_settings(study_settings(values, **wrong)))
    assert main(["study", str(tmp_path / "study.yaml"), "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert "whole_only: backbone.name" in told
    assert "whole_backbone: backbone.name" in told
