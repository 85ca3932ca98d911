import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up import clinic_set

from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE
from synthdp.stages import STAGES

SCRIPTS = Path(__file__).parent.parent / "scripts"
BENCHMARKS = sorted(SCRIPTS.glob("bench_*.py"))
OTHERS = [path for path in sorted(SCRIPTS.glob("*.py")) if path not in BENCHMARKS]


@pytest.fixture(scope="module")
def compare() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(SCRIPTS / "compare.py")))


@pytest.mark.parametrize("script", OTHERS, ids=lambda path: path.stem)
def test_every_script_has_help_with_an_example(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code == EXIT_DONE
    shown = capsys.readouterr().out
    assert "usage:" in shown
    assert "example" in shown


@pytest.mark.parametrize("stage", ["train-gan", "generate", "pretrain", "finetune"])
def test_the_main_stages_have_a_script(stage: str) -> None:
    assert stage in STAGES
    text = (SCRIPTS / f"{stage.replace('-', '_')}.py").read_text()
    assert f'main(["{stage}", *sys.argv[1:]])' in text


def settings_file(root: Path) -> Path:
    path = root / "study.yaml"
    path.write_text(
        f"data: {root}/clinic\nout: {root}/study\nsynthetic: {root}/synthetic\n"
        f"phantoms: {root}/phantoms\nstrategies: real_only\nepsilons: [6]\nseeds: [0]\n"
        f"evaluate_on: [{{data: {root}/clinic}}]\n"
    )
    return path


def test_the_comparison_makes_what_is_missing_and_ends_with_tables(
    compare: SimpleNamespace, tmp_path: Path
) -> None:
    clinic_set(tmp_path / "clinic")
    clinic_set(tmp_path / "phantoms", "phantom")
    options = compare.build_parser().parse_args([str(settings_file(tmp_path)), "seeds=[0,1]"])
    planned = compare.steps(options)
    assert [step.arguments[0] for step in planned] == [
        *("data", "generate", "study", "report", "report", "report")
    ]
    assert [step.done is not None and step.done.is_file() for step in planned[:2]] == [True, False]
    assert planned[2].arguments[2] == "seeds=[0,1]"


def test_the_comparison_stops_at_the_first_step_that_fails(
    compare: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def main(arguments: list[str]) -> int:
        ran.append(arguments)
        return EXIT_BAD_INPUT if arguments[0] == "study" else EXIT_DONE

    monkeypatch.setitem(compare.run.__globals__, "main", main)
    there = tmp_path / "manifest.csv"
    there.write_text("")
    made = [("phantoms", there), ("study", None), ("report", None)]
    planned = [compare.Step(name, (name,), done) for name, done in made]
    assert compare.run(planned) == EXIT_BAD_INPUT
    assert ran == [["study"]]


def test_the_comparison_wants_its_data(
    compare: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.compare([str(settings_file(tmp_path)), "--dry-run"]) == EXIT_BAD_INPUT
    assert "synthdp data patches" in capsys.readouterr().err
    clinic_set(tmp_path / "clinic")
    assert compare.compare([str(settings_file(tmp_path)), "--dry-run"]) == EXIT_DONE
    assert "synthdp study" in capsys.readouterr().out
    assert not (tmp_path / "study").exists()


def test_the_demo_prints_its_table_whole() -> None:
    demo = SimpleNamespace(**runpy.run_path(str(SCRIPTS / "demo.py")))
    columns = (
        "strategy,epsilon,auroc_mean,auroc_ci_low,auroc_ci_high,epsilon_end_to_end,epsilon_stage"
    )
    lines = [columns, "real_only,1,0.612,0.51,0.7,1,1", "real_only,none,0.75,0.66,0.8,inf,inf"]
    lines += ["phantoms_then_finetune,1,0.9,0.85,1,1,1", "synthetic_only,none,0.8,0.7,0.9,inf,0"]
    lines += [f"pretrain_then_finetune,{epsilon},,,,inf,{epsilon}" for epsilon in (6, 60)]
    shown = demo.terminal_table("\n".join(lines)).splitlines()
    assert shown[0].split() == ["epsilon", "asked", "for", "1", "6", "60", "none"]
    assert shown[2].startswith("real only")
    assert shown[2].endswith(".75 (.66-.80)")
    assert ".90 (.85-1.00)" in shown[3]
    assert shown[4].endswith(".80 (.70-.90)*")
    assert shown[5].split("finetune")[1].split() == ["failed", "failed"]
    assert "* no promise" in shown[-1]
    assert max(map(len, shown)) <= 86
