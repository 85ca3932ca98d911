"""One listed image: where it stands, whose it is, what it shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from synthdp.data.importing.findings import Number
from synthdp.data.importing.lesions.region import Region


@dataclass(frozen=True)
class Patch:
    """One listed image; `number` is its row in the table, or its position in the order of paths.

    Where there are several tables, `number` is a text that names the table too. With a `lesion`, a
    region or the file of a mask, the image is what is cut around it, and an `extra` one is cut once
    more, moved a little. With an `entry`, it is the image of that index in that array of a .npz.
    """

    number: Number
    path: Path
    patient: str
    split: str | None
    targets: tuple[float, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)
    conflict: bool = False  # folder, file name and table disagree about its class
    lesion: Region | Path | None = None
    entry: tuple[str, int] | None = None
    extra: bool = False
