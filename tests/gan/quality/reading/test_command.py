import json
import shutil
from pathlib import Path

import pytest

from gan.quality.reading.key import read_key
from synthdp.cli import main


def answers_of(kit: Path, path: Path, reader: str) -> Path:
    key = read_key(kit)
    rows = [f"{key.kit},{reader},{one.code},{one.kind},2,3,1" for one in key.images]
    path.write_text("\n".join(["kit,reader,code,origin,confidence,rating,seconds", *rows]))
    return path


def test_reader_writes_a_kit_and_score_reads_answers(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit, scores = tmp_path / "kit", tmp_path / "scores"
    asked = [str(sets / "synthetic"), "--real", str(sets / "real")]
    assert main(["assess", *asked, "--reader", str(kit), "per_kind=4", "--dry-run"]) == 0
    assert not kit.exists()
    assert main(["assess", "--reader", str(kit), *asked, "per_kind=4"]) == 0
    assert "synthdp assess --score" in capsys.readouterr().err
    files = [str(answers_of(kit, tmp_path / f"{name}.csv", name)) for name in ("A", "B")]
    words = ["--score", str(kit), files[0], "--out", str(scores), files[1], "redraws=100"]
    assert main(["assess", *words]) == 0
    assert "accuracy 1.00" in capsys.readouterr().err
    found = json.loads((scores / "scores.json").read_text())
    assert found["readers"] == ["A", "B"]
    assert {one["reader"] for one in found["figures"]} == {"A", "B", "all readers"}
    text = (scores / "scores.html").read_text()
    assert "holds no patients" in text
    assert "<script" not in text


def test_scores_of_patients_are_said_to_be_theirs_and_stay_out_of_logs(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = tmp_path / "kit"
    asked = [str(sets / "synthetic"), "--real", str(sets / "clinic"), "--reader", str(kit)]
    assert main(["assess", *asked, "per_kind=4"]) == 2
    assert "yes_show_patients=true" in capsys.readouterr().err
    assert main(["assess", *asked, "per_kind=4", "--yes-show-patients"]) == 0
    file = answers_of(kit, tmp_path / "A.csv", "A")
    out = tmp_path / "scores"
    assert main(["assess", "--score", str(kit), str(file), "redraws=100", "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "are the patients'" in said
    assert "accuracy" not in said
    assert "outside every promise" in json.loads((out / "scores.json").read_text())["promise"]


def test_words_that_do_not_go_together_are_refused(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic, real, kit = (str(sets / name) for name in ("synthetic", "real", "kit"))
    both = [synthetic, "--real", real]
    for words, message in (
        (["--reader", kit, "--real", real], "SYNTHETIC: missing"),
        ([*both, "--reader", kit, "--score", kit, "a.csv"], "give one"),
        ([*both, "--yes-show-patients"], "goes with --reader alone"),
        ([*both, "--reader", kit, "--out", kit], "takes no --out"),
        (["--score", kit], "name the files that readers saved"),
        (["--score", kit, "a.csv", "--real", real], "--out and settings alone"),
        (["--score", kit, "a.csv"], "out"),
        (["--score", kit, "a.csv", "--out", "x", "partial=true"], "partial"),
        (["--score", str(tmp_path), "a.csv", "--out", "x"], "holds no private/key.json"),
    ):
        try:
            code = main(["assess", *words])
        except SystemExit as ended:
            code = ended.code
        assert code == 2, words
        assert message in capsys.readouterr().err


def test_a_kit_of_changed_sets_and_scores_of_changed_answers_are_refused(
    kit: Path, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "sets"
    for name in ("synthetic", "real"):
        shutil.copytree(sets / name, own / name)
    asked = [str(own / "synthetic"), "--real", str(own / "real"), "per_kind=4"]
    again = ["assess", *asked, "--reader", str(tmp_path / "kit")]
    assert main(again) == main(again) == 0
    first, second = sorted((own / "real" / "images").iterdir())[:2]
    first.write_bytes(second.read_bytes())
    assert main(again) == 2
    assert "real: has changed since" in capsys.readouterr().err
    file = answers_of(kit, tmp_path / "A.csv", "A")
    words = ["--score", str(kit), str(file), "redraws=100", "--out", str(tmp_path / "scores")]
    assert main(["assess", *words]) == main(["assess", *words]) == 0
    file.write_text(file.read_text().replace("real,2,3", "synthetic,2,3"))
    assert main(["assess", *words]) == 2
    assert "has changed since" in capsys.readouterr().err
