"""An opened data set: its rows, checked with every error at once, and its images."""

import gc
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from synthdp.data.decoding import decode_pixels, square_image
from synthdp.data.description import KEY_FILE, LEDGER, DatasetInfo, read_info
from synthdp.data.images import resize_pixels, to_float
from synthdp.data.manifest.contract import FIXED_COLUMNS, SPLITS
from synthdp.data.manifest.named_files import NamedFiles
from synthdp.data.manifest.tables import read_table
from synthdp.errors import InputError
from synthdp.machine.progress import progress
from synthdp.machine.terminal import for_the_holder
from synthdp.privacy.keys import keep_key
from synthdp.privacy.units import Unit
from synthdp.storage.files import refused_without_rights
from synthdp.storage.unchanged import FileState, clock_ns

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: What may stand in a target's cell, and what it says.
_TARGETS = {"0": 0.0, "1": 1.0, "": math.nan}
MAX_PROBLEMS = 50
MAX_SHOWN_CHARS = 4  # a longer cell may be an id that slipped into the wrong column


@dataclass(frozen=True, slots=True)
class Row:
    """One image: its path below the data set, patient, split, targets (nan unknown), the rest."""

    image: str
    patient_id: str
    split: str
    targets: tuple[float, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)


class Arrays(NamedTuple):
    """Images of a data set in memory.

    images: (N, S, S) float32 in [0, 1], 0 black, of volumes (N, D, S, S); targets: (N, T) float32
    in {0, 1}, nan unknown; patients: (N,) the id of each image's patient.
    """

    images: NDArray[np.float32]
    targets: NDArray[np.float32]
    patients: NDArray[np.str_]


@dataclass(frozen=True)
class Dataset:
    """An opened data-set folder whose manifest has been checked; images are read on demand.

    >>> from tempfile import TemporaryDirectory
    >>> import synthdp
    >>> with TemporaryDirectory() as folder:
    ...     data = synthdp.make_phantoms(f"{folder}/set", patients=9, size_px=16)
    ...     images, targets, patients = data.arrays("train")
    ...     print(images.shape[1:], len(images) == len(targets) == len(patients))
    (16, 16) True
    """

    root: Path
    info: DatasetInfo
    rows: tuple[Row, ...]

    def split(self, name: str, *, may_be_empty: bool = False) -> tuple[Row, ...]:
        """The rows of one split; `all` gives every row.

        Args:
            name: of the split.
            may_be_empty: give no row where there is none. For whoever promises something to these
                patients: a refusal would tell whether the last of them is there.

        Raises:
            InputError: when there is no such split, or it has no row.
        """
        if name not in (*SPLITS, "all"):
            raise InputError(f"split {name!r}: choose one of {', '.join(SPLITS)}, all")
        rows = tuple(row for row in self.rows if name in ("all", row.split))
        if not rows and not may_be_empty:
            has = ", ".join(one for one in SPLITS if any(row.split == one for row in self.rows))
            raise InputError(
                f"{self.info.name}: no image has split {name!r}; name one that it has: "
                f"{has or 'none'}"
            )
        return rows

    def arrays(self, split: str = "all", *, size_px: int | None = None) -> "Arrays":
        """The images of a split as arrays, for whoever trains or scores in Python.

        Args:
            split: train, val, test, external, or all.
            size_px: the side S to resample to; the set's own when None.

        Raises:
            InputError: when there is no such split, it has no row, or an image is unreadable.
        """
        rows = self.split(split)
        flat = self.info.depth is None
        read = load_images(self, rows, size_px)[:, 0] if flat else load_volumes(self, rows, size_px)
        images = (read + np.float32(1)) / np.float32(2)
        patients = np.array([row.patient_id for row in rows])
        return Arrays(images, targets_array(rows, len(self.info.targets)), patients)

    @property
    def private(self) -> Path:
        """The part of the folder that never leaves the house."""
        return self.root / "private"

    @property
    def ledger_path(self) -> Path:
        """Where every release on these patients is recorded."""
        return self.private / LEDGER


