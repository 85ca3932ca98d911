"""`synthdp data ...`: make, import, check, show and limit data sets."""

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from synthdp.command_line.exit_codes import EXIT_BAD_INPUT, EXIT_DONE
from synthdp.command_line.parser import Commands, named_path
from synthdp.command_line.stage_command import add_stage, config_and_overrides, run_command
from synthdp.errors import InputError
from synthdp.machine.progress import stage
from synthdp.machine.terminal import tell
from synthdp.stages import STAGES


def add_commands(commands: Commands) -> None:
    """The commands about data sets, all below `data`."""
    data = commands.add_parser(
        "data",
        help="make, import, check, show or limit a data set (`synthdp data` lists how)",
        description="A data set is a folder: images, their table, and who may be asked for how "
        "much. Make one of patients' images, or draw one of phantoms.",
        epilog="examples:\n  synthdp data phantoms --out data/phantoms --patients 200\n"
        "  synthdp data import --guess --src my-patches > mapping.yaml\n"
        "  synthdp data import mapping.yaml --out data/clinic --name clinic\n"
        "  synthdp data check data/clinic",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = data.add_subparsers(required=True, metavar="KIND")
    _add_makers(kinds)
    _add_import(kinds)
    _add_budget(kinds)
    _add_looks(kinds)


def _add_makers(kinds: Commands) -> None:
    """The stages that draw a set, or import one of a form that they name."""
    add_stage(
        kinds,
        "phantoms",
        "Draw procedural mass patches, chest radiographs or CT volumes: data without patients.",
        "synthdp data phantoms --out phantoms --patients 500 --size-px 128\n"
        "  synthdp data phantoms --out chest subject=chest size_px=64",
        stage="data phantoms",
        options=("out", "patients", "size_px", "seed", "name"),
        flags=("as_real",),
        matters="out subject patients size_px seed name as_real separation malignant_fraction "
        "table",
    )
    add_stage(
        kinds,
        "patches",
        "Import patches that stand in class folders, with or without a metadata table.",
        "synthdp data patches --src ../shared/data/cbis-ddsm --out data/cbis-ddsm --name cbis-ddsm",
        stage="data patches",
        options=("src", "out", "name", "kind", "lineage", "metadata"),
        matters="src out name metadata patient_pattern labels population size_px split "
        "privacy.budget",
    )
    add_stage(
        kinds,
        "dicom",
        "Import DICOM images by a table with a row for each lesion, or for each image.",
        "synthdp data dicom --images export --table lesions.csv --out data/clinic",
        stage="data dicom",
        options=("src", "metadata", "out", "name"),
        option_names={"src": "images", "metadata": "table"},
        matters="src metadata out name patient_column region crop.margin_px size_px population "
        "links",
    )
    add_stage(
        kinds,
        "volumes",
        "Import volumes: NIfTI files, arrays, or folders of DICOM slices.",
        "synthdp data volumes --src scans --out data/ct volumes.window=[-1000,400]",
        stage="data volumes",
        options=("src", "out", "name", "metadata"),
        option_names={"metadata": "table"},
        matters="src out metadata patient_pattern labels volumes.depth volumes.spacing_mm "
        "volumes.window size_px population",
    )
    add_stage(
        kinds,
        "cbis-ddsm",
        "Import CBIS-DDSM as The Cancer Imaging Archive serves it: tables and DICOM files.",
        "synthdp data cbis-ddsm --src manifest-1648648375084 --out data/cbis abnormalities=mass",
        stage="data cbis-ddsm",
        options=("src", "out", "name"),
        matters="src out abnormalities official_splits val_fraction size_px crop.margin_px "
        "population splits workers",
    )


def _add_import(kinds: Commands) -> None:
    """The import by a mapping, which chooses its stage by what the mapping says."""
    keys = ("src", "out", "name", "kind", "lineage", "metadata")
    imports = add_stage(
        kinds,
        "import",
        "Import another lab's set by a small mapping: of a known collection, or your own.",
        "synthdp data import --like vindr-mammo --src vindr --out data/vindr\n"
        "  synthdp data import --guess --src download > mapping.yaml\n"
        "  synthdp data import mapping.yaml --out data/ours --name ours",
        stage="data patches",
        options=keys,
        matters="src out name metadata patient_pattern labels population size_px split "
        "privacy.budget",
    )
    imports.add_argument("--like", metavar="NAME", help="the mapping of a known collection")
    imports.add_argument(
        "--guess", action="store_true", help="print the mapping that would be used, import nothing"
    )
    imports.set_defaults(handler=lambda arguments: _run_import(keys, arguments))


def _add_budget(kinds: Commands) -> None:
    """What the patients of a set may be asked for in all."""
    budget = kinds.add_parser(
        "budget",
        help="show or change what the patients of a set may be asked for in all",
        description="Show or change what all releases on a set's patients may cost together.",
        epilog="examples:\n  synthdp data budget data/clinic\n"
        '  synthdp data budget data/clinic --epsilon 12 --delta 1e-5 --because "ethics board"',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    budget.add_argument("folder", type=named_path, metavar="DIR", help="the data set")
    budget.add_argument("--epsilon", help="for all releases together, or `none`")
    budget.add_argument("--delta", type=float, help="at which; that of the budget before")
    budget.add_argument("--because", default="", help="the reason, kept in the set's ledger")
    budget.set_defaults(handler=_run_budget)


def _add_looks(kinds: Commands) -> None:
    """What looks at a set and reports: as lines, or as a page."""
    check = kinds.add_parser(
        "check",
        help="read every image and report all findings (exit code 2)",
        description="Read the manifest and every image of a set, and report all that is wrong at "
        "once.",
        epilog="example:\n  synthdp data check data/cbis-ddsm",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("folder", type=named_path, metavar="DIR", help="the data set")
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
    show.add_argument("folder", type=named_path, metavar="DIR", help="the data set")
    show.add_argument(
        "--out", type=named_path, metavar="FILE", help="default: private/dataset.html"
    )
    show.set_defaults(handler=_run_show)


def _run_import(keys: Sequence[str], arguments: argparse.Namespace) -> int:
    """Import by the mapping of a known collection, or print the mapping by which it would be."""
    from synthdp.data.importing.tables.collection import collection_file  # noqa: PLC0415 (as below)

    mapping = collection_file(arguments.like) if arguments.like is not None else None
    if not arguments.guess:
        from synthdp.config.packaged import config_file  # noqa: PLC0415 (as above)
        from synthdp.config.yaml_core import read_yaml  # noqa: PLC0415 (as above)

        config, overrides = config_and_overrides(keys, arguments)
        said = [override.partition("=") for override in overrides]
        of_config = read_yaml(config_file(config)) if config is not None else {}
        # the command line counts before the file, and both say what --like does
        like = ({"like": of_config.get("like")} | {key: value for key, _, value in said})["like"]
        if mapping is None and isinstance(like, str):
            mapping = collection_file(like)
        given = {key for key, _, _ in said} | of_config.keys()
        given |= read_yaml(mapping).keys() if mapping is not None else set()
        return run_command(_import_stage(given), keys, arguments, beneath=mapping)
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
    """The stage that takes settings of these keys: of volumes, where their form is said; of DICOM
    files, where it alone knows one.
    """
    if any(key == "volumes" or key.startswith("volumes.") for key in keys):
        return "data volumes"
    patches, dicom = (
        STAGES[name].settings_class().model_fields.keys() for name in ("data patches", "data dicom")
    )
    return "data dicom" if (dicom - patches).intersection(keys) else "data patches"


def _run_check(arguments: argparse.Namespace) -> int:
    from synthdp.data.check import check_dataset  # noqa: PLC0415 (starts without the image stack)

    with stage("data check"):
        result = check_dataset(arguments.folder, counts=arguments.counts)
    print(result.summary)
    for problem in result.problems:
        tell(problem)
    return EXIT_BAD_INPUT if result.problems else EXIT_DONE


def _run_show(arguments: argparse.Namespace) -> int:
    from synthdp.pages.dataset import (  # noqa: PLC0415 (starts without the image stack)
        write_dataset_page,
    )

    with stage("data show"):
        page = write_dataset_page(arguments.folder, arguments.out)
    print(page)
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
