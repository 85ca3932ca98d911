"""`synthdp STAGE ...`: reads the command line, runs one stage, turns errors into exit codes."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from synthdp import __version__
from synthdp.config.settings import Settings, dump_settings, load_settings, read_yaml
from synthdp.config.typed_values import TYPOGRAPHIC_DASHES, syntax_problem
from synthdp.errors import InputError, RunError
from synthdp.machine.terminal import accept_any_text, flush, has_no_reader, let_go_of_output, tell
from synthdp.stages import STAGES, Stage, packaged_statements

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130


class _Once(argparse.Action):
    """Keeps an option's value as it is typed, and refuses a second one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string}: given twice; keep one")
        setattr(namespace, self.dest, values)


def _path(text: str) -> Path:
    """A path of the command line; an empty one, which `Path` takes for this folder, is refused."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty, as an unset variable leaves it; name a path")
    return Path(text)


def _stage_parser(
    commands: Commands,
    name: str,
    purpose: str,
    example: str,
    *,
    stage: str | None = None,
    positionals: Sequence[str] = (),
    options: Sequence[str] = (),
    flags: Sequence[str] = (),
    option_names: Mapping[str, str] | None = None,
) -> argparse.ArgumentParser:
    """Add one stage, and return its parser: positionals and options name keys of its settings.

    An option is called by its key, or by its name in `option_names`.
    """
    parser = commands.add_parser(
        name,
        help=purpose,
        description=purpose,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for key in positionals:
        parser.add_argument(key, metavar=key.upper())
    for key in options:
        option = (option_names or {}).get(key, key)
        typed, shown = f"--{option.replace('_', '-')}", option.upper()
        parser.add_argument(typed, dest=key, metavar=shown, action=_Once)
    for key in flags:
        parser.add_argument(f"--{key.replace('_', '-')}", dest=key, action="store_true")
    parser.add_argument("--config", type=_path, action=_Once, help="a settings file (YAML)")
    parser.add_argument("--dry-run", action="store_true", help="print settings and promise, stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of settings")
    keys = (*positionals, *options, *flags)
    parser.set_defaults(handler=lambda arguments: _run_stage(stage or name, keys, arguments))
    return parser


def _run_stage(
    stage_name: str,
    keys: Sequence[str],
    arguments: argparse.Namespace,
    *,
    beneath: Path | None = None,
) -> int:
    """Run a stage; a settings file `beneath` says what neither config nor command line does."""
    stage = STAGES[stage_name]
    config, overrides = _config_and_overrides(keys, arguments)
    settings = load_settings(stage.settings_class(), config, overrides, beneath=beneath)
    if arguments.dry_run:
        return _print_plan(stage_name, settings)
    special = {"export": _export, "report": _report}
    run = special.get(stage_name)
    print(stage.start(settings) if run is None else run(stage, settings))
    return EXIT_DONE


def _config_and_overrides(
    keys: Sequence[str], arguments: argparse.Namespace
) -> tuple[Path | None, list[str]]:
    """The settings file of a command line, and its overrides: options too, which `keys` name."""
    config, overrides = arguments.config, list(arguments.overrides)
    if overrides and "=" not in overrides[0] and config is None:
        word = overrides.pop(0)
        if overrides[:1] == ["="] or word.startswith(TYPOGRAPHIC_DASHES):
            raise InputError(syntax_problem(word))
        config = Path(word)
    given = ((key, getattr(arguments, key)) for key in keys)
    return config, overrides + [
        f"{key}={value}" for key, value in given if value not in (None, False)
    ]


def _report(stage: Stage, settings: Settings) -> Path | str:
    """Write a study's report, or give its table where no file is named for it."""
    from synthdp.study.report.page import (  # noqa: PLC0415 (starts without the image stack)
        ReportSettings,
        report_table,
    )

    assert isinstance(settings, ReportSettings)
    if settings.format == "html" or settings.out is not None:
        return stage.start(settings)
    return report_table(settings).rstrip("\n")


