"""Commands about generators: train, join, import, make a set, judge it, write a package."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from synthdp.command_line.parser import Commands, Once
from synthdp.command_line.stage_command import add_stage, run_command
from synthdp.errors import InputError
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
        "synthdp generate runs/gan --out data/synthetic --per-class 1500\n"
        "  synthdp generate pretrained:cbis-selected6 --out data/private-synthetic --per-class 300",
        positionals=("run",),
        options=(
            *("out", "per_class", "total", "malignant_share", "seed", "bits", "truncation"),
            "licence",
        ),
        matters="run out per_class total malignant_share seed truncation bits licence batch",
    )
    _add_assess(commands)
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


def _add_assess(commands: Commands) -> None:
    """The command that judges a synthetic set: by figures, or by blinded readers."""
    assess = add_stage(
        commands,
        "assess",
        "Judge a synthetic set against a real one: distances, labels, copies of patients; or by "
        "blinded readers (--reader, --score).",
        "synthdp assess data/synthetic configs/gan/assess.yaml --real data/cbis-ddsm "
        "--out assessments/synthetic\n"
        "  synthdp assess data/synthetic --real data/cbis-ddsm --reader readers/kit "
        "--yes-show-patients\n"
        "  synthdp assess --score readers/kit reader-A.csv reader-B.csv --out readers/scores",
        positionals=("synthetic",),
        options=("real", "out", "baseline", "seed"),
        matters="synthetic real out features baseline inception neighbours compare_n redraws seed",
    )
    assess.add_argument(
        "--reader",
        action=Once,
        metavar="OUT",
        help="write a page for blinded readers, and the key to it, into the new folder OUT, and "
        "judge nothing (settings: `synthdp settings assess reader`)",
    )
    assess.add_argument(
        "--yes-show-patients",
        action="store_true",
        help="with --reader: show patients' images, or ones made from patients without a promise",
    )
    assess.add_argument(
        "--score",
        action=_Score,
        nargs="+",
        metavar=("KIT", "ANSWERS"),
        help="score the files that readers saved against the key in the folder KIT (settings: "
        "`synthdp settings assess score`)",
    )
    assess.set_defaults(handler=_run_assess)


class _Score(Once):
    """`--score`, with which no synthetic set is named: the kit knows it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Keep the values."""
        super().__call__(parser, namespace, values, option_string)
        for action in parser._actions:
            if action.dest == "synthetic":
                action.required = False


def _run_assess(arguments: argparse.Namespace) -> int:
    """Judge a set by figures, write the page for readers, or score their answers."""
    if arguments.reader is not None and arguments.score is not None:
        raise InputError("assess: --reader writes a page and --score reads answers; give one")
    if arguments.yes_show_patients and arguments.reader is None:
        raise InputError("assess: --yes-show-patients goes with --reader alone")
    if arguments.score is not None:
        return _run_score(arguments)
    if arguments.reader is None:
        return run_command("assess", ("synthetic", "real", "out", "baseline", "seed"), arguments)
    if arguments.out is not None or arguments.baseline is not None:
        raise InputError(
            "assess: --reader names the folder itself, and takes no --out or --baseline"
        )
    arguments.out = arguments.reader
    keys = ("synthetic", "real", "out", "seed", "yes_show_patients")
    return run_command("assess reader", keys, arguments)


def _run_score(arguments: argparse.Namespace) -> int:
    if arguments.real is not None or arguments.baseline is not None:
        raise InputError(
            "assess: --score takes the kit and readers' files behind it, --out and settings alone"
        )
    # what stands behind another option is taken for the set, and for a settings file
    behind = [] if arguments.synthetic is None else [arguments.synthetic]
    typed: list[str] = [*arguments.score, *behind, *list(arguments.overrides)]
    kit, words = typed[0], typed[1:]
    answers = [word for word in words if "=" not in word]
    if not answers and not any(word.startswith("answers=") for word in words):
        raise InputError("assess: --score: name the files that readers saved behind the kit")
    arguments.kit, arguments.answers = kit, json.dumps(answers) if answers else None
    arguments.overrides = [word for word in words if "=" in word]
    return run_command("assess score", ("kit", "answers", "out", "seed"), arguments)


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
    stage.planned(settings)  # else what can't be exported would be on record as having left
    has_left = not (run / "private").exists()
    from tempfile import TemporaryDirectory  # noqa: PLC0415 (as above)

    with TemporaryDirectory() as scratch:
        released = Path(scratch) / out.name  # the name on record
        release(run, released, Asked(without_protection=without_protection or has_left))
        return stage.start(settings.model_copy(update={"run": released}))
