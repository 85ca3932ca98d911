"""What an import found and did: in full in a private note, as counts for the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthdp.data.importing.listing import Listing
from synthdp.data.importing.survey import Seen
from synthdp.data.splits import connected, duplicate_groups, label_conflicts

REPORTED = {
    "duplicate_images": "group(s) of images with the same pixels",
    "near_duplicates": "group(s) of nearly the same images under different ids",
    "linked_ids": "group(s) of ids that were made one unit",
    "rows_with_conflicting_sources": "image(s) whose folder, name and table tell different classes",
    "duplicates_with_other_labels": "group(s) of images with the same pixels and different labels",
    "constant_images": "image(s) of one grey level",
    "padded_images": "image(s) padded to a square",
    "resampled_images": "image(s) resampled",
    "moved_images": "image(s) moved to the split of the unit that their patient was made part of",
}


@dataclass(frozen=True)
class Placed:
    """Each image's unit, the id it is written under, and its split.

    `moved` holds the indices of images whose unit took another split than theirs;
    `near_duplicates`, (M, 2) int64, the pairs of indices that were found under different ids.
    """

    units: Sequence[str]
    ids: Sequence[str]
    splits: Sequence[str]
    moved: Sequence[int]
    near_duplicates: NDArray[np.int64]

    def only(self, kept: Sequence[int]) -> "Placed":
        """The same for some of the images, by their indices."""
        place = {index: number for number, index in enumerate(kept)}
        pairs = [(i, j) for i, j in self.near_duplicates.tolist() if i in place and j in place]
        tied = np.array([(place[i], place[j]) for i, j in pairs], dtype=np.int64)
        return Placed(
            units=[self.units[index] for index in kept],
            ids=[self.ids[index] for index in kept],
            splits=[self.splits[index] for index in kept],
            moved=[place[index] for index in self.moved if index in place],
            near_duplicates=tied.reshape(-1, 2),
        )


def import_note(
    listing: Listing, seen: Sequence[Seen], placed: Placed, *, size_px: int
) -> dict[str, Any]:
    """The private note of an import; images go by their row or place in the source."""
    patches, digests = listing.patches, [entry.digest for entry in seen]

    def rows(indices: Sequence[int]) -> list[int]:
        return sorted(patches[index].number for index in indices)

    where = enumerate(seen)
    near = connected([(int(i), int(j)) for i, j in placed.near_duplicates])
    ids_of_unit: dict[str, set[str]] = {}
    for patch, unit in zip(patches, placed.units, strict=True):
        ids_of_unit.setdefault(unit, set()).add(patch.patient)
    sides = [(entry.height_px, entry.width_px) for entry in seen]
    targets = [patch.targets for patch in patches]
    return {
        "counted_by": listing.place,
        "left_out": dict(listing.left_out),
        "duplicate_images": [rows(group) for group in duplicate_groups(digests)],
        "near_duplicates": [rows(sorted(group)) for group in near],
        "linked_ids": [sorted(ids) for ids in ids_of_unit.values() if len(ids) > 1],
        "rows_with_conflicting_sources": [patch.number for patch in patches if patch.conflict],
        "duplicates_with_other_labels": [rows(g) for g in label_conflicts(digests, targets)],
        "constant_images": rows([index for index, entry in where if entry.constant]),
        "padded_images": rows([i for i, (high, wide) in enumerate(sides) if high != wide]),
        "resampled_images": rows([i for i, side in enumerate(sides) if side != (size_px, size_px)]),
        "moved_images": rows(placed.moved),
        "ids": {
            patch.patient: written
            for patch, written in zip(patches, placed.ids, strict=True)
            if patch.patient != written
        },
        "source_rows": [patch.number for patch in patches],
    }


def note_words(note: Mapping[str, Any], placed: Placed, *, kind: str) -> list[str]:
    """The import in lines for the terminal: counts alone."""
    splits = Counter(placed.splits)
    shares = ", ".join(f"{split} {count}" for split, count in sorted(splits.items()))
    whose = f" of {len(set(placed.ids))} patients" if kind == "real" else ""
    lines = [f"imported {len(placed.ids)} {kind} images{whose} ({shares})"]
    found = [f"  {len(note[key])} {words}" for key, words in REPORTED.items() if note[key]]
    return [*lines, *found, "  the rows are listed in private/import.json"] if found else lines
