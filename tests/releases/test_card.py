"""The card of a released model: its result may be shown, and its code runs as it is written."""

import math
import os
import re
import runpy
import shlex
from pathlib import Path

import pytest

from classify.calibrate import run_calibrate
from classify.evaluate import run_evaluate
from classify.settings.finished import CalibrateSettings, EvaluateSettings
from synthdp.cli import EXIT_DONE, main
from synthdp.config.yaml_core import parse_yaml
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.privacy.promise.stated import read_statement
from synthdp.releases.release import Asked, release
from synthdp.runs.cards import section_text
from synthdp.storage.files import read_json
from tests.releases.test_release import UNPROTECTED, files_in, finetuned, gan_settings

CODE = re.compile(r"^```(sh|python)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clinic, a public set, and a run on the first."""
    house = tmp_path_factory.mktemp("house")
    shared = {"size_px": 32}
    run_phantoms(PhantomSettings(out=house / "clinic", patients=30, as_real=True, **shared))
    run_phantoms(PhantomSettings(out=house / "public", patients=12, **shared))
    finetuned(house / "clinic", house / "run")
    return house


def code_of(card: Path) -> list[tuple[str, str]]:
    """The code of a card by its language, pip's line apart: nothing is fetched here."""
    return [(kind, re.sub(r"^pip .*\n", "", code, flags=re.MULTILINE))
            for kind, code in CODE.findall(card.read_text())]  # fmt: skip


def run_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the code of a released card as it is written, in its folder."""
    monkeypatch.chdir(folder)
    kinds = []
    for number, (kind, code) in enumerate(code_of(folder / "README.md")):
        kinds.append(kind)
        if kind == "sh":
            for line in code.strip().splitlines():
                program, *words = shlex.split(line)
                assert program == "synthdp"
                assert main(words) == EXIT_DONE
        else:
            (folder / f"{number}.py").write_text(code)
            runpy.run_path(str(folder / f"{number}.py"))
    return kinds


def test_the_code_of_a_classifier_s_card_runs(
    house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release(house / "run", tmp_path / "out")
    assert run_code(tmp_path / "out", monkeypatch) == ["sh", "python"]
    table = (tmp_path / "out" / "scores.csv").read_text()
    assert table.startswith("image,score_malignant\n")
    assert table in capsys.readouterr().out
    os.remove(tmp_path / "out" / "scores.csv")


def test_the_code_of_a_generator_s_card_runs(
    house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gan.train import run_train_gan  # noqa: PLC0415 (slow to import)

    run = run_train_gan(gan_settings(house / "public", tmp_path / "gan"))
    release(run, tmp_path / "out", UNPROTECTED)
    assert run_code(tmp_path / "out", monkeypatch) == ["sh", "python"]
    assert "8 images" in capsys.readouterr().out


def test_a_card_names_every_file_of_the_folder(house: Path, tmp_path: Path) -> None:
    release(house / "run", tmp_path / "out")
    message = section_text((tmp_path / "out" / "README.md").read_text(), "Files")
    for name in files_in(tmp_path / "out"):
        assert f"- {name}:" in message.replace("\\", ""), name


def evaluation(house: Path, data: str, **more: object) -> Path:
    out = house / f"evaluation-{data}-{len(more)}"
    values = {"run": house / "run", "dataset": house / data, "split": "val", "out": out}
    return run_evaluate(EvaluateSettings.model_validate({**values, "redraws": 20, **more}))


def result(folder: Path) -> str:
    return section_text((folder / "README.md").read_text(), "Result")


def test_a_card_without_a_result_says_how_to_add_one(house: Path, tmp_path: Path) -> None:
    release(house / "run", tmp_path / "out")
    assert "--auroc-epsilon" in result(tmp_path / "out")
    assert "--evidence" in result(tmp_path / "out")


def test_a_result_on_public_images_is_shown_with_interval_set_and_split(
    house: Path, tmp_path: Path
) -> None:
    folder = evaluation(house, "public")
    release(house / "run", tmp_path / "out", Asked(evidence=(folder,)))
    figure = read_json(folder / "metrics.json")["auroc"]
    words = f"AUROC {figure['value']:.3f} [{figure['ci_low']:.3f}, {figure['ci_high']:.3f}]"
    assert words in result(tmp_path / "out")
    assert "phantoms, split val" in result(tmp_path / "out")
    release(tmp_path / "out", tmp_path / "again")
    assert result(tmp_path / "again") == result(tmp_path / "out")


def test_a_noisy_auroc_is_shown_and_the_promise_counts_it(house: Path, tmp_path: Path) -> None:
    folder = evaluation(house, "clinic", auroc_epsilon=2, auroc_delta=1e-3, population=500)
    out = tmp_path / "out"
    statement = release(house / "run", out, Asked(evidence=(folder,)))
    noisy = read_json(folder / "noisy_metrics.json")["auroc"]["value"]
    exact = read_json(folder / "metrics.json")["auroc"]["value"]
    assert f"noisy AUROC {noisy:.3f}" in result(out)
    assert f"AUROC {exact:.3f}" not in result(out).replace(f"noisy AUROC {noisy:.3f}", "")
    assert 6 < statement.epsilon < 9
    assert {one.stage for one in statement.lineage.releases} == {"finetune", "evaluate"}
    again = read_statement(out)
    assert (again.epsilon, again.epsilon_stage) == (statement.epsilon, statement.epsilon_stage)
    header = parse_yaml((out / "README.md").read_text().split("---\n")[1], where="card")
    assert header["privacy"]["epsilon"] >= statement.epsilon * (1 - 1e-3)


def test_an_exact_score_of_patients_is_shown_by_name_alone(house: Path, tmp_path: Path) -> None:
    folder = evaluation(house, "clinic")
    metrics = read_json(folder / "metrics.json")
    release(house / "run", tmp_path / "kept", Asked(evidence=(folder,)))
    assert "No result was released" in result(tmp_path / "kept")
    for include, shown in ((("scores",), False), (("scores", "counts"), True)):
        out = tmp_path / "-".join(include)
        statement = release(house / "run", out, Asked(evidence=(folder,), include=include))
        assert f"AUROC {metrics['auroc']['value']:.3f} [" in result(out)
        assert (f"{metrics['n_images']} images of" in result(out)) == shown
        assert sum("clinic" in one or "phantoms (val)" in one for one in statement.not_covered) == (
            1 + shown
        )
        release(out, tmp_path / f"{out.name}-again")
        assert "No result was released" in result(tmp_path / f"{out.name}-again")


def test_an_exact_score_of_training_patients_is_refused_even_by_name(
    house: Path, tmp_path: Path
) -> None:
    folder = evaluation(house, "clinic", split="train")
    with pytest.raises(InputError, match="split that patients were trained on"):
        release(house / "run", tmp_path / "o", Asked(evidence=(folder,), include=("scores",)))
    assert not (tmp_path / "o").exists()


def test_an_evaluation_of_another_run_is_no_evidence(house: Path, tmp_path: Path) -> None:
    folder = evaluation(house, "public")
    other = finetuned(house / "clinic", tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="an evaluation of 'run'"):
        release(other, tmp_path / "out", Asked(evidence=(folder,)))


def test_a_calibrated_release_gives_decisions(
    house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibration goes on from what was released, with nothing of the house."""
    release(house / "run", tmp_path / "received")
    calibrated = run_calibrate(
        CalibrateSettings(
            run=tmp_path / "received", data=house / "public", split="train", out=tmp_path / "cal"
        )
    )
    release(calibrated, tmp_path / "out")
    run_code(tmp_path / "out", monkeypatch)
    assert "positive_malignant" in (tmp_path / "out" / "scores.csv").read_text()
    assert math.isfinite(read_statement(tmp_path / "out").epsilon)