def refuse_one_class(
    where: str, names: Sequence[str], targets: NDArray[np.floating], *, tells: bool = True
) -> None:
    """Refuse images whose targets, (N, T) with nan for unknown, are all of one class.

    Where some of several targets have both classes, whoever holds the images is told of the others.

    Args:
        where: the data set and the split, for the error.
        names: of the T targets.
        targets: what is known of them.
        tells: False for a plan, which leaves that to the training.

    Raises:
        InputError: naming the targets.
    """
    both = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
    lacking = [name for name, there in zip(names, both, strict=True) if not there]
    if len(lacking) == len(names):
        raise InputError(
            f"{where}: its images are not of both classes of {' or '.join(lacking)}, so there is "
            "nothing to tell apart; add images of the other class"
        )
    if lacking and tells:
        logger.info(
            "%s: its images are of one class of %s, of which nothing can be learned",
            where,
            ", ".join(lacking),
            extra=for_the_holder(f"{where}: its images are of one class of some targets"),
        )


def units_of(rows: Sequence[Row], unit: Unit) -> list[str]:
    """The name of the unit that each row belongs to: its patient, or its image.

    An image is called by its patient and its place among that patient's images, not by its file,
    which is called by its place among all: what is drawn by a name (samples, augmentation) would
    move for every image behind one that is not there.

    Guarantee: no other patient's image changes a name; where each image was imported as a patient
    of its own, no other image does. Of a patient with several, the names behind a missing one move
    up: keyed hashes of them (`patient_tags`) are then others, alike in distribution.
    """
    if unit == "patient":
        return [row.patient_id for row in rows]
    names, counts = dict[str, str](), Counter[str]()
    for row in rows:
        if row.image not in names:
            counts[row.patient_id] += 1
            names[row.image] = f"{row.patient_id} {counts[row.patient_id]}"
    return [names[row.image] for row in rows]


def refuse_small_population(population: int | None, n_units: int, unit: Unit) -> None:
    """Refuse a declared population that is below the number of units in a train split.

    That it is refused tells of the last one. It is for imports, which come before any release, and
    for trainings that promise nothing; a private one divides by what is declared and goes on.

    Raises:
        InputError: when it is; the error does not say the true number.
    """
    if population is not None and n_units > population:
        raise InputError(
            f"population is {population}, but train holds more {unit}s; "
            "declare a public round number that is surely above it"
        )


def own_key(dataset: Dataset) -> bytes:
    """The key of a data set, 32 bytes; made where there is none, as in sets of earlier versions.

    Raises:
        RunError: when it can't be read, or made.
    """
    with refused_without_rights(f"private/{KEY_FILE} of the data set"):
        dataset.private.mkdir(mode=0o700, exist_ok=True)
        return keep_key(dataset.private / KEY_FILE)


def described_dataset(root: Path) -> Dataset:
    """A data set without its rows, for whoever asks for its ledger alone; raises as `read_info`."""
    return Dataset(root, read_info(root), rows=())


def open_dataset(root: Path) -> Dataset:
    """Open a data-set folder and check its manifest (not yet its images).

    Raises:
        InputError: with every problem at once: a path outside the folder, a label other than 0
            or 1, a patient in two splits, a missing column or file.

    >>> from tempfile import TemporaryDirectory
    >>> import synthdp
    >>> with TemporaryDirectory() as folder:
    ...     drawn = synthdp.make_phantoms(f"{folder}/set", patients=9, size_px=16)
    ...     print(open_dataset(drawn.root).info.targets)
    ('malignant',)
    """
    root = Path(root)
    info, manifest = read_info(root), root / "manifest.csv"
    known = _known_rows.get((manifest.absolute(), info.targets))
    if known is not None and known.still_hold():
        return Dataset(root, info, known.rows)
    began, state = clock_ns(), _state_of(manifest)
    with _collector_paused():
        table = read_table(manifest, required=(*FIXED_COLUMNS, *info.targets))
        rows, problems = [], list(table.problems)
        named = {*FIXED_COLUMNS, *info.targets}
        attributes = [column for column in table.columns if column not in named]
        files, same = NamedFiles(root.resolve()), dict[Any, Any]()
        for number, record in table.records.items():
            of_row = row_problems(record, info.targets, files)
            problems += [f"row {number}: {problem}" for problem in of_row]
            if not of_row:
                rows.append(_row(record, info, attributes, same))
        problems += patients_in_two_splits((row.patient_id, row.split) for row in rows)
    raise_problems(f"{root.name}/manifest.csv", problems)
    dataset, folders = Dataset(root, info, tuple(rows)), files.states()
    if folders is not None and state is not None:
        states = {manifest.absolute(): state, **folders}
        if all(one.is_settled(began) for one in states.values()):
            _known_rows[manifest.absolute(), info.targets] = _KnownRows(dataset.rows, states)
            while len(_known_rows) > MAX_KNOWN:
                _known_rows.pop(next(iter(_known_rows)))
    return dataset


