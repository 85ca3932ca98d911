"""Commands about studies: run many recipes side by side, and report them."""

from pathlib import Path
from typing import TYPE_CHECKING

from synthdp.command_line.parser import Commands
from synthdp.command_line.stage_command import add_stage
from synthdp.stages import Stage

if TYPE_CHECKING:
    from synthdp.config.settings import Settings


def add_commands(commands: Commands) -> None:
    """The commands about studies."""
    add_stage(
        commands,
        "study",
        "Run strategies x epsilons x seeds and write results.csv, report.html, and what was tuned.",
        "synthdp study configs/study/cbis-ddsm.yaml\n"
        "  synthdp study configs/study/cbis-ddsm.yaml workers=all\n"
        "  synthdp study configs/study/cbis-ddsm.yaml engine=dask "
        "engine_address=tcp://node1:8786 workers=16\n"
        "  sbatch --array=1-4 --wrap 'synthdp study configs/study/cbis-ddsm.yaml "
        "--shard $SLURM_ARRAY_TASK_ID/4'",
        options=("shard",),
        matters="data out strategies epsilons seeds evaluate_on private_synthetic "
        "privacy.population workers fairness",
    )
    add_stage(
        commands,
        "report",
        "Write a study's report.html and cards again, or a table or the figures for a paper.",
        "synthdp report studies/cbis-ddsm\n"
        "  synthdp report studies/cbis-ddsm --format latex --out table.tex\n"
        "  synthdp report studies/cbis-ddsm --format latex --table comparisons\n"
        "  synthdp report studies/cbis-ddsm --format markdown --metric auprc\n"
        "  synthdp report studies/cbis-ddsm --format pdf --out figures figures.column=single",
        positionals=("study",),
        options=("format", "out", "metric", "table"),
        run=_report,
        matters="study format out metric table compare fairness transfer show_real published",
    )


def _report(stage: Stage, settings: "Settings") -> Path | str:
    """Write a study's report or figures, or give its table where no file is named for it."""
    from synthdp.study.report.page import (  # noqa: PLC0415 (starts without the image stack)
        report_table,
    )
    from synthdp.study.report.settings import (  # noqa: PLC0415 (starts without the image stack)
        TABLE_FORMATS,
        ReportSettings,
    )

    assert isinstance(settings, ReportSettings)
    if settings.format not in TABLE_FORMATS or settings.out is not None:
        return stage.start(settings)
    return report_table(settings).rstrip("\n")
