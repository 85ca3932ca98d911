"""Time of a private step of the head beside the plain one, of its ledger, and of each noise."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from classify.head.examples import HeadExamples
from classify.head.train import HeadRecipe, train_head, train_private_head
from synthdp.privacy.keys import new_key
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseKind, NoiseSource

PLAIN = Mechanism(noise_multiplier=0, steps=1, normaliser=600)
KINDS: tuple[NoiseKind, ...] = ("philox", "shake256")


def made_up(n_patients: int, n_features: int) -> HeadExamples:
    """Two images a patient with unit-norm features and random labels."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2 * n_patients, n_features, generator=generator)
    targets = torch.randint(0, 2, (2 * n_patients, 1), generator=generator).float()
    units = torch.arange(n_patients).repeat_interleave(2)
    return HeadExamples(torch.nn.functional.normalize(inputs, dim=1), targets, units)


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Median wall time of `function`."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def private_run(
    start: torch.Tensor, data: HeadExamples, recipe: HeadRecipe, kind: NoiseKind
) -> None:
    """One private training in a folder of its own."""
    mechanism = Mechanism(noise_multiplier=5.0, steps=recipe.steps, normaliser=600)
    with tempfile.TemporaryDirectory() as name:
        train_private_head(
            start,
            data,
            recipe,
            ledger=claimed(Path(name), mechanism, recipe),
            noise_source=NoiseSource(new_key(), kind),
            checkpoints=Path(name) / "checkpoints",
        )


def claimed(folder: Path, mechanism: Mechanism, recipe: HeadRecipe) -> Ledger:
    """A new ledger in `folder`, open for the mechanism."""
    ledger = Ledger(folder / "ledger.jsonl")
    release = Release(stage="bench", data="x", mu=mechanism.mu, mechanism=mechanism)
    ledger.claim(release, fingerprint="bench", block_steps=recipe.block_steps)
    return ledger


def ledger_alone(recipe: HeadRecipe) -> None:
    """All that a training writes to its ledger, without the training."""
    mechanism = Mechanism(noise_multiplier=5.0, steps=recipe.steps, normaliser=600)
    with tempfile.TemporaryDirectory() as name:
        ledger = claimed(Path(name), mechanism, recipe)
        while ledger.steps_left:
            ledger.reserve(min(recipe.block_steps, ledger.steps_left))


def main() -> None:
    """Print the times and their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/bench_head.py --features 768"
    )
    parser.add_argument("--patients", type=int, default=578)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    data = made_up(arguments.patients, arguments.features)
    recipe = HeadRecipe(steps=arguments.steps, lr=1.0, average_from=0.5, block_steps=100)
    start = torch.zeros(1, arguments.features)
    runs: dict[str, Callable[[], object]] = {
        "plain": lambda: train_head(start, data, recipe, sampling=PLAIN),
        **{f"private, {kind}": _private(start, data, recipe, kind) for kind in KINDS},
        "its ledger": lambda: ledger_alone(recipe),
    }
    times = {name: seconds(run, arguments.repeats) for name, run in runs.items()}
    for name, value in times.items():
        share = value / times["plain"]
        print(
            f"{name:18} {1000 * value / recipe.steps:7.3f} ms a step, {value:6.3f} s in all, "
            f"{share:5.2f} of plain"
        )


def _private(
    start: torch.Tensor, data: HeadExamples, recipe: HeadRecipe, kind: NoiseKind
) -> Callable[[], object]:
    return lambda: private_run(start, data, recipe, kind)


if __name__ == "__main__":
    main()
