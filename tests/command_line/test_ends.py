"""What a command says it found: exact figures of patients at a terminal alone, the path last."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from classify.settings.finished import EvaluateSettings, PredictSettings
from gan.settings.assess import AssessSettings, FeatureSpace
from gan.settings.finished import GenerateSettings
from synthdp.cli import main
from synthdp.command_line.ends import print_end
from synthdp.config.settings import Settings
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.privacy.attacks.settings import AuditSettings

Capture = pytest.CaptureFixture[str]
Printed = Callable[[str, Settings, Path], tuple[list[str], str]]


@pytest.fixture(params=[True, False], ids=["terminal", "log"])
def at_terminal(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: Capture, at_terminal: bool) -> Printed:
    """The lines of standard output, and standard error, after a stage has made something."""

    def ended(stage: str, settings: Settings, made: Path) -> tuple[list[str], str]:
        with monkeypatch.context() as patch:
            patch.setattr(sys.stdout, "isatty", lambda: at_terminal)
            print_end(stage, settings, made)
        out, err = capsys.readouterr()
        return out.splitlines(), err

    return ended


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    return run_phantoms(
        PhantomSettings(out=tmp_path / "a set", patients=9, size_px=16, as_real=True, name="mine")
    )


def evaluation(out: Path) -> Path:
    figure = {"value": 0.7591, "ci_low": 0.6712, "ci_high": 0.8349}
    metrics = {"auroc": figure, "n_images": 1209, "n_patients": 150, "threshold": 0.5}
    out.mkdir()
    (out / "metrics.json").write_text(json.dumps(metrics))
    return out


def test_scores_of_patients_go_to_a_terminal_alone(
    printed: Printed, patients: Path, tmp_path: Path, at_terminal: bool
) -> None:
    made = evaluation(tmp_path / "ev")
    asked = EvaluateSettings(run=tmp_path / "run", dataset=patients, out=made)
    out, err = printed("evaluate", asked, made)
    assert out[-1] == str(made)
    if at_terminal:
        assert out[0] == "AUROC .759 [.671, .835] on 1,209 images"
        assert err == ""
    else:
        assert len(out) == 1  # a script takes it as it is
        assert "metrics.json" in err
        assert not {"759", ".76", "1,209", "150"} & set(err.split())
        told = err.replace(str(made), "")  # a folder of pytest's has a number, which may be any
        assert "759" not in told
        assert "209" not in told


def test_scores_of_phantoms_may_go_anywhere(
    printed: Printed, tmp_path: Path, at_terminal: bool
) -> None:
    made = evaluation(tmp_path / "ev")
    data = run_phantoms(PhantomSettings(out=tmp_path / "set", patients=9, size_px=16))
    out, err = printed("evaluate", EvaluateSettings(run=data, dataset=data, out=made), made)
    assert "AUROC .759 [.671, .835] on 1,209 images" in (out[0] if at_terminal else err)


def test_scores_end_with_the_release_of_the_run_that_they_are_of(
    printed: Printed, patients: Path, tmp_path: Path, at_terminal: bool
) -> None:
    run, made = tmp_path / "a run", evaluation(tmp_path / "ev")
    run.mkdir()
    (run / "status.json").write_text("{}")
    asked = EvaluateSettings(run=run, dataset=patients, out=made)

    def told() -> str:
        out, err = printed("evaluate", asked, made)
        return (out[0] if at_terminal else err).strip()

    release = f"next: synthdp privacy --release '{run}' OUT"
    assert told().endswith(release)  # exact scores of patients are no evidence
    noisy = {"auroc": {"value": 0.7}, "epsilon": 1.0}
    (made / "noisy_metrics.json").write_text(json.dumps(noisy))
    assert told().endswith(f"{release} --evidence {made}")
    (run / "release.json").write_text("{}")  # received from others: nothing is left to release
    assert "next:" not in told()


def test_an_audit_says_that_the_promise_held(
    printed: Printed, tmp_path: Path, at_terminal: bool
) -> None:
    audit = {"promise": {"epsilon": 6.0}, "bounds": [{"epsilon": 0.41}, {"epsilon": 2.128}]}
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    out, err = printed("audit", AuditSettings(run=tmp_path), tmp_path)
    if at_terminal:
        assert out[0] == "the promise held: lower bounds of epsilon 0.41 to 2.13 <= 6 stated"
    else:
        assert err.startswith("audit: the promise held; the report stands")
        assert "2.1" not in err.replace(str(tmp_path), "")


def test_an_import_counts_patients_at_a_terminal_alone(
    printed: Printed, patients: Path, at_terminal: bool
) -> None:
    out, err = printed("data patches", PhantomSettings(out=patients), patients)
    n_images = len((patients / "manifest.csv").read_text().splitlines()) - 1
    if at_terminal:
        assert out[0].startswith(f"{n_images} images of 9 ")
    else:
        assert not any(character.isdigit() for character in err.replace(str(patients), ""))
    assert f"synthdp data check '{patients}'" in (out[0] if at_terminal else err)


def test_a_made_up_set_is_counted_by_class(
    printed: Printed, tmp_path: Path, at_terminal: bool
) -> None:
    made = run_phantoms(PhantomSettings(out=tmp_path / "set", patients=9, size_px=16))
    asked = GenerateSettings(run=tmp_path, out=made, total=3000, malignant_share=0.4)
    out, err = printed("generate", asked, made)
    told = out[0] if at_terminal else err
    assert "3,000 images: 1,800 with malignant 0, 1,200 with malignant 1; next: synthdp" in told


def test_predictions_are_counted_at_a_terminal_alone(
    printed: Printed, tmp_path: Path, at_terminal: bool
) -> None:
    scores = tmp_path / "scores.csv"
    scores.write_text("image,score\n" + "a.png,0.5\n" * 1234)
    asked = PredictSettings(run=tmp_path, images=tmp_path, out=scores)
    out, err = printed("predict", asked, scores)
    assert ("1,234 images scored" in out) is at_terminal
    assert "234" not in err.replace(str(scores), "")


def test_what_can_not_be_read_leaves_the_path(printed: Printed, tmp_path: Path) -> None:
    asked = AssessSettings(
        synthetic=tmp_path,
        real=tmp_path,
        out=tmp_path,
        features=[FeatureSpace(name="test_vit", size_px=32, label="A", weights="none")],
    )
    assert printed("assess", asked, tmp_path) == ([str(tmp_path)], "")


def test_the_path_is_the_only_line_for_a_script(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "phantoms"
    assert main(["data", "phantoms", "--out", str(out), "patients=3", "size_px=16"]) == 0
    message = capsys.readouterr()
    assert message.out == f"{out}\n"
    assert "images of 3 made-up patients; next: synthdp data check" in message.err
