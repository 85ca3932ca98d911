"""Cross-validated AUROC of a recipe for each epsilon, by patient: a figure for reading.

It is an exact function of the patients, outside every promise; log a choice before you read it.
"""

import argparse
from pathlib import Path
from statistics import mean, stdev

from joblib import Parallel, delayed

from classify.cross_validate import CrossValidated, cross_validate
from classify.settings.finetune import FinetuneSettings
from synthdp.config.settings import load_settings


def _scored(config: Path, overrides: list[str], epsilon: str, seeds: int) -> list[CrossValidated]:
    """The AUROC of each split into folds and noise seed; one seed where nothing is drawn."""
    pairs = [*overrides, f"privacy.epsilon={epsilon}", "out=unnamed"]
    settings = load_settings(FinetuneSettings, config, pairs)
    n_seeds = 1 if epsilon == "none" and settings.head.kind != "mlp" else seeds
    return list(cross_validate(settings, folds=5, repeats=3, seeds=n_seeds))


def main() -> None:
    """Print one line for each epsilon."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:  python scripts/cross_validate.py configs/classify/best.yaml "
        "data=data/cbis-ddsm centre=data/phantoms",
    )
    parser.add_argument("config", type=Path, help="settings of finetune")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--epsilons", nargs="+", default=["1", "6", "12", "20", "60", "none"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    by_epsilon = Parallel(n_jobs=arguments.workers, return_as="generator")(
        delayed(_scored)(arguments.config, arguments.overrides, epsilon, arguments.seeds)
        for epsilon in arguments.epsilons
    )
    print("epsilon  AUROC   sd over splits and seeds   (5 folds by patient, 3 splits)")
    for epsilon, scored in zip(arguments.epsilons, by_epsilon, strict=True):
        aurocs = [one.auroc for one in scored]
        spread = stdev(aurocs) if len(aurocs) > 1 else 0.0
        targets = scored[0].by_target
        each = (f"{name} {mean(one.by_target[name] for one in scored):.3f}" for name in targets)
        of_each = f"  {', '.join(each)}" if len(targets) > 1 else ""
        print(f"{epsilon:>7}  {mean(aurocs):.4f}  {spread:.4f}{of_each}", flush=True)


if __name__ == "__main__":
    main()
