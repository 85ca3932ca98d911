"""Time of a private step of the head beside the plain one, on made-up features, in one run."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from classify.dp_head import Examples, HeadRecipe, train_head, train_private_head
from synthdp.privacy.ledger import Ledger
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import NoiseSource, new_key


def made_up(n_patients: int, n_features: int) -> Examples:
    """Two images a patient with unit-norm features and random labels."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2 * n_patients, n_features, generator=generator)
    targets = torch.randint(0, 2, (2 * n_patients, 1), generator=generator).float()
    units = torch.arange(n_patients).repeat_interleave(2)
    return Examples(torch.nn.functional.normalize(inputs, dim=1), targets, units)


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Median wall time of `function`."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/bench_head.py --features 768"
    )
    parser.add_argument("--patients", type=int, default=578)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    data = made_up(arguments.patients, arguments.features)
    recipe = HeadRecipe(steps=60, lr=5.0, average_from=0.5, block_steps=20)
    mechanism = Mechanism(noise_multiplier=5.0, steps=60, normaliser=600)
    start = torch.zeros(1, arguments.features)

    def private() -> None:
        with tempfile.TemporaryDirectory() as name:
            ledger = Ledger(Path(name) / "ledger.jsonl")
            release = Release(stage="bench", data="x", mu=mechanism.mu, mechanism=mechanism)
            ledger.claim(release, fingerprint="bench", block_steps=recipe.block_steps)
            train_private_head(
                start,
                data,
                recipe,
                mechanism=mechanism,
                ledger=ledger,
                source=NoiseSource(new_key()),
                checkpoints=Path(name) / "checkpoints",
            )

    def plain() -> None:
        train_head(start, data, recipe, normaliser=600)

    times = {
        "plain": seconds(plain, arguments.repeats),
        "private": seconds(private, arguments.repeats),
    }
    for name, value in times.items():
        print(f"{name:8} {1000 * value / recipe.steps:7.2f} ms a step, {value:6.2f} s in all")
    print(f"private / plain = {times['private'] / times['plain']:.2f}")


if __name__ == "__main__":
    main()
