"""How much faster two processes train a network with privacy than one, each on one thread.

    python scripts/bench_ranks.py [--patients 128] [--steps 9] [--repeats 3]

A whole ResNet9 on images of noise of 64 px, every patient in each step, and noise of the fast kind:
of the default kind a single process, too, draws it on a second core. Both ways in one run, in turn;
steps are timed when work has been balanced.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
SIDE_PX = 64


def train(out: Path, patients: int, steps: int) -> None:
    """Be one of the processes; the first writes weights and seconds a step."""
    import numpy as np  # noqa: PLC0415 (the bench itself needs neither)
    from numpy.typing import NDArray  # noqa: PLC0415

    from classify.network.images import ImageExamples  # noqa: PLC0415
    from classify.network.team import joined_team  # noqa: PLC0415
    from classify.network.top import trained_network  # noqa: PLC0415
    from classify.network.train import follow, train_private_network  # noqa: PLC0415
    from classify.settings.network import NetworkSettings  # noqa: PLC0415
    from synthdp.machine.rank import own_rank  # noqa: PLC0415
    from synthdp.networks.backbone import build_backbone  # noqa: PLC0415
    from synthdp.networks.settings import FeatureSettings  # noqa: PLC0415
    from synthdp.privacy.ledger.run_ledger import Ledger  # noqa: PLC0415
    from synthdp.privacy.lineage import Release  # noqa: PLC0415
    from synthdp.privacy.mechanism import Mechanism  # noqa: PLC0415
    from synthdp.privacy.noisy_sum.noise import NoiseSource  # noqa: PLC0415

    class Noise:
        def __len__(self) -> int:
            return patients

        def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
            rngs = (np.random.default_rng(int(index)) for index in indices)
            size = (1, SIDE_PX, SIDE_PX)
            return np.stack([rng.random(size, dtype=np.float32) for rng in rngs]) * 2 - 1

    torch.set_num_threads(1)
    backbone = build_backbone(
        FeatureSettings(name="resnet9", size_px=SIDE_PX), seed=0, trainable_blocks="all"
    )
    start = torch.zeros(1, backbone.n_features + 1)
    network = trained_network(backbone, start, scaling=None)
    targets = (torch.arange(patients) % 2).float().unsqueeze(1)
    tags = [number.to_bytes(8, "big") for number in range(patients)]
    examples = ImageExamples(Noise(), targets, torch.arange(patients), tags)
    recipe = NetworkSettings(trainable_blocks="all", steps=steps, sampling_rate=1.0, lr=0.01)
    with joined_team(own_rank()) as team:
        if not team.rank.leads:
            team.is_announced()
            follow(network, examples, recipe, team=team, private=True)
            return
        team.announce()
        mechanism = Mechanism(noise_multiplier=1.0, steps=steps, normaliser=patients)
        release = Release(id="0" * 16, stage="b", data="b", mu=mechanism.mu, mechanism=mechanism)
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(Path(folder) / "ledger.jsonl")
            ledger.claim(release, fingerprint="f", block_steps=steps)
            seen: list[float] = []
            train_private_network(
                network,
                examples,
                recipe,
                ledger=ledger,
                noise_source=NoiseSource(b"k" * 32),
                checkpoints=Path(folder) / "checkpoints",
                observe=lambda step, weights, released: seen.append(time.perf_counter()),
                team=team,
            )
    seconds = [after - before for before, after in itertools.pairwise(seen)]
    torch.save({"weights": network.flat(), "seconds": seconds}, out)


def run(processes: int, out: Path, patients: int, steps: int) -> dict[str, object]:
    """What a training by so many processes gave."""
    runner = [sys.executable]
    if processes > 1:
        runner += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words = [str(Path(__file__)), "--train", str(out), f"--patients={patients}", f"--steps={steps}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*runner, *words], env=environment, check=True)  # noqa: S603 (this file itself)
    result: dict[str, object] = torch.load(out)
    return result


def main() -> None:
    """Time both ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=128)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.train, arguments.patients, arguments.steps)
        return
    with tempfile.TemporaryDirectory() as folder:
        ratios = []
        for repeat in range(arguments.repeats):
            one, two = (
                run(n, Path(folder) / f"{repeat}-{n}", arguments.patients, arguments.steps)
                for n in (1, 2)
            )
            assert torch.equal(one["weights"], two["weights"])
            times = [
                statistics.median(result["seconds"][arguments.steps // 3 :])
                for result in (one, two)
            ]
            ratios.append(times[0] / times[1])
            print(f"one process {times[0]:.2f} s a step, two {times[1]:.2f} s, the same bits")
    print(f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
