"""Check a data-set folder: every image is read, and every problem is reported at once."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthdp.config.card_file import CARD
from synthdp.config.settings import read_json_as
from synthdp.data.dataset import open_dataset, patients_in_two_splits, row_problems
from synthdp.data.decoding import narrow_range
from synthdp.data.description import DatasetInfo, is_dataset, read_info
from synthdp.data.importing.images.survey import ImageFacts, range_words, survey_images
from synthdp.data.importing.images.thumbnails import Thumbnails
from synthdp.data.importing.patients.ids import normalised_id
from synthdp.data.looks.contact_sheet import CONTACT_SHEET_FILE
from synthdp.data.looks.likeness import look_alikes
from synthdp.data.looks.pose import Poses, shows_chests, unlike_poses
from synthdp.data.looks.sameness import sameness_of
from synthdp.data.manifest.classes import class_counts, missing_classes
from synthdp.data.manifest.contract import FIXED_COLUMNS, SPLITS
from synthdp.data.manifest.hub_form import hub_form_problems, is_of_hub_form
from synthdp.data.manifest.named_files import NamedFiles
from synthdp.data.manifest.tables import read_table
from synthdp.data.people.leftovers import table_leftovers
from synthdp.data.people.splits import duplicate_groups, label_conflicts
from synthdp.errors import InputError
from synthdp.storage.files import folders_below

MAX_ROWS_NAMED = 12
_OF_A_SET = ("manifest.csv", "dataset.json", CARD, "images", "private")
#: A set of patients has none: the picture would stand open beside it, and it is never released;
#: `release.json` is what a release lists its files in (`synthdp.releases.contents`).
_WITHOUT_PATIENTS = (CONTACT_SHEET_FILE, "release.json")

Records = Mapping[int, Mapping[str, str]]


@dataclass(frozen=True)
class CheckResult:
    """What is wrong, one line each, and a summary; rows are those of manifest.csv (header = 1)."""

    problems: tuple[str, ...]
    summary: str


def check_dataset(root: Path, *, counts: bool = False) -> CheckResult:
    """Read the whole data set at `root` and report all that is wrong with it.

    The summary of patients' images says how many are of which class on request (`counts`) alone,
    that of other images always.

    Raises:
        InputError: when there is no such folder, or it has nothing of a data set.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder; correct the path")
    if not (is_dataset(root) or os.path.lexists(root / "manifest.csv")):
        read_info(root)  # says what makes a set; findings would be of a folder that is none
    info, problems = _read_info(root)
    targets = info.targets if info is not None else ()
    table = read_table(root / "manifest.csv", required=(*FIXED_COLUMNS, *targets))
    problems += [f"manifest.csv, {problem}" for problem in table.problems]
    files = NamedFiles(root.resolve())
    for number, record in table.records.items():
        of_row = row_problems(record, targets, files)
        problems += [f"row {number}: {problem}" for problem in of_row]
    records = table.records.values()
    problems += patients_in_two_splits((r["patient_id"], r["split"]) for r in records)
    if info is None or info.shows_patients:
        problems += _nobody(table.records)
    without_patients = info is not None and not info.protects_patients
    problems += _unlisted(root, table.records, _WITHOUT_PATIENTS if without_patients else ())
    if "split" in table.columns and "image" in table.columns:
        cells = [[record[name] for name in table.columns] for record in records]
        problems += hub_form_problems(root, table.columns, cells)
    safe = [n for n, r in table.records.items() if files.problem(r["image"]) is None]
    survey = survey_images([root / table.records[number]["image"] for number in safe])
    beside = dict(zip(safe, survey.leftovers, strict=True))
    problems += _leftovers(beside, table.records, table.columns, info)
    seen = {
        n: entry
        for n, entry in zip(safe, survey.entries, strict=True)
        if isinstance(entry, ImageFacts)
    }
    read = zip(safe, survey.entries, strict=True)
    problems += [f"row {n}: image: {entry}" for n, entry in read if isinstance(entry, str)]
    problems += _image_problems(seen, info)
    problems += _copy_problems(seen, survey.thumbnails, table.records, targets, info)
    summary = _summary(root, info, table.records, seen, len(problems), counts=counts)
    if info is not None and shows_chests(info.targets):
        summary = "\n".join([summary, *_pose_words(unlike_poses(survey.thumbnails), list(seen))])
    if info is not None and info.kind == "synthetic" and not problems:
        warnings = sameness_of(open_dataset(root)).findings
        summary = "\n".join([summary, *(f"  warning: {finding}" for finding in warnings)])
    return CheckResult(tuple(problems), summary)


