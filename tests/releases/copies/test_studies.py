"""Rows of a study: which leave, what they promise together, and that no exact figure goes along."""

import base64
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from classify.settings.finetune import FinetuneSettings
from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.evaluation.metrics import METRICS
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import joined_statement
from synthdp.privacy.promise.uncovered import CHOICE
from synthdp.privacy.settings import PrivacySettings
from synthdp.releases.contents import check_release, read_contents
from synthdp.releases.copies.rows import Selection, chosen_rows, parse_selection
from synthdp.releases.release import Asked, release
from synthdp.runs.folder import open_run
from synthdp.storage.files import read_json, write_json
from synthdp.study.compare.results import ResultRow, evaluation_row, read_results, write_results
from synthdp.study.report.page import run_report
from synthdp.study.report.settings import ReportSettings
from tests.releases.test_release import RANDOM, UNPROTECTED, files_in, finetuned

#: Figures that nothing else in a release has, so that a search finds them.
N_IMAGES, N_PATIENTS, SCORE = 7919, 3571, 0.738291


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two private rows and one without privacy, scored on patients and on phantoms."""
    house = tmp_path_factory.mktemp("st-marys")
    clinic = run_phantoms(
        PhantomSettings(out=house / "clinic", patients=30, size_px=32, name="clinic", as_real=True)
    )
    public = run_phantoms(
        PhantomSettings(out=house / "public", patients=8, size_px=32, name="public")
    )
    folder, rows, statements = house / "study", [], []
    for name, epsilon in (("a", 1), ("b", 6), ("c", None)):
        privacy = PrivacySettings(epsilon=epsilon, delta=1e-3, population=500)
        run = finetuned(clinic, house / "runs" / name, privacy=privacy)
        statements.append(read_statement(run))
        for data_set, score in (("clinic", SCORE), ("public", 0.515151)):
            figure = {"value": score, "ci_low": score - 0.1, "ci_high": score + 0.1}
            row = {"strategy": "real_only", "epsilon": epsilon, "seed": 0, "data_set": data_set}
            metrics = {**dict.fromkeys(METRICS, figure), "n_images": N_IMAGES}
            rows.append(
                evaluation_row(
                    **row, split="val", run=name, statement=statements[-1],
                    metrics={**metrics, "n_patients": N_PATIENTS},
                )
            )  # fmt: skip
    failed = {"strategy": "other", "epsilon": 6, "seed": 0, "data_set": "clinic", "split": "val"}
    rows.append(ResultRow(**failed, state="failed", error="image 4711 is broken", run="d"))
    settings = FinetuneSettings(data=clinic, out=folder, backbone=RANDOM)
    with open_run(folder, "study", settings) as r:
        write_results(folder / "results.csv", rows)
        shutil.copytree(house / "runs", folder / "runs")
        config = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(
            config + f"evaluate_on: [{{data: '{clinic}', split: val}}, {{data: '{public}'}}]\n"
        )
        write_json(folder / "study.json", {"title": "Ours", "real": str(clinic)})
        run_report(ReportSettings(study=folder))
        r.finish(joined_statement(statements, subject="study"), "# Ours\n")
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {
        name: (folder / name).read_text()
        for name in files_in(folder)
        if not name.endswith(".safetensors")
    }


def without_public_rows(text: str) -> str:
    """A text, and the table that a report holds once more for programs, without phantoms' rows."""
    text = re.sub(r"base64,([A-Za-z0-9+/=]+)", lambda part: _decoded(part[1]), text)
    text = text.replace(f"{N_IMAGES} images of {N_PATIENTS} patients", "", 1)
    text = re.sub(r"\b[0-9a-f]{16,64}\b", "", text)  # ids and digests hold any number by chance
    return "\n".join(line for line in text.splitlines() if ",public," not in line)


def _decoded(text: str) -> str:
    return "\n" + base64.b64decode(text).decode(errors="replace")


def test_private_rows_leave_by_default_with_their_joint_promise(
    study: Path, tmp_path: Path
) -> None:
    statement = release(study, tmp_path / "out")
    parts = [read_statement(study / "runs" / run) for run in ("a", "b")]
    assert statement.epsilon == joined_statement(parts, subject="study").epsilon
    assert 6 < statement.epsilon < read_statement(study).epsilon == math.inf
    assert {row.run for row in read_results(tmp_path / "out" / "results.csv")} == {"a", "b"}
    assert not (tmp_path / "out" / "runs" / "c").exists()
    again = read_statement(tmp_path / "out")
    assert again.epsilon == statement.epsilon
    assert again.lineage.releases == statement.lineage.releases
    assert "without privacy" not in (tmp_path / "out" / "report.html").read_text().lower()


