"""`synthdp push`: a release or a synthetic set to the Hugging Face hub, after a look at it."""

import argparse

from synthdp.command_line.exit_codes import EXIT_DONE
from synthdp.command_line.parser import Commands, named_path
from synthdp.errors import InputError


def add_commands(commands: Commands) -> None:
    """The command that uploads."""
    purpose = "Upload a release or a synthetic set to the Hugging Face hub, after a look at it."
    push = commands.add_parser(
        "push",
        help=purpose,
        description=f"{purpose} Shows what would leave, its promise and licence, and asks.",
        epilog="examples:\n  synthdp push to-share/dp clinic/mass-classifier --dry-run\n"
        "  synthdp push data/synthetic clinic/synthetic-masses --public",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    push.add_argument(
        "folder", type=named_path, metavar="FOLDER", help="a release, or a synthetic set"
    )
    push.add_argument("repo", metavar="REPO", help="OWNER/NAME on the hub")
    push.add_argument("--dry-run", action="store_true", help="show what would leave, and stop")
    push.add_argument("--yes", action="store_true", help="don't ask, for scripts")
    push.add_argument(
        "--public",
        action="store_true",
        help="make a new repository that everybody can see; it is private otherwise",
    )
    push.add_argument(
        "--yes-without-protection",
        action="store_true",
        help="upload although the epsilon is infinite: nothing protects the patients",
    )
    push.add_argument(
        "--record",
        nargs="+",
        type=named_path,
        metavar="DATA",
        help="data sets of patients that note it, beside those that a synthetic set leads to",
    )
    push.set_defaults(handler=_run_push)


def _run_push(arguments: argparse.Namespace) -> int:
    # not at the top, so that commands start without the image stack
    from synthdp.releases.hub import may_ask, prepared_upload, push  # noqa: PLC0415

    with prepared_upload(
        arguments.folder,
        arguments.repo,
        public=arguments.public,
        without_protection=arguments.yes_without_protection,
        record=arguments.record or (),
    ) as upload:
        print(upload.words(), flush=True)
        if arguments.dry_run:
            return EXIT_DONE
        if not arguments.yes:
            if not may_ask():
                raise InputError("push: nobody can be asked here; look at the list, and add --yes")
            if input("Upload this? [y/N] ").strip().lower() not in ("y", "yes"):
                print("Nothing was sent.")
                return EXIT_DONE
        print(push(upload))
    return EXIT_DONE
