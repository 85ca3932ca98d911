"""The private note of an import as it is read again, and what sets of before it may not do."""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from synthdp.config import Settings, read_json_as
from synthdp.data.dataset import Dataset
from synthdp.errors import InputError

NOTE = "import.json"


class ImportNote(Settings):
    """What is read of a note, in any version's form.

    `look_alikes` is None in those of versions that split patients or made ids one by who else was
    there; `linked_ids` are the groups of ids that are one unit; `links_sha256` is of the table of
    links, where one was named.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    settings: dict[str, Any]
    linked_ids: tuple[tuple[str, ...], ...] = ()
    look_alikes: tuple[Any, ...] | None = None
    links_sha256: str | None = None

    @property
    def moved_by_others(self) -> bool:
        """Whether somebody's split or unit hung on who else was there."""
        by_others = self.settings.get("val_fraction") is not None or bool(self.linked_ids)
        return self.look_alikes is None and self.settings.get("kind") == "real" and by_others


def read_note(root: Path) -> ImportNote | None:
    """The note of the data set at `root`; None where it was not imported.

    Raises:
        InputError: when it is damaged.
    """
    path = root / "private" / NOTE
    return read_json_as(ImportNote, path) if path.is_file() else None


def refuse_moved_patients(dataset: Dataset) -> None:
    """Refuse to promise something to patients whose split or unit hung on who else was there.

    Raises:
        InputError: when the set was imported so, by an earlier version.
    """
    if "unit_from" in dataset.info.model_fields_set:  # every version since writes it
        return
    note = read_note(dataset.root)
    if note is not None and note.moved_by_others:
        raise InputError(
            f"{dataset.info.name}: imported by an earlier version, which split patients or made "
            "ids one by who else was there, so that one patient moves what others contribute and "
            "nothing can be promised; import it again"
        )
