from pathlib import Path

import pytest
from made_up import clinic_set, small_study, study_settings

from synthdp.config.settings import load_settings
from synthdp.errors import InputError
from synthdp.runs.missing import refuse_missing_inputs
from synthdp.stages import STAGES


def said(stage: str, *overrides: str, config: str | None = None) -> str:
    """The error of a stage whose settings are these."""
    path = Path(config) if config is not None else None
    settings = load_settings(STAGES[stage].settings_class(), path, overrides)
    with pytest.raises(InputError) as caught:
        STAGES[stage].start(settings)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


#: A stage whose one input is not there, and what its error must hold: the setting and the command.
MISSING = [
    ("finetune", ["data=absent", "out=r"], "data: absent is not there", "synthdp data import"),
    ("finetune", ["data=clinic", "out=r", "centre=absent"], "centre: absent", "data phantoms"),
    ("finetune", ["data=clinic", "out=r", "synthetic=absent"], "synthetic: ", "synthdp generate"),
    ("pretrain", ["data=absent", "out=r"], "data: absent is not there", "synthdp generate"),
    ("evaluate", ["run=absent", "dataset=clinic", "out=e"], "run: there is no run", "finetune"),
    ("generate", ["run=absent", "per_class=3", "out=s"], "run: there is no run", "train-gan"),
    ("generate", ["run=clinic", "per_class=3", "out=s"], "run: clinic is a data set", "train-gan"),
    ("calibrate", ["run=absent", "data=clinic", "out=c"], "run: there is no run", "finetune"),
    ("predict", ["run=absent", "images=clinic", "out=p.csv"], "run: there is no", "finetune"),
    ("train-gan", ["data=absent", "out=g"], "data: absent is not there", "data import"),
    ("train-gan", ["data=clinic", "init=absent", "out=g"], "init: there is no", "train-gan"),
]


@pytest.mark.parametrize(("stage", "overrides", "setting", "command"), MISSING)
def test_what_is_missing_is_named_with_its_setting_and_its_own_stage(
    stage: str, overrides: list[str], setting: str, command: str
) -> None:
    clinic_set(Path("clinic"))
    more = ["backbone.name=test_vit", "backbone.size_px=32"]
    more = more if stage in ("finetune", "pretrain") else []
    text = said(stage, *overrides, *more)
    assert setting in text
    assert command in text
    assert "data patches" not in text
    assert not [path for path in Path().iterdir() if path.name != "clinic"]


def test_a_study_names_all_at_once_and_holds_no_folder(tmp_path: Path) -> None:
    text = said("study", config="study/own")
    lines = text.splitlines()
    assert lines[0].startswith("data, evaluate_on.0.data: data/mine is not there")
    assert lines[1].startswith("private_synthetic: ")
    assert "synthdp train-gan gan/own-private" in lines[1]
    assert "synthdp data phantoms --out data/phantoms" in lines[2]
    assert not Path("studies").exists()


def test_a_folder_of_images_is_told_from_one_that_is_not_there() -> None:
    Path("photos").mkdir()
    assert "photos is no data set (it has no dataset.json)" in said(
        "finetune", "data=photos", "out=r", "backbone.name=test_vit"
    )


def test_runs_that_other_stages_make_before_are_not_missing() -> None:
    clinic_set(Path("clinic"))
    cls = STAGES["evaluate"].settings_class()
    settings = load_settings(cls, None, ["run=to-come", "dataset=clinic", "out=e"])
    refuse_missing_inputs("evaluate", settings, to_come=[Path("to-come")])
    with pytest.raises(InputError, match="run: there is no run"):
        refuse_missing_inputs("evaluate", settings)


def test_missing_weights_are_refused_before_a_study_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = study_settings(
        small_study(tmp_path),
        backbone={
            "name": "test_vit",
            "size_px": 32,
            "weights": "no.safetensors",
            "sha256": "0" * 64,
        },
    )
    with pytest.raises(InputError, match=r"backbone\.weights: no\.safetensors"):
        STAGES["study"].start(settings)
    assert not settings.out.exists()
    assert STAGES["study"].planned(settings) is not None  # a plan needs none
