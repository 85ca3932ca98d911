"""Models beside a probe of few pixels, as `shortcut.html.j2` shows them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthdp.errors import InputError
from synthdp.storage.paths import reason_of
from synthdp.study.compare.results import ResultRow
from synthdp.study.compare.shortcut import PIXELS, ShortcutRow, shortcut_of, shortcut_words


def shortcut_section(study: Path, rows: Sequence[ResultRow], *, asked: bool) -> dict[str, Any]:
    """Models beside a probe of few pixels; `shortcut.html.j2` shows them."""
    try:
        table = shortcut_of(study, rows, asked=asked)
    except InputError as error:
        if asked:
            raise
        return {"shortcut": [], "shortcut_problem": reason_of(error)}
    return {
        "shortcut": shortcut_lines(table),
        "shortcut_problem": "",
        "shortcut_words": shortcut_words(table),
    }


def shortcut_lines(
    table: Sequence[ShortcutRow],
) -> list[tuple[ShortcutRow, Sequence[ShortcutRow]]]:
    """Each probe, and what models gain over it."""
    return [
        (
            probe,
            [
                row
                for row in table
                if row.measure == "gain"
                and (row.data_set, row.split, row.target)
                == (probe.data_set, probe.split, probe.target)
            ],
        )
        for probe in table
        if probe.strategy == PIXELS
    ]
