"""Made-up studies: folders as `synthdp study` leaves them, with figures that are made up."""

import math
from pathlib import Path

import numpy as np

from synthdp.config.settings import Settings
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.statement import Statement, make_statement
from synthdp.runs.folder import open_run
from synthdp.storage.files import write_json
from synthdp.study.compare.results import ResultRow, evaluation_row, write_results

EPSILONS = (1.0, 6.0, 60.0, None)
GAN = Release(
    id="0" * 16, stage="train-gan", data="cbis-ddsm", mu=math.inf, note="a GAN without DP"
)
#: Strategies that are repeated for each epsilon, and what each has over the first in AUROC.
GRIDDED = {"real_only": 0.0, "pretrain_then_finetune": 0.03, "phantoms_then_finetune": -0.02}


_STATUS = {
    "schema_version": 1,
    "stage": "finetune",
    "state": "finished",
    "release": "0" * 16,
    "seconds": 2.5,
    "versions": {"synthdp": "0.1.0"},
}


class MadeUp(Settings):
    """Settings of a run in a made-up study."""

    strategy: str
    epsilon: float | None
    seed: int


def stated(strategy: str, epsilon: float | None) -> Statement:
    """The statement of a run: two of the strategies start from a GAN without a guarantee."""
    lineage = Lineage()
    if strategy in ("pretrain_then_finetune", "synthetic_only"):
        lineage = lineage.with_release(GAN)
    stage = None
    if strategy in GRIDDED:
        mu = math.inf if epsilon is None else gaussian_mu(epsilon, 1e-4)
        note = "" if epsilon else "fine-tuned without DP"
        stage = Release(stage="finetune", data="cbis-ddsm", mu=mu, note=note)
        lineage = lineage.with_release(stage)
    return make_statement(lineage, subject="model", population=600, stage=stage)


def _metrics(strategy: str, epsilon: float | None, seed: int, easier: float) -> dict[str, object]:
    jitter = np.random.default_rng(seed).normal(scale=0.012)
    gain = 0.22 if epsilon is None else 0.22 * math.tanh(math.log10(epsilon + 1))
    centre = 0.53 + GRIDDED.get(strategy, 0.08) + easier + jitter + gain * (strategy in GRIDDED)
    figures = {"auroc": centre, "auprc": centre - 0.04, "sensitivity": 0.6, "specificity": 0.72}
    return {
        **{
            name: {"value": value, "ci_low": value - 0.07, "ci_high": value + 0.06}
            for name, value in figures.items()
        },
        "n_images": 192,
        "n_patients": 102,
    }


def make_study(
    study: Path,
    *,
    sets: tuple[str, ...] = ("val",),
    seeds: int = 2,
    with_failure: bool = True,
    sites: tuple[str, ...] = ("",),
) -> list[ResultRow]:
    """A study folder as `synthdp study` leaves it, with figures that are made up."""
    grid = [
        (strategy, trained_on, epsilon, seed)
        for strategy in (*GRIDDED, "synthetic_only", "phantoms_only")
        for trained_on in (sites if strategy in GRIDDED else ("",))
        for epsilon in (EPSILONS if strategy in GRIDDED else (None,))
        for seed in range(seeds)
    ]
    rows = []
    for number, (strategy, trained_on, epsilon, seed) in enumerate(grid):
        statement = stated(strategy, epsilon)
        run = f"finetune-{number:012x}"
        settings = MadeUp(strategy=strategy, epsilon=epsilon, seed=seed)
        model = {"strategy": strategy, "trained_on": trained_on, "epsilon": epsilon, "seed": seed}
        failed = with_failure and number == 1
        if not failed:
            stage = "finetune" if strategy in GRIDDED else "pretrain"
            with open_run(study / "runs" / run, stage, settings) as opened:
                opened.finish(statement, "# A card\n")
        for split in sets:
            columns = {**model, "run": run, "data_set": "cbis-ddsm", "split": split}
            if failed:
                error = "backbone.weights: /srv/secret/models/dinov2.safetensors: no such file"
                rows.append(ResultRow(**columns, state="failed", error=error))
            else:
                metrics = _metrics(strategy, epsilon, number, 0.05 * (split == "external"))
                rows.append(evaluation_row(**columns, metrics=metrics, statement=statement))
    write_results(study / "results.csv", rows)
    return rows


def make_patches(root: Path, kind: str) -> Path:
    """A tiny data set whose images are noise."""
    info = DatasetInfo(name=f"made-up {kind}", kind=kind, size_px=32)
    generator = np.random.default_rng(0)
    with create_dataset(root, info) as writer:
        for index in range(20):
            pixels = generator.integers(0, 256, (32, 32)).astype(np.uint8)
            patient = f"secret{index}"
            writer.add(pixels, patient_id=patient, split="train", targets=[index % 2])
    return root


def describe(study: Path, **facts: object) -> None:
    """Write the study's `study.json` with these facts."""
    write_json(study / "study.json", {"title": "CBIS-DDSM masses", "wall_time_s": 754.2, **facts})


def many_runs(
    study: Path, *, strategies: int, epsilons: tuple[float | None, ...], seeds: int
) -> list[ResultRow]:
    """A large study whose recipes have names of their own; the runs' folders hold statements."""
    rows = []
    promised = {epsilon: stated("real_only", epsilon) for epsilon in epsilons}
    for number in range(strategies):
        for epsilon, statement in promised.items():
            for seed in range(seeds):
                run = f"finetune-{len(rows):012x}"
                write_json(study / "runs" / run / "status.json", _STATUS)
                content = statement.model_dump(mode="json")
                write_json(study / "runs" / run / "privacy.json", content)
                metrics = _metrics("real_only", epsilon, len(rows), -0.01 * number)
                rows.append(
                    evaluation_row(
                        strategy=f"recipe_number_{number}",
                        epsilon=epsilon,
                        seed=seed,
                        data_set="cbis-ddsm",
                        split="val",
                        run=run,
                        metrics=metrics,
                        statement=statement,
                    )
                )
    write_results(study / "results.csv", rows)
    return rows