def _export(stage: Stage, settings: Settings) -> Path:
    """Export what a release of the run lets leave; a generator of the package is released."""
    from synthdp.release import release  # noqa: PLC0415 (starts without the image stack)

    # settings are gan's ExportSettings, which is not imported here
    run: Path = settings.run  # type: ignore[attr-defined]
    if str(run).startswith("pretrained:"):
        return stage.start(settings)
    with TemporaryDirectory() as scratch:
        released = Path(scratch) / "run"
        release(run, released)
        return stage.start(settings.model_copy(update={"run": released}))


def _print_plan(stage_name: str, settings: Settings) -> int:
    print(dump_settings(settings), end="")
    statement = STAGES[stage_name].planned(settings)
    if statement is not None:
        from synthdp.privacy.promise.words import statement_text  # noqa: PLC0415 (as above)

        print(f"\n{statement_text(statement)}")
    return EXIT_DONE


def _run_import(keys: Sequence[str], arguments: argparse.Namespace) -> int:
    """Import by the mapping of a known collection, or print the mapping by which it would be."""
    from synthdp.data.importing.tables.collection import collection_file  # noqa: PLC0415 (as below)

    mapping = collection_file(arguments.like) if arguments.like is not None else None
    if not arguments.guess:
        config, overrides = _config_and_overrides(keys, arguments)
        given = {override.partition("=")[0] for override in overrides}
        for file in (mapping, config):
            given |= read_yaml(file).keys() if file is not None else set()
        return _run_stage(_import_stage(given), keys, arguments, beneath=mapping)
    if mapping is not None:
        print(mapping.read_text(encoding="utf-8"), end="")
        return EXIT_DONE
    if not arguments.src:
        raise InputError("data import: --guess needs --src DIR, or --like NAME")
    from synthdp.data.importing.tables.guess import guess  # noqa: PLC0415 (as below)

    table = arguments.metadata
    for override in arguments.overrides:
        key, _, value = override.partition("=")
        if key != "metadata":
            raise InputError(f"data import: --guess takes --src and --metadata alone; drop {key}")
        table = value
    print(guess(Path(arguments.src), None if table is None else Path(table)), end="")
    return EXIT_DONE


def _import_stage(keys: Collection[str]) -> str:
    """The stage that takes settings of these keys: of DICOM files, where it alone knows one."""
    patches, dicom = (
        STAGES[name].settings_class().model_fields.keys() for name in ("data patches", "data dicom")
    )
    return "data dicom" if (dicom - patches).intersection(keys) else "data patches"


def _run_check(arguments: argparse.Namespace) -> int:
    from synthdp.data.check import check_dataset  # noqa: PLC0415 (starts without the image stack)

    result = check_dataset(arguments.folder, counts=arguments.counts)
    print(result.summary)
    for problem in result.problems:
        tell(problem)
    return EXIT_BAD_INPUT if result.problems else EXIT_DONE


def _run_show(arguments: argparse.Namespace) -> int:
    from synthdp.pages.dataset import (  # noqa: PLC0415 (starts without the image stack)
        write_dataset_page,
    )

    print(write_dataset_page(arguments.folder, arguments.out))
    return EXIT_DONE


def _run_budget(arguments: argparse.Namespace) -> int:
    from synthdp.data.budget import (  # noqa: PLC0415 (starts without the image stack)
        budget_words,
        change_budget,
    )

    if arguments.epsilon is None and (arguments.delta is not None or arguments.because):
        raise InputError("data budget: --epsilon is missing; name a number, or none")
    if arguments.epsilon is not None:
        change_budget(
            arguments.folder,
            epsilon=arguments.epsilon,
            delta=arguments.delta,
            because=arguments.because,
        )
    print(budget_words(arguments.folder))
    return EXIT_DONE


def _run_privacy(arguments: argparse.Namespace) -> int:
    if arguments.release is not None:
        return _run_release(arguments)
    if arguments.dossier is not None:
        return _run_dossier(arguments)
    if arguments.evidence or arguments.show:
        raise InputError("privacy: --evidence and --show go with --dossier RUN OUT")
    if not arguments.paths:
        raise InputError(
            "privacy: name at least one run, data set or study, or --release RUN OUT, or "
            "--dossier RUN OUT"
        )
    from synthdp.privacy.promise.plan import statement_of  # noqa: PLC0415 (as above)
    from synthdp.privacy.promise.words import statement_text  # noqa: PLC0415 (as above)

    known = packaged_statements(arguments.paths)
    print(statement_text(statement_of(arguments.paths, known)))
    return EXIT_DONE


