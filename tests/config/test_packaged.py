import re
from pathlib import Path

import pytest

from synthdp.cli import main
from synthdp.config.packaged import (
    config_file,
    configs_folder,
    packaged_config,
    packaged_names,
    summaries,
    with_weights,
)
from synthdp.config.settings import load_settings
from synthdp.errors import InputError
from synthdp.stages import STAGES

#: What a packaged file leaves to the command line, by the stage that reads it.
GIVEN = {
    "classify/best": ("finetune", ["data=mine", "out=runs/one"]),
    "classify/pretrain-dinov2": ("pretrain", ["data=synthetic", "out=runs/one"]),
    "gan/own-private": ("train-gan", []),
    "gan/own-private-embedding": ("train-gan", []),
    "gan/phantoms": ("train-gan", []),
    "gan/cbis-ddsm": ("train-gan", []),
    "study/own": ("study", []),
    "study/own-findings": ("study", []),
    "study/own-volumes": ("study", []),
    "classify/own-findings": ("finetune", ["data=mine", "out=runs/one"]),
    "study/cbis-ddsm": ("study", []),
    "study/demo": ("study", []),
    "study/chest": ("study", []),
    "study/transfer-chest": ("study", []),
    "study/transfer-real": ("study", []),
    "study/transfer-view-sex": ("study", []),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_packaged_name_stands_where_a_file_may(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no folder of settings is
    stage, overrides = GIVEN[name]
    cls = STAGES[stage].settings_class()
    by_name = load_settings(cls, Path(name), overrides)
    assert by_name == load_settings(cls, Path(f"configs/{name}.yaml"), overrides)
    assert by_name == load_settings(cls, packaged_config(name), overrides)


def test_a_file_of_ones_own_comes_before_a_packaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "own").write_text("seed: 3\n")
    assert config_file(Path("study/own")) == Path("study/own")
    assert config_file(Path("study/demo")) == configs_folder() / "study" / "demo.yaml"


def test_a_word_that_is_neither_is_refused_with_what_is_near(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such settings file.*did you mean study/own"):
        config_file(Path("study/owm"))
    with pytest.raises(InputError, match=r"did you mean classify/best\?.*config list"):
        packaged_config("classify/bes")


def test_no_packaged_file_needs_a_folder_of_the_developers() -> None:
    for name in packaged_names():
        text = packaged_config(name).read_text(encoding="utf-8")
        weights = re.findall(r"weights: (\S+)", text)
        assert all(Path(one).parent == Path() for one in weights), name
        if not name.startswith("data/"):
            assert not re.search(r"(?m)^(data|synthetic|phantoms|out|init): \.\.", text), name


def test_weights_come_from_elsewhere_and_the_rest_stays(tmp_path: Path) -> None:
    text = packaged_config("study/own").read_text(encoding="utf-8")
    cls = STAGES["study"].settings_class()

    def networks(changed: str) -> list[tuple[str | None, str | None]]:
        (tmp_path / "own.yaml").write_text(changed)
        settings = load_settings(cls, tmp_path / "own.yaml")
        both = (settings.backbone, *settings.beside)  # type: ignore[attr-defined]
        return [(one.weights and str(one.weights), one.sha256) for one in both]

    assert networks(with_weights(text, "hub")) == [("hub", None)] * 2
    assert networks(with_weights(text, "none")) == [(None, None)] * 2
    before = networks(text)
    for name in ("weights", "our weights: #2 'old'"):
        folder = tmp_path / name
        folder.mkdir()
        there = [(f"{folder}/{file}", sha256) for file, sha256 in before]
        assert networks(with_weights(text, str(folder))) == there
    for word in ("", "hubb"):
        with pytest.raises(InputError, match="say hub, none, or a folder"):
            with_weights(text, word)
    assert with_weights(text, "hub").count("#") == text.count("#")


def test_the_commands_list_show_and_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == packaged_names()
    purposes = [purpose for _, purpose in summaries()]
    assert all(" " in purpose and len(purpose) <= 100 for purpose in purposes)
    assert len(set(purposes)) == len(purposes)  # else which one to take is not told
    assert main(["config", "show", "study/own"]) == 0
    shown = capsys.readouterr().out
    assert shown == packaged_config("study/own").read_text(encoding="utf-8")

    copy = tmp_path / "new" / "mine.yaml"
    assert main(["config", "copy", "study/own", str(copy)]) == 0
    assert copy.read_text(encoding="utf-8") == shown
    assert main(["config", "copy", "study/own", str(copy)]) == 2
    assert "name a new file" in capsys.readouterr().err
    assert main(["config", "copy", "study/none", str(tmp_path / "x.yaml")]) == 2
    assert not (tmp_path / "x.yaml").exists()
