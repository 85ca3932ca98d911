"""Making a data-set folder: image by image; the folder appears when it is complete."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dataset import SAFE_ID, Row, open_dataset, refuse_small_population, units_of
from synthdp.data.description import KEY_FILE, LEDGER, DatasetInfo, is_dataset
from synthdp.data.images import encode_png
from synthdp.data.manifest.contract import FIXED_COLUMNS, SPLITS
from synthdp.data.manifest.hub_form import write_hub_form
from synthdp.data.manifest.tables import csv_text
from synthdp.errors import InputError
from synthdp.privacy.keys import keep_key, write_key
from synthdp.privacy.ledger.budget import Budget
from synthdp.privacy.ledger.set_record import create_record, new_mark
from synthdp.privacy.lineage import Lineage
from synthdp.storage.files import atomic_folder, closed_to_others, write_atomic, write_json


class DatasetWriter:
    """Adds images to a data set that is being made; `create_dataset` opens and finishes it."""

    def __init__(self, root: Path, info: DatasetInfo) -> None:
        self._root = root
        self._info = info
        self._rows: list[Row] = []
        self._notes: dict[str, Any] = {}
        self._card = ""

    def add(
        self,
        pixels: NDArray[np.uint8] | NDArray[np.uint16],
        *,
        patient_id: str,
        split: str,
        targets: Sequence[float],
        attributes: Mapping[str, str] | None = None,
        compress_level: int = 6,
    ) -> None:
        """Write one (H, W) image under a counter for a name, and remember its row.

        Raises:
            InputError: when a value does not fit the contract.
        """
        self.add_png(
            encode_png(pixels, compress_level),
            patient_id=patient_id,
            split=split,
            targets=targets,
            attributes=attributes,
        )

    def add_png(
        self,
        png: bytes,
        *,
        patient_id: str,
        split: str,
        targets: Sequence[float],
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        """Write the content of a PNG file that `encode_png` made; else as `add`.

        Raises:
            InputError: when a value does not fit the contract.
        """
        name = f"images/{len(self._rows) + 1:06d}.png"
        if not SAFE_ID.fullmatch(patient_id) or split not in SPLITS:
            raise InputError(f"image {len(self._rows) + 1}: patient id or split is not allowed")
        if len(targets) != len(self._info.targets):
            raise InputError(f"image {len(self._rows) + 1}: {len(self._info.targets)} targets due")
        if any(not math.isnan(target) and target not in (0, 1) for target in targets):
            raise InputError(f"image {len(self._rows) + 1}: a target is not 0, 1 or unknown")
        (self._root / name).write_bytes(png)
        self._rows.append(Row(name, patient_id, split, tuple(targets), attributes or {}))

    def keep_key(self, name: str, key: bytes) -> None:
        """Keep a key in the set's private part."""
        (self._root / "private").mkdir(mode=0o700, exist_ok=True)
        write_key(self._root / "private" / name, key)

    def keep_file(self, name: str, content: bytes) -> None:
        """Keep a file in the set's private part."""
        (self._root / "private").mkdir(mode=0o700, exist_ok=True)
        with closed_to_others():
            write_atomic(self._root / "private" / name, content)

    def note(self, name: str, value: Any) -> None:
        """Keep `value` as JSON in the private file `name`."""
        self._notes[name] = value

    def describe(self, card: str) -> None:
        """Give the set this card, which may tell of its images."""
        self._card = card

    def show(self, name: str, picture: bytes) -> None:
        """Keep a picture beside the manifest; of a set without patients alone.

        Raises:
            ValueError: when the set holds patients' images, which no open file may show.
        """
        if self._info.protects_patients:
            raise ValueError(f"{name} would show patients beside their set")
        write_atomic(self._root / name, picture)

    def finish(self, budget: Budget | None = None, card: str = "") -> None:
        """Write manifest, card and the private part: key, counts, and the set's ledger.

        Raises:
            InputError: when train holds more units than the set's declared population.
        """
        train = [row for row in self._rows if row.split == "train"]
        n_units = len(set(units_of(train, self._info.unit)))
        refuse_small_population(self._info.population, n_units, self._info.unit)
        columns, cells = manifest_cells(self._rows, self._info.targets)
        write_atomic(self._root / "manifest.csv", csv_text(columns, cells))
        card = card or self._card
        if card:
            write_hub_form(self._root, card, columns, cells, self._info.targets)
        private = self._root / "private"
        private.mkdir(mode=0o700, exist_ok=True)
        info = self._info
        made_from = None if info.protects_patients else info.lineage
        mark = new_mark() if made_from is None else _mark_of(made_from)
        info = info.model_copy(update={"ledger": mark})
        create_record(private / LEDGER, mark, budget, made_from=made_from)
        write_json(self._root / "dataset.json", info.as_json())
        keep_key(private / KEY_FILE)
        write_json(private / "counts.json", count_rows(self._rows, self._info))
        for name, value in self._notes.items():
            write_json(private / name, value)


