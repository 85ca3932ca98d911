"""How long a command takes that says something at once: medians of whole processes, by the clock.

    python scripts/bench_start.py [--runs 10] [--against FOLDER]

With `--against`, another checkout of synthdp is measured in turn with this one, so that a machine
that others use slows both alike. The CPU column is of the process and its children.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
RUN = "import sys; from synthdp.cli import main; sys.exit(main(sys.argv[1:]))"
#: What is typed, and the most seconds that it should take on a quiet machine.
COMMANDS: tuple[tuple[str, float], ...] = (
    ("--version", 0.4),
    ("--help", 0.4),
    ("finetune --help", 0.4),
    ("no-such-stage", 0.4),
    ("generate", 0.4),
    ("finetune nosuch.yaml", 0.4),
    ("finetune sed=3", 0.4),
    ("train-gan sed=3", 0.4),
    ("data patches sed=3", 0.4),
    ("data dicom sed=3", 0.4),
    ("study sed=3", 0.4),
    ("report x sed=3", 0.4),
    ("audit x sed=3", 0.4),
    ("privacy set", 1.0),
    ("privacy run", 1.0),
)


def timed(code: str, words: Sequence[str], root: Path, cwd: Path) -> tuple[float, float]:
    """Seconds by the clock, and of CPU, of one process."""
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(  # noqa: S603 (this file says what is run)
        [sys.executable, "-c", code, *words], cwd=cwd, env=env, capture_output=True, check=False
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def made_run(cwd: Path) -> None:
    """A set of phantoms that count as patients, and a head that was trained on it."""
    data = "data phantoms --out set --patients 40 --size-px 32 --as-real"
    head = (
        "finetune data=set out=run backbone.name=vit_tiny_patch16_224 backbone.size_px=32 "
        "privacy.epsilon=6 privacy.population=60 privacy.delta=1e-3 head.steps=20"
    )
    for command in (data, head):
        subprocess.run(  # noqa: S603 (as above)
            [sys.executable, "-c", RUN, *command.split()],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(HERE)},
            capture_output=True,
            check=True,
        )


def main() -> None:
    """Print a row for each command: the limit, and the medians of each checkout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="processes of each kind")
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn")
    arguments = parser.parse_args()
    roots = [root for root in (arguments.against, HERE) if root is not None]
    rows = [("import synthdp", "import synthdp", "", 0.1)]
    rows += [(words, RUN, words, limit) for words, limit in COMMANDS]
    print("| command | limit s | " + " | ".join(f"{root.name}: wall s | CPU s" for root in roots))
    with tempfile.TemporaryDirectory() as scratch:
        cwd = Path(scratch)
        made_run(cwd)
        for name, code, words, limit in rows:
            taken = [
                [timed(code, words.split(), root, cwd) for root in roots]
                for _ in range(arguments.runs)
            ]
            cells = [
                f"{statistics.median(one[index][which] for one in taken):.2f}"
                for index in range(len(roots))
                for which in (0, 1)
            ]
            print(f"| {name} | {limit} | {' | '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