def _read_info(root: Path) -> tuple[DatasetInfo | None, list[str]]:
    try:
        return read_json_as(DatasetInfo, root / "dataset.json", where="dataset.json"), []
    except InputError as error:
        return None, [str(error)]


def _nobody(records: Records) -> list[str]:
    """Ids that are words for nothing, as in sets that were written by hand or long ago."""
    rows = [n for n, record in records.items() if normalised_id(record["patient_id"]) is None]
    if not rows:
        return []
    return [
        f"{_rows(rows, range(len(rows)))}: patient_id: a word for nothing, so that several "
        "patients may count as one; give each one an id, and import again"
    ]


def _unlisted(root: Path, records: Records, beside_it: Sequence[str]) -> list[str]:
    """Files that stand in the folder without a row, which would leave the house unnoticed; folders
    that cannot be read, which may hold such files.
    """
    named = {root / record["image"] for record in records.values()}
    images = root / "images"
    folders, unread = folders_below(images) if os.path.lexists(images) else ([], 0)
    count = sum(
        sum(folder / name not in named for name in files)
        + sum((folder / name).is_symlink() for name in subfolders)
        for folder, subfolders, files in folders
    )
    problems = []
    beside = (path.name for path in root.iterdir() if path.name not in (*_OF_A_SET, *beside_it))
    if foreign := sum(not is_of_hub_form(name) for name in beside):
        problems.append(
            f"{foreign} file(s) or folder(s) stand beside the set's own and would leave with it; "
            "remove them"
        )
    if count:
        problems.append(f"images: {count} file(s) that the manifest doesn't name; remove them")
    if unread:
        problems.append(f"images: {unread} folder(s) cannot be read; make them readable")
    return problems


def _leftovers(
    beside_pixels: Mapping[int, str | None],
    records: Records,
    columns: Sequence[str],
    info: DatasetInfo | None,
) -> list[str]:
    """What may tell who patients are, in names and cells and beside the pixels.

    Of images that no patient is in, only what stands beside the pixels: ids and names are made up.
    """
    beside = dict[str, list[int]]()
    for number, leftover in beside_pixels.items():
        if leftover is not None:
            beside.setdefault(f"image: {leftover}", []).append(number)
    in_cells: Iterable[tuple[str, list[int]]] = ()
    if info is None or info.kind == "real":
        known = (*FIXED_COLUMNS, *(info.targets if info is not None else ()))
        attributes = tuple(name for name in columns if name not in known)
        in_cells = table_leftovers(records, attributes)
    return [
        f"{_rows(rows, range(len(rows)))}: {words}" if rows else f"manifest.csv: {words}"
        for words, rows in (*in_cells, *beside.items())
    ]


def _image_problems(seen: Mapping[int, ImageFacts], info: DatasetInfo | None) -> list[str]:
    problems = []
    for number, entry in seen.items():
        sides = (entry.height_px, entry.width_px)
        if info is not None and sides != info.image_shape:
            high, wide = info.image_shape
            slices = "" if info.depth is None else f" ({info.sides}, one below the other)"
            problems.append(
                f"row {number}: image: {sides[1]}x{sides[0]} px, where dataset.json says "
                f"{wide}x{high}{slices}"
            )
        if (narrow := narrow_range(entry.darkest, entry.brightest, entry.bits)) is not None:
            problems.append(f"row {number}: image: {narrow}")
    return problems


