"""Further sections of a report: each a template of its own, shown where its data is there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Section:
    """One section: a template in `templates/`, and what it shows under the name `content`.

    `anchor` is the id of its heading, `words` its name in the list of sections.
    """

    words: str
    anchor: str
    template: str
    content: Any


#: What reads a section's data from a study's folder, in the order of the page: None where the
#: folder has none, so that the section is left out.
READERS: tuple[Callable[[Path], Section | None], ...] = ()


def further_sections(study: Path) -> list[Section]:
    """The sections whose data stands in the study's folder."""
    return [section for read in READERS if (section := read(study)) is not None]
