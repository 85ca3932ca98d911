"""`synthdp privacy`: what is promised, what may leave, and what an officer reads."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from synthdp.command_line.exit_codes import EXIT_DONE
from synthdp.command_line.parser import Commands, named_path
from synthdp.errors import InputError, for_shell
from synthdp.machine.progress import stage
from synthdp.machine.terminal import tell
from synthdp.stages import packaged_statements

#: What the command does instead of stating a promise, by the option that says so.
_ACTIONS = ("release", "dossier", "check", "withdraw")
#: Options that go with one action alone.
_OF_RELEASE = ("include", "rows", "licence", "yes_without_protection", "record", "compact")


def add_commands(commands: Commands) -> None:
    """The command about promises, and those that write and check what leaves the house."""
    privacy = commands.add_parser(
        "privacy",
        help="state what runs, data sets and studies promise, one by one or together",
        description="State what is promised, copy out what may leave the house, or write the file "
        "for a data-protection officer.",
        epilog="examples:\n  synthdp privacy runs/gan runs/dp\n"
        "  synthdp privacy --release runs/dp to-share/dp --evidence evaluations/dp-noisy\n"
        "  synthdp privacy --release studies/mine to-share/mine --rows strategy=real_only "
        "epsilon=6 --include models\n"
        "  synthdp privacy --check to-share/dp\n"
        '  synthdp privacy --withdraw data/clinic to-share/dp --because "a wrong label"\n'
        "  synthdp privacy --dossier runs/dp dossiers/dp --evidence evaluations/dp-val",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    privacy.add_argument(
        "paths",
        nargs="*",
        type=named_path,
        metavar="PATH",
        help="runs, data sets and studies; of several the joint promise is stated too",
    )
    privacy.add_argument(
        "--release",
        nargs=2,
        type=named_path,
        metavar=("RUN", "OUT"),
        help="copy what may leave of a run, study or synthetic set into the new folder OUT",
    )
    _add_release_options(privacy)
    _add_options_of_releases_made(privacy)
    _add_dossier_options(privacy)
    privacy.set_defaults(handler=_run_privacy)


def _add_options_of_releases_made(privacy: argparse.ArgumentParser) -> None:
    privacy.add_argument(
        "--check",
        type=named_path,
        metavar="OUT",
        help="hold every file of a release against the sha256 in its release.json",
    )
    privacy.add_argument(
        "--withdraw",
        nargs=2,
        metavar=("DATA", "OUT"),
        help="note in the data set DATA that a release (its folder, or its id on record) was asked "
        "back",
    )
    privacy.add_argument("--because", default="", metavar="TEXT", help="why it was withdrawn")


def _add_dossier_options(privacy: argparse.ArgumentParser) -> None:
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
        help="evaluations of RUN (their results stand on a released card); for a dossier also "
        "assessments of a set, or audited runs it descends from",
    )
    privacy.add_argument(
        "--show",
        nargs="+",
        choices=("attacks", "utility", "counts"),
        help="exact figures of patients that the dossier shows: it then stays in the house",
    )


def _add_release_options(privacy: argparse.ArgumentParser) -> None:
    privacy.add_argument(
        "--rows",
        nargs="+",
        metavar="SELECTION",
        help="rows of a study that leave: `private` (the default), `all`, or values such as "
        "strategy=real_only epsilon=1,6 seed=0",
    )
    privacy.add_argument(
        "--include",
        nargs="+",
        choices=("scores", "counts", "models"),
        help="exact scores or counts of patients (the statement then says so), or the models of a "
        "study's rows",
    )
    privacy.add_argument("--licence", metavar="NAME", help="of the model's own weights")
    privacy.add_argument(
        "--record",
        nargs="+",
        type=named_path,
        metavar="DATA",
        help="data sets of patients that note the release, beside those that the settings lead to",
    )
    privacy.add_argument(
        "--compact",
        action="store_true",
        help="of a generator that keeps phantoms of a pool: says which ones in some 20 kB, in the "
        "place of their images; who receives it draws them again",
    )
    privacy.add_argument(
        "--yes-without-protection",
        action="store_true",
        help="release although the epsilon is infinite: nothing protects the patients",
    )


def _run_privacy(arguments: argparse.Namespace) -> int:
    named = [name for name in _ACTIONS if getattr(arguments, name) is not None]
    if len(named) > 1:
        raise InputError(f"privacy: --{named[0]} and --{named[1]} are two things; do one at a time")
    action = named[0] if named else ""
    _refuse_others(arguments, action)
    if arguments.paths and action:
        raise InputError(_TAKES[action])
    if action:
        return _HANDLERS[action](arguments)
    if not arguments.paths:
        raise InputError(
            "privacy: name at least one run, data set or study, or --release RUN OUT, or "
            "--dossier RUN OUT"
        )
    return _state(arguments.paths)


def _refuse_others(arguments: argparse.Namespace, action: str) -> None:
    """Refuse options that go with another action."""
    given = [name for name in _OF_RELEASE if getattr(arguments, name)]
    if given and action != "release":
        raise InputError(f"privacy: --{given[0].replace('_', '-')} goes with --release RUN OUT")
    if arguments.show and action != "dossier":
        raise InputError("privacy: --show goes with --dossier RUN OUT")
    if arguments.evidence and action not in ("dossier", "release"):
        raise InputError("privacy: --evidence goes with --release or --dossier RUN OUT")
    if arguments.because and action != "withdraw":
        raise InputError("privacy: --because goes with --withdraw DATA OUT")


def _state(paths: Sequence[Path]) -> int:
    """Print the promise of what is named, and of one data set of patients what left of it."""
    from synthdp.privacy.promise.plan import statement_of  # noqa: PLC0415 (starts without torch)
    from synthdp.privacy.promise.words import statement_text  # noqa: PLC0415 (as above)

    with stage("privacy"):
        packaged = packaged_statements(paths)
        _refuse_what_promises_nothing([path for path in paths if path not in packaged])
        statement = statement_of(paths, packaged)
    print(statement_text(statement))
    if len(paths) == 1 and (paths[0] / "dataset.json").is_file():
        from synthdp.data.dataset import open_dataset  # noqa: PLC0415 (as above)
        from synthdp.releases.record import record_text  # noqa: PLC0415 (as above)

        dataset = open_dataset(paths[0])
        if dataset.info.protects_patients:
            print(f"\n{record_text(dataset)}")
    return EXIT_DONE


def _refuse_what_promises_nothing(paths: Sequence[Path]) -> None:
    """Refuse paths that are nothing that a promise is stated of, all at once.

    Raises:
        InputError: naming them.
    """
    from synthdp.privacy.promise.stated import NOISY_FILE  # noqa: PLC0415 (as above)
    from synthdp.status import STATUS_FILE  # noqa: PLC0415 (as above)

    of_something = (STATUS_FILE, "dataset.json", NOISY_FILE)
    problems = [
        f"{path}: there is nothing of that name; correct the path to a run, data set or study"
        if not os.path.exists(path)  # Path.exists raises for a name that no file system takes
        else f"{path}: no run or study (no {STATUS_FILE}), and not a data-set folder (no "
        "dataset.json), so that nothing is promised of it; name one of these, or what this was "
        "made of"
        for path in paths
        if not any(os.path.isfile(path / name) for name in of_something)
    ]
    if problems:
        raise InputError("\n".join(problems))


def _release(arguments: argparse.Namespace) -> int:
    from synthdp.privacy.promise.words import statement_text  # noqa: PLC0415 (as above)
    from synthdp.releases.release import Asked, release_folder  # noqa: PLC0415 (as above)

    original, out = arguments.release
    asked = Asked(
        include=arguments.include or (),
        rows=arguments.rows or (),
        evidence=arguments.evidence or (),
        licence=arguments.licence or "",
        without_protection=arguments.yes_without_protection,
        record=arguments.record or (),
        compact=arguments.compact,
    )
    with stage("privacy --release"):
        released = release_folder(original, out, asked)
    print(statement_text(released.statement).splitlines()[0])
    print(out)
    if released.unrecorded:
        tell(
            f"not on record at {', '.join(released.unrecorded)}, which the settings do not lead "
            "to; where you hold that set, release again with --record DATA"
        )
    tell(f"next: synthdp privacy --check {for_shell(out)}")
    return EXIT_DONE


def _check(arguments: argparse.Namespace) -> int:
    from synthdp.releases.contents import check_release, release_id  # noqa: PLC0415 (as above)

    with stage("privacy --check"):
        contents = check_release(arguments.check)
    made_by = f"synthdp {contents.synthdp}"
    made_by += f" (commit {contents.commit})" if contents.commit else ""
    print(
        f"{arguments.check}: all {len(contents.files)} files are as {made_by} released them; "
        f"on record as {release_id(arguments.check)}"
    )
    return EXIT_DONE


def _withdraw(arguments: argparse.Namespace) -> int:
    from synthdp.data.dataset import open_dataset  # noqa: PLC0415 (as above)
    from synthdp.releases.contents import CONTENTS_FILE, release_id  # noqa: PLC0415 (as above)
    from synthdp.releases.record import record_text, withdraw  # noqa: PLC0415 (as above)

    data, named = arguments.withdraw
    dataset, folder = open_dataset(named_path(data)), Path(named)
    called = release_id(folder) if (folder / CONTENTS_FILE).is_file() else named
    withdraw(dataset, called, arguments.because)
    print(record_text(dataset))
    return EXIT_DONE


def _dossier(arguments: argparse.Namespace) -> int:
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


_HANDLERS = {"release": _release, "dossier": _dossier, "check": _check, "withdraw": _withdraw}
_TAKES = {
    "release": "privacy: --release takes RUN and OUT alone; leave the other paths out",
    "dossier": "privacy: --dossier takes RUN and OUT alone; name evaluations and assessments "
    "behind --evidence",
    "check": "privacy: --check takes OUT alone; leave the other paths out",
    "withdraw": "privacy: --withdraw takes DATA and OUT alone; leave the other paths out",
}
