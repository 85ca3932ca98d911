import csv
import io
import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_study import describe, make_study

from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.study.compare.aurocs import ComparisonRow
from synthdp.study.compare.cells import cells_by_set
from synthdp.study.compare.cited import interval_words, with_cited_intervals
from synthdp.study.compare.results import ResultRow, read_results, write_results
from synthdp.study.report.comparison_tables import comparison_table
from synthdp.study.report.page import report_table
from synthdp.study.report.settings import ReportSettings
from synthdp.study.report.tables import latex_text


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house") / "study"
    make_study(folder, sets=("val", "external"))
    describe(folder, title="Masses & 50 % of _all_ | both")
    return folder


def table(study: Path, kind: str, **more: str) -> str:
    return report_table(ReportSettings(study=study, format=kind, **more))


def test_csv_holds_each_row_over_seeds(study: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(table(study, "csv"))))
    assert len(rows) == 2 * 14
    found = next(
        row
        for row in rows
        if (row["strategy"], row["epsilon"], row["split"]) == ("phantoms_then_finetune", "6", "val")
    )
    of_seeds = [
        row
        for row in read_results(study / "results.csv")
        if (row.strategy, row.epsilon, row.split) == ("phantoms_then_finetune", 6, "val")
    ]
    aurocs = [row.auroc for row in of_seeds]
    assert float(found["auroc_mean"]) == pytest.approx(statistics.fmean(aurocs), abs=1e-5)
    assert float(found["auroc_sd"]) == pytest.approx(statistics.stdev(aurocs), abs=1e-5)
    assert float(found["members_found_at_1_percent"]) == pytest.approx(0.19, abs=0.01)
    assert found["seeds"] == "2"
    hollow = next(row for row in rows if row["strategy"] == "synthetic_only")
    assert (hollow["epsilon"], hollow["epsilon_end_to_end"]) == ("none", "inf")


def test_markdown_has_a_column_for_each_epsilon(study: Path) -> None:
    text = table(study, "markdown")
    heads = [line for line in text.splitlines() if line.startswith("| strategy")]
    assert heads == ["| strategy | end to end | 1 | 6 | 60 | none |"] * 2
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    real = next(line for line in lines if line.startswith("| real only"))
    assert "| as asked |" in real
    assert re.search(r"\| 0\.\d{3} ± 0\.\d{3} \[0\.\d\d, 0\.\d\d\] \|", real)
    assert next(line for line in lines if line.startswith("| pretrain then")).count("†") == 3
    assert "| phantoms only | 0 |" in text
    assert "AUPRC on cbis-ddsm" in table(study, "markdown", metric="auprc")


def test_latex_is_balanced_and_escaped(study: Path) -> None:
    text = table(study, "latex")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert text.count("{") == text.count("}")
    assert r"Masses \& 50 \% of \_all\_ | both" in text
    cells = [line.count(" &") + line.startswith("    &") for line in text.splitlines()
             if line.endswith(r"\\") and "multicolumn" not in line]  # fmt: skip
    assert set(cells) == {5}
    assert r"0.7" in text
    assert r"$\pm$" in text
    assert re.search(r"\{\\footnotesize \[0\.\d\d, 0\.\d\d\]\}", text)
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 2
    assert text.count(r"$^\dagger$: no promise") == 2


def test_models_of_several_sites_have_rows_of_their_own(tmp_path: Path) -> None:
    make_study(tmp_path, sites=("clinic (site A)", "clinic"))
    rows = list(csv.DictReader(io.StringIO(table(tmp_path, "csv"))))
    real = [row for row in rows if (row["strategy"], row["epsilon"]) == ("real_only", "6")]
    assert [row["trained_on"] for row in real] == ["clinic (site A)", "clinic"]
    assert len({row["auroc_mean"] for row in real}) == 2
    for kind in ("markdown", "latex"):
        text = table(tmp_path, kind)
        for name in ("real only (trained on clinic (site A))", "real only (trained on clinic)"):
            assert text.count(f"{name} ") == 1


