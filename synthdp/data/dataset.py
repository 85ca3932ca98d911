"""The data-set folder: manifest, card and images; made whole, opened with every error at once."""

import gc
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from synthdp.config.settings import Settings, read_json_as
from synthdp.data.decoding import decode_pixels, square_image
from synthdp.data.images import encode_png, resize_pixels, to_float
from synthdp.data.manifest.contract import FIXED_COLUMNS, SPLITS
from synthdp.data.manifest.hub_form import write_hub_form
from synthdp.data.manifest.named_files import NamedFiles
from synthdp.data.manifest.tables import csv_text, read_table
from synthdp.errors import InputError
from synthdp.machine.progress import progress
from synthdp.machine.terminal import for_the_holder
from synthdp.privacy.ledger.budget import Budget
from synthdp.privacy.ledger.set_record import (
    Record,
    begun_without_patients,
    create_record,
    new_mark,
)
from synthdp.privacy.lineage import Cohort, Lineage
from synthdp.privacy.noisy_sum.noise import keep_key, write_key
from synthdp.privacy.units import Unit, UnitFrom
from synthdp.storage.files import (
    atomic_folder,
    closed_to_others,
    refused_without_rights,
    write_atomic,
    write_json,
)
from synthdp.storage.unchanged import FileState, clock_ns

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

LEDGER, KEY_FILE = "ledger.jsonl", "key"
SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: What may stand in a target's cell, and what it says.
_TARGETS = {"0": 0.0, "1": 1.0, "": math.nan}
MAX_PROBLEMS = 50
MAX_SHOWN_CHARS = 4  # a longer cell may be an id that slipped into the wrong column


class DatasetInfo(Settings):
    """What `dataset.json` says: public facts, nothing counted from private images.

    A `public` set shows patients whom nothing protects, because somebody declared at its import
    that there is nobody to protect; its lineage names it, so that the name stands in the statement
    of all that learns from it.
    `lineage` names every release that the images descend from; it is empty for real images and for
    phantoms. `delta` is that of its statement, where it has one. `as_real` makes a phantom set
    stand in for patients, so that demo and tests exercise the promise. `unit` is what a
    `patient_id` stands for: `image` where it is not known which images are of one patient.
    `unit_from` says whether ids stand as the importer declared them or were made one where images
    look alike, and `linked` is a keyed digest of which ids were made one either way, and of whether
    they name images. `cohort` is set where the patients are a part of a larger population, by a key
    that the parts share. `population` is a public round number that the units of its train split
    don't exceed: an import that exceeds it makes no set, and no training may declare fewer.
    `ledger` is the id in the first line of the set's own ledger, None of sets that were received or
    are of an earlier version. `depth` is the number of slices where an image is a volume, whose
    file shows them one below the other (`load_volumes`); of flat images it is None,
    and stands in no file.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_. -]{1,64}$")
    kind: Literal["real", "synthetic", "phantom", "public"]
    size_px: int = Field(ge=8, le=8192)
    targets: tuple[str, ...] = ("malignant",)
    licence: str = ""
    description: str = ""
    as_real: bool = False
    unit: Unit = "patient"
    unit_from: UnitFrom = "declared"
    linked: str = Field(default="", pattern=r"^([0-9a-f]{16})?$")
    lineage: Lineage = Lineage()
    delta: float | None = Field(default=None, gt=0, lt=1)
    cohort: Cohort | None = None
    population: int | None = Field(default=None, ge=1)
    ledger: str | None = Field(default=None, pattern=r"^[0-9a-f]{16}$")
    depth: int | None = Field(default=None, ge=1, le=1024)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of an image's file: of a volume its slices, one below the other."""
        return (self.depth or 1) * self.size_px, self.size_px

    @property
    def sides(self) -> str:
        """The size of an image, in words: `128 x 128 px`, of a volume with its slices before."""
        slices = "" if self.depth is None else f"{self.depth} slices of "
        return f"{slices}{self.size_px} x {self.size_px} px"

    def as_json(self) -> dict[str, Any]:
        """What `dataset.json` holds; of flat images the same as before there were volumes."""
        return self.model_dump(mode="json", exclude={"depth"} if self.depth is None else None)

    @property
    def protects_patients(self) -> bool:
        """Whether the ledger treats the rows as patients."""
        return self.kind == "real" or self.as_real

    @property
    def shows_patients(self) -> bool:
        """Whether the images are of people, be they protected or public."""
        return self.kind in ("real", "public")

    @model_validator(mode="after")
    def _a_public_set_was_imported_as_one(self) -> "DatasetInfo":
        if self.kind == "public" and self.name not in self.lineage.public:
            raise ValueError(
                "kind: a set is declared public when it is imported (kind=public), which its "
                "lineage then says; put back what stood there, or import the files again"
            )
        if self.kind in ("public", "synthetic") and self.as_real:
            raise ValueError(
                "as_real: makes phantoms stand for patients, and no other set; import patients' "
                "images with kind=real"
            )
        return self


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
            raise InputError(f"{self.info.name}: no image has split {name!r}")
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


