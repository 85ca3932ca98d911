"""Making a data-set folder: image by image, and there only when it is whole."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthdp.data.dataset import FIXED_COLUMNS, SAFE_ID, SPLITS, DatasetInfo, Row
from synthdp.data.images import encode_png
from synthdp.errors import InputError
from synthdp.files import atomic_folder, write_atomic, write_json
from synthdp.privacy.noise import keep_key, write_key


class DatasetWriter:
    """Adds images to a data set in the making; see `create_dataset`."""

    def __init__(self, root: Path, info: DatasetInfo) -> None:
        self._root = root
        self._info = info
        self._rows: list[Row] = []
        self._attributes: dict[str, None] = {}
        self._notes: dict[str, Any] = {}

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
        name = f"images/{len(self._rows) + 1:06d}.png"
        if not SAFE_ID.fullmatch(patient_id) or split not in SPLITS:
            raise InputError(f"image {len(self._rows) + 1}: patient id or split is not allowed")
        if len(targets) != len(self._info.targets):
            raise InputError(f"image {len(self._rows) + 1}: {len(self._info.targets)} targets due")
        if any(not math.isnan(target) and target not in (0, 1) for target in targets):
            raise InputError(f"image {len(self._rows) + 1}: a target is not 0, 1 or unknown")
        (self._root / name).write_bytes(encode_png(pixels, compress_level))
        self._rows.append(Row(name, patient_id, split, tuple(targets), attributes or {}))
        self._attributes.update(dict.fromkeys(attributes or {}))

    def keep_key(self, name: str, key: bytes) -> None:
        """Keep a key in the set's private part."""
        (self._root / "private").mkdir(mode=0o700, exist_ok=True)
        write_key(self._root / "private" / name, key)

    def note(self, name: str, value: Any) -> None:
        """Keep `value` as JSON in the private file `name`."""
        self._notes[name] = value

    def finish(self) -> None:
        """Write manifest, card and the private counts."""
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*FIXED_COLUMNS, *self._info.targets, *self._attributes])
        for row in self._rows:
            targets = ["" if math.isnan(target) else int(target) for target in row.targets]
            extra = [row.attributes.get(name, "") for name in self._attributes]
            writer.writerow([row.image, row.patient_id, row.split, *targets, *extra])
        write_atomic(self._root / "manifest.csv", stream.getvalue())
        write_json(self._root / "dataset.json", self._info.model_dump(mode="json"))
        private = self._root / "private"
        private.mkdir(mode=0o700, exist_ok=True)
        keep_key(private / "key")
        write_json(private / "counts.json", count_rows(self._rows, self._info))
        for name, value in self._notes.items():
            write_json(private / name, value)


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


@contextmanager
def create_dataset(out: Path, info: DatasetInfo, *, card: str = "") -> Iterator[DatasetWriter]:
    """Make a data-set folder that appears at `out` only when it is complete.

    A `card` is written beside the manifest as `card.md`.

    Raises:
        InputError: when `out` exists and is not empty, or no image was added.
    """
    with atomic_folder(Path(out)) as root:
        (root / "images").mkdir()
        writer = DatasetWriter(root, info)
        yield writer
        if not writer._rows:
            raise InputError(f"{info.name}: no image was added, so no data set was made")
        writer.finish()
        if card:
            write_atomic(root / "card.md", card)
