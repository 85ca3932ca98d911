"""Speed of a study: features in its own views and in eight, heads one by one and laid together.

Phantoms stand in for patients. The ways take turns, so that other load on the machine slows all
alike; starting a worker (its process, its imports, its first runs) is not counted. A run is all
that the finetune stage does: plan, ledger, checkpoints, model, statement. Runs are of all epsilons
and several seeds, as in a study. On a busy machine the workers share the cores with other programs:
CPU seconds a run say what a quiet one would give.
"""

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from classify.features.extract import features_on_arrays
from synthdp.checkpoint import save_weights
from synthdp.config.settings import load_settings, validate_settings
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.networks.backbone import build_backbone
from synthdp.networks.settings import FeatureSettings
from synthdp.runs.folder import StageCall
from synthdp.storage.files import append_line, sha256_file
from synthdp.study.settings import EngineSettings, StudySettings
from synthdp.study.sweep.engine import Engine, Job, Together, opened_engine
from synthdp.study.sweep.grid import expand_grid
from synthdp.study.sweep.run import attempt, attempt_together, jobs_for

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
        "epsilons": [1, 6, 12, 20, 60, "none"],
        "seeds": [0],
        "evaluate_on": [{"data": sets["patients"], "split": "val"}],
        "privacy": {"population": 700},
        "backbone": {
            "name": NETWORK,
            "size_px": 64,
            "views": 2,
            "view_order": "turns",
            "weights": weights,  # from a file, so that all seeds have the same features
            "sha256": sha256_file(weights),
        },
        "finetune": {"head": {"steps": steps}},
    }
    return validate_settings(StudySettings, values, where="bench")


def seconds(
    engine: Engine, calls: list[StageCall], notes: Path, *, together: bool
) -> tuple[float, float]:
    """Seconds from the first call to the last one's outcome, and CPU seconds of all together."""

    def note(began: float) -> None:
        append_line(notes, str(time.process_time() - began))

    def alone(call: StageCall, threads: int) -> tuple[str, str | None]:
        began = time.process_time()
        result = attempt(call, threads)
        note(began)
        return result

    def jobs(job: Job, threads: int) -> list[Exception | None]:
        began = time.process_time()
        ended = attempt_together(job, threads)
        note(began)
        return ended

    notes.unlink(missing_ok=True)
    began = time.perf_counter()
    how = Together(jobs_for, jobs) if together else None
    errors = [outcome.error for outcome in engine.outcomes(alone, calls, how)]
    took = time.perf_counter() - began
    assert errors == [None] * len(calls), errors
    return took, sum(map(float, notes.read_text().split()))


#: Images whose features are timed, and how often; the fastest time of each way counts.
IMAGES, REPEATS = 16, 3


def seconds_an_image(study: StudySettings) -> tuple[float, float]:
    """CPU seconds an image, for features as the study reads them, and in eight views."""
    generator = np.random.default_rng(0)
    networks = (study.backbone, *study.beside)
    eight = [one.model_copy(update={"views": 8, "view_order": None}) for one in networks]
    totals = []
    for several in (networks, eight):
        total = 0.0
        for one in several:
            compute = features_on_arrays(build_backbone(one, seed=0))
            shape = (IMAGES, 1, one.size_px, one.size_px)
            shown = generator.uniform(-1, 1, shape).astype(np.float32)
            compute(shown)  # looks whether images may be computed together
            took = []
            for _ in range(REPEATS):
                began = time.process_time()
                compute(shown)
                took.append(time.process_time() - began)
            total += min(took) / IMAGES
        totals.append(total)
    return totals[0], totals[1]


#: What is measured: its name, on how many workers, and whether runs are made together.
WAYS = (
    ("one by one, one worker", 1, False),
    ("together, one worker", 1, True),
    ("together, two workers", 2, True),
)


def main() -> None:
    """Print seconds a run of each way, and how many times as fast as the first the others are."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:  python scripts/bench_study.py --study configs/study/cbis-ddsm.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--study", type=Path, help="a study whose recipe is run (its data)")
    parser.add_argument("--strategy", help="the recipe; the study's first when not named")
    parser.add_argument("--runs", type=int, default=30, help="a turn: all epsilons, then seeds")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        study = (
            load_settings(StudySettings, arguments.study)
            if arguments.study
            else made_up_study(Path(name), arguments.steps)
        )
        own, eight = seconds_an_image(study)
        print(
            f"features of an image: {own:.4f} CPU seconds as the study reads them, {eight:.4f} in "
            f"eight views of each network: {eight / own:.2f} times as much"
        )
        n_epsilons = len(study.epsilons)
        n_seeds = len(WAYS) * (arguments.turns * -(-arguments.runs // n_epsilons) + 1)
        update = {
            "out": Path(name) / "runs",
            "strategies": (arguments.strategy or study.strategies[0],),
            "seeds": tuple(range(n_seeds)),
        }
        rows = expand_grid(study.model_copy(update=update))
        calls = sorted((row.calls[-1] for row in rows), key=lambda call: call.setting("seed"))
        took: dict[str, list[float]] = {name: [] for name, *_ in WAYS}
        cpu, notes = dict.fromkeys(took, 0.0), Path(name) / "notes"
        with (
            opened_engine(EngineSettings(workers=1, devices=())) as one,
            opened_engine(EngineSettings(workers=2, devices=())) as two,
        ):
            engines = {1: one, 2: two}
            for _, workers, together in WAYS:  # imports, features, and the first run's caches
                seconds(engines[workers], _next(calls, n_epsilons), notes, together=together)
            for turn in range(arguments.turns):
                for way, workers, together in WAYS:
                    of_turn = _next(calls, arguments.runs)
                    wall, used = seconds(engines[workers], of_turn, notes, together=together)
                    took[way].append(wall)
                    cpu[way] += used
                words = ", ".join(f"{way} {values[-1]:.1f} s" for way, values in took.items())
                load = os.getloadavg()[0]
                print(f"turn {turn + 1}: {arguments.runs} runs: {words} (load {load:.1f})")
    _print_ratios(took, cpu, arguments.runs * arguments.turns)


def _next(calls: list[StageCall], count: int) -> list[StageCall]:
    return [calls.pop(0) for _ in range(count)]


def _print_ratios(took: dict[str, list[float]], cpu: dict[str, float], n_runs: int) -> None:
    slow = next(iter(took))
    for way, values in took.items():
        ratios = [a / b for a, b in zip(took[slow], values, strict=True)]
        print(
            f"{way}: {cpu[way] / n_runs:.3f} CPU seconds and {sum(values) / n_runs:.3f} seconds a "
            f"run; {cpu[slow] / cpu[way]:.2f} times less CPU, "
            f"{sum(took[slow]) / sum(values):.2f} times as fast as {slow} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
