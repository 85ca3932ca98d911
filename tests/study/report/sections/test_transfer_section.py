"""What the report says of sites: one class alone, and scores below .5 that chance may explain."""

import re
from pathlib import Path

from synthdp.storage.files import write_json
from synthdp.study.compare.results import ResultRow, write_results
from synthdp.study.compare.transfer.table import (
    BELOW_CHANCE,
    MAYBE_BELOW_CHANCE,
    TransferRow,
    write_transfer,
)
from synthdp.study.report.page import run_report
from synthdp.study.report.settings import ReportSettings


def row(measure: str, value: float | None, note: str, data_set: str = "covid") -> TransferRow:
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    return TransferRow(
        strategy="real_only", epsilon=8.0, trained_on="clinic", data_set=data_set, split="test",
        n_seeds=3, domain="external", target="opacity", measure=measure, value=value, ci_low=low,
        ci_high=high, n_images=20, n_patients=10, note=note,
    )  # fmt: skip


def page(study: Path, *rows: TransferRow) -> str:
    """The text of a study's report whose table of sites has these rows."""
    study.mkdir()
    cell = {"strategy": "real_only", "data_set": "covid", "split": "test", "run": "finetune-1"}
    write_results(study / "results.csv", [ResultRow(**cell, state="finished", epsilon=8, seed=0)])
    write_json(study / "study.json", {"title": "T"})
    write_transfer(study / "transfer.csv", rows)
    html = run_report(ReportSettings(study=study)).read_text()
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_of_one_class_alone_the_share_found_is_told(tmp_path: Path) -> None:
    text = page(
        tmp_path / "study",
        row("auroc", None, "one class alone"),
        row("sensitivity", 0.764, "threshold from clinic, val"),
    )
    assert "one class alone of these positives 76 % are called so" in text
    assert "at another site" not in text


def test_below_chance_is_said_as_surely_as_it_is(tmp_path: Path) -> None:
    maybe = row("auroc", 0.45, MAYBE_BELOW_CHANCE)
    text = page(tmp_path / "maybe", maybe)
    assert "Below .5 at another site in 1 case, in none surely so" in text
    assert "the other way round there" not in text
    text = page(tmp_path / "surely", maybe, row("auroc", 0.2, BELOW_CHANCE, data_set="other"))
    assert "rank patients the other way round there, in 1 of 2 cases surely so" in text
