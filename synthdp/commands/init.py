"""`synthdp init`: settings for one's own images, and the commands to run them in order."""

import argparse
import sys
from pathlib import Path

from synthdp.command_line.exit_codes import EXIT_DONE
from synthdp.command_line.parser import Commands, named_path
from synthdp.errors import for_shell


def add_commands(commands: Commands) -> None:
    """The command that begins with one's own images."""
    init = commands.add_parser(
        "init",
        help="begin with your own images: settings that work, and what to run in order",
        description="Look at a folder of images, ask what it does not tell, and write settings for "
        "import, generator, study and classifier into a new folder, with a README of what to run.",
        epilog="examples:\n  synthdp init mine --images my-patches\n"
        "  synthdp init chest --images export --table labels.csv --target pneumonia "
        "--population 2000 --weights hub\n"
        "  synthdp init chest --images export --table labels.csv --target effusion,edema,mass\n"
        "  synthdp init nih --images download --like nih-cxr14 --target effusion,cardiomegaly\n"
        "  synthdp init ct --images scans --volumes --window=-160,240",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    init.add_argument("folder", type=named_path, metavar="DIR", help="a new folder")
    init.add_argument("--images", type=named_path, metavar="DIR", help="where your images stand")
    init.add_argument("--table", type=named_path, metavar="FILE", help="a table of them, if any")
    init.add_argument("--name", help="what the data set is called; when not set, as its folder")
    init.add_argument(
        "--target",
        help="the class folder, or the table's column, that is class 1; COLUMN=WORD where the word "
        "for class 1 must be said; of several findings their columns, or those of --like, parted "
        "by commas",
    )
    init.add_argument("--like", metavar="NAME", help="the images are this known collection's")
    init.add_argument(
        "--volumes", action="store_true", help="the images are volumes, such as series of DICOM"
    )
    init.add_argument(
        "--window", metavar="LOW,HIGH", help="of volumes: what becomes black and white, or full"
    )
    init.add_argument(
        "--patient-pattern", metavar="REGEX", help="whose one group is the patient's id in a path"
    )
    init.add_argument(
        "--population", metavar="N", help="a public round number above that of the patients"
    )
    init.add_argument(
        "--weights",
        metavar="FROM",
        help="of public networks: a folder, hub (timm downloads them), or none; when not set, "
        "where they are found",
    )
    init.set_defaults(handler=_run)


def _run(arguments: argparse.Namespace) -> int:
    from synthdp.init.answers import Options, answered  # noqa: PLC0415 (starts light)
    from synthdp.init.files import refuse_used, write_folder  # noqa: PLC0415 (as above)

    folder: Path = arguments.folder
    refuse_used(folder)
    given = {key: getattr(arguments, key) for key in Options.__dataclass_fields__}
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    write_folder(folder, answered(Options(**given), _ask if asks else None))
    print(
        f"{folder}: written; run what its README.md has, in that folder: `cd {for_shell(folder)}`"
    )
    return EXIT_DONE


def _ask(question: str, default: str) -> str:
    shown = f" [{default}]" if default else ""
    try:
        return input(f"{question}{shown}: ") or default
    except EOFError:  # Ctrl-D, which ends an answer as Ctrl-C does
        print()
        raise KeyboardInterrupt from None