def refuse_one_class(where: str, names: Sequence[str], targets: NDArray[np.floating]) -> None:
    """Refuse images whose targets, (N, T) with nan for unknown, are all of one class.

    Where some of several targets have both classes, whoever holds the images is told of the others.

    Args:
        where: the data set and the split, for the error.
        names: of the T targets.
        targets: what is known of them.

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
    if lacking:
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


def is_dataset(folder: Path) -> bool:
    """Whether a folder is that of a data set; False for a name that no file system takes."""
    return os.path.isfile(folder / "dataset.json")  # where Path.is_file raises


def read_info(root: Path) -> DatasetInfo:
    """What a data set is, without its manifest, whose check takes a while.

    Raises:
        InputError: when there is no data set, or its description is damaged.
    """
    if not is_dataset(root):
        raise InputError(
            f"{root}: not a data-set folder (no dataset.json); patients' images are made one by "
            "`synthdp data import`, synthetic ones by `synthdp generate`, phantoms by `synthdp "
            "data phantoms`"
        )
    return _with_known_lineage(read_json_as(DatasetInfo, root / "dataset.json"), root)


def protected_set_of(path: Path) -> DatasetInfo | None:
    """The set in whose folder a file or folder stands, links followed, if it protects its patients.

    Raises:
        InputError: when the description of a set there is damaged.
    """
    path = path.resolve()
    for folder in (path, *path.parents):
        if is_dataset(folder) and (info := read_info(folder)).protects_patients:
            return info
    return None


def _with_known_lineage(info: DatasetInfo, root: Path) -> DatasetInfo:
    """The description of a set, whose lineage its own ledger has; marked as declared without one.

    A set of patients has no lineage: its ledger has what was released of it. That one may be long,
    and its first line alone is read, which says whether it was begun for a set of patients.

    Raises:
        InputError: when the ledger has another one, is lost, or is that of the other kind of set.
    """
    ledger = root / "private" / LEDGER
    other = InputError(
        f"{root}/dataset.json: says of what its images were made from, or of whether they are "
        "patients', something else than the set's ledger; restore the file from a backup"
    )
    if info.protects_patients:
        if begun_without_patients(ledger):
            raise other
        return info
    if info.kind == "public" and info.ledger is None:
        raise InputError(
            f"{root}/dataset.json: says that the set is public, but no ledger of its own says that "
            "it was imported as one; import the files here, with kind=public"
        )
    if info.ledger is None and not ledger.is_file():
        mark = f"what the images of {info.name} were made from rests on its dataset.json"
        lineage = info.lineage.joined([Lineage(declared=(mark,))])
        return info.model_copy(update={"lineage": lineage})
    if Record(ledger, info.ledger).made_from != info.lineage:
        raise other
    return info


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


def load_images(
    dataset: Dataset, rows: Sequence[Row], size_px: int | None = None
) -> NDArray[np.float32]:
    """Decode the images of `rows`; those that are not square are padded with black.

    Args:
        dataset: the opened data set.
        rows: some of its rows.
        size_px: the side to resample to; the data set's own when None.

    Returns:
        (N, 1, size_px, size_px) float32 in [-1, 1].

    Raises:
        InputError: when an image is unreadable or unsafe; the message names its row.
    """
    if dataset.info.depth is not None:
        raise InputError(
            f"{dataset.info.name}: holds volumes of {dataset.info.sides}, and this is for flat "
            "images alone; a head is trained on volumes with backbone.axes, and a whole network "
            "too (docs/volumes.md)"
        )
    size = size_px or dataset.info.size_px
    images = np.empty((len(rows), 1, size, size), dtype=np.float32)
    for index, row in enumerate(progress(rows, what="reading images")):
        with _row_named(dataset, row):
            images[index, 0] = square_image(dataset.root / row.image, size)
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


# Making a data-set folder: image by image; the folder appears when it is complete.


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
