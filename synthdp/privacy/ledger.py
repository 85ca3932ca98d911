"""What was really spent: an append-only record of the steps of one release.

Steps are reserved on disk before they run. A crash leaves the reserved block spent, so the record
is never below what was computed, and an older checkpoint refunds nothing.
"""

import fcntl
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synthdp.errors import InputError
from synthdp.privacy.journal import TORN, Journal
from synthdp.privacy.lineage import Release


class Ledger:
    """The append-only record of the steps of one release, `private/ledger.jsonl` of its run.

    Guarantee: `spent_steps` counts every step ever reserved; nothing lowers it.

    Raises:
        InputError: when the file was cut, edited, or written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self._release, self._block_steps, self._fingerprint = None, 0, ""
        for entry in self._journal.entries:
            if entry["event"] == "open":
                self._release = _checked_release(entry["release"])
                self._block_steps = int(entry["block_steps"])
                self._fingerprint = str(entry["fingerprint"])

    @property
    def release(self) -> Release | None:
        """The release that this ledger was opened for, with its full budget."""
        return self._release

    @property
    def _budget(self) -> int:
        if self._release is None or self._release.mechanism is None:
            raise InputError("private/ledger.jsonl: no release with a mechanism is open in it")
        return self._release.mechanism.steps

    @property
    def spent_steps(self) -> int:
        """How many steps have been reserved so far, whether or not they were finished.

        A torn line counts as a whole block.
        """
        spent, is_open = 0, False
        for entry in self._journal.entries:
            is_open = is_open or entry["event"] == "open"
            if entry["event"] == "reserve":
                spent = int(entry["first"]) + int(entry["steps"])
            elif entry is TORN and is_open:
                spent = min(spent + self._block_steps, self._budget)
        return spent

    @property
    def steps_left(self) -> int:
        """How many steps of the release's mechanism can still be reserved."""
        return self._budget - self.spent_steps

    def claim(self, release: Release, *, fingerprint: str, block_steps: int) -> None:
        """Open the ledger for a release, or make sure that it was opened for this very one.

        Args:
            release: with its full budget.
            fingerprint: keyed digest of the data.
            block_steps: the most steps that are reserved at a time.

        Raises:
            InputError: when the ledger is that of another release, mechanism or data.
        """
        if self._release is None:
            self._journal.append(
                {
                    "event": "open",
                    "release": release.model_dump(mode="json"),
                    "block_steps": block_steps,
                    "fingerprint": fingerprint,
                }
            )
            self._release, self._block_steps = release, block_steps
            self._fingerprint = fingerprint
        elif self._fingerprint != fingerprint:
            raise InputError(
                "the data set has changed since this run began; start in a new run folder"
            )
        elif self._release != release:
            raise InputError(
                "private/ledger.jsonl belongs to another release than this run plans (an ancestor "
                "or the mechanism has changed); start in a new run folder"
            )

    def reserve(self, steps: int) -> range:
        """Reserve `steps` steps on disk, a block at most; returns their numbers.

        Raises:
            InputError: when that is more than the release's mechanism has.
        """
        first, budget = self.spent_steps, self._budget
        if first + steps > budget:
            raise InputError(
                f"private/ledger.jsonl: {first} of {budget} steps are spent, so {steps} more would "
                "exceed the budget"
            )
        if steps > self._block_steps:
            raise ValueError(f"{steps} steps are more than a block of {self._block_steps}")
        self._journal.append({"event": "reserve", "first": first, "steps": steps})
        return range(first, first + steps)

    def note_stop(self, at: int) -> None:
        """Note that the steps from `at` on, though reserved, have not been touched."""
        self._journal.append({"event": "stop", "at": at})

    def resumed(self, state_at: int) -> range:
        """The reserved steps that a state of `state_at` steps may still run.

        Those after a clean stop at the very same step; none after a crash, whose block stays spent.

        Raises:
            InputError: when the state has more steps than the ledger.
        """
        spent = self.spent_steps
        if state_at > spent:
            raise InputError(
                "private/ledger.jsonl counts fewer steps than the checkpoint has; restore the "
                "ledger, or start in a new run folder"
            )
        last = self._journal.entries[-1] if self._journal.entries else TORN
        if last["event"] != "stop" or last["at"] != state_at:
            return range(spent, spent)
        self._journal.append({"event": "resume", "at": state_at})
        return range(state_at, spent)

    def spent(self) -> Release:
        """The release with what was really spent of its budget."""
        self._budget  # noqa: B018 (refuses a ledger without a release)
        assert self._release is not None
        return self._release.after(self.spent_steps)


def _checked_release(value: Any) -> Release:
    try:
        return Release.model_validate(value)
    except ValidationError as error:
        raise InputError(
            "private/ledger.jsonl: its release is not of this version; restore the file, or start "
            "in a new run folder"
        ) from error


def record_release(path: Path, release: Release) -> None:
    """Note a release in the ledger that stands beside a data set, once for each id.

    Guarantee: when it returns, the release is on the disk; nothing takes it back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        journal = Journal(path)
        if release.id not in (found.id for found in _releases(journal)):
            journal.append({"event": "release", "release": release.model_dump(mode="json")})


def recorded_releases(path: Path) -> tuple[Release, ...]:
    """The releases in the ledger beside a data set.

    A torn line that was never acknowledged belongs to a release that never began.

    Raises:
        InputError: when the file was cut, edited, or written by a newer version.
    """
    return _releases(Journal(path))


def _releases(journal: Journal) -> tuple[Release, ...]:
    journal.refuse_loss()
    return tuple(
        _checked_release(entry["release"]) for entry in journal.entries if entry is not TORN
    )
