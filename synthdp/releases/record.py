"""What left of a data set's patients, and what was only made: noted in the set's ledger, and told.

The ledger counts every release that was computed, which is what the budget holds. Beside that it
notes which of them left the house by `synthdp privacy --release`, in which folder, and which were
asked back. What was asked back stays counted as left: who has seen it has seen it.
"""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from synthdp.data.dataset import Dataset
from synthdp.errors import InputError
from synthdp.privacy.accounting.bounds import epsilon_text, exactly
from synthdp.privacy.ledger.left import Left, Withdrawn
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.plan import record_of, set_statement
from synthdp.privacy.promise.statement import Statement
from synthdp.storage.files import closed_to_others


@dataclass(frozen=True)
class LeftOfSet:
    """What is on record of a data set of patients.

    left: all that was released, the oldest first; withdrawn: why, by id; made: every release on the
    set's ledger.
    """

    left: tuple[Left, ...]
    withdrawn: Mapping[str, Withdrawn]
    made: tuple[Release, ...]

    @property
    def released(self) -> tuple[Release, ...]:
        """Those of the ledger's releases that left in one folder or more."""
        ids = {release_id for one in self.left for release_id in one.counted}
        return tuple(release for release in self.made if release.id in ids)

    @property
    def only_made(self) -> tuple[Release, ...]:
        """Those that were computed, and left in no folder on record."""
        ids = {release_id for one in self.left for release_id in one.counted}
        return tuple(release for release in self.made if release.id not in ids)


def read_left(dataset: Dataset) -> LeftOfSet:
    """What left of a data set of patients, and what was only made.

    Raises:
        InputError: when the set's ledger was cut, edited or lost.
    """
    record = record_of(dataset)
    return LeftOfSet(record.left, record.withdrawn, record.releases)


@dataclass(frozen=True)
class Noting:
    """A release that is to go on record; nothing is written before `note`.

    left: what is noted; datasets: of patients, whose ledgers count a part of it; unrecorded: the
    names of the sets that a release of the lineage is of and that are not among these.
    """

    left: Left
    datasets: tuple[Dataset, ...]
    unrecorded: tuple[str, ...]

    def note(self) -> None:
        """Put the release on the record of each set; the same one once, however often it is made.

        Guarantee: when it returns, the release is on the disk in each of these records.
        """
        for dataset in self.datasets:
            with closed_to_others():
                record_of(dataset).add_left(self.left)


def noting(datasets: Iterable[Dataset], statement: Statement, left: Left) -> Noting:
    """Where a release goes on record: of these sets, those whose ledger counts a part of it.

    Raises:
        InputError: when the ledger of one was cut, edited or lost.
    """
    ids = {release.id for release in statement.lineage.releases}
    known: set[str] = set()
    holders = []
    for dataset in datasets:
        if not dataset.info.protects_patients:
            continue
        here = {release.id for release in record_of(dataset).releases} & ids
        known |= here
        if here:
            holders.append(dataset)
    missing = (one.data for one in statement.lineage.releases if one.id not in known)
    return Noting(left, tuple(holders), tuple(dict.fromkeys(missing)))


def withdraw(dataset: Dataset, release_id: str, because: str) -> Left:
    """Note that a release was asked back, and why.

    Args:
        dataset: of patients.
        release_id: as the set's statement gives it.
        because: the reason, kept in the record.

    Returns:
        The release.

    Raises:
        InputError: when no such release is on record, it was withdrawn before, or no reason stands.
    """
    if not because.strip():
        raise InputError('privacy: --withdraw needs a reason, as in --because "an error in it"')
    on_record = read_left(dataset)
    matching = [one for one in on_record.left if one.id == release_id]
    if not matching:
        known = ", ".join(f"{one.id} ({one.folder})" for one in on_record.left) or "none"
        raise InputError(
            f"{dataset.info.name}: no release {release_id} on record; on record are: {known}"
        )
    if release_id in on_record.withdrawn:
        raise InputError(f"{dataset.info.name}: release {release_id} was withdrawn before")
    record = record_of(dataset)
    with closed_to_others():
        record.add_withdrawn(Withdrawn(id=release_id, because=because, day=today()))
    return matching[0]


def today() -> str:
    """The day by this machine's clock, UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def record_text(dataset: Dataset) -> str:
    """What left of a set, and what was only made, in words: for who holds the set.

    It says which number is which: the set's statement and its budget count everything computed.

    Raises:
        InputError: as `read_left`.
    """
    on_record = read_left(dataset)
    statement = set_statement(dataset)
    delta, unit = statement.delta, statement.unit

    def cost(releases: Sequence[Release]) -> str:
        epsilon = Lineage(releases=tuple(releases)).epsilon_to(unit, delta)
        return f"epsilon {epsilon_text(epsilon)} at delta {exactly(delta)}"

    lines = [
        f"**Left the house, of {dataset.info.name}** (what `synthdp privacy --release` put on "
        "record; copies made in another way are not known here):",
        "",
    ]
    lines += [f"- {_words(one, on_record.withdrawn)}" for one in on_record.left] or ["- nothing"]
    released, only_made = on_record.released, on_record.only_made
    lines += [
        "",
        f"**All that left, together:** {cost(released) if released else 'epsilon 0'}; who saw what "
        "was withdrawn has seen it, so that it counts.",
        f"**Only made, in no folder that left:** {len(only_made)} of {len(on_record.made)} "
        f"releases. **All that was made, left or not:** "
        f"{cost(on_record.made) if on_record.made else 'epsilon 0'}; this is what the statement of "
        "the set says, and what its budget counts.",
    ]
    return "\n".join(lines)


def _words(left: Left, withdrawn: Mapping[str, Withdrawn]) -> str:
    words = (
        f"{left.day}, {left.id}: {left.folder}, a {left.subject}, epsilon "
        f"{epsilon_text(left.epsilon)} at delta {exactly(left.delta)}"
    )
    if left.included:
        words += f", with {' and '.join(left.included)} of patients by name"
    if left.id in withdrawn:
        recall = withdrawn[left.id]
        words += f"; WITHDRAWN {recall.day}: {' '.join(recall.because.split())}"
    return words
