"""Speed of a study: head runs on cached features, on one worker and on two, in one run.

Phantoms stand in for patients. One worker and two take turns, so that other load on the machine
slows both alike; starting a worker (its process, its imports, its first run) is not counted. A run
is all that the finetune stage does: plan, ledger, checkpoints, model, statement. On a busy machine
the workers share the cores with other programs: CPU seconds a run say what a quiet one would give.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from synthdp.checkpoint import save_weights
from synthdp.config.settings import FeatureSettings, load_settings, validate_settings
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.networks.backbone import build_backbone
from synthdp.runs.folder import StageCall
from synthdp.storage.files import append_line, sha256_file
from synthdp.study.settings import EngineSettings, StudySettings
from synthdp.study.sweep.engine import Engine, opened_engine
from synthdp.study.sweep.grid import expand_grid
from synthdp.study.sweep.run import attempt

NETWORK = "vit_tiny_patch16_224"


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
    weights, network = root / "weights.safetensors", FeatureSettings(name=NETWORK, size_px=64)
    save_weights(weights, build_backbone(network, seed=0).network.state_dict())
    values = {
        "data": sets["patients"],
        "phantoms": sets["phantoms"],
        "out": root / "study",
        "strategies": ["real_only"],
        "epsilons": [6],
        "seeds": [0],
        "evaluate_on": [{"data": sets["patients"], "split": "val"}],
        "privacy": {"population": 700},
        "backbone": {
            "name": NETWORK,
            "size_px": 64,
            "weights": weights,  # from a file, so that all seeds have the same features
            "sha256": sha256_file(weights),
        },
        "finetune": {"head": {"steps": steps}},
    }
    return validate_settings(StudySettings, values, where="bench")


def seconds(engine: Engine, calls: list[StageCall], notes: Path) -> tuple[float, float]:
    """Seconds from the first call to the last one's outcome, and CPU seconds of all together."""

    def noted(call: StageCall, threads: int) -> tuple[str, str | None]:
        cpu = time.process_time()
        result = attempt(call, threads)
        append_line(notes, str(time.process_time() - cpu))
        return result

    notes.unlink(missing_ok=True)
    began = time.perf_counter()
    errors = [outcome.error for outcome in engine.outcomes(noted, calls)]
    took = time.perf_counter() - began
    assert errors == [None] * len(calls), errors
    return took, sum(map(float, notes.read_text().split()))


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
        cpu, notes = {1: 0.0, 2: 0.0}, Path(name) / "notes"
        with (
            opened_engine(EngineSettings(workers=1, devices=())) as one,
            opened_engine(EngineSettings(workers=2, devices=())) as two,
        ):
            for engine in (one, two):
                seconds(engine, [calls.pop() for _ in range(n_warm)], notes)
            for turn in range(arguments.turns):
                for workers, engine in ((1, one), (2, two)):
                    turn_calls = [calls.pop() for _ in range(per_turn)]
                    took, used = seconds(engine, turn_calls, notes)
                    times[workers].append(took)
                    cpu[workers] += used
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
    n_runs = per_turn * arguments.turns
    print(
        f"CPU seconds a run: {cpu[1] / n_runs:.2f} on one worker, {cpu[2] / n_runs:.2f} on two; "
        f"with a core for each worker two are {2 * cpu[1] / cpu[2]:.2f} times as fast, were they "
        f"never to wait; one worker had {cpu[1] / sum(times[1]):.2f} cores, two "
        f"{cpu[2] / sum(times[2]):.2f}"
    )


if __name__ == "__main__":
    main()
