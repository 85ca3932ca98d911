from pathlib import Path

import pytest

from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings


def test_every_stage_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    stages = (
        *("train-gan", "generate", "pretrain", "finetune", "calibrate", "predict", "evaluate"),
        *("study", "report"),
    )
    for words in ([stage] for stage in stages):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        assert stop.value.code == 0
        assert f"synthdp {words[0]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["privacy.epsilonn=6"], "privacy.epsilonn: unknown key, did you mean epsilon?"),
        (["privacy.epsilon=0"], "privacy.epsilon: Input should be greater than 0"),
        (["privacy.epsilon=-1"], "privacy.epsilon: Input should be greater than 0"),
        (["privacy.epsilon=6", "privacy.population=600", "privacy.delta=0.01"], "not below 1/pop"),
        (["privacy.epsilon=6"], "privacy.population is missing"),
        (["head.steps=ten"], "head.steps: Input should be a valid integer"),
    ],
)
def test_bad_settings_are_told_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], words: str
) -> None:
    paths = [f"data={tmp_path}/data", f"out={tmp_path}/out", "init=nowhere"]
    assert main(["finetune", *paths, *overrides]) == EXIT_BAD_INPUT
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_error_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["finetune", "data=d", "init=i", "privacy.unit=house", "head.stepz=3", "seed=x"])
    message = capsys.readouterr().err
    assert code == EXIT_BAD_INPUT
    for part in ("out: missing", "privacy.unit:", "head.stepz: unknown key", "seed:"):
        assert part in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed", "=", "3"], "an override is written key=value, without blanks around the ="),
        (["\u2013out", "x"], "begins with a typographic dash"),
        (["out=x", "out=y"], "out: given 2 times; keep one"),
        (["--out", "x", "out=y"], "out: given 2 times; keep one"),
        (["--out", "x", "--out", "y"], "--out: given twice; keep one"),
        (["--out", "", "seed=3"], "out: is empty, as an unset variable leaves it"),
        (["--seed", "6:30", "--out", "x"], "seed: Input should be a valid integer"),
    ],
)
def test_slips_of_the_command_line_are_told(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["data", "phantoms", "--dry-run", *words])
    except SystemExit as stop:
        code = int(str(stop.code))
    assert code == EXIT_BAD_INPUT
    assert message in capsys.readouterr().err


def test_a_settings_file_may_stand_behind_options(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["assess", "data/synthetic", "--real", "data/mine", "--out", "assessed", "gan/assess"]
    assert main([*words, "neighbours=7", "--dry-run"]) == EXIT_BAD_INPUT  # nothing is there
    message = capsys.readouterr().err
    assert "synthetic: data/synthetic is not there" in message
    assert "unrecognized" not in message
    with pytest.raises(SystemExit):  # a second word is none
        main([*words, "gan/more"])
    assert "unrecognized arguments: gan/more" in capsys.readouterr().err


def test_values_of_options_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--src", "a #2/b: c", "--out", "001", "--name", "2024", "patient_pattern=[0-9]+(.)"]
    assert main(["data", "patches", "--dry-run", *words]) == EXIT_DONE
    message = capsys.readouterr().out
    for line in ("src: 'a #2/b: c'", "out: '001'", "name: '2024'", "patient_pattern: '[0-9]+(.)'"):
        assert f"{line}\n" in message


def test_a_settings_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "nowhere.yaml"]) == EXIT_BAD_INPUT
    assert "nowhere.yaml: there is no such settings file" in capsys.readouterr().err


def test_privacy_of_a_folder_that_is_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["privacy", str(tmp_path)]) == EXIT_BAD_INPUT
    assert "not a data-set folder" in capsys.readouterr().err
    absent = [str(tmp_path / "runs" / "clasifier"), "x" * 5000]
    assert main(["privacy", *absent]) == EXIT_BAD_INPUT
    message = capsys.readouterr().err
    assert all(f"{path}: there is nothing of that name" in message for path in absent)
    assert "dataset.json" not in message


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "check", ""],
        ["data", "show", ""],
        ["data", "budget", ""],
        ["data", "import", "--guess", "--src", ""],
        ["privacy", ""],
        ["privacy", "--release", "", "released"],
        ["privacy", "--dossier", "", "dossier"],
    ],
)
def test_an_unset_variable_is_not_the_folder_where_the_command_is_typed(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_phantoms(PhantomSettings(out=tmp_path / "set", patients=4, size_px=16))
    monkeypatch.chdir(tmp_path / "set")
    before = set(Path().rglob("*"))
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = int(str(stop.code))
    assert code == EXIT_BAD_INPUT
    message = capsys.readouterr()
    assert (
        "is empty, as an unset variable leaves it" in message.err
        or "needs --src DIR" in message.err
    )
    assert message.out == ""
    assert set(Path().rglob("*")) == before


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == EXIT_DONE
    assert capsys.readouterr().out.startswith("synthdp 0.")


def test_pairs_may_follow_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["evaluate", str(tmp_path), str(tmp_path), "--split", "val", "--out", "x", "redraws=no"]
    assert main(asked) == EXIT_BAD_INPUT
    assert "redraws" in capsys.readouterr().err
    for wrong in ("stray", "--nothing=1"):
        with pytest.raises(SystemExit) as stop:
            main([*asked[:-1], wrong])
        assert stop.value.code == EXIT_BAD_INPUT
        assert "unrecognized arguments" in capsys.readouterr().err