def test_no_exact_figure_of_a_patient_leaves(study: Path, tmp_path: Path) -> None:
    release(study, tmp_path / "out")
    exact = (str(N_IMAGES), str(N_PATIENTS), "0.738", "0.74", ".638", ".838", "4711", "broken")
    for name, text in texts(tmp_path / "out").items():
        told = without_public_rows(text)
        assert not [one for one in exact if one in told], name
    public = [row for row in read_results(tmp_path / "out" / "results.csv")
              if row.data_set == "public"]  # fmt: skip
    assert {row.auroc for row in public} == {0.515151}
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Scores of patients are not in this release" in report
    assert "one class alone" not in report


@pytest.mark.parametrize("kinds", [("scores",), ("counts",), ("scores", "counts")])
def test_exact_figures_leave_by_name_and_the_statement_says_so(
    kinds: tuple[str, ...], study: Path, tmp_path: Path
) -> None:
    statement = release(study, tmp_path / "out", Asked(include=kinds))
    row = next(row for row in read_results(tmp_path / "out" / "results.csv")
               if row.data_set == "clinic")  # fmt: skip
    assert (row.auroc == SCORE) == ("scores" in kinds)
    assert (row.n_patients == N_PATIENTS) == ("counts" in kinds)
    stated = [words for words in statement.not_covered if "clinic (val)" in words]
    assert len(stated) == len(kinds)
    assert read_statement(tmp_path / "out").not_covered == statement.not_covered
    assert read_contents(tmp_path / "out").included == kinds
    assert "asked for by name" in (tmp_path / "out" / "card.md").read_text()
    release(tmp_path / "out", tmp_path / "again")  # and not by the way
    again = read_results(tmp_path / "again" / "results.csv")
    assert {(one.auroc, one.n_images) for one in again if one.data_set == "clinic"} == {
        (None, None)
    }


