"""The main job on built-in phantoms, end to end: `make demo`. See --help for an example."""

import argparse
import csv
import io
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from synthdp.cli import EXIT_DONE, main
from synthdp.study.report.page import report_table
from synthdp.study.report.settings import ReportSettings

CONFIGS = Path(__file__).parent.parent / "configs"


def steps(root: Path) -> list[tuple[str, list[str]]]:
    """What the demo runs: a title and the arguments of `synthdp` for each step."""
    patients, phantoms = f"{root}/patients", f"{root}/phantoms"
    generator, synthetic = f"{root}/generator", f"{root}/synthetic"
    return [
        (
            "phantoms that stand in for patients",
            [
                *("data", "phantoms", f"{CONFIGS}/data/demo-patients.yaml"),
                *("--as-real", "--out", patients),
            ],
        ),
        (
            "phantoms as free public data",
            ["data", "phantoms", f"{CONFIGS}/data/demo-phantoms.yaml", "--out", phantoms],
        ),
        (
            "generator: the packaged one of phantoms learns the patients, without privacy",
            ["train-gan", f"{CONFIGS}/gan/demo.yaml", f"data={patients}", f"out={generator}"],
        ),
        (
            "synthetic set",
            ["generate", generator, "--out", synthetic, "--per-class", "300"],
        ),
        (
            "study: pretraining, DP fine-tuning, evaluation, report",
            [
                *("study", f"{CONFIGS}/study/demo.yaml", f"out={root}/study"),
                *(f"data={patients}", f"synthetic={synthetic}", f"phantoms={phantoms}"),
                f"evaluate_on=[{{data: {patients}, split: test}}]",
            ],
        ),
    ]


def run(root: Path) -> int:
    """Run the steps in order, then print the table; what stands already is skipped or resumed."""
    began, planned = time.monotonic(), steps(root)
    for number, (title, arguments) in enumerate(planned, start=1):
        is_data = arguments[0] in ("data", "generate")
        out = Path(arguments[arguments.index("--out") + 1]) if is_data else None
        print(f"[{number}/{len(planned)}] {title}", flush=True)
        if out is not None and (out / "manifest.csv").is_file():
            continue
        code = main(arguments)
        if code != EXIT_DONE:
            return code
        print(f"      {time.monotonic() - began:.0f} s so far", flush=True)
    print()
    print(terminal_table(report_table(ReportSettings(study=root / "study", format="csv"))))
    report = (root / "study" / "report.html").resolve()
    print(f"\nReport, with the curve, pictures and what to do next: {report}")
    return EXIT_DONE


def terminal_table(table: str) -> str:
    """The AUROC of each strategy at each epsilon asked for, from a study's table as CSV.

    Each with its 95 % interval, in lines of at most 80 characters for four epsilons.
    """
    rows = list(csv.DictReader(io.StringIO(table)))
    asked = sorted(
        {row["epsilon"] for row in rows}, key=lambda one: float(one.replace("none", "inf"))
    )
    cells = {(row["strategy"], row["epsilon"]): _cell(row) for row in rows}
    lines = [["epsilon asked for", *asked]]
    for name in dict.fromkeys(row["strategy"] for row in rows):
        lines.append([name.replace("_", " "), *(cells.get((name, one), "") for one in asked)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    drawn = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    notes = [
        "AUROC on patients that no training met, mean over seeds (95 % interval); 0.5 is chance"
    ]
    if any(cell.endswith("*") for cell in cells.values()):
        notes.append("* no promise: its generator met the same patients without privacy")
    return "\n".join([drawn[0], "-" * max(map(len, drawn)), *drawn[1:], "", *notes])


def _cell(row: Mapping[str, str]) -> str:
    if not row["auroc_mean"]:
        return "failed"
    mean, low, high = (
        f"{float(row[f'auroc_{part}']):.2f}" for part in ("mean", "ci_low", "ci_high")
    )
    voided = row["epsilon_end_to_end"] == "inf" and row["epsilon_stage"] != "inf"
    return f"{mean} ({low}-{high})".replace("0.", ".") + "*" * voided


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/demo.py demo"
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("demo"))
    sys.exit(run(parser.parse_args().folder))
