"""The form in which `datasets.load_dataset(FOLDER)` reads a set: pictures, labels and columns.

The library of the Hugging Face hub wants a card called `README.md`, whose header says which files
make which split and of what type each column is, and a table `metadata.csv` whose `file_name` is
the picture. Both are made of the manifest, which stays the contract: nothing in synthdp reads
`metadata.csv`, `synthdp data check` says where it tells something else than the manifest, and a
release writes both anew. Only sets with a card have this form, which sets of patients never have.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from synthdp.config.card_file import HUB_CARD, with_header
from synthdp.data.manifest.classes import class_words
from synthdp.data.manifest.tables import MAX_TABLE_BYTES, csv_text
from synthdp.storage.files import read_text, write_atomic

#: The table of a set of one split; of several, each has its own.
METADATA = "metadata.csv"
_OF_SPLIT = re.compile(r"metadata-\w+\.csv")
#: Columns that the library would take for pictures; they stay in the manifest alone.
_PICTURES = re.compile(r"(.*_)?file_names?")

Cells = Sequence[Sequence[object]]


def is_of_hub_form(name: str) -> bool:
    """Whether a file of a set has this name because of the hub's form."""
    return name in (HUB_CARD, METADATA) or bool(_OF_SPLIT.fullmatch(name))


def write_hub_form(
    root: Path, card: str, columns: Sequence[str], cells: Cells, targets: Sequence[str]
) -> None:
    """Write `README.md` and the table or tables of a set.

    Args:
        root: the set's folder.
        card: its text, with or without a header; keys that the form needs are set in it.
        columns: of the manifest, `image` and `split` among them.
        cells: the manifest's rows.
        targets: those of the columns that are classes.
    """
    by_split = _by_split(columns, cells)
    tables = hub_tables(columns, cells)
    for name, text in tables.items():
        write_atomic(root / name, text)
    image_at = columns.index("image")
    folders = dict.fromkeys(str(PurePosixPath(str(row[image_at])).parent) for row in cells)
    files = [
        {"split": split, "path": [table, *(f"{folder}/*.png" for folder in folders)]}
        for split, table in zip(by_split, tables, strict=True)
    ]
    config: dict[str, Any] = {"config_name": "default"}
    if len(tables) > 1:
        config["metadata_filenames"] = list(tables)
    kept = [columns[index] for index in _kept(columns, by_split)]
    config |= {"data_files": files, "features": _features(kept, targets)}
    write_atomic(root / HUB_CARD, with_header(card, {"configs": [config]}))


def hub_tables(columns: Sequence[str], cells: Cells) -> dict[str, str]:
    """The tables by their names: the manifest's rows, split by split; `image` is `file_name`."""
    by_split = _by_split(columns, cells)
    kept = _kept(columns, by_split)
    head = ["file_name" if columns[index] == "image" else columns[index] for index in kept]
    return {
        METADATA if len(by_split) == 1 else f"metadata-{split}.csv": csv_text(
            head, ([row[index] for index in kept] for row in rows)
        )
        for split, rows in by_split.items()
    }


def _by_split(columns: Sequence[str], cells: Cells) -> dict[str, list[Sequence[object]]]:
    split_at = columns.index("split")
    rows: dict[str, list[Sequence[object]]] = {}
    for row in cells:
        rows.setdefault(str(row[split_at]), []).append(row)
    return rows


def _kept(columns: Sequence[str], by_split: Mapping[str, Cells]) -> list[int]:
    """The positions of the columns that the tables have.

    Of several tables the library takes the types of columns from each, and wants them to agree, so
    that a column which is empty throughout a split stays in the manifest alone.
    """
    several = len(by_split) > 1
    return [
        index
        for index, name in enumerate(columns)
        if (name == "image" or not _PICTURES.fullmatch(name))
        and not (several and any(all(row[index] == "" for row in of) for of in by_split.values()))
    ]


def hub_form_problems(root: Path, columns: Sequence[str], cells: Cells) -> list[str]:
    """Which tables of the form say something else than the manifest, in words; none without one."""
    there = [path.name for path in root.glob("metadata*.csv") if is_of_hub_form(path.name)]
    if not there:
        return []
    wanted = hub_tables(columns, cells)
    return [
        f"{name}: says something else than manifest.csv, from which it was made; delete it, and "
        "write it again with `synthdp privacy --release`"
        for name in sorted({*there, *wanted})
        if name not in wanted
        or name not in there
        or read_text(root / name, MAX_TABLE_BYTES) != wanted[name]
    ]


def _features(columns: Sequence[str], targets: Sequence[str]) -> list[dict[str, Any]]:
    """The type of each column, in the header's words."""
    features: list[dict[str, Any]] = []
    for name in columns:
        if name == "image":
            features.append({"name": name, "dtype": "image"})
        elif name in targets:
            names = dict(zip(("0", "1"), class_words(name), strict=True))
            features.append({"name": name, "dtype": {"class_label": {"names": names}}})
        else:
            features.append({"name": name, "dtype": "string"})
    return features
