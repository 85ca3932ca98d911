from pathlib import Path

import pytest
from made_up import clinic_set, small_study, study_settings

from synthdp.cli import main
from synthdp.config.settings import FeatureSettings, dump_settings
from synthdp.data.dataset import open_dataset
from synthdp.study.estimate import (
    SECONDS_A_HEAD,
    SECONDS_AN_EVALUATION,
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
    heads = 4 * (SECONDS_A_HEAD * n_images / 1000 + SECONDS_AN_EVALUATION)
    assert seconds(one) == pytest.approx(n_images * seconds_a_view(one.backbone) + heads)
    views = study_settings(values, backbone={"name": "test_vit", "size_px": 32, "views": 8})
    assert seconds(views) == pytest.approx(8 * n_images * seconds_a_view(one.backbone) + heads)
    beside = study_settings(values, beside=[{"name": "tf_efficientnet_lite0", "size_px": 32}])
    more = n_images * seconds_a_view(beside.beside[0])
    assert seconds(beside) == pytest.approx(seconds(one) + more)
    assert seconds(study_settings(values, workers=2)) == pytest.approx(seconds(one) / 2)


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
