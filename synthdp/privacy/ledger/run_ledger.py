"""What a run is to state, and the steps of its release: on disk before they are spent.

Steps are reserved before they run; a crash leaves the reserved block spent, so that the record is
never below what was computed, and an older checkpoint refunds nothing. Each start puts a fresh
token into this ledger and into that of the data set (`synthdp.privacy.ledger.set_record`), by which
a copy that is not the newest is known.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, ValidationError

from synthdp.config.settings import Settings
from synthdp.errors import InputError
from synthdp.privacy.ledger.journal import TORN, Journal
from synthdp.privacy.ledger.set_record import Record, refuse_older
from synthdp.privacy.lineage import Lineage, Release, new_token
from synthdp.privacy.settings import RiskTarget
from synthdp.privacy.units import Unit

if TYPE_CHECKING:  # commands that state a promise start without it
    from synthdp.privacy.mechanism import Mechanism

_Line = TypeVar("_Line", "Terms", Release)
#: The events that say which steps were reserved and touched.
_ABOUT_STEPS = ("open", "reserve", "stop", "resume", TORN["event"])


class Terms(Settings):
    """All that a run's statement is made of, beside what was spent of the run's own release.

    subject, delta, unit, population, smallest_population: as the statement has them; target: the
    epsilon that was asked for, None without one; risk: the risk that was asked for instead;
    ancestors: what the result descends from beside the run's own release; release: that one, with
    its full budget, where its rows are patients, else None.
    """

    subject: str
    delta: float = Field(gt=0, lt=1)
    unit: Unit = "patient"
    population: int | None = Field(default=None, ge=1)
    smallest_population: int | None = Field(default=None, ge=1)
    target: float | None = Field(default=None, gt=0)
    risk: RiskTarget | None = None
    ancestors: Lineage = Lineage()
    release: Release | None = None


class Ledger:
    """What a run is to state, and the steps of its release that were reserved.

    It is `private/ledger.jsonl` of a run. Every run has one, from its creation on; only a private
    training opens a release in it and reserves steps.

    Guarantee: `spent_steps` counts every step ever reserved; nothing lowers it.

    Raises:
        InputError: when the file was cut, edited, or written by a newer version.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     print(Ledger(Path(folder) / "ledger.jsonl").spent_steps)
    0
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self._release: Release | None = None
        self._terms: Terms | None = None
        self._block_steps, self._fingerprint = 0, ""
        self._inputs: dict[str, str] = {}
        #: Tokens that the data set's ledger has too, those of them that are of no block of steps,
        #: and those that it may have.
        self._tokens: tuple[str, ...] = ()
        self._starts: tuple[str, ...] = ()
        self._pending: dict[str, bool] = {}
        self._record: Record | None = None
        for entry in self._journal.entries:
            if entry["event"] == "terms":
                self._terms = _checked(Terms, entry["terms"])
            elif entry["event"] == "open":
                self._release = _checked(Release, entry["release"])
                self._block_steps = int(entry["block_steps"])
                self._fingerprint = str(entry["fingerprint"])
            elif entry["event"] == "inputs":
                self._inputs |= entry["inputs"]
            elif entry["event"] == "signed":
                self._note_signed(str(entry["token"]))
            if "token" in entry and entry["event"] != "signed":
                self._pending[str(entry["token"])] = entry["event"] == "reserve"

    @property
    def terms(self) -> Terms | None:
        """What the run's statement is made of; None of a run of an earlier version."""
        return self._terms

    @property
    def release(self) -> Release | None:
        """The release that this ledger was opened for, with its full budget."""
        return self._release

    @property
    def counted(self) -> Release | None:
        """The run's own release as it counts in a lineage, with what was really spent of it.

        None where the rows are no patients, or of a run of an earlier version.
        """
        if self._terms is None or self._terms.release is None:
            return None
        if self._release is None or self._release.mechanism is None:
            return self._terms.release
        return self.spent()

    @property
    def created(self) -> tuple[str, ...]:
        """The id of the run that it was begun for; none in ledgers of earlier versions."""
        lines = (entry for entry in self._journal.entries if entry["event"] == "create")
        return tuple(str(entry.get("run")) for entry in lines)

    @property
    def is_untouched(self) -> bool:
        """Whether nothing is noted beside its beginning: no terms, no start, no step."""
        return all(entry is TORN or entry["event"] == "create" for entry in self._journal.entries)

    def create(self, release_id: str) -> None:
        """Begin the ledger of a new run, whose release is counted under this id."""
        if all(entry is TORN for entry in self._journal.entries):
            self._journal.append({"event": "create", "run": release_id})

    def refuse_other_run(self, release_id: str) -> None:
        """Refuse a ledger that was not begun for the run of this release.

        Raises:
            InputError: when it was lost, or is that of another run.
        """
        if self.created != (release_id,):
            raise InputError(
                f"private/{self._journal.path.name}: the run's ledger is "
                f"{'of another run' if self.created else 'lost'}, so what it has spent is unknown; "
                "restore the run's private/, or start in a new run folder"
            )

    def note_terms(self, terms: Terms) -> None:
        """Put on the disk what the run's statement is made of; the newest such line holds."""
        if terms != self._terms:
            self._journal.append({"event": "terms", "terms": terms.model_dump(mode="json")})
            self._terms = terms

    # Copies: each start of a run that is counted, each block of its steps, and its end, is signed
    # here and beside the data set.

    def start(self, record: Record) -> None:
        """Make this process the newest that works on the run's release.

        From here on `reserve` and `close` sign too, and refuse as soon as a newer one has started.

        Args:
            record: the data set's ledger, which has the release on record.

        Guarantee: of copies of this run, and of copies of the data set's ledger, one goes on; of
        run and ledger that were copied together each copy may, and both count.

        Raises:
            InputError: when this run, or the data set's ledger, is older than the other.
        """
        self._sign(record, {"event": "start"})
        self._record = record

    def close(self) -> Release:
        """The release with what was really spent of its budget, when the training is over.

        Raises:
            InputError: when a newer process has started on the release, so that what was made here
                is no part of it.
        """
        if self._record is not None:
            self._sign(self._record, {"event": "end"})
        return self.spent()

    def _sign(self, record: Record, entry: dict[str, Any]) -> None:
        """Put an entry here with a fresh token, the token beside the data set, and that it stands.

        A process that is killed in between leaves a token that may stand there or not.

        Guarantee: when it returns, no copy of this run that was made before can sign any more.
        """
        release_id, token = self._opened()[0].id, new_token()
        on_record = record.tokens(release_id)
        for known in [known for known in self._pending if known in on_record]:
            self._journal.append({"event": "signed", "token": known})
            self._note_signed(known)
        refuse_older(known=self._tokens, on_record=on_record)
        is_block = entry["event"] == "reserve"
        self._journal.append({**entry, "token": token})
        self._pending[token] = is_block
        record.add_token(release_id, token, after=self._tokens, is_block=is_block)
        self._journal.append({"event": "signed", "token": token})
        self._note_signed(token)

    def _note_signed(self, token: str) -> None:
        self._tokens += (token,)
        if not self._pending.pop(token, False):
            self._starts += (token,)

    def refuse_lost(self, record: Record, release_id: str) -> None:
        """Refuse a run of which the data set's ledger knows, and its own ledger doesn't.

        Raises:
            InputError: when its own was lost.
        """
        if self._release is None and record.holds(release_id):
            raise InputError(
                "private/ledger.jsonl: this run's release is on record beside the data set, but "
                "the run's own ledger is gone, so what it has spent is unknown; restore the run's "
                "private/, or start in a new run folder"
            )

    def _opened(self) -> tuple[Release, int]:
        """The release that the ledger was opened for, and its budget of steps."""
        if self._release is None or self._release.mechanism is None:
            raise InputError("private/ledger.jsonl: no release with a mechanism is open in it")
        return self._release, self._release.mechanism.steps

    @property
    def mechanism(self) -> "Mechanism":
        """That of the release which the ledger was opened for: whoever runs its steps asks here.

        So no training can add other noise than what is counted.

        Raises:
            InputError: when the ledger was opened for no release with a mechanism.
        """
        mechanism = self._opened()[0].mechanism
        assert mechanism is not None  # `_opened` has asked
        return mechanism

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
                spent = min(spent + self._block_steps, self._opened()[1])
        return spent

    @property
    def steps_left(self) -> int:
        """How many steps of the release's mechanism can still be reserved."""
        return self._opened()[1] - self.spent_steps

    def claim(
        self,
        release: Release,
        *,
        fingerprint: str,
        block_steps: int,
        inputs: Mapping[str, str] | None = None,
    ) -> Release:
        """Open the ledger for a release, or make sure that it was opened for this very one.

        Args:
            release: with its full budget.
            fingerprint: keyed digest of the data.
            block_steps: the most steps that are reserved at a time.
            inputs: digests of whatever else goes into the sums, by the names of their settings.

        Returns:
            The release to go on with: the one that the ledger was opened for. A run that another
            version began keeps the noise that it began with.

        Raises:
            InputError: when the ledger is that of another release, mechanism or data, or an input
                is another one than it was.
        """
        inputs = inputs or {}
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
            self._note_inputs(inputs)
        elif self._fingerprint != fingerprint:
            raise InputError(
                "the data set has changed since this run began; start in a new run folder"
            )
        elif not release.same_but_for_rounding(self._release):
            raise InputError(
                "private/ledger.jsonl belongs to another release than this run plans (an ancestor "
                "or the mechanism has changed); start in a new run folder"
            )
        elif self._inputs and self._inputs != inputs:
            names = {*inputs, *self._inputs}
            changed = (n for n in sorted(names) if inputs.get(n) != self._inputs.get(n))
            raise InputError(
                f"{', '.join(changed)}: not what this run began with, though it stands under the "
                "same name; bring back what was there, or start in a new run folder"
            )
        elif not self._inputs:  # killed before they were noted, or a run of an earlier version
            self._note_inputs(inputs)
        return self._release

    def _note_inputs(self, inputs: Mapping[str, str]) -> None:
        if inputs:
            self._journal.append({"event": "inputs", "inputs": dict(inputs)})
            self._inputs = dict(inputs)

    def reserve(self, steps: int) -> range:
        """Reserve `steps` steps on disk, a block at most; returns their numbers.

        Raises:
            InputError: when that is more than the release's mechanism has, or a copy of this run
                has started since.
        """
        first, (_, budget) = self.spent_steps, self._opened()
        if first + steps > budget:
            raise InputError(
                f"private/ledger.jsonl: {first} of {budget} steps are spent, so {steps} more would "
                "exceed the budget"
            )
        if steps > self._block_steps:
            raise ValueError(f"{steps} steps are more than a block of {self._block_steps}")
        entry = {"event": "reserve", "first": first, "steps": steps}
        if self._record is None:
            self._journal.append(entry)
        else:
            self._sign(self._record, entry)
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
        about_steps = [e for e in self._journal.entries if e["event"] in _ABOUT_STEPS]
        last = about_steps[-1] if about_steps else TORN
        if last["event"] != "stop" or last["at"] != state_at:
            return range(spent, spent)
        self._journal.append({"event": "resume", "at": state_at})
        return range(state_at, spent)

    def spent(self) -> Release:
        """The release with what was really spent of its budget.

        Raises:
            InputError: when the ledger was opened for no release with a mechanism.
        """
        release, _ = self._opened()
        return release.after(self.spent_steps).started(self._starts)


def _checked(kind: type[_Line], value: Any) -> _Line:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise InputError(
            f"private/ledger.jsonl: its {kind.__name__.lower()} is not of this version; restore "
            "the file, or start in a new run folder"
        ) from error
