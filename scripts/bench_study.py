"""Speed of a study: head runs on cached features, on one worker and on two, in one run.

Phantoms stand in for patients. Turns of one worker and of two follow each other, so that what else
the machine does meets both; what starts a worker (its process, its imports, its first run) is not
counted. A run is all that the finetune stage does: plan, ledger, checkpoints, model, statement.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from synthdp.config import load_settings, validate_settings
from synthdp.data.phantoms import PhantomSettings, run_phantoms
from synthdp.runs import StageCall
from synthdp.study.engine import Engine, EngineSettings, opened_engine
from synthdp.study.grid import StudySettings, expand_grid
from synthdp.study.sweep import attempt


def made_up_study(root: Path, steps: int) -> StudySettings:
    """A study on as many phantoms as CBIS-DDSM has patients, on a small random transformer."""
    sets = {
        name: run_phantoms(
            PhantomSettings(
                out=root / name, name=name, patients=600, size_px=64, seed=seed, as_real=seed == 1
            )
        )
        for seed, name in enumerate(("phantoms", "patients"))
    }
    values = {
        "data": sets["patients"],
        "phantoms": sets["phantoms"],
        "out": root / "study",
        "strategies": ["real_only"],
        "epsilons": [6],
        "seeds": [0],
        "evaluate_on": [{"data": sets["patients"], "split": "val"}],
        "privacy": {"population": 700},
        "backbone": {"name": "vit_tiny_patch16_224", "size_px": 64},
        "finetune": {"head": {"steps": steps}},
    }
    return validate_settings(StudySettings, values, where="bench")


def seconds(engine: Engine, calls: list[StageCall]) -> float:
    """The time from the first call to the last one's outcome; every one must succeed."""
    began = time.perf_counter()
    errors = [outcome.error for outcome in engine.outcomes(attempt, calls)]
    assert errors == [None] * len(calls), errors
    return time.perf_counter() - began


def main() -> None:
    """Print runs a second on one worker and on two, and the ratio of each pair of turns."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:  python scripts/bench_study.py --study configs/study/cbis-ddsm.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--study", type=Path, help="a study whose first recipe is run (its data)")
    parser.add_argument("--runs", type=int, default=200, help="in all, for each number of workers")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    per_turn = arguments.runs // arguments.turns
    with tempfile.TemporaryDirectory() as name:
        study = (
            load_settings(StudySettings, arguments.study)
            if arguments.study
            else made_up_study(Path(name), arguments.steps)
        )
        n_warm = 6
        update = {
            "out": Path(name) / "runs",
            "strategies": study.strategies[:1],
            "epsilons": (6.0,),
            "seeds": tuple(range(2 * arguments.runs + 2 * n_warm)),
        }
        rows = expand_grid(study.model_copy(update=update))
        calls = [row.calls[-1] for row in rows]
        times: dict[int, list[float]] = {1: [], 2: []}
        with (
            opened_engine(EngineSettings(workers=1, devices=())) as one,
            opened_engine(EngineSettings(workers=2, devices=())) as two,
        ):
            for engine in (one, two):
                seconds(engine, [calls.pop() for _ in range(n_warm)])
            for turn in range(arguments.turns):
                for workers, engine in ((1, one), (2, two)):
                    took = seconds(engine, [calls.pop() for _ in range(per_turn)])
                    times[workers].append(took)
                ratio = times[1][-1] / times[2][-1]
                load = os.getloadavg()[0]
                print(
                    f"turn {turn + 1}: {per_turn} runs in {times[1][-1]:.1f} s on one worker, "
                    f"{times[2][-1]:.1f} s on two: {ratio:.2f} times (load {load:.1f})",
                    flush=True,
                )
    ratios = [a / b for a, b in zip(times[1], times[2], strict=True)]
    print(
        f"{per_turn * arguments.turns} runs: {sum(times[1]):.1f} s on one worker, "
        f"{sum(times[2]):.1f} s on two: {sum(times[1]) / sum(times[2]):.2f} times (median of "
        f"turns {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
