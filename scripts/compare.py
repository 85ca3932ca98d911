"""The whole comparison of one study file: its ingredients, the study, the report, the tables.

Phantoms and synthetic sets that the file names are made first where they are missing; the patients'
data is not. What is there is kept, so the same command goes on after any stop.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from synthdp.cli import EXIT_DONE, main
from synthdp.config.settings import load_settings
from synthdp.errors import InputError
from synthdp.study.settings import StudySettings

EXAMPLE = """\
example:
  python scripts/compare.py configs/study/cbis-ddsm.yaml
  python scripts/compare.py configs/study/cbis-ddsm.yaml strategies='[real_only]' out=studies/real
"""
TABLES = {"csv": "csv", "markdown": "md", "latex": "tex"}


class Step(NamedTuple):
    """One command of synthdp, and the file that shows that it is done; None: always run."""

    title: str
    arguments: tuple[str, ...]
    done: Path | None


def steps(options: argparse.Namespace) -> list[Step]:
    """What the comparison runs, in order.

    Raises:
        InputError: when the settings are wrong, or the study's own data is not there.
    """
    settings = load_settings(StudySettings, options.config, options.overrides)
    for path in dict.fromkeys([settings.data, *(on.data for on in settings.evaluate_on)]):
        if not (path / "manifest.csv").is_file():
            raise InputError(
                f"{path}: there is no data set; import it with `synthdp data patches`, or name "
                "another one with data=DIR"
            )
    study = Step("study", ("study", str(options.config), *options.overrides), None)
    return [*_ingredients(settings, options), study, *_tables(settings.out)]


def _ingredients(settings: StudySettings, options: argparse.Namespace) -> Iterator[Step]:
    if settings.phantoms is not None:
        making = ("data", "phantoms", "--out", str(settings.phantoms))
        yield Step("phantoms", making, settings.phantoms / "manifest.csv")
    for title, out, generator in (
        ("synthetic set", settings.synthetic, options.generator),
        ("synthetic set of a private generator", settings.private_synthetic, options.private),
    ):
        if out is not None:
            making = ("generate", generator, "--out", str(out), "--per-class", options.per_class)
            yield Step(title, making, out / "manifest.csv")


def _tables(study: Path) -> Iterator[Step]:
    for kind, ending in TABLES.items():
        out = study / f"table.{ending}"
        making = ("report", str(study), "--format", kind, "--out", str(out))
        yield Step(f"table as {kind}", making, None)


def run(planned: Sequence[Step]) -> int:
    """Run the steps in order, but for those that are done; stops at the first that fails."""
    for number, step in enumerate(planned, start=1):
        print(f"[{number}/{len(planned)}] {step.title}", flush=True)
        if step.done is None or not step.done.is_file():
            code = main(list(step.arguments))
            if code != EXIT_DONE:
                return code
    return EXIT_DONE


def build_parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="settings of a study")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--generator", default="pretrained:mcgan-cbis", metavar="RUN")
    parser.add_argument(
        "--private-generator", dest="private", default="pretrained:cbis-selected1", metavar="RUN"
    )
    parser.add_argument("--per-class", default="1500", metavar="N", help="images of each set")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run none")
    return parser


def compare(argv: Sequence[str] | None = None) -> int:
    """Plan and run the comparison; returns the exit code."""
    options = build_parser().parse_args(argv)
    try:
        planned = steps(options)
    except InputError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    if not options.dry_run:
        return run(planned)
    for step in planned:
        kept = step.done is not None and step.done.is_file()
        print(f"synthdp {' '.join(step.arguments)}{'  # stands' if kept else ''}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(compare())