def _run_release(arguments: argparse.Namespace) -> int:
    if arguments.paths:
        raise InputError("privacy: --release takes RUN and OUT alone; leave the other paths out")
    from synthdp.privacy.promise.words import statement_text  # noqa: PLC0415 (as above)
    from synthdp.release import release  # noqa: PLC0415 (as above)

    original, out = arguments.release
    print(statement_text(release(original, out)).splitlines()[0])
    print(out)
    return EXIT_DONE


def _run_dossier(arguments: argparse.Namespace) -> int:
    if arguments.paths:
        raise InputError(
            "privacy: --dossier takes RUN and OUT alone; name evaluations and assessments behind "
            "--evidence"
        )
    from synthdp.dossier.page import PAGE_FILE, write_dossier  # noqa: PLC0415 (as above)
    from synthdp.privacy.promise.words import statement_text  # noqa: PLC0415 (as above)

    original, out = arguments.dossier
    dossier = write_dossier(
        original, out, evidence=arguments.evidence or (), shown=arguments.show or ()
    )
    print(statement_text(dossier.statement).splitlines()[0])
    print(out / PAGE_FILE)
    return EXIT_DONE


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="synthdp", description=__doc__)
    parser.add_argument("--version", action="version", version=f"synthdp {__version__}")
    commands = parser.add_subparsers(title="stages", required=True, metavar="STAGE")
    _add_data_commands(commands)
    _add_model_commands(commands)
    _add_study_commands(commands)
    return parser


