"""Commands about classifiers: pretrain, fine-tune, calibrate, predict, evaluate, audit."""

from synthdp.commands.stage_command import Commands, add_stage


def add_commands(commands: Commands) -> None:
    """The commands about classifiers."""
    add_stage(
        commands,
        "pretrain",
        "Train the transformer on a synthetic or phantom set, without privacy.",
        "synthdp pretrain configs/classify/pretrain-dinov2.yaml data=data/synthetic out=runs/pre",
    )
    add_stage(
        commands,
        "finetune",
        "Fine-tune the head on real patients, with differential privacy or without.",
        "synthdp finetune configs/classify/finetune-dinov2.yaml data=data/cbis-ddsm out=runs/dp "
        "privacy.epsilon=6",
    )
    add_stage(
        commands,
        "calibrate",
        "Give a finished run calibrated probabilities, and a threshold for a sensitivity.",
        "synthdp calibrate runs/dp data/cbis-ddsm --split val --out runs/dp-calibrated "
        "privacy.epsilon=6 privacy.population=600\n"
        "  synthdp calibrate runs/dp data/synthetic --out runs/dp-free --sensitivity 0.95",
        positionals=("run", "data"),
        options=("split", "out", "sensitivity"),
    )
    add_stage(
        commands,
        "predict",
        "Score new images; with --saliency also draw where each score comes from.",
        "synthdp predict runs/dp-calibrated new-patches --out scores.csv\n"
        "  synthdp predict to-share/dp new-patches --out scores.csv --saliency saliency",
        positionals=("run", "images"),
        options=("out", "boxes", "saliency"),
    )
    add_stage(
        commands,
        "evaluate",
        "Score a split of any data set, with intervals by patient.",
        "synthdp evaluate runs/dp data/cbis-ddsm --split val --out evaluations/dp-val",
        positionals=("run", "dataset"),
        options=("split", "out", "table", "auroc_epsilon", "auroc_delta", "population"),
    )
    add_stage(
        commands,
        "audit",
        "Attack a finished private run: replay, canaries, membership (exit code 1 when broken).",
        "synthdp audit runs/dp workers=2",
        positionals=("run",),
    )
