"""What a candidate of a pool costs: drawing, mapping and weighting it, in processor time.

    OMP_NUM_THREADS=1 python scripts/bench_pool.py [--candidates 500] [--config gan/own-private]

One thread. Drawing and mapping go twice over the same patients: with memory given back to the
system after each array, and with it kept (`synthdp.machine.memory`). Weights are those of made-up
vectors, of a pool of 100,000.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gan.private.tilting import tilted_weights
from gan.private.wide_map import RawMap
from gan.settings.train import TrainGanSettings
from synthdp.config.settings import load_settings
from synthdp.data.phantoms.phantoms import draw_patient
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.machine.memory import keep_freed_memory

POOL, BATCH = 100_000, 32


def milliseconds(work: Callable[[], None], count: int) -> float:
    """Processor time for each of `count`."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began) / count


def main(candidates: int, config: str) -> None:
    """Print a line for drawing and mapping, given back and kept, and one for weighting."""
    torch.set_num_threads(1)
    settings = load_settings(TrainGanSettings, Path(config))
    assert settings.selection is not None  # such a config is asked for
    side_px, recipe = settings.size_px, settings.selection
    drawn = PhantomSettings(
        out=Path("unused"), style="mixed", malignant_fraction=0.5, seed=21, size_px=side_px
    )
    raw = RawMap.of(recipe, side_px, torch.device("cpu"))
    images = 2 * torch.rand(candidates, 1, side_px, side_px) - 1
    patients = max(1, candidates * 10 // 18)  # of 1.8 views each
    views = sum(len(draw_patient(drawn, index).patches) for index in range(patients))

    def draw() -> None:
        for index in range(patients):
            draw_patient(drawn, index)

    @torch.no_grad()
    def map_all() -> None:
        for part in images.split(BATCH):
            raw(part)

    total = 0.0
    for way in ("given back", "kept"):
        if way == "kept":
            print(f"kept by the C library: {keep_freed_memory()}")
        drawing, mapping = milliseconds(draw, views), milliseconds(map_all, candidates)
        total = drawing + mapping
        print(f"{way:10}: drawing {drawing:.1f} ms a candidate, mapping {mapping:.1f}")
    vectors = np.random.default_rng(0).normal(0, 0.06, (POOL // 2, recipe.components))
    target = np.full(recipe.components, 0.01)

    def weigh() -> None:
        for _ in range(2):
            tilted_weights(vectors, target, 1e-3, most=1 / recipe.images)

    weighting = milliseconds(weigh, POOL)
    minutes = (total + weighting) * POOL / 2 / 60_000
    print(f"weighting {weighting:.2f} ms a candidate")
    print(f"{POOL:,} candidates: {minutes:.0f} minutes on two such cores")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--config", default="gan/own-private")
    options = parser.parse_args()
    main(options.candidates, options.config)