def _copy_problems(
    seen: Mapping[int, ImageFacts],
    thumbnails: Thumbnails,
    records: Records,
    targets: Sequence[str],
    info: DatasetInfo | None,
) -> list[str]:
    """Duplicates, conflicting labels, and near-duplicates of different patients."""
    numbers, digests = list(seen), [entry.digest for entry in seen.values()]
    labels = [tuple(_label(records[n], target) for target in targets) for n in numbers]
    of_patients = info is None or info.shows_patients
    patients = [records[number]["patient_id"] for number in numbers]

    def whose(group: Sequence[int]) -> str:
        """Under how many ids and where a group stands, of which a person is to judge."""
        ids = len({patients[index] for index in group})
        if not of_patients or ids == 1:
            return ""
        in_splits = {records[numbers[index]]["split"] for index in group}
        return f" under {ids} patient ids, in {' and '.join(sorted(in_splits))}"

    problems = [
        f"{_rows(numbers, group)}: the same pixels{whose(group)}"
        for group in duplicate_groups(digests)
    ]
    problems += [
        f"{_rows(numbers, group)}: the same pixels, but different labels"
        for group in label_conflicts(digests, labels)
    ]
    if not of_patients:
        return problems  # images of one generator may resemble each other
    return problems + [
        f"{_rows(numbers, group)}: nearly the same image{whose(group)}; look at them (`synthdp "
        "data show`), and if these are one person, say so in `links` and import again"
        for group in look_alikes(thumbnails, patients, digests=digests)
    ]


def _pose_words(poses: Poses, numbers: Sequence[int]) -> list[str]:
    """Radiographs that look inverted or turned, for a person to look at: some may be right."""
    lines = [f"  warning: {poses.of_set}"] if poses.of_set else []
    by_pose: dict[str, list[int]] = {}
    for index, pose in poses.of_images:
        by_pose.setdefault(pose, []).append(index)
    return lines + [
        f"  warning: {_rows(numbers, group)}: look {pose}; look at them (`synthdp data show`), and "
        "mend the files before an import: nothing is turned or inverted here"
        for pose, group in by_pose.items()
    ]


def _label(record: Mapping[str, str], target: str) -> float:
    return float(record[target]) if record[target] in ("0", "1") else math.nan


def _rows(numbers: Sequence[int], group: Sequence[int]) -> str:
    named = ", ".join(str(numbers[index]) for index in group[:MAX_ROWS_NAMED])
    more = f" and {len(group) - MAX_ROWS_NAMED} more" if len(group) > MAX_ROWS_NAMED else ""
    return f"rows {named}{more}"


def _summary(
    root: Path,
    info: DatasetInfo | None,
    records: Records,
    seen: Mapping[int, ImageFacts],
    problem_count: int,
    *,
    counts: bool,
) -> str:
    title = f"{info.name} ({info.kind})" if info is not None else root.name
    whose = "made-up ids" if info is not None and info.kind == "synthetic" else "patients"
    lines = [f"{title}: {len(records)} rows, {_patients(list(records.values()))} {whose}"]
    may_count = info is not None and (counts or not info.protects_patients)
    names = info.targets if info is not None else ()
    for split in SPLITS:
        rows = [record for record in records.values() if record["split"] == split]
        if rows:
            labels = [tuple(_label(row, name) for name in names) for row in rows]
            by_class = class_counts(names, labels) if may_count else "classes with --counts"
            lines.append(f"  {split}: {len(rows)} images of {_patients(rows)} {whose}; {by_class}")
    if may_count:
        labels = [tuple(_label(record, name) for name in names) for record in records.values()]
        splits = [record["split"] for record in records.values()]
        lines += [f"  {words}" for words in missing_classes(names, labels, splits)]
    sizes = Counter(f"{entry.width_px}x{entry.height_px} px" for entry in seen.values())
    bits = Counter(f"{entry.bits} bit" for entry in seen.values())
    lines.append(f"  read: {len(seen)} images; {_counted(sizes)}; {_counted(bits)}")
    lines += [f"  {words}" for words in range_words(list(seen.values()))]
    lines.append(f"  findings: {problem_count}")
    return "\n".join(lines)


def _patients(rows: Sequence[Mapping[str, str]]) -> int:
    return len({row["patient_id"] for row in rows})


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.most_common(5)) or "none"