def _mark_of(made_from: Lineage) -> str:
    """The mark of a set without patients: no random one, so that a set made again is the same."""
    return sha256(made_from.model_dump_json().encode()).hexdigest()[:16]


def manifest_cells(
    rows: Sequence[Row], targets: Sequence[str]
) -> tuple[list[str], list[list[object]]]:
    """The columns of the manifest that has these rows, and the cells of each."""
    attributes = list(dict.fromkeys(name for row in rows for name in row.attributes))
    cells: list[list[object]] = []
    for row in rows:
        known = ["" if math.isnan(target) else int(target) for target in row.targets]
        extra = [row.attributes.get(name, "") for name in attributes]
        cells.append([row.image, row.patient_id, row.split, *known, *extra])
    return [*FIXED_COLUMNS, *targets, *attributes], cells


def count_rows(rows: Sequence[Row], info: DatasetInfo) -> dict[str, dict[str, int]]:
    """Images, patients and positives of each target, by split."""
    counts: dict[str, dict[str, int]] = {}
    for split in [name for name in SPLITS if any(row.split == name for row in rows)]:
        chosen = [row for row in rows if row.split == split]
        counts[split] = {
            "images": len(chosen),
            "patients": len({row.patient_id for row in chosen}),
            **{
                target: sum(row.targets[index] == 1 for row in chosen)
                for index, target in enumerate(info.targets)
            },
        }
    return counts


def holds_dataset(out: Path, info: DatasetInfo) -> bool:
    """Whether the data set of this description is at `out` already.

    Raises:
        InputError: when another one is.
    """
    if not is_dataset(out):
        return False
    there = open_dataset(out).info
    # an earlier version noted neither delta nor what was declared
    alike = {"delta": there.delta, "lineage": there.lineage, "ledger": there.ledger}
    releases = there.lineage.releases
    if info.model_copy(update=alike) != there or info.lineage.releases != releases:
        raise InputError(
            f"{out}: exists already and holds another data set; name a new folder or remove it "
            "first"
        )
    return True


@contextmanager
def create_dataset(
    out: Path, info: DatasetInfo, *, card: str = "", budget: Budget | None = None
) -> Iterator[DatasetWriter]:
    """Make a data-set folder that appears at `out` only when it is complete.

    A `card` is written beside the manifest as `README.md`, with what `datasets.load_dataset` needs
    (`synthdp.data.manifest.hub_form`). A set that protects patients is closed to
    all but its owner, images and manifest as well as its private part, and its ledger begins with
    their `budget`, where there is one.

    Raises:
        InputError: when `out` exists and is not empty, or no image was added.
    """
    with atomic_folder(Path(out), closed=info.protects_patients) as root:
        (root / "images").mkdir()
        writer = DatasetWriter(root, info)
        yield writer
        if not writer._rows:
            raise InputError(f"{info.name}: no image was added, so no data set was made")
        writer.finish(budget, card)