def test_signs_of_latex_are_written_out() -> None:
    assert latex_text("a_b & 5% {x} ~^\\") == (
        r"a\_b \& 5\% \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )


@pytest.mark.parametrize("kind", ["csv", "markdown", "latex"])
def test_no_finished_run_gives_an_empty_row(tmp_path: Path, kind: str) -> None:
    cell = {"strategy": "real_only", "data_set": "cbis", "split": "val", "run": "finetune-1"}
    failed = ResultRow(**cell, state="failed", epsilon=6, seed=0, error="gone")
    write_results(tmp_path / "results.csv", [failed])
    assert "real" in table(tmp_path, kind)
    assert "0." not in table(tmp_path, kind).split("booktabs")[-1].replace("0.95", "")


COMPARED = [
    ("reference", "better", 6.0, 0.0412, (0.011, 0.07), 0.01),
    ("reference", "better", None, -0.004, (-0.03, 0.02), 0.9),
    ("reference", "a_50%_recipe", 6.0, 0.1, (None, None), None),
    ("reference", "without_a_run", 6.0, None, (None, None), None),
    ("without_privacy", "plain", 6.0, -0.05, (-0.1, 0.0), 0.2),
    ("mean", "plain", 6.0, 0.8, (0.7, 0.9), None),
]


@pytest.fixture
def compared() -> list[ComparisonRow]:
    return [
        ComparisonRow(
            data_set="a_set",
            split="val",
            kind=kind,
            strategy=strategy,
            epsilon=epsilon,
            against="plain" if kind != "mean" else "",
            n_seeds=3,
            value=value,
            ci_low=low,
            ci_high=high,
            p_holm=p_holm,
        )
        for kind, strategy, epsilon, value, (low, high), p_holm in COMPARED
    ]


def test_comparisons_are_tables_with_intervals(compared: list[ComparisonRow]) -> None:
    text = comparison_table(compared, "markdown", title="Gains & losses")
    assert "| better | +0.041\\* [+0.011, +0.070] | \N{MINUS SIGN}0.004 [" in text
    assert "| a 50% recipe | +0.100 |  |" in text
    assert "without a run" not in text
    assert "less plain at the same epsilon" in text
    assert "less the same strategy without privacy" in text
    assert "after Holm's adjustment" in text
    assert comparison_table(compared, "csv", title="").startswith("data_set,split,kind,")


def test_comparisons_in_latex_are_balanced_and_escaped(compared: list[ComparisonRow]) -> None:
    text = comparison_table(compared, "latex", title="Gains & losses, 100 %")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert text.count("{") == text.count("}")
    assert text.count("$") % 2 == 0
    assert r"Gains \& losses, 100 \%" in text
    assert r"a 50\% recipe & +0.100" in text
    assert r"{\footnotesize [+0.011, +0.070]}" in text
    assert not re.search(r"(?<!\\)[%&_#](?! )(?!\s)", text.replace("% needs", "").replace(" &", ""))
    for line in text.splitlines():  # a row that began with [ would be read as a length
        assert not line.strip().startswith("[")


def test_differences_of_one_seed_hold_no_seeds(compared: list[ComparisonRow]) -> None:
    assert "intervals hold both patients and seeds" in comparison_table(
        compared, "latex", title="x"
    )
    single = [row.model_copy(update={"n_seeds": 1, "n_seeds_against": 1}) for row in compared]
    text = comparison_table(single, "latex", title="x")
    assert "patients alone, since there is one seed" in text
    assert "both patients and seeds" not in text


def test_a_study_without_comparisons_says_so(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["report", str(study), "--format", "latex", "--table", "comparisons"]
    assert main(command) == EXIT_BAD_INPUT
    assert "table: the study has no comparisons" in capsys.readouterr().err


def test_one_number_has_one_interval(study: Path, compared: list[ComparisonRow]) -> None:
    cells = cells_by_set(read_results(study / "results.csv"))
    cell = next(cell for cell in cells if cell.strategy == "real_only" and cell.epsilon == 6)
    mean = cell.metrics["auroc"].mean
    about = {"data_set": cell.data_set, "split": cell.split, "strategy": "real_only"}
    row = compared[-1].model_copy(update={**about, "value": mean})
    cited = with_cited_intervals(cells, [row])[cells.index(cell)]
    assert (cited.metrics["auroc"].ci_low, cited.metrics["auroc"].ci_high) == (0.7, 0.9)
    assert cited.metrics["auprc"] == cell.metrics["auprc"]
    assert "hold both patients and seeds" in interval_words([cited])
    assert "patients alone, not seeds" in interval_words([cell])
    assert "where that could not be worked out" in interval_words([cited, cell])
    one_seed = replace(cited, rows=cited.rows[:1])
    assert "hold patients alone, since there is one seed" in interval_words([one_seed])
    assert "second source), of one seed patients alone" in interval_words([one_seed, cited])
    for other in ({"value": mean + 0.01}, {"epsilon": 60.0}, {"ci_low": None}):  # another figure
        changed = row.model_copy(update=other)
        same = with_cited_intervals([cell], [changed])[0]
        assert same.metrics["auroc"] == cell.metrics["auroc"]


def test_the_command_prints_a_table_or_writes_it(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(study), "--format", "latex"]) == EXIT_DONE
    printed = capsys.readouterr().out
    assert printed == table(study, "latex").rstrip("\n") + "\n"
    out = tmp_path / "table.csv"
    assert main(["report", str(study), "--format", "csv", "--out", str(out)]) == EXIT_DONE
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text() == table(study, "csv")
    assert main(["report", str(study), "--format", "docx"]) == EXIT_BAD_INPUT
    assert "format" in capsys.readouterr().err
    assert not (study / "report.html").exists()