def _add_data_commands(commands: Commands) -> None:
    data = commands.add_parser("data", help="make or check a data-set folder")
    kinds = data.add_subparsers(required=True, metavar="KIND")
    _stage_parser(
        kinds,
        "phantoms",
        "Draw procedural mass patches: data without patients.",
        "synthdp data phantoms --out phantoms --patients 500 --size-px 128",
        stage="data phantoms",
        options=("out", "patients", "size_px", "seed", "name"),
        flags=("as_real",),
    )
    _stage_parser(
        kinds,
        "patches",
        "Import patches that stand in class folders, with or without a metadata table.",
        "synthdp data patches --src ../shared/data/cbis-ddsm --out data/cbis-ddsm --name cbis-ddsm",
        stage="data patches",
        options=("src", "out", "name", "kind", "lineage", "metadata"),
    )
    _stage_parser(
        kinds,
        "dicom",
        "Import DICOM images by a table with a row for each lesion, or for each image.",
        "synthdp data dicom --images export --table lesions.csv --out data/clinic",
        stage="data dicom",
        options=("src", "metadata", "out", "name"),
        option_names={"src": "images", "metadata": "table"},
    )
    _stage_parser(
        kinds,
        "cbis-ddsm",
        "Import CBIS-DDSM as The Cancer Imaging Archive serves it: tables and DICOM files.",
        "synthdp data cbis-ddsm --src manifest-1648648375084 --out data/cbis abnormalities=mass",
        stage="data cbis-ddsm",
        options=("src", "out", "name"),
    )
    keys = ("src", "out", "name", "kind", "lineage", "metadata")
    imports = _stage_parser(
        kinds,
        "import",
        "Import another lab's set by a small mapping: of a known collection, or your own.",
        "synthdp data import --like vindr-mammo --src vindr --out data/vindr\n"
        "  synthdp data import --guess --src download > mapping.yaml\n"
        "  synthdp data import mapping.yaml --out data/ours --name ours",
        options=keys,
    )
    imports.add_argument("--like", metavar="NAME", help="the mapping of a known collection")
    imports.add_argument(
        "--guess", action="store_true", help="print the mapping that would be used, import nothing"
    )
    imports.set_defaults(handler=lambda arguments: _run_import(keys, arguments))
    budget = kinds.add_parser(
        "budget",
        help="show or change what the patients of a set may be asked for in all",
        description="Show or change what all releases on a set's patients may cost together.",
        epilog="examples:\n  synthdp data budget data/clinic\n"
        '  synthdp data budget data/clinic --epsilon 12 --delta 1e-5 --because "ethics board"',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    budget.add_argument("folder", type=_path)
    budget.add_argument("--epsilon", help="for all releases together, or `none`")
    budget.add_argument("--delta", type=float, help="at which; that of the budget before")
    budget.add_argument("--because", default="", help="the reason, kept in the set's ledger")
    budget.set_defaults(handler=_run_budget)
    check = kinds.add_parser(
        "check",
        help="read every image and report all findings (exit code 2)",
        epilog="example:\n  synthdp data check data/cbis-ddsm",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("folder", type=_path)
    check.add_argument(
        "--counts",
        action="store_true",
        help="also say how many patients' images are of which class (of other sets it is said "
        "anyway)",
    )
    check.set_defaults(handler=_run_check)
    show = kinds.add_parser(
        "show",
        help="write one page with pictures and counts of a set, which stays with it",
        description="Write one HTML page of a data set for who holds it: contact sheet by class, "
        "splits, grey levels, copies to judge, what was left out.",
        epilog="example:\n  synthdp data show data/cbis-ddsm",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.add_argument("folder", type=_path)
    show.add_argument("--out", type=_path, metavar="FILE", help="private/dataset.html by default")
    show.set_defaults(handler=_run_show)


def _add_model_commands(commands: Commands) -> None:
    _stage_parser(
        commands,
        "train-gan",
        "Train the conditional generator on the train split of a data set.",
        "synthdp train-gan configs/gan/cbis-ddsm.yaml data=data/cbis-ddsm out=runs/gan-0",
    )
    _stage_parser(
        commands,
        "mix-generators",
        "Join trained generators into one that draws from each as often.",
        "synthdp mix-generators 'runs=[runs/gan-0,runs/gan-1]' out=runs/gan",
    )
    _stage_parser(
        commands,
        "import-generator",
        "Import a checkpoint of the paper's DCGAN into a run that `generate` takes.",
        "synthdp import-generator 1400.pt --out runs/seed trained_on=cbis-ddsm sha256=...",
        positionals=("file",),
        options=("out",),
    )
    _stage_parser(
        commands,
        "generate",
        "Make a synthetic data set with a trained generator.",
        "synthdp generate runs/gan --out data/synthetic --per-class 1500",
        positionals=("run",),
        options=(
            *("out", "per_class", "total", "malignant_share", "seed", "bits", "truncation"),
            "licence",
        ),
    )
    _stage_parser(
        commands,
        "assess",
        "Judge a synthetic set against a real one: distances, labels, copies of patients.",
        "synthdp assess data/synthetic configs/gan/assess-cbis.yaml --real data/cbis-ddsm "
        "--out assessments/synthetic",
        positionals=("synthetic",),
        options=("real", "out", "baseline", "seed"),
    )
    _stage_parser(
        commands,
        "export",
        "Write a generator as a package that the medigan library runs, with its promise.",
        "synthdp export pretrained:mcgan-cbis packages/mcgan --licence CC-BY-3.0",
        positionals=("run", "out"),
        options=("package_name", "model_id", "title", "licence", "quality"),
    )
    _stage_parser(
        commands,
        "pretrain",
        "Train the transformer on a synthetic or phantom set, without privacy.",
        "synthdp pretrain configs/classify/pretrain-dinov2.yaml data=data/synthetic out=runs/pre",
    )
    _stage_parser(
        commands,
        "finetune",
        "Fine-tune the head on real patients, with differential privacy or without.",
        "synthdp finetune configs/classify/finetune-dinov2.yaml data=data/cbis-ddsm out=runs/dp "
        "privacy.epsilon=6",
    )
    _stage_parser(
        commands,
        "calibrate",
        "Give a finished run calibrated probabilities, and a threshold for a sensitivity.",
        "synthdp calibrate runs/dp data/cbis-ddsm --split val --out runs/dp-calibrated "
        "privacy.epsilon=6 privacy.population=600\n"
        "  synthdp calibrate runs/dp data/synthetic --out runs/dp-free --sensitivity 0.95",
        positionals=("run", "data"),
        options=("split", "out", "sensitivity"),
    )
    _stage_parser(
        commands,
        "predict",
        "Score new images; with --saliency also draw where each score comes from.",
        "synthdp predict runs/dp-calibrated new-patches --out scores.csv\n"
        "  synthdp predict to-share/dp new-patches --out scores.csv --saliency saliency",
        positionals=("run", "images"),
        options=("out", "boxes", "saliency"),
    )
    _stage_parser(
        commands,
        "evaluate",
        "Score a split of any data set, with intervals by patient.",
        "synthdp evaluate runs/dp data/cbis-ddsm --split val --out evaluations/dp-val",
        positionals=("run", "dataset"),
        options=("split", "out", "table", "auroc_epsilon", "auroc_delta", "population"),
    )
    _stage_parser(
        commands,
        "audit",
        "Attack a finished private run: replay, canaries, membership (exit code 1 when broken).",
        "synthdp audit runs/dp workers=2",
        positionals=("run",),
    )


def _add_study_commands(commands: Commands) -> None:
    _stage_parser(
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
    )
    _stage_parser(
        commands,
        "report",
        "Write a study's report.html and cards again, or its table for a paper.",
        "synthdp report studies/cbis-ddsm\n"
        "  synthdp report studies/cbis-ddsm --format latex --out table.tex\n"
        "  synthdp report studies/cbis-ddsm --format markdown --metric auprc",
        positionals=("study",),
        options=("format", "out", "metric"),
    )
    privacy = commands.add_parser(
        "privacy",
        help="state what runs, data sets and studies promise, one by one or together",
        description="State what is promised, copy out what may leave the house, or write the file "
        "for a data-protection officer.",
        epilog="examples:\n  synthdp privacy runs/gan runs/dp\n"
        "  synthdp privacy --release runs/dp to-share/dp\n"
        "  synthdp privacy --dossier runs/dp dossiers/dp --evidence evaluations/dp-val",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    privacy.add_argument("paths", nargs="*", type=_path, metavar="PATH")
    privacy.add_argument(
        "--release",
        nargs=2,
        type=_path,
        metavar=("RUN", "OUT"),
        help="copy what may leave of a run, study or synthetic set into the new folder OUT",
    )
    privacy.add_argument(
        "--dossier",
        nargs=2,
        type=_path,
        metavar=("RUN", "OUT"),
        help="write the page for a data-protection officer, and its JSON, into the new folder OUT",
    )
    privacy.add_argument(
        "--evidence",
        nargs="+",
        type=_path,
        metavar="DIR",
        help="evaluations of RUN, assessments of a set, or audited runs it descends from",
    )
    privacy.add_argument(
        "--show",
        nargs="+",
        choices=("attacks", "utility", "counts"),
        help="exact figures of patients that the dossier shows: it then stays in the house",
    )
    privacy.set_defaults(handler=_run_privacy)


def _guarded(handler: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    try:
        return _with_output(handler(arguments))
    except InputError as error:
        tell(f"synthdp: {error}")
        return EXIT_BAD_INPUT
    except RunError as error:
        tell(f"synthdp: {error}")
        return EXIT_FAILED
    except OSError as error:  # its own text may hold a path below a patient's folder
        if isinstance(error, BrokenPipeError) and has_no_reader():
            let_go_of_output()
            return EXIT_DONE  # the reader, such as `head`, has seen enough
        tell(f"synthdp: a file could not be read or written: {error.strerror}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        tell("synthdp: interrupted; the same command resumes it")
        return EXIT_INTERRUPTED


def _with_output(code: int) -> int:
    """The code of a command whose output has been written."""
    try:
        flush()
    except BrokenPipeError:
        let_go_of_output()
    except OSError:
        let_go_of_output()
        raise
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads slow a shared machine
    accept_any_text()
    # what joblib says at its import without shared memory is said by `synthdp.machine.processes`,
    # if at all
    warnings.filterwarnings("ignore", message=".*joblib will operate in serial mode")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)  # argparse leaves pairs behind an option over
    if rest and (not hasattr(arguments, "overrides") or any(_is_no_pair(word) for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest
    return _guarded(arguments.handler, arguments)


def _is_no_pair(word: str) -> bool:
    return word.startswith("-") or "=" not in word


if __name__ == "__main__":
    sys.exit(main())
