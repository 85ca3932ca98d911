from pathlib import Path

import pytest
from made_up import clinic_set, small_study, study_settings

from synthdp.cli import main
from synthdp.config.settings import dump_settings
from synthdp.data.dataset import open_dataset
from synthdp.networks.settings import FeatureSettings
from synthdp.networks.speed import TrainingSpeed, seconds_a_view
from synthdp.study import estimate
from synthdp.study.estimate import (
    IN_BATCHES,
    SECONDS_AN_EVALUATION,
    SECONDS_OF_NOISE,
    SECONDS_TO_CLIP,
    SECONDS_TO_START,
    estimate_words,
    study_seconds,
)
from synthdp.study.settings import StudySettings
from synthdp.study.sweep.grid import expand_grid

#: What networks take in tests on terms: seconds of a view, and of a gradient.
A_VIEW, A_GRADIENT, MILLIONS = 0.01, 0.05, 3.0


@pytest.fixture
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network takes the same on every machine."""
    monkeypatch.setattr(estimate, "seconds_a_view", lambda backbone: A_VIEW)

    def speed(backbone: FeatureSettings, blocks: object) -> TrainingSpeed:
        return TrainingSpeed(A_GRADIENT, MILLIONS, keeps_tokens=blocks not in (0, "all"))

    monkeypatch.setattr(estimate, "training_speed", speed)


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


@pytest.mark.usefixtures("known_speed")
def test_networks_that_are_trained_count_by_gradients_clipping_noise_and_scores(
    tmp_path: Path,
) -> None:
    values = small_study(tmp_path) | {"strategies": ["whole_only"], "seeds": [0], "epsilons": [6]}
    n_patients, n_images = 12, 24

    def of(**network: object) -> float:
        asked = {"steps": 100, "sampling_rate": 0.5, "max_images": 1, **network}
        privacy = {"population": 50, "delta": 1e-3, "noise": "philox"}
        plain = network.pop("plain", False)
        asked.pop("plain", None)
        changes = {"epsilons": ["none"]} if plain else {}
        settings = study_settings(values, network=asked, privacy=privacy, **changes)
        return seconds(settings) - SECONDS_TO_START - SECONDS_AN_EVALUATION

    scores, drawn = n_images * A_VIEW, 100 * 0.5
    of_patients = n_patients * (A_GRADIENT + MILLIONS * SECONDS_TO_CLIP)
    noise = 100 * MILLIONS * SECONDS_OF_NOISE["philox"]
    assert of() == pytest.approx(drawn * of_patients + noise + scores)
    assert of(steps=200) == pytest.approx(2 * (of() - scores) + scores)
    # all images of a patient have a gradient, and one clipping
    more = drawn * (n_images - n_patients) * A_GRADIENT
    assert of(max_images=None) == pytest.approx(of() + more)
    without = drawn * n_patients * A_GRADIENT * IN_BATCHES
    assert of(plain=True) == pytest.approx(without + scores)


@pytest.mark.usefixtures("known_speed")
def test_a_fold_that_is_left_out_takes_no_step(tmp_path: Path) -> None:
    values = small_study(tmp_path) | {
        "strategies": ["whole_only"],
        "seeds": [0],
        "epsilons": ["none"],
    }
    values |= {"network": {"steps": 100, "sampling_rate": 0.5, "max_images": 1}}
    whole = seconds(study_settings(values)) - SECONDS_TO_START
    folds = {"evaluate_on": [], "cross_validation": {"folds": 4}}
    four = seconds(study_settings(values, **folds)) - SECONDS_TO_START
    fixed = SECONDS_AN_EVALUATION + 24 * A_VIEW  # features of all are made for whatever is scored
    assert four - 4 * fixed == pytest.approx(3 * (whole - fixed))


@pytest.mark.usefixtures("known_speed")
def test_features_of_the_centre_and_tokens_of_a_frozen_part_are_made_once(tmp_path: Path) -> None:
    phantoms = clinic_set(tmp_path / "phantoms", "phantom")
    n_images = len(open_dataset(phantoms).rows)
    values = small_study(tmp_path) | {"strategies": ["whole_only"], "epsilons": [6]}
    values |= {"network": {"steps": 1}}
    without, centred = (seconds(study_settings(values, phantoms=one)) for one in (None, phantoms))
    assert centred - without == pytest.approx(n_images * A_VIEW)  # of both seeds
    blocks = {**values, "strategies": ["blocks_only"]}
    kept = seconds(study_settings(blocks)) - without
    assert kept == pytest.approx(2 * 24 * A_VIEW)


@pytest.mark.usefixtures("known_speed")
def test_pretraining_counts_its_epochs_and_features_in_the_end(tmp_path: Path) -> None:
    phantoms = clinic_set(tmp_path / "phantoms", "phantom")
    n_images = len(open_dataset(phantoms).rows)
    values = small_study(tmp_path) | {"strategies": ["phantoms_only"], "epsilons": ["none"]}
    values |= {"phantoms": phantoms, "seeds": [0]}

    def of(**pretrain: object) -> float:
        settings = study_settings(values, pretrain={"views": 1, **pretrain})
        return seconds(settings) - SECONDS_TO_START - SECONDS_AN_EVALUATION

    epoch = n_images * A_GRADIENT * IN_BATCHES
    assert of(epochs=3, trainable_blocks="all") == pytest.approx(3 * epoch + n_images * A_VIEW)
    assert of(epochs=3, trainable_blocks=2) == pytest.approx(3 * epoch + 2 * n_images * A_VIEW)
    assert of(trainable_blocks=0) == pytest.approx(n_images * A_VIEW)


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
