"""One listed image: where it stands, whose it is, what it shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Patch:
    """One listed image; `number` is its row in the table, or its position in the order of paths."""

    number: int
    path: Path
    patient: str
    split: str | None
    targets: tuple[float, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)
    conflict: bool = False  # folder, file name and table disagree about its class
