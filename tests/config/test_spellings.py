import os
from pathlib import Path

import pytest

from synthdp.config.settings import Settings, dump_settings
from synthdp.config.spellings import respelled, same_path, started_in
from synthdp.errors import InputError
from synthdp.networks.settings import BackboneSettings
from synthdp.runs.folder import StageCall, is_written, open_run, spelled_as_started
from synthdp.storage.files import write_atomic


class Inner(Settings):
    weights: Path | None = None


class Example(Settings):
    data: Path
    out: Path
    beside: tuple[Path, ...] = ()
    inner: Inner = Inner()
    seed: int = 0


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where `data`, `other` and a link to all of it stand."""
    folder = tmp_path / "here"
    for name in ("data", "other", "elsewhere"):
        (folder / name).mkdir(parents=True)
    (tmp_path / "linked").symlink_to(folder)
    monkeypatch.chdir(folder)
    return folder


def spellings(folder: Path, name: str) -> list[str]:
    linked = folder.parent / "linked"
    plain = [name, f"./{name}", f"{name}/", f"other/../{name}", str(folder / name)]
    return [*plain, f"../here/{name}", str(linked / name), f"../linked/{name}"]


def test_a_run_is_resumed_however_its_paths_are_spelled(work: Path) -> None:
    first = Example(
        data=Path("data"), out=Path("runs/a"), beside=(Path("other"),), inner=Inner(weights="data")
    )
    with open_run(first.out, "finetune", first):
        stored = (work / "runs/a/config.yaml").read_text()
    for data in spellings(work, "data"):
        for out in ("runs/a", str(work / "runs/a"), str(work.parent / "linked/runs/a")):
            again = Example(data=data, out=out, beside=(data,), inner=Inner(weights=data))
            with pytest.raises(InputError, match=r"beside\.0: 'other' there"):
                _open(again)
            _open(again.model_copy(update={"beside": (Path("other/"),)}))
    assert (work / "runs/a/config.yaml").read_text() == stored
    with pytest.raises(InputError, match=r"data: 'data' there, 'other' asked for"):
        _open(first.model_copy(update={"data": Path("other")}))


def _open(settings: Example) -> None:
    with open_run(settings.out, "finetune", settings):
        pass


def test_a_run_is_resumed_from_another_folder(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _open(Example(data=Path("data"), out=Path("runs/a")))
    monkeypatch.chdir(work / "elsewhere")
    _open(Example(data=work / "data", out=Path("../runs/a")))
    _open(Example(data=Path("../data"), out=work / "runs/a"))
    with pytest.raises(InputError, match="data: 'data' there"):
        _open(Example(data=work / "other", out=work / "runs/a"))


def test_what_is_written_in_one_go_is_found_however_its_paths_are_spelled(work: Path) -> None:
    settings = Example(data=Path("data"), out=Path("scores"))
    write_atomic(work / "scores/config.yaml", dump_settings(settings))
    write_atomic(work / "scores/metrics.json", "{}")
    for data in spellings(work, "data"):
        again = Example(data=data, out=work / "scores")
        assert is_written(again.out, again, last="metrics.json", what="an evaluation")
    other = Example(data=work / "other", out=Path("scores"))
    with pytest.raises(InputError, match="with other settings"):
        is_written(other.out, other, last="metrics.json", what="an evaluation")


def test_names_of_runs_stay_those_of_the_spelling_that_a_study_began_with(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = Example(data=Path("data"), out=Path("study"), inner=Inner(weights=Path("other")))
    write_atomic(work / "study/config.yaml", dump_settings(began))
    for data in spellings(work, "data"):
        again = Example(data=data, out=work / "study", inner=Inner(weights=work / "other"))
        spelled = spelled_as_started(again.out, again)
        assert spelled == began
        assert StageCall("study", spelled).folder == StageCall("study", began).folder
    changed = spelled_as_started(began.out, Example(data=Path("./data"), out=Path("study"), seed=3))
    assert changed == Example(data=Path("data"), out=Path("study"), seed=3)
    assert spelled_as_started(Path("new"), began) == began
    monkeypatch.chdir(work / "elsewhere")
    again = Example(data=work / "data", out=work / "study")
    with pytest.raises(InputError, match="run the command in the folder in which it was started"):
        spelled_as_started(again.out, again)


def test_where_a_run_was_started_is_told_by_its_out(work: Path) -> None:
    out = work / "runs" / "a"
    out.mkdir(parents=True)
    assert started_in(out, "runs/a") == work
    assert started_in(out, "a") == work / "runs"
    for unknown in (str(out), "moved/a", "../here/runs/a", "", None):
        assert started_in(out, unknown) == Path(os.getcwd())


def test_words_that_are_no_places_are_told_apart_by_their_letters(work: Path) -> None:
    assert same_path(Path("pretrained:mcgan"), "pretrained:mcgan", work)
    assert not same_path(Path("pretrained:mcgan"), "pretrained:other", work)
    old = {"data": "data", "gone": 3, "beside": ["data", "other"], "inner": None}
    asked = Example(data=work / "data", out=Path("x"), beside=(work / "data",))
    plain = asked.model_dump(mode="json")
    assert respelled(asked, plain, old, work) == {**plain, "data": "data"}


def test_weights_of_one_sha256_are_the_same_wherever_they_stand(tmp_path: Path) -> None:
    def network(weights: str | None, sha256: str | None) -> BackboneSettings:
        return BackboneSettings(name="vit", weights=weights, sha256=sha256)

    asked = network("vit.safetensors", "a" * 64)
    stored = network("../shared/weights/vit.safetensors", "a" * 64).model_dump(mode="json")
    plain = asked.model_dump(mode="json")
    assert respelled(asked, plain, stored, tmp_path) == stored
    for other in (network("vit.safetensors", "b" * 64), network("hub", None), network(None, None)):
        as_plain = other.model_dump(mode="json")
        assert respelled(other, as_plain, stored, tmp_path) == as_plain
