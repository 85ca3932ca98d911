"""`synthdp privacy`: what is promised, what may leave, and what an officer reads."""

import argparse

from synthdp.commands.exit_codes import EXIT_DONE
from synthdp.commands.stage_command import Commands, named_path
from synthdp.errors import InputError
from synthdp.machine.progress import stage
from synthdp.stages import packaged_statements


def add_commands(commands: Commands) -> None:
    """The command about promises, and the two that write what leaves the house."""
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
    privacy.add_argument("paths", nargs="*", type=named_path, metavar="PATH")
    privacy.add_argument(
        "--release",
        nargs=2,
        type=named_path,
        metavar=("RUN", "OUT"),
        help="copy what may leave of a run, study or synthetic set into the new folder OUT",
    )
    privacy.add_argument(
        "--dossier",
        nargs=2,
        type=named_path,
        metavar=("RUN", "OUT"),
        help="write the page for a data-protection officer, and its JSON, into the new folder OUT",
    )
    privacy.add_argument(
        "--evidence",
        nargs="+",
        type=named_path,
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
    with stage("privacy"):
        statement = statement_of(arguments.paths, known)
    print(statement_text(statement))
    return EXIT_DONE


def _run_release(arguments: argparse.Namespace) -> int:
    if arguments.paths:
        raise InputError("privacy: --release takes RUN and OUT alone; leave the other paths out")
    from synthdp.privacy.promise.words import statement_text  # noqa: PLC0415 (as above)
    from synthdp.release import release  # noqa: PLC0415 (as above)

    original, out = arguments.release
    with stage("privacy --release"):
        statement = release(original, out)
    print(statement_text(statement).splitlines()[0])
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
    with stage("privacy --dossier"):
        dossier = write_dossier(
            original, out, evidence=arguments.evidence or (), shown=arguments.show or ()
        )
    print(statement_text(dossier.statement).splitlines()[0])
    print(out / PAGE_FILE)
    return EXIT_DONE