def test_a_row_without_privacy_leaves_when_it_is_named_and_confirmed(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["privacy", "--release", str(study), str(tmp_path / "out"), "--rows", "epsilon=none"]
    assert main(words) == EXIT_BAD_INPUT
    assert "--yes-without-protection" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--yes-without-protection"]) == EXIT_DONE
    assert "epsilon = inf" in capsys.readouterr().out
    assert {row.run for row in read_results(tmp_path / "out" / "results.csv")} == {"c"}


def test_models_of_the_chosen_rows_go_along_where_they_are_asked_for(
    study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    asked = Asked(include=("models",), rows=("epsilon=6",), licence="CC-BY-4.0")
    assert release(study, out, asked).epsilon == pytest.approx(6, rel=1e-3)
    assert {"README.md", "release.json", "model/weights.safetensors"} <= files_in(out / "runs/b")
    assert not (out / "runs" / "a").exists()
    check_release(out)
    check_release(out / "runs" / "b")
    assert "CC-BY-4.0" in (out / "runs" / "b" / "README.md").read_text()
    assert json.loads((out / "release.json").read_text())["included"] == ["models"]


def test_a_choice_among_rows_is_said_to_be_covered_by_no_promise(
    study: Path, tmp_path: Path
) -> None:
    def said(name: str, asked: Asked) -> bool:
        return CHOICE in release(study, tmp_path / name, asked).not_covered

    assert said("chosen", Asked(rows=("epsilon=6",)))
    assert not said("private", Asked())
    assert not said("all", Asked(rows=("all",), without_protection=True))


def test_a_release_of_a_release_says_of_no_scores_that_they_are_in_it(
    study: Path, tmp_path: Path
) -> None:
    with_scores = release(study, tmp_path / "scores", Asked(include=("scores",)))
    assert any("exact scores of" in one for one in with_scores.not_covered)
    again = release(tmp_path / "scores", tmp_path / "again")
    assert {row.auroc for row in read_results(tmp_path / "again" / "results.csv")} == {None}
    assert not any("exact scores of" in one for one in again.not_covered)
    assert "in this release because" not in (tmp_path / "again" / "card.md").read_text()


def test_nothing_is_said_of_an_earlier_version_when_a_study_leaves(
    study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its report is written in a folder that holds no inputs, which were looked at before."""
    caplog.set_level("INFO")
    release(study, tmp_path / "out")
    assert ".out." not in caplog.text


def test_the_set_notes_that_these_rows_left(study: Path, tmp_path: Path) -> None:
    """In the ledger of the patients' set, whose statement counts what was made all the same."""
    from synthdp.data.dataset import open_dataset  # noqa: PLC0415
    from synthdp.releases.record import read_left  # noqa: PLC0415

    release(study, tmp_path / "one-row", Asked(rows=("epsilon=1",)))
    noted = [one for one in read_left(open_dataset(study.parent / "clinic")).left
             if one.folder == "one-row"]  # fmt: skip
    assert [one.counted for one in noted] == [
        tuple(one.id for one in read_statement(study / "runs" / "a").lineage.releases)
    ]


def row(**values: Any) -> ResultRow:
    base = {"strategy": "real_only", "epsilon": 6, "seed": 0, "data_set": "d", "split": "val",
            "run": "r", "state": "finished", "epsilon_end_to_end": 6.0}  # fmt: skip
    return ResultRow.model_validate({**base, **values})


ROWS = [
    row(),
    row(epsilon=1, epsilon_end_to_end=1.0, seed=1),
    row(epsilon=None, epsilon_end_to_end=math.inf),
    row(strategy="synthetic_only", epsilon=None, epsilon_end_to_end=0.0),
    row(strategy="paper", epsilon_end_to_end=math.inf),
    row(strategy="failed", state="failed", epsilon_end_to_end=None),
]


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ([], [0, 1, 3]),
        (["private"], [0, 1, 3]),
        (["all"], [0, 1, 2, 3, 4]),
        (["strategy=real_only"], [0, 1, 2]),
        (["private", "strategy=real_only"], [0, 1]),
        (["epsilon=1,none"], [1, 2, 3]),
        (["epsilon=6.0", "seed=0"], [0, 4]),
        (["strategy=real_only,paper", "epsilon=6"], [0, 4]),
    ],
)
def test_rows_are_chosen_by_words(words: list[str], kept: list[int]) -> None:
    assert chosen_rows(ROWS, parse_selection(words)) == [ROWS[index] for index in kept]


@pytest.mark.parametrize(
    "words",
    [
        *(["privat"], ["seed=a"], ["epsilon="], ["seed=1,"], ["private=1"], ["private", "all"]),
        *(["seed=1", "seed=2"], ["rows=1"], [""], ["all", "all"]),
    ],
)
def test_other_words_are_refused_with_the_way_to_say_it(words: list[str]) -> None:
    with pytest.raises(InputError, match=r"--rows: .*strategy=real_only"):
        parse_selection(words)


def test_a_selection_of_nothing_says_what_there_is(study: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="real_only at epsilon 1, real_only at epsilon 6"):
        release(study, tmp_path / "out", Asked(rows=("seed=77",)))
    assert Selection() == parse_selection([])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(rows=("all",)), "this is a run"),
        (Asked(include=("models",)), "a run has nothing of the kind"),
        (Asked(include=("scores",)), "no evaluation of the run on patients"),
    ],
)
def test_what_goes_with_a_study_is_refused_for_a_run(
    asked: Asked, words: str, study: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        release(study / "runs" / "a", tmp_path / "out", asked)


def test_a_set_that_is_gone_is_taken_for_patients(study: Path, tmp_path: Path) -> None:
    """Nothing says any more that the scores are of no patient."""
    house = tmp_path / "house"
    shutil.copytree(study, house / "study")
    config = house / "study" / "config.yaml"
    config.write_text(config.read_text().replace("public'", "gone'"))
    release(house / "study", tmp_path / "out")
    assert {row.auroc for row in read_results(tmp_path / "out" / "results.csv")} == {None}


def test_all_rows_of_a_study_promise_what_it_states(study: Path, tmp_path: Path) -> None:
    asked = Asked(rows=("all",), without_protection=True)
    assert release(study, tmp_path / "out", asked).epsilon == math.inf
    assert read_json(tmp_path / "out" / "study.json")["withheld"] == ["scores", "counts"]
    assert UNPROTECTED.without_protection
