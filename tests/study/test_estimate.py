from pathlib import Path

import pytest
from made_up import clinic_set, small_study, study_settings

from synthdp.cli import main
from synthdp.config.settings import dump_settings
from synthdp.data.dataset import open_dataset
from synthdp.networks.settings import FeatureSettings
from synthdp.study.estimate import (
    PRIVATE_TRAINING,
    SECONDS_AN_EVALUATION,
    SECONDS_TO_START,
    TRAINING,
    estimate_words,
    seconds_a_view,
    study_seconds,
)
from synthdp.study.settings import StudySettings
from synthdp.study.sweep.grid import expand_grid


def seconds(settings: StudySettings) -> float:
    return study_seconds(settings, expand_grid(settings))


def test_seconds_are_images_times_views_for_each_network(tmp_path: Path) -> None:
    values = small_study(tmp_path)
    one = study_settings(values)
    n_images = len(open_dataset(one.data).rows)
    fixed = seconds(one) - n_images * seconds_a_view(one.backbone)
    assert SECONDS_TO_START + 4 * SECONDS_AN_EVALUATION < fixed < 60
    views = study_settings(values, backbone={"name": "test_vit", "size_px": 32, "views": 8})
    assert seconds(views) == pytest.approx(8 * n_images * seconds_a_view(one.backbone) + fixed)
    beside = study_settings(values, beside=[{"name": "tf_efficientnet_lite0", "size_px": 32}])
    more = n_images * seconds_a_view(beside.beside[0])
    assert seconds(beside) == pytest.approx(seconds(one) + more)
    assert seconds(study_settings(values, workers=2)) == pytest.approx(seconds(one) / 2)


def test_longer_heads_take_longer(tmp_path: Path) -> None:
    values = small_study(tmp_path)
    short, long = (
        seconds(study_settings(values, finetune={"head": {"steps": steps}}))
        for steps in (100, 1000)
    )
    assert long > short + 4


@pytest.mark.parametrize(
    ("name", "size_px", "measured"),
    [
        ("vit_tiny_patch16_224", 64, 0.0015),
        ("vit_tiny_patch16_224.augreg_in21k", 168, 0.010),
        ("vit_small_patch14_dinov2", 168, 0.050),
        ("tf_efficientnet_lite0", 160, 0.007),
    ],
)
def test_a_network_takes_what_was_measured(name: str, size_px: int, measured: float) -> None:
    assert seconds_a_view(FeatureSettings(name=name, size_px=size_px)) == pytest.approx(
        measured, rel=0.25
    )


def test_two_networks_and_eight_views_take_what_they_took() -> None:
    small = FeatureSettings(name="vit_small_patch14_dinov2", size_px=168)
    lite = FeatureSettings(name="tf_efficientnet_lite0", size_px=160)
    assert 1520 * 8 * (seconds_a_view(small) + seconds_a_view(lite)) == pytest.approx(648, rel=0.25)


def test_a_small_study_of_a_tiny_network_takes_less_than_a_minute(tmp_path: Path) -> None:
    """8 heads and evaluations of 277 images of 64 px took 24 s, where 3 minutes were told."""
    patients = clinic_set(tmp_path / "patients", n_patients=140)
    values = small_study(tmp_path) | {
        "data": str(patients),
        "backbone": {"name": "vit_tiny_patch16_224", "size_px": 64},
        "epsilons": [6, "none"],
        "seeds": [0, 1, 2, 3],
    }
    settings = study_settings(values)
    assert len(expand_grid(settings)) == 8
    assert 12 < seconds(settings) < 60


def test_other_sets_and_pretraining_count_too(tmp_path: Path) -> None:
    values = small_study(tmp_path)
    phantoms = clinic_set(tmp_path / "phantoms", "phantom", n_patients=30)
    centred = study_settings(values, phantoms=phantoms)
    assert seconds(centred) > seconds(study_settings(values))
    pretrained = study_settings(
        values, phantoms=phantoms, strategies=["real_only", "phantoms_then_finetune"]
    )
    longer = study_settings(
        values,
        phantoms=phantoms,
        strategies=["real_only", "phantoms_then_finetune"],
        pretrain={"epochs": 100},
    )
    assert seconds(centred) < seconds(pretrained) < seconds(longer)