@dataclass(frozen=True)
class _KnownRows:
    """The rows of a manifest that was checked, and the states of what was looked at."""

    rows: tuple[Row, ...]
    states: Mapping[Path, FileState]

    def still_hold(self) -> bool:
        """Whether the manifest, and the folders of its images, are as they were."""
        return all(_state_of(path) == state for path, state in self.states.items())


#: What this process has opened: a study opens its sets for every run that it plans.
_known_rows: dict[tuple[Path, tuple[str, ...]], _KnownRows] = {}
MAX_KNOWN = 16


def _state_of(path: Path) -> FileState | None:
    try:
        return FileState.of(path.stat())
    except OSError:
        return None


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep Python from looking for cycles among rows, which have none: a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def raise_problems(where: str, problems: Sequence[str]) -> None:
    """Raise one InputError that lists the problems, if there are any.

    Raises:
        InputError: of the first `MAX_PROBLEMS`, and how many more there are.
    """
    if problems:
        shown = list(problems[:MAX_PROBLEMS])
        more = [f"... and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
        raise InputError("\n  ".join([f"{where}:", *shown, *more]))


def row_problems(record: Mapping[str, str], targets: Sequence[str], files: NamedFiles) -> list[str]:
    """What is wrong with one record of a manifest that names `files`."""
    problems = []
    if not SAFE_ID.fullmatch(record["patient_id"]):
        problems.append("patient_id: 1 to 64 letters, digits, - or _ are allowed")
    if record["split"] not in SPLITS:
        problems.append(f"split: is none of {', '.join(SPLITS)}")
    for target in targets:
        value = record[target]
        if value not in _TARGETS:
            shown = f"{value!r} " if len(value) <= MAX_SHOWN_CHARS else ""
            problems.append(f"{target}: {shown}is not 0, 1 or empty")
    problem = files.problem(record["image"])
    return [*problems, f"image: {problem}"] if problem else problems


def _row(
    record: Mapping[str, str],
    info: DatasetInfo,
    attributes: Sequence[str],
    same: dict[Any, Any],
) -> Row:
    """A row of a record; what it has in common with others is kept once, in `same`."""
    patient, split = record["patient_id"], record["split"]
    targets = tuple([_TARGETS[record[name]] for name in info.targets])
    return Row(
        image=record["image"],
        patient_id=same.setdefault(patient, patient),
        split=same.setdefault(split, split),
        targets=same.setdefault(targets, targets),
        attributes={name: same.setdefault(record[name], record[name]) for name in attributes},
    )


def patients_in_two_splits(patients: Iterable[tuple[str, str]]) -> list[str]:
    """Problems of (patient, split) pairs that put a patient into several splits: counts only."""
    splits: dict[str, set[str]] = {}
    for patient, split in patients:
        splits.setdefault(patient, set()).add(split)
    torn = Counter(tuple(sorted(names)) for names in splits.values() if len(names) > 1)
    return [
        f"{count} patient(s) stand in more than one split ({', '.join(names)}); "
        "give each patient one split"
        for names, count in sorted(torn.items())
    ]


def refuse_volumes(info: DatasetInfo) -> None:
    """Refuse a set of volumes for what takes flat images.

    Raises:
        InputError: saying what takes volumes.
    """
    if info.depth is not None:
        raise InputError(
            f"{info.name}: holds volumes of {info.sides}, and this is for flat images alone; a "
            "head is trained on volumes with backbone.axes, and a whole network too "
            "(docs/volumes.md)"
        )


def load_images(
    dataset: Dataset,
    rows: Sequence[Row],
    size_px: int | None = None,
    prepare: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> NDArray[np.float32]:
    """Decode the images of `rows`; those that are not square are padded with black.

    Args:
        dataset: the opened data set.
        rows: some of its rows.
        size_px: the side to resample to; the data set's own when None.
        prepare: what is done to each image, (S, S), before that.

    Returns:
        (N, 1, size_px, size_px) float32 in [-1, 1].

    Raises:
        InputError: when an image is unreadable or unsafe; the message names its row.
    """
    refuse_volumes(dataset.info)
    size = size_px or dataset.info.size_px
    images = np.empty((len(rows), 1, size, size), dtype=np.float32)
    for index, row in enumerate(progress(rows, what="reading images")):
        with _row_named(dataset, row):
            images[index, 0] = square_image(dataset.root / row.image, size, prepare=prepare)
    return images


def load_volumes(
    dataset: Dataset, rows: Sequence[Row], size_px: int | None = None
) -> NDArray[np.float32]:
    """Decode the volumes of `rows`.

    Args:
        dataset: the opened data set, whose `depth` is D.
        rows: some of its rows.
        size_px: the side to resample each slice to; the data set's own when None.

    Returns:
        (N, D, size_px, size_px) float32 in [-1, 1].

    Raises:
        InputError: when the set is of flat images, or one is unreadable, unsafe or of another
            shape; the message names its row.
    """
    depth, side = dataset.info.depth, dataset.info.size_px
    if depth is None:
        raise InputError(
            f"{dataset.info.name}: holds flat images, and this is for volumes (`synthdp data "
            "volumes` imports them); leave backbone.axes out"
        )
    size = size_px or side
    volumes = np.empty((len(rows), depth, size, size), dtype=np.float32)
    for index, row in enumerate(progress(rows, what="reading volumes")):
        with _row_named(dataset, row):
            slices = _slices(dataset.root / row.image, depth, side)
            of_size = (one if size == side else resize_pixels(one, size) for one in slices)
            volumes[index] = np.stack(list(of_size))
    return volumes


def load_pictures(
    dataset: Dataset, rows: Sequence[Row], size_px: int | None = None
) -> NDArray[np.float32]:
    """As `load_images`, for whoever shows them: of a volume the middle slice stands for it."""
    if dataset.info.depth is None:
        return load_images(dataset, rows, size_px)
    depth, side = dataset.info.depth, dataset.info.size_px
    pictures = np.empty((len(rows), 1, size_px or side, size_px or side), dtype=np.float32)
    for index, row in enumerate(rows):
        with _row_named(dataset, row):
            middle = _slices(dataset.root / row.image, depth, side)[depth // 2]
            pictures[index, 0] = resize_pixels(middle, size_px or side)
    return pictures


def _slices(path: Path, depth: int, side: int) -> NDArray[np.float32]:
    """The slices (D, S, S) of a volume's file, in [-1, 1].

    Raises:
        InputError: when it is unreadable, or of another shape.
    """
    pixels = to_float(decode_pixels(path))
    if pixels.shape != (depth * side, side):
        raise InputError(
            f"{pixels.shape[1]}x{pixels.shape[0]} px, where {depth} slices of {side} px, one below "
            f"the other, make {side}x{depth * side}"
        )
    return pixels.reshape(depth, side, side)


@contextmanager
def _row_named(dataset: Dataset, row: Row) -> Iterator[None]:
    """Name the manifest's row in whatever is said of its image."""
    try:
        yield
    except InputError as error:
        number = dataset.rows.index(row) + 2
        raise InputError(f"{dataset.root.name}/manifest.csv, row {number}: {error}") from error


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spaced over them; all where there are no more."""
    positions = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[position] for position in positions]


def labels_of(dataset: Dataset, rows: Sequence[Row], names: Sequence[str]) -> NDArray[np.float32]:
    """The labels of `rows` by the names of targets, (N, T) float32; nan where unknown.

    A target that the set lacks is unknown for all.
    """
    known, own = targets_array(rows, len(dataset.info.targets)), dataset.info.targets
    unknown = np.full(len(rows), np.nan, dtype=np.float32)
    columns = [known[:, own.index(name)] if name in own else unknown for name in names]
    return np.stack(columns, axis=1) if columns else known[:, :0]


def targets_array(rows: Sequence[Row], n_targets: int | None = None) -> NDArray[np.float32]:
    """The targets of `rows` as (N, T) float32; nan where unknown.

    `n_targets` is T, for whoever may have no row.
    """
    width = n_targets if n_targets is not None else len(rows[0].targets) if rows else 0
    return np.array([row.targets for row in rows], dtype=np.float32).reshape(len(rows), width)
