"""Commands about generators: train, join, import, make a set, judge it, write a package."""

from pathlib import Path
from typing import TYPE_CHECKING

from synthdp.command_line.parser import Commands
from synthdp.command_line.stage_command import add_stage
from synthdp.stages import Stage

if TYPE_CHECKING:
    from synthdp.config.settings import Settings


def add_commands(commands: Commands) -> None:
    """The commands about generators and what they make."""
    add_stage(
        commands,
        "train-gan",
        "Train the conditional generator on the train split of a data set.",
        "synthdp train-gan configs/gan/cbis-ddsm.yaml data=data/cbis-ddsm out=runs/gan-0",
        matters="data out method privacy.epsilon privacy.population init kimg size_px conditions "
        "batch",
    )
    add_stage(
        commands,
        "mix-generators",
        "Join trained generators into one that draws from each as often.",
        "synthdp mix-generators 'runs=[runs/gan-0,runs/gan-1]' out=runs/gan",
        matters="runs out",
    )
    add_stage(
        commands,
        "import-generator",
        "Import a checkpoint of the paper's DCGAN into a run that `generate` takes.",
        "synthdp import-generator 1400.pt --out runs/seed trained_on=cbis-ddsm sha256=...",
        positionals=("file",),
        options=("out",),
        matters="file out trained_on sha256 unit_range target",
    )
    add_stage(
        commands,
        "generate",
        "Make a synthetic data set with a trained generator.",
        "synthdp generate runs/gan --out data/synthetic --per-class 1500",
        positionals=("run",),
        options=(
            *("out", "per_class", "total", "malignant_share", "seed", "bits", "truncation"),
            "licence",
        ),
        matters="run out per_class total malignant_share seed truncation bits licence batch",
    )
    add_stage(
        commands,
        "assess",
        "Judge a synthetic set against a real one: distances, labels, copies of patients.",
        "synthdp assess data/synthetic configs/gan/assess.yaml --real data/cbis-ddsm "
        "--out assessments/synthetic",
        positionals=("synthetic",),
        options=("real", "out", "baseline", "seed"),
        matters="synthetic real out features baseline inception neighbours compare_n redraws seed",
    )
    add_stage(
        commands,
        "export",
        "Write a generator as a package that the medigan library runs, with its promise.",
        "synthdp export pretrained:mcgan-cbis packages/mcgan --licence CC-BY-3.0",
        positionals=("run", "out"),
        options=("package_name", "model_id", "title", "licence", "quality"),
        flags=("yes_without_protection",),
        run=_from_release,
        matters="run out package_name model_id title licence organ modality quality "
        "yes_without_protection",
    )
    add_stage(
        commands,
        "export-model",
        "Write a classifier or a generator as one ONNX or torch.export file, with its promise.",
        "synthdp export-model runs/dp exported/dp --format onnx --size-px 128",
        positionals=("run", "out"),
        options=("format", "size_px"),
        flags=("yes_without_protection",),
        run=_from_release,
        matters="run out format size_px yes_without_protection",
    )


def _from_release(stage: Stage, settings: "Settings") -> Path:
    """Export what a release of the run lets leave, under the word that a release of it asks for.

    A generator of the package is released.
    """
    # not at the top, so that commands start without the image stack
    from synthdp.releases.release import Asked, release  # noqa: PLC0415

    # of gan's ExportSettings, which is not imported here, or of ExportModelSettings
    run: Path = settings.run  # type: ignore[attr-defined]
    out: Path = settings.out  # type: ignore[attr-defined]
    without_protection: bool = settings.yes_without_protection  # type: ignore[attr-defined]
    if str(run).startswith("pretrained:"):
        return stage.start(settings)
    has_left = not (run / "private").exists()
    from tempfile import TemporaryDirectory  # noqa: PLC0415 (as above)

    with TemporaryDirectory() as scratch:
        released = Path(scratch) / out.name  # the name on record
        release(run, released, Asked(without_protection=without_protection or has_left))
        return stage.start(settings.model_copy(update={"run": released}))