def test_networks_that_are_trained_count_by_their_steps_and_what_they_are_scored_on(
    tmp_path: Path,
) -> None:
    values = small_study(tmp_path) | {"strategies": ["blocks_only"], "seeds": [0], "epsilons": [6]}
    network = {"steps": 100, "sampling_rate": 0.5, "max_images": 1}
    short, long = (
        seconds(study_settings(values, network={**network, "steps": steps})) for steps in (100, 200)
    )
    a_view = seconds_a_view(FeatureSettings(name="test_vit", size_px=32))
    assert long - short == pytest.approx(PRIVATE_TRAINING * 100 * 0.5 * 12 * a_view)
    plain = seconds(study_settings(values, network=network, epsilons=["none"]))
    assert short - plain == pytest.approx((PRIVATE_TRAINING - TRAINING) * 100 * 0.5 * 12 * a_view)
    assert plain > TRAINING * 100 * 0.5 * 12 * a_view + 24 * a_view  # 24 images are scored


def test_heads_that_are_trained_together_and_few_blocks_take_less(tmp_path: Path) -> None:
    backbone = {"name": "test_vit", "size_px": 32, "weights": "w.safetensors", "sha256": "0" * 64}
    heads = {"finetune": {"head": {"steps": 6000}}, "strategies": ["real_only"], "epsilons": [6]}
    values = small_study(tmp_path) | heads | {"backbone": backbone}
    one, ten = (seconds(study_settings(values, seeds=[*range(n)])) for n in (1, 10))
    more = 9 * SECONDS_AN_EVALUATION
    assert one - SECONDS_TO_START < ten - SECONDS_TO_START - more < 3 * (one - SECONDS_TO_START)
    phantoms = {"phantoms": clinic_set(tmp_path / "phantoms", "phantom"), "seeds": [0]}
    asked = {**values, **phantoms, "strategies": ["phantoms_then_finetune"]}
    few, every = (
        seconds(study_settings(asked, pretrain={"epochs": 9, "trainable_blocks": blocks}))
        for blocks in (1, "all")
    )
    assert few < every


def test_a_larger_side_takes_as_much_longer_as_it_has_pixels() -> None:
    small = FeatureSettings(name="tf_efficientnet_lite0", size_px=80)
    large = FeatureSettings(name="tf_efficientnet_lite0", size_px=160)
    assert seconds_a_view(large) == pytest.approx(4 * seconds_a_view(small))
    assert seconds_a_view(FeatureSettings(name="test_vit", size_px=168)) > 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (1, "about 1 minute"),
        (100, "about 2 minutes"),
        (1700, "about 30 minutes"),
        (5000, "about 1.5 hours"),
        (7000, "about 2 hours"),
        (4 * 86400, "about 4 days"),
    ],
)
def test_words_are_as_coarse_as_the_estimate(given: float, words: str) -> None:
    assert estimate_words(given) == words


def test_a_dry_run_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = study_settings(small_study(tmp_path))
    (tmp_path / "study.yaml").write_text(dump_settings(settings))
    assert main(["study", str(tmp_path / "study.yaml"), "--dry-run"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("study will take about 1 minute on 1 worker with a core each")


def test_an_estimate_tells_not_whether_anybody_is_in_train(tmp_path: Path) -> None:
    """A study of heads was planned without anybody; one of networks refused, and so told."""
    values = small_study(tmp_path) | {"strategies": ["blocks_only"], "seeds": [0], "epsilons": [6]}
    data = Path(str(values["data"]))
    values["evaluate_on"] = [{"data": data, "split": "test"}]
    manifest = data / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",train,", ",test,"))
    assert seconds(study_settings(values, network={"steps": 100, "sampling_rate": 0.5})) > 0
