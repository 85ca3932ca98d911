"""A data set's own ledger: each release on its patients, once, and what they may be asked for.

It counts what was computed, and notes beside it which of that left the house, in which folder.

It begins with a line at its creation that holds a random id, and `dataset.json` holds the same id
(its mark), so that a set whose ledger was lost is not taken for one of which nothing was released.
Each start of a run that is counted, each block of its steps, and its end, adds a fresh token. A
run, or a set, that was copied or put back from a backup then shows by its tokens that it isn't the
newest. What no file can show: of a run copied *together* with its set each copy goes on by itself.
Their releases then have other tokens, and count as two wherever both meet (`Release.starts`).
"""

import secrets
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from synthdp.errors import InputError
from synthdp.privacy.ledger.budget import Budget, budget_line
from synthdp.privacy.ledger.journal import Journal, first_entry
from synthdp.privacy.ledger.left import Left, Withdrawn
from synthdp.privacy.lineage import Lineage, Release
from synthdp.storage.files import refused_without_rights
from synthdp.storage.locks import locked

_Part = TypeVar("_Part", Lineage, Release, Budget, Left, Withdrawn)
_BACKUP = (
    "restore the set's private/ from a backup that is not older than its last run; importing the "
    "patients again begins a new ledger, which knows nothing of what was released before"
)


def new_mark() -> str:
    """A random id for the ledger of a new data set."""
    return secrets.token_hex(8)


def create_record(
    path: Path, mark: str, budget: Budget | None = None, *, made_from: Lineage | None = None
) -> None:
    """Begin the ledger of a new data set.

    Args:
        path: of the ledger.
        mark: that `dataset.json` has, too.
        budget: where one is set at import.
        made_from: what the images descend from, of a set that holds no patients.
    """
    journal = Journal(path)
    made = {} if made_from is None else {"made_from": made_from.model_dump(mode="json")}
    journal.append({"event": "create", "set": mark, **made})
    if budget is not None:
        journal.append(budget_line(budget, "set at import"))


def begun_without_patients(path: Path) -> bool:
    """Whether the ledger of a data set was begun for images that are no patients'.

    It reads the first line alone, which takes as long however much was released. A line that is
    torn, not to be read, or edited too, is left to whoever reads the ledger: all that spend do.
    """
    return "made_from" in first_entry(path)


class Record:
    """The ledger beside a data set.

    Args:
        path: of the ledger.
        mark: what `dataset.json` says of it; None for a set that was received, or is of an earlier
            version, whose ledger may be absent.

    Guarantee: what a method returned for is on the disk, and a later reading gives it back or is
    refused.

    Raises:
        InputError: from every method, when the ledger was cut, edited, lost, or written by a newer
            version.
        RunError: when it can't be read, written or locked, or the disk is full.
    """

    def __init__(self, path: Path, mark: str | None = None) -> None:
        self._path = path
        self._mark = mark
        self._journal: Journal | None = None

    def _read(self) -> Journal:
        """The ledger's lines; a torn one that was never acknowledged never began.

        Of those that were read before only the newer ones are: every run of a study signs here.
        """
        if self._journal is None:
            self._journal = Journal(self._path)
        else:
            self._journal.read_on()
        journal = self._journal
        journal.refuse_loss()
        created = [entry.get("set") for entry in journal.entries if entry["event"] == "create"]
        if self._mark is not None and self._mark not in created:
            what = "of another data set" if created else "lost"
            raise InputError(
                f"private/{self._path.name}: the data set's ledger is {what}, so what was spent on "
                f"its patients is unknown; {_BACKUP}"
            )
        return journal

    @contextmanager
    def _locked(self) -> Iterator[Journal]:
        path = self._path.with_suffix(".lock")
        named = f"private/{path.name} of the data set, beside the ledger of all that is made of it,"
        with refused_without_rights(named):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = open(path, "a", encoding="utf-8")  # noqa: SIM115
        with lock, ExitStack() as held:
            with refused_without_rights(named):
                held.enter_context(locked(lock))
            yield self._read()

    @property
    def releases(self) -> tuple[Release, ...]:
        """All releases on record, each with the starts of its run."""
        return _releases(self._read())

    @property
    def made_from(self) -> Lineage | None:
        """What the images of a set without patients were made from; None of any other."""
        created = (entry for entry in self._read().entries if entry["event"] == "create")
        known = [entry["made_from"] for entry in created if "made_from" in entry]
        return _checked(Lineage, known[0], "what its images were made from") if known else None

    @property
    def deltas(self) -> tuple[float, ...]:
        """The deltas that runs on record promise at; those of earlier versions noted none."""
        noted = (entry.get("delta") for entry in self._read().entries)
        return tuple(dict.fromkeys(delta for delta in noted if isinstance(delta, float)))

    @property
    def budget(self) -> Budget:
        """What the set's patients may be asked for in all, by the newest line that says so."""
        return _budget(self._read())

    def tokens(self, release_id: str) -> tuple[str, ...]:
        """The tokens of a release's starts, blocks of steps, and ends, in their order."""
        return _tokens(self._read(), release_id)

    def holds(self, release_id: str) -> bool:
        """Whether a release is on record."""
        return release_id in _release_ids(self._read())

    def add(self, release: Release, *, delta: float | None = None) -> None:
        """Put a release on record, once for each id, with the delta that its run promises at.

        Guarantee: when it returns, the release is on the disk, nothing takes it back, and with all
        others it is within the budget (`Budget.refuse_overspent`).

        Raises:
            InputError: when it would exceed the set's budget; nothing was put on record then.
        """
        with self._locked() as journal:
            if release.id not in _release_ids(journal):
                _budget(journal).refuse_overspent(_releases(journal), [release])
                line = {"event": "release", "release": release.model_dump(mode="json")}
                journal.append(line if delta is None else {**line, "delta": delta})

    def add_token(
        self, release_id: str, token: str, *, after: tuple[str, ...], is_block: bool
    ) -> None:
        """Make a token the newest of a release's, if those before are `after`.

        Args:
            release_id: of a release on record.
            token: the new one.
            after: all those before it.
            is_block: it is that of a block of steps, not of a start or an end.

        Raises:
            InputError: when the release has other tokens on record.
        """
        with self._locked() as journal:
            refuse_older(known=after, on_record=_tokens(journal, release_id))
            event = "block" if is_block else "start"
            journal.append({"event": event, "release": release_id, "token": token})

    @property
    def left(self) -> tuple[Left, ...]:
        """The folders that left the house, the oldest first."""
        return _left(self._read())

    @property
    def withdrawn(self) -> dict[str, Withdrawn]:
        """Those of them that were asked back, by id."""
        entries = [entry for entry in self._read().entries if entry["event"] == "withdrawn"]
        recalls = [_checked(Withdrawn, one.get("withdrawn"), "a withdrawal") for one in entries]
        return {one.id: one for one in recalls}

    def add_left(self, left: Left) -> None:
        """Note that a folder leaves, once for each id.

        Nothing that the budget counts changes: it counts what was made, whether it left or not.
        """
        with self._locked() as journal:
            if left.id not in {one.id for one in _left(journal)}:
                journal.append({"event": "left", "left": left.model_dump(mode="json")})

    def add_withdrawn(self, withdrawn: Withdrawn) -> None:
        """Note that a folder which had left was asked back; it stays among those that left."""
        with self._locked() as journal:
            journal.append({"event": "withdrawn", "withdrawn": withdrawn.model_dump(mode="json")})

    def set_budget(self, budget: Budget, because: str) -> None:
        """Log a new budget and why; nothing that is on record changes."""
        with self._locked() as journal:
            journal.append(budget_line(budget, because))


