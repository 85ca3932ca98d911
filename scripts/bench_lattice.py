"""Time of a private step on the lattice beside the float32 step that it took the place of.

Both are timed in turns within one process, so that what else the machine does falls on both. The
float32 step is written out here as it was: products, sums and noise in float32. A network's step is
timed beside the plain one by `bench_dp_step.py`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor

from classify.head.examples import HeadExamples, private_sum
from synthdp.privacy.keys import new_key
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import noisy_mean
from synthdp.privacy.noisy_sum.noise import NoiseKind, NoiseSource

MECHANISM = Mechanism(noise_multiplier=5.0, steps=400, normaliser=600)


def made_up(n_patients: int, n_features: int) -> HeadExamples:
    """Two images a patient with unit-norm features and random labels."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2 * n_patients, n_features, generator=generator)
    targets = torch.randint(0, 2, (2 * n_patients, 1), generator=generator).float()
    units = torch.arange(n_patients).repeat_interleave(2)
    return HeadExamples(torch.nn.functional.normalize(inputs, dim=1), targets, units)


def float32_sum(weights: Tensor, data: HeadExamples, norms: Tensor) -> Tensor:
    """The clipped sum of patients of whom none is too long, in float32."""
    towards = torch.sigmoid(data.inputs @ weights.T) - data.targets
    lengths = towards.double().norm(dim=1) * norms
    bounds = data.shares.new_zeros(data.n_units).index_add_(0, data.units, data.shares * lengths)
    short = bounds <= MECHANISM.clip_norm
    counted = torch.where(short, 1.0, 0.0)[data.units] * data.shares
    return (counted.unsqueeze(1) * towards).float().T @ data.inputs


def in_turns(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way in each of `repeats` turns, after one that is not counted."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(repeats + 1):
        for way, function in ways.items():
            began = time.perf_counter()
            function()
            if turn:
                times[way].append(time.perf_counter() - began)
    return times


def main() -> None:
    """Print a table: milliseconds, least and median, and the ratio of the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/bench_lattice.py --patients 600"
    )
    parser.add_argument("--patients", type=int, nargs="+", default=[600, 20_000])
    parser.add_argument("--features", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=40)
    arguments = parser.parse_args()
    steps = iter(range(10**9))
    weights = 0.1 * torch.randn(1, arguments.features, generator=torch.Generator().manual_seed(1))
    for n_patients in arguments.patients:
        data = made_up(n_patients, arguments.features)
        norms = torch.linalg.vector_norm(data.inputs, dim=1, dtype=torch.float64)
        repeats = max(5, arguments.repeats * 600 // n_patients)
        source = NoiseSource(new_key(), "shake256")

        def before(
            data: HeadExamples = data, norms: Tensor = norms, source: NoiseSource = source
        ) -> Tensor:
            noise = source.gaussian((1, arguments.features), 5.0, stream=next(steps))
            return (float32_sum(weights, data, norms) + noise.float()) / MECHANISM.normaliser

        def now(data: HeadExamples = data, source: NoiseSource = source) -> Tensor:
            total = private_sum(weights, data, MECHANISM.clip_norm)
            return noisy_mean(total, MECHANISM, source, next(steps))

        times = in_turns({"float32": before, "lattice": now}, repeats)
        for way, taken in times.items():
            ratio = statistics.median(taken) / statistics.median(times["float32"])
            print(
                f"{n_patients:6} patients, {way:8} {1e3 * min(taken):8.2f} least "
                f"{1e3 * statistics.median(taken):8.2f} ms median, ratio {ratio:.2f}"
            )
    for kind in get_args(NoiseKind):
        source = NoiseSource(new_key(), kind)
        shape = (arguments.features,)

        def draw(source: NoiseSource = source, shape: tuple[int, ...] = shape) -> Tensor:
            return source.gaussian(shape, 5.0 * 2**20, stream=next(steps))

        taken = in_turns({kind: draw}, arguments.repeats)[kind]
        print(f"noise of {arguments.features} weights, {kind:8} {1e3 * min(taken):6.2f} ms")


if __name__ == "__main__":
    main()
