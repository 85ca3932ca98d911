"""Time one training step of our networks beside the paper's DCGAN, on the same threads.

    python scripts/bench_gan.py [--batch 16] [--repeats 5] [--threads 1]

Ours before the frozen network guides it and after, which is what most of a training is like. The
repeats alternate in one run, so that the ratio holds on a busy machine; the images are made up.
Each side is a process of its own, which gives its peak memory.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CONFIGS = Path(__file__).parents[1] / "configs" / "gan"
#: For each side its settings, the share of the training at which it is timed, and the steps of a
#: repeat: ours from one gradient penalty to the next; every one of the DCGAN is alike.
SIDES = {
    "haar": (CONFIGS / "cbis-ddsm.yaml", 0.0, 8),
    "guided": (CONFIGS / "cbis-ddsm.yaml", 0.5, 8),
    "dcgan": (CONFIGS / "dcgan.yaml", 0.0, 2),
}


def work(side: str, batch: int, threads: int) -> None:
    """Train some steps for each line of the input; print images per second and peak memory (MB)."""
    # PLC0415: the process that starts the workers loads no torch, so imports stand here.
    import resource  # noqa: PLC0415

    import torch  # noqa: PLC0415

    from gan.settings.train import TrainGanSettings  # noqa: PLC0415
    from gan.training.examples import Examples  # noqa: PLC0415
    from gan.training.guidance import Guidance  # noqa: PLC0415
    from gan.training.loop import AdversarialRecipe, new_training, train_step  # noqa: PLC0415
    from synthdp.config.settings import load_settings  # noqa: PLC0415
    from synthdp.machine.devices import reduced_precision  # noqa: PLC0415

    torch.set_num_threads(threads)
    device = torch.device("cpu")
    config, share, steps = SIDES[side]
    overrides = ["data=unused", "out=unused", f"batch={batch}"]
    settings = load_settings(TrainGanSettings, config, overrides)
    recipe, autocast = AdversarialRecipe.of(settings), reduced_precision(device)
    training, guidance = new_training(settings, device), None
    if settings.guidance is not None:
        guidance = Guidance(settings.guidance, settings.size_px, settings.seed, device)
    images = torch.rand(batch, 1, settings.size_px, settings.size_px) * 2 - 1
    none = torch.empty(batch, 0, dtype=torch.int64)
    real = Examples(images, torch.arange(batch) % 2, none)
    training.step = round(share * recipe.schedule.steps / steps) * steps
    train_step(training, real, recipe, autocast, guidance)
    for _ in sys.stdin:
        begun = time.perf_counter()
        for _ in range(steps):
            train_step(training, real, recipe, autocast, guidance)
        rate = steps * batch / (time.perf_counter() - begun)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(rate, peak_mb, flush=True)


def start(name: str, options: argparse.Namespace) -> subprocess.Popen[str]:
    """Start the worker of one side."""
    sizes = [f"--{key}={getattr(options, key)}" for key in ("batch", "threads")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    return subprocess.Popen(  # noqa: S603 (this file itself)
        [sys.executable, __file__, f"--worker={name}", *sizes],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ask(worker: subprocess.Popen[str]) -> tuple[float, float]:
    """One repeat: images per second and peak memory in MB."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    rate, peak_mb = worker.stdout.readline().split()
    return float(rate), float(peak_mb)


def main() -> None:
    """Run the repeats and print the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="example:  python scripts/bench_gan.py --threads 2",
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.batch, options.threads)
        return
    workers = {name: start(name, options) for name in SIDES}
    rounds = [
        {name: ask(worker) for name, worker in workers.items()} for _ in range(options.repeats)
    ]
    for name, worker in workers.items():
        worker.communicate()
        rates = [one[name][0] for one in rounds]
        peak_mb = max(one[name][1] for one in rounds)
        print(
            f"{name:6} {statistics.median(rates):6.1f} images/s "
            f"(median of {len(rates)}; {min(rates):.1f} to {max(rates):.1f}), "
            f"peak memory {peak_mb:,.0f} MB"
        )
    for name in ("haar", "guided"):
        ratios = [one[name][0] / one["dcgan"][0] for one in rounds]
        print(
            f"{name} / dcgan {statistics.median(ratios):6.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}), "
            f"batch {options.batch}, {options.threads} thread(s), 128 px"
        )


if __name__ == "__main__":
    main()
