"""Commands about classifiers: pretrain, fine-tune, calibrate, predict, evaluate, audit."""

from synthdp.command_line.parser import Commands
from synthdp.command_line.stage_command import add_stage


def add_commands(commands: Commands) -> None:
    """The commands about classifiers."""
    add_stage(
        commands,
        "pretrain",
        "Train the transformer on a synthetic or phantom set, without privacy.",
        "synthdp pretrain configs/classify/pretrain-dinov2.yaml data=data/synthetic out=runs/pre",
        matters="data out backbone.name backbone.weights trainable_blocks epochs batch lr head_lr "
        "teacher",
    )
    add_stage(
        commands,
        "finetune",
        "Fine-tune the head on real patients, with differential privacy or without.",
        "synthdp finetune configs/classify/finetune-dinov2.yaml data=data/cbis-ddsm out=runs/dp "
        "privacy.epsilon=6",
        matters="data out privacy.epsilon privacy.delta privacy.population init backbone.name "
        "backbone.weights synthetic head.steps",
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
        matters="run data out split sensitivity privacy.epsilon privacy.delta privacy.population "
        "cohort",
    )
    add_stage(
        commands,
        "predict",
        "Score new images; with --saliency also draw where each score comes from.",
        "synthdp predict runs/dp-calibrated new-patches --out scores.csv\n"
        "  synthdp predict to-share/dp new-patches --out scores.csv --saliency saliency",
        positionals=("run", "images"),
        options=("out", "boxes", "saliency"),
        matters="run images out boxes as_imported size_px bits saliency saliency_grid "
        "follow_links_into",
    )
    add_stage(
        commands,
        "evaluate",
        "Score a split of any data set, with intervals by patient.",
        "synthdp evaluate runs/dp data/cbis-ddsm --split val --out evaluations/dp-val",
        positionals=("run", "dataset"),
        options=("split", "out", "table", "auroc_epsilon", "auroc_delta", "population"),
        matters="run dataset split out by where at_sensitivity auroc_epsilon population table",
    )
    add_stage(
        commands,
        "audit",
        "Attack a finished private run: replay, canaries, membership (exit code 1 when broken).",
        "synthdp audit runs/dp workers=2",
        positionals=("run",),
        matters="run workers seed confidence canaries runs shadows replayed replayed_steps "
        "false_alarms",
    )