def refuse_older(*, known: tuple[str, ...], on_record: tuple[str, ...]) -> None:
    """Refuse a run, or a data set, that knows less than the other of a release.

    Args:
        known: the tokens of the release that stand in the run's ledger.
        on_record: those in the data set's.

    Raises:
        InputError: when they differ; says which of the two is the older.
    """
    if known == on_record:
        return
    if on_record[: len(known)] == known:
        raise InputError(
            "this run folder is a copy, or was put back from a backup: its release has gone on "
            "elsewhere, so that going on here would spend what nobody counts; go on with the "
            "newest copy, or start in a new run folder"
        )
    if known[: len(on_record)] == on_record:
        raise InputError(
            "the data set's ledger is older than this run: it is a copy, or was put back from a "
            f"backup, so that other releases may be missing too; {_BACKUP}, or start this run in "
            "a new folder"
        )
    raise InputError(
        "this run and the data set's ledger have gone different ways since one of them was copied, "
        "so that going on would spend what nobody counts; start in a new run folder"
    )


def recorded_releases(path: Path, mark: str | None = None) -> tuple[Release, ...]:
    """The releases in the ledger beside a data set; arguments and errors as of `Record`."""
    return Record(path, mark).releases


def _tokens(journal: Journal, release_id: str) -> tuple[str, ...]:
    return tuple(
        str(entry["token"])
        for entry in journal.entries
        if entry["event"] in ("start", "block") and entry.get("release") == release_id
    )


def _release_ids(journal: Journal) -> set[str]:
    return {entry["release"]["id"] for entry in journal.entries if entry["event"] == "release"}


def _left(journal: Journal) -> tuple[Left, ...]:
    entries = [entry for entry in journal.entries if entry["event"] == "left"]
    return tuple(_checked(Left, entry.get("left"), "a folder that left") for entry in entries)


def _releases(journal: Journal) -> tuple[Release, ...]:
    releases, starts = list[Release](), defaultdict[str, list[str]](list)
    for entry in journal.entries:
        if entry["event"] == "start":
            starts[str(entry.get("release"))].append(str(entry["token"]))
        elif entry["event"] == "release":
            releases.append(_checked(Release, entry["release"], "a release"))
    return tuple(release.started(tuple(starts[release.id])) for release in releases)


def _checked(kind: type[_Part], value: Any, what: str) -> _Part:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise InputError(
            f"private/ledger.jsonl: {what} on the data set's record is not of this version; "
            "update synthdp, or restore the file"
        ) from error


def _budget(journal: Journal) -> Budget:
    lines = [entry["budget"] for entry in journal.entries if entry["event"] == "budget"]
    return _checked(Budget, lines[-1], "the budget") if lines else Budget()
