"""The main job on built-in phantoms, end to end: `make demo`. See --help for an example."""

import argparse
import sys
import time
from pathlib import Path

from synthdp.cli import EXIT_DONE, main

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
            "generator, trained on the patients without privacy",
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
    """Run the steps in order; a step whose folder stands is skipped or resumed."""
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
    print(f"\nReport: {(root / 'study' / 'report.html').resolve()}")
    return EXIT_DONE


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/demo.py demo"
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("demo"))
    sys.exit(run(parser.parse_args().folder))
