"""The section on how results grow with the number of patients, of made-up and of real studies."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from made_up_study import describe
from scipy.special import expit

from synthdp.config.yaml_core import dump_yaml
from synthdp.evaluation.metrics import auroc
from synthdp.storage.files import write_atomic
from synthdp.study.compare.aurocs import ComparisonRow
from synthdp.study.compare.results import NOT_RUN, ResultRow, read_results, write_results
from synthdp.study.report.figures.growth import Share, public_shares
from synthdp.study.report.page import run_report
from synthdp.study.report.sections.comparisons import Verdict
from synthdp.study.report.sections.growth import GrowthView, MatrixCell, growth_section, sentence
from synthdp.study.report.settings import ReportSettings
from synthdp.study.report.study_results import study_results
from synthdp.study.sweep.grid import evaluation_folder
from tests.study.report.test_page import Page

SPLIT = "cross-validated"
SHARES = {0.0865: 75, 0.346: 250, 0.8: 520}
#: By how much each recipe pulls the classes apart; the second hardly differs from the first.
QUALITY = {
    "real_only": 0.0,
    "real_and_phantoms": 0.02,
    "phantoms_start": 0.8,
    "transformer_only": -1.2,
}


def write_scores(study: Path, run: str, targets: np.ndarray, scores: np.ndarray) -> None:
    folder = evaluation_folder(study, run, "clinic", SPLIT)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "predictions.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["image", "patient_id", "malignant", "score_malignant"])
        for number, (target, score) in enumerate(zip(targets, scores, strict=True)):
            cells = [f"images/{number}.png", f"secret-{number}", int(target), f"{score:.9g}"]
            writer.writerow(cells)


def growth_study(
    study: Path,
    *,
    shares: Mapping[float, int] = SHARES,
    qualities: Mapping[str, float] = QUALITY,
    epsilons: Sequence[float | None] = (1.0, 6.0),
    seeds: int = 2,
    patients: int = 80,
    population: int | None = 600,
) -> list[ResultRow]:
    """A cross-validated study whose scores are made up, with a recipe that meets no patient."""
    generator = np.random.default_rng(0)
    targets = np.arange(patients) % 2 * 1.0
    own, rows = generator.normal(size=patients), []
    grid = [
        (strategy, epsilon, share)
        for share in shares
        for epsilon in epsilons
        for strategy in qualities
    ]
    for strategy, epsilon, share in [*grid, ("phantoms_only", None, None)]:
        for seed in range(seeds):
            run = f"finetune-{len(rows):012x}"
            pull = 0.8 if share is None else qualities[strategy] + 0.4 * np.log(600 * share) / 2
            noise = 0.0 if epsilon is None else 0.4 / epsilon
            scores = own + pull * (targets - 0.5) + noise * generator.normal(size=patients)
            write_scores(study, run, targets, expit(scores))
            place = {"strategy": strategy, "epsilon": epsilon, "seed": seed, "run": run}
            figures = {"auroc": auroc(targets, expit(scores)), "epsilon_end_to_end": epsilon or 0.0}
            trained_on = "" if share is None else f"a share of {share:g}"
            where = {"data_set": "clinic", "split": SPLIT, "trained_on": trained_on}
            rows.append(
                ResultRow.model_validate({**place, **figures, **where, "state": "finished"})
            )
    write_results(study / "results.csv", rows)
    privacy = {} if population is None else {"privacy": {"population": population}}
    settings = {
        **{"data": "data/clinic", "out": "studies/growth", "strategies": list(qualities)},
        **{"epsilons": list(epsilons), "seeds": list(range(seeds)), **privacy},
        "cross_validation": {"folds": 5, "shares": dict(shares)},
    }
    write_atomic(study / "config.yaml", dump_yaml(settings))
    describe(study, compare={"reference": ["real_only", "phantoms_start"], "redraws": 50})
    return rows


def view_of(study: Path, patients: int | None = None) -> GrowthView | None:
    settings = ReportSettings(study=study)
    results = study_results(settings, read_results(study / "results.csv"))
    return growth_section(study, results, patients)["growth"]


def report(study: Path, **settings: object) -> Page:
    return Page(run_report(ReportSettings(study=study, **settings)).read_text())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("growth") / "study"
    growth_study(folder)
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    return report(study)


def drawings(page: Page) -> list[str]:
    named = [svg["aria-labelledby"] for svg in page.all("svg") if svg.get("class") == "curve"]
    return [name for name in named if name.startswith("growth")]


def test_numbers_of_patients_are_public_ones(study: Path, tmp_path: Path) -> None:
    cells = study_results(ReportSettings(study=study), read_results(study / "results.csv")).cells
    assert [one.words for one in public_shares(study, cells)] == [
        "about 52 patients", "about 210 patients", "about 480 patients",
    ]  # fmt: skip
    assert [one.patients for one in public_shares(study, cells, 578)] == [50, 200, 460]
    assert [one.patients for one in public_shares(study, cells, 5000)] == list(SHARES.values())
    write_atomic(tmp_path / "config.yaml", "cross_validation: {shares: {0.0865: 75, 0.8: 520}}\n")
    assert [one.words for one in public_shares(tmp_path, cells)] == [
        "at most 75 patients", "34.6 % of the patients", "at most 520 patients",
    ]  # fmt: skip


def test_a_section_of_its_own_begins_the_page(page: Page) -> None:
    assert drawings(page) == ["growthwide-alt", "growthnarrow-alt"]
    links = [attributes["href"] for attributes in page.all("a")]
    assert links.index("#growth") < links.index("#evaluation-1")
    assert "AUROC over the number of patients, a panel for each epsilon." in page.text
    assert re.search(r"epsilon 1: real only 0\.\d\d at 52, 0\.\d\d at 480;", page.text)
    assert "phantoms only, which meets no patient, 0." in page.text
    assert "trained on a share of 0.8: the largest share of 4 parts below" in page.text
    assert "secret" not in page.text


def test_the_table_holds_what_is_drawn(study: Path, page: Page) -> None:
    view = view_of(study)
    assert [panel.title for panel in view.panels] == ["epsilon 1", "epsilon 6"]
    rows = [row for row in read_results(study / "results.csv") if row.strategy == "phantoms_start"]
    for panel in view.panels:
        (line,) = [one for one in panel.lines if one.strategy == "phantoms_start"]
        for point in line.points:
            own = [
                row.auroc
                for row in rows
                if (row.epsilon, row.trained_on)
                == (panel.epsilon, f"a share of {point.share.share:g}")
            ]
            assert point.auroc.mean == pytest.approx(np.mean(own))
            assert point.auroc.ci_low < point.auroc.mean < point.auroc.ci_high
            assert f"{point.auroc.mean:.3f}" in page.text
    assert [line.strategy for line in view.panels[0].lines if not line.points] == ["phantoms_only"]


def test_matrices_say_what_holds_after_holm(study: Path) -> None:
    view = view_of(study)
    assert {name: [one.strategy for one in some] for name, some in view.matrices.items()} == {
        "real_only": ["real_and_phantoms", "phantoms_start", "transformer_only"],
        "phantoms_start": ["real_only", "real_and_phantoms", "transformer_only"],
    }
    assert view.n_tested == {"real_only": 18, "phantoms_start": 18}
    assert 1.3 < view.strictest["real_only"] < 1.5
    cells = [
        one for some in view.matrices.values() for m in some for line in m.cells for one in line
    ]
    assert {one.verdict for one in cells} >= {"won", "lost", "not told apart"}
    for one in cells:
        decided = one.row.p_holm < 0.05
        assert one.verdict == (
            "not told apart" if not decided else "won" if one.row.value > 0 else "lost"
        )
    beside, start, noise = view.matrices["real_only"]
    assert [(line[0].share.patients, line[0].epsilon) for line in beside.cells] == [
        (52, 1.0), (210, 1.0), (480, 1.0),
    ]  # fmt: skip
    gains = {one.words: one.row.smallest_gain for line in beside.cells for one in line}
    least, most = min(gains, key=gains.__getitem__), max(gains, key=gains.__getitem__)
    said = re.fullmatch(
        r"real_and_phantoms is not told from real_only at any of 6 cells; "
        r"a gain of (0\.\d{3}) or more would "
        rf"have been seen at {least}, one of (0\.\d{{3}}) at {most}\.",
        beside.sentence,
    )
    assert said is not None, beside.sentence
    for text, gain in zip(said.groups(), (gains[least], gains[most]), strict=True):
        assert gain <= float(text) < gain + 0.0011
    assert re.match(r"Against real_only, phantoms_start is.*better at ", start.sentence)
    assert re.match(r"Against real_only, transformer_only is.*worse at ", noise.sentence)


def cell(patients: int, epsilon: float | None, verdict: Verdict, se: float = 0.01) -> MatrixCell:
    row = ComparisonRow(
        data_set="clinic", split=SPLIT, kind="reference", strategy="b", epsilon=epsilon, n_seeds=2,
        value=0.1, se_seeds=0.0, se_patients=se,
    )  # fmt: skip
    known = verdict not in ("no figure", "not run yet")
    return MatrixCell(Share(patients / 600, patients), epsilon, verdict, row if known else None)


def test_a_sentence_names_the_cells_that_were_won_and_lost() -> None:
    cells = [
        *(cell(patients, 6.0, "won") for patients in (50, 100)),
        cell(460, 6.0, "lost", 0.001),
        *(cell(patients, 1.0, "won", 0.02) for patients in (50, 100, 460)),
        *(cell(patients, None, "won") for patients in (50, 100)),
        cell(460, None, "not tested"),
    ]
    assert sentence("b", "a", cells) == (
        "Against a, b is, of 9 cells, better at 7 (epsilon 1 with any number of patients; "
        "epsilon 6 and no privacy with about 50 and 100 patients), worse at 1 "
        "(epsilon 6 with about 460 patients) and not tested at 1; a gain of 0.003 or more would "
        "have been seen at epsilon 6 "
        "and about 460 patients, one of 0.057 at epsilon 1 and about 50 patients."
    )
    assert sentence("b", "a", cells[3:6]).startswith(
        "Against a, b is better at all 3 cells; a gain"
    )
    alike = [cell(50, 1.0, "not told apart", 0.0), cell(100, 1.0, "not told apart", 0.0)]
    assert sentence("b", "a", alike) == "b is not told from a at any of 2 cells."
    assert sentence("b", "a", [cells[2], cell(50, 1.0, "no figure")]) == (
        "Against a, b is worse at the one cell that has a figure; a gain of 0.003 or more would "
        "have been seen at epsilon 6 and about 460 patients; of all 2 cells 1 is without a figure."
    )


def test_the_page_shows_each_cell_with_its_figures(study: Path, page: Page) -> None:
    for matrices in view_of(study).matrices.values():
        for matrix in matrices:
            assert matrix.sentence in page.text
    assert "▲ won" in page.text
    assert "▼ lost" in page.text
    hints = [cell["title"] for cell in page.all("td") if cell.get("title")]
    assert len(hints) == 36
    assert all(re.match(r"p (< )?0\.\d+, by Holm (< )?[01]\.\d+", hint) for hint in hints)


def test_one_share_has_no_drawing_and_no_matrix(tmp_path: Path) -> None:
    growth_study(tmp_path / "one", shares={0.8: 520}, epsilons=(1.0,))
    page = report(tmp_path / "one")
    assert drawings(page) == []
    assert "How results grow" not in page.text
    assert "#growth" not in [attributes["href"] for attributes in page.all("a")]
    assert "the first of" not in page.text
    assert "the largest share of 2 parts below" in page.text


def test_what_failed_and_what_is_not_run_yet_is_told_apart(tmp_path: Path) -> None:
    rows = growth_study(tmp_path / "study", qualities={"real_only": 0.0, "phantoms_start": 0.8})

    def lost(row: ResultRow, error: str) -> ResultRow:
        return row.model_copy(update={"state": "failed", "error": error, "auroc": None})

    def changed(row: ResultRow) -> ResultRow:
        if (row.strategy, row.trained_on) != ("phantoms_start", "a share of 0.8"):
            return row
        return lost(row, f"fold 2/5: {NOT_RUN}") if row.epsilon == 6 else lost(row, "disk is full")

    few = [changed(row) for row in rows]
    few[0] = lost(few[0], NOT_RUN)
    write_results(tmp_path / "study" / "results.csv", few)
    (matrix,) = view_of(tmp_path / "study").matrices["real_only"]
    assert [one.verdict for one in matrix.cells[-1]] == ["no figure", "not run yet"]
    assert matrix.sentence.endswith("; of all 6 cells 1 is not run yet and 1 is without a figure.")
    page = report(tmp_path / "study")
    assert len(drawings(page)) == 2
    assert "1 of 2 runs not run yet" in page.text
    assert "2 of 2 runs failed" in page.text

    waiting = [lost(row, NOT_RUN) for row in rows]
    write_results(tmp_path / "study" / "results.csv", waiting)
    (matrix,) = view_of(tmp_path / "study").matrices["real_only"]
    assert matrix.sentence == (
        "phantoms_start and real_only: there is nothing to compare (6 are not run yet)."
    )
    page = report(tmp_path / "study")
    assert drawings(page) == []
    assert "There is no drawing: no run on a share of the patients has an AUROC." in page.text


def test_a_study_without_its_settings_or_scores_is_shown_by_shares(tmp_path: Path) -> None:
    growth_study(tmp_path / "study", seeds=1, epsilons=(None,))
    (tmp_path / "study" / "config.yaml").unlink()
    page = report(tmp_path / "study")
    assert len(drawings(page)) == 2
    assert "without privacy: real only 0." in page.text
    assert "at 8.65 %" in page.text
    assert "declare no number of patients" in page.text
    blank = [
        row.model_copy(update={"auroc": None})
        for row in read_results(tmp_path / "study/results.csv")
    ]
    write_results(tmp_path / "study" / "results.csv", blank)
    assert drawings(report(tmp_path / "study")) == []


def test_figures_for_papers_have_it_too(study: Path, tmp_path: Path) -> None:
    out = run_report(ReportSettings(study=study, format="png", out=tmp_path / "figures"))
    assert (out / "growth.png").read_bytes()[:4] == b"\x89PNG"
    assert "AUROC on clinic, cross-validated, over the number" in (out / "captions.txt").read_text()
