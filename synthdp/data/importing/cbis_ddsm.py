"""CBIS-DDSM as The Cancer Imaging Archive serves it: four tables, and folders of DICOM files.

A row of a table names a full mammogram, a crop and a mask by paths that hold no longer once files
were downloaded: the archive's own (`case/study UID/series UID/000000.dcm`), those of its retriever
(`1-1.dcm`, in folders called by date and description), and copies of either. So the UIDs in the
paths are looked up in the files. Which file of a lesion is mask and which is crop is told by what
they are, since the archive has many of them swapped (Lee et al. 2017, Scientific Data 4:170177).
"""

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from synthdp.data.dicom.header import DicomHeader, read_header
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.importing.findings import Finding, Number, Reason
from synthdp.data.importing.folders.folder import files_fitting, folder_contents
from synthdp.data.importing.lesions.crops import mask_region
from synthdp.data.importing.lesions.full_images import is_dicom, read_mask
from synthdp.data.importing.listing import Listing
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.patches import import_once
from synthdp.data.importing.patients.ids import id_problem, normalised_id
from synthdp.data.importing.settings.cbis_ddsm import Abnormality, CbisDdsmSettings
from synthdp.data.importing.tables.cells import same_side_or_view
from synthdp.data.importing.tables.sheets import Sheet, read_sheet
from synthdp.errors import InputError
from synthdp.machine.progress import progress
from synthdp.storage.files import sha256_file

logger = logging.getLogger(__name__)

Kind = Literal["mass", "calc"]
_TABLE = re.compile(r"(?i)(mass|calc)_case_description_(train|test)_set.*\.csv")
_UID = re.compile(r"[0-9.]{1,64}")
#: The order in which rows are counted where there are several tables.
_ORDER = (("mass", "train"), ("mass", "test"), ("calc", "train"), ("calc", "test"))
_REQUIRED = (
    *("patient_id", "left_or_right_breast", "image_view", "abnormality_type", "pathology"),
    *("image_file_path", "cropped_image_file_path", "roi_mask_file_path"),
)
#: A column of the tables, and what it is called in the set.
_ATTRIBUTES = {
    "image_view": "view",
    "left_or_right_breast": "laterality",
    "breast_density": "breast_density",
    "abnormality_type": "abnormality_type",
    "subtlety": "subtlety",
    "assessment": "birads_assessment",
    "mass_shape": "mass_shape",
    "mass_margins": "mass_margins",
    "calc_type": "calc_type",
    "calc_distribution": "calc_distribution",
}
#: Columns that only one kind of lesion has.
_OF_ONE_KIND: dict[str, Abnormality] = {
    **dict.fromkeys(("mass_shape", "mass_margins"), "mass"),
    **dict.fromkeys(("calc_type", "calc_distribution"), "calcification"),
}
#: The words of the tables, one of which is of this collection alone.
_PATHOLOGY = {"MALIGNANT": 1.0, "BENIGN": 0.0, "BENIGN_WITHOUT_CALLBACK": 0.0}


def run_cbis_ddsm(settings: CbisDdsmSettings) -> Path:
    """Import the lesions of CBIS-DDSM, as downloaded, to the data set `out`; returns `out`.

    Guarantee: as `run_patches`.

    Raises:
        InputError: as `run_patches`; also when tables, files or headers contradict each other, or a
            patient stands in both official splits.
    """
    if not settings.src.is_dir():
        raise InputError(f"src: there is no folder {settings.src}; correct the path")
    tables = [table for table in case_tables(settings) if table.split in settings.splits]
    if not tables:
        raise InputError("splits: no table is of these; the archive's splits are train and test")
    # The tables are named before anything is compared, so that a further one is a change.
    named = {table.path.relative_to(settings.src).as_posix(): None for table in tables}
    settings = settings.model_copy(update={"tables": named})
    return import_once(settings, lambda: list_cases(settings, tables))


def list_cases(settings: CbisDdsmSettings, tables: "list[CaseTable]") -> Listing:
    """The lesions that the tables name, and what is wrong with others."""
    download = index_download(settings, tables)
    patches: list[Patch] = []
    findings: list[Finding] = []
    problems: list[str] = list(download.problems)
    attributes: dict[str, None] = {}
    for table in tables:
        read = read_sheet(table.path)
        attributes |= dict.fromkeys(_attributes(settings, _columns(read)).values())
        of_table, of_cases, wrong = cases(table, read, settings, download)
        patches += of_table
        findings += of_cases
        problems += [f"{table.path.name}, {problem}" for problem in wrong]
    used = {path for patch in patches for path in (patch.path, patch.lesion)}
    unused = {
        "DICOM files that no row uses (ready-made crops among them)": len(
            download.headers.keys() - used
        ),
        "DICOM files that cannot be read": len(download.unreadable),
    }
    if not patches and not problems and not findings:
        problems.append("no row of the tables is of the chosen `abnormalities`")
    listing = Listing(
        "row",
        tuple(patches),
        tuple(problems),
        {**download.left_out, **unused},
        attributes=tuple(attributes),
    )
    return listing.sifted(findings, settings.leave_out)


@dataclass(frozen=True)
class CaseTable:
    """One of the tables: what it is of, the official split, and where it stands."""

    kind: Kind
    split: Literal["train", "test"]
    path: Path


@dataclass(frozen=True)
class Download:
    """The DICOM files below a folder by the series that they belong to, and what else is there.

    `headers` are by path; `unreadable` says why there is none. `problems` are of the folder, and
    `left_out` counts its other files.
    """

    headers: Mapping[Path, DicomHeader]
    by_series: Mapping[str, tuple[Path, ...]]
    unreadable: Mapping[Path, str]
    problems: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


def case_tables(settings: CbisDdsmSettings) -> list[CaseTable]:
    """The tables of case descriptions below `src`, in their order.

    Raises:
        InputError: when there is none, or one that is not called as the archive calls it, or two
            are of the same kind and split.
    """
    patterns = settings.tables or {"**/*_case_description_*.csv": None}
    names = {name for pattern in patterns for name in files_fitting(settings.src, pattern)}
    paths = sorted(settings.src / name for name in names)
    tables: dict[tuple[str, str], CaseTable] = {}
    for path in paths:
        match = _TABLE.fullmatch(path.name)
        if match is None:
            raise InputError(
                "tables: one is not called as the archive calls it (such as "
                "mass_case_description_train_set.csv), which says what it is of; rename it"
            )
        kind: Kind = "mass" if match[1].lower() == "mass" else "calc"
        split: Literal["train", "test"] = "train" if match[2].lower() == "train" else "test"
        if (kind, split) in tables:
            raise InputError(
                f"tables: two are of {kind} and {split}; name the right ones in `tables`"
            )
        tables[kind, split] = CaseTable(kind, split, path)
    if not tables:
        raise InputError(
            f"tables: none was found in {settings.src} (such as "
            "mass_case_description_train_set.csv); download them from the archive, and put them "
            "into that folder"
        )
    return [tables[key] for key in _ORDER if key in tables]


def index_download(settings: CbisDdsmSettings, tables: Sequence[CaseTable]) -> Download:
    """Read the header of every DICOM file below `src`, hidden and system folders apart."""
    contents = folder_contents(settings.src, settings.follow_links_into)
    reading = settings.dicom or DicomReading()
    headers: dict[Path, DicomHeader] = {}
    unreadable: dict[Path, str] = {}
    by_series: dict[str, list[Path]] = {}
    named_dicom = [path for path in (*contents.images, *sorted(contents.others)) if is_dicom(path)]
    for path in progress(named_dicom, what="reading headers"):
        try:
            headers[path] = read_header(path, reading)
        except InputError as error:
            unreadable[path] = str(error)
            continue
        by_series.setdefault(headers[path].series_uid, []).append(path)
    together = {series: tuple(paths) for series, paths in by_series.items()}
    count = contents.left_out([*named_dicom, *(table.path for table in tables)])
    return Download(headers, together, unreadable, contents.problems, count)


def _columns(read: Sheet) -> dict[str, str]:
    """The columns of a table by their names in lower case and without blanks."""
    return {"_".join(name.lower().split()): name for name in read.columns}


def _attributes(settings: "CbisDdsmSettings", columns: Iterable[str]) -> dict[str, str]:
    """The columns of a table that are kept, and what each is called in the set."""
    kept, kinds = settings.attributes, settings.abnormalities
    return {
        name: called
        for name, called in _ATTRIBUTES.items()
        if name in columns and (kept is None or called in kept)
        if name not in _OF_ONE_KIND or _OF_ONE_KIND[name] in kinds
    }


def cases(
    table: CaseTable, read: Sheet, settings: "CbisDdsmSettings", download: Download
) -> tuple[list[Patch], list[Finding], list[str]]:
    """The lesions of one table, what is wrong with others by their rows, and with the table."""
    column_of = _columns(read)
    missing = [name for name in _REQUIRED if name not in column_of]
    if missing or read.problems:
        no_column = f"has no column {', '.join(missing)}; download the table again"
        return [], [], [*read.problems, *([no_column] if missing else [])]
    patches: list[Patch] = []
    findings: list[Finding] = []
    first_row: dict[tuple[Path, Path], int] = {}
    shown_by: dict[Path, tuple[int, tuple[str, str, str]]] = {}
    for line, record in read.records.items():
        row = {name: " ".join(record[column].split()) for name, column in column_of.items()}
        if row["abnormality_type"].lower() not in settings.abnormalities:
            continue
        number = f"{line} of {table.path.name}"
        patch, of_row = _case(number, row, table, settings, download)
        if patch is not None and isinstance(patch.lesion, Path):
            seen = first_row.setdefault((patch.path, patch.lesion), line)
            if seen != line:
                of_row.append(Finding(number, f"the same lesion as row {seen}"))
            whose = (patch.patient, row["left_or_right_breast"], row["image_view"])
            first, said = shown_by.setdefault(patch.path, (line, whose))
            if said != whose:
                text = f"its image has another patient, side or view in row {first}"
                of_row.append(Finding(number, text))
        findings += of_row
        if patch is not None and not of_row:
            patches.append(patch)
    return patches, findings, []


def _case(
    number: Number,
    row: Mapping[str, str],
    table: CaseTable,
    settings: "CbisDdsmSettings",
    download: Download,
) -> tuple[Patch | None, list[Finding]]:
    """The lesion of one row, or what is wrong with it."""
    findings: list[Finding] = []
    patient = normalised_id(row["patient_id"]) or ""
    if (problem := id_problem(row["patient_id"])) is not None:
        findings.append(Finding(number, f"patient_id: {problem}", "no_patient"))
    word = row["pathology"]
    label = _PATHOLOGY.get(word) if settings.labels is None else settings.words.of_cell(word)
    if label is None or math.isnan(label):
        text = "pathology: is none of MALIGNANT, BENIGN, BENIGN_WITHOUT_CALLBACK; see `labels`"
        findings.append(Finding(number, text, "unknown_class"))
        label = math.nan
    try:
        path = _full_image(row, download)
        header = download.headers[path]
        if (problem := _contradiction(row, header)) is not None:
            findings.append(Finding(number, problem, "contradiction"))
        mask = _mask(row, download, path, settings.dicom or DicomReading())
    except _UnusableError as error:
        return None, [*findings, Finding(number, str(error), error.reason)]
    split = table.split if settings.official_splits else None
    return (
        Patch(
            number=number,
            path=path,
            patient=patient,
            split=split,
            targets=(label,),
            attributes={called: row[name] for name, called in _attributes(settings, row).items()},
            lesion=mask,
        ),
        findings,
    )


class _UnusableError(ValueError):
    """Why a row has no image or no mask, and the reason for which it may be left out, if any."""

    def __init__(self, text: str, reason: Reason | None) -> None:
        super().__init__(text)
        self.reason = reason


def _series_uid(cell: str, name: str) -> str:
    """The series that a path of the table names: the folder that the file lies in."""
    parts = cell.replace("\\", "/").replace(" ", "").split("/")
    if len(parts) < 2 or not _UID.fullmatch(parts[-2]):
        raise _UnusableError(
            f"{name}: is no path as the archive has them (case/study UID/series UID/file)",
            "missing_file",
        )
    return parts[-2]


def _files_of(series_uid: str, download: Download, what: str) -> list[Path]:
    """The files of a series; of copies that are the same to the bit, one.

    A row is left out for what its own files say; where files of several persons may be meant, none.
    """
    files: dict[str, Path] = {}
    for path in download.by_series.get(series_uid, ()):
        first = files.setdefault(download.headers[path].sop_uid, path)
        if first != path and sha256_file(first) != sha256_file(path):
            raise _UnusableError(
                f"{what}: two files bear one UID (SOP instance) and are not the same; remove the "
                "damaged one, or download the series again",
                _reason_within((first, path), download),
            )
    if not files:
        damaged = [
            problem for path, problem in download.unreadable.items() if series_uid in path.parts
        ]
        if damaged:
            raise _UnusableError(f"{what}: {damaged[0]}", "unreadable")
        raise _UnusableError(
            f"{what}: no file in the folder is of its series; download it", "missing_file"
        )
    return list(files.values())


def _reason_within(files: Sequence[Path], download: Download) -> Reason | None:
    """Why a row may be left out for files that contradict each other: they are of one person.

    Where UIDs are of several persons, one who is not there would leave another's row in.
    """
    persons = {download.headers[path].patient_id for path in files}
    return "contradiction" if len(persons) == 1 and persons != {""} else None


def _full_image(row: Mapping[str, str], download: Download) -> Path:
    what = "the full image"
    series = _series_uid(row["image_file_path"], "image file path")
    files = _files_of(series, download, what)
    if len(files) > 1:
        raise _UnusableError(
            f"{what}: its series holds {len(files)} images, where one is expected",
            _reason_within(files, download),
        )
    return files[0]


def _contradiction(row: Mapping[str, str], header: DicomHeader) -> str | None:
    """What the row and the header of its image say differently."""
    side, view = row["left_or_right_breast"], row["image_view"]
    if header.laterality and not same_side_or_view(side, header.laterality):
        return "the table and the image's header name two sides (laterality) for one image"
    if header.view and not same_side_or_view(view, header.view):
        return "the table and the image's header name two views for one image"
    return None


def _mask(row: Mapping[str, str], download: Download, image: Path, reading: DicomReading) -> Path:
    """The mask of a row among the files that it names as mask and as crop, by what they are."""
    full = download.headers[image]
    series = {
        _series_uid(row["roi_mask_file_path"], "ROI mask file path"): None,
        _series_uid(row["cropped_image_file_path"], "cropped image file path"): None,
    }
    candidates: dict[Path, None] = {}
    problem: _UnusableError | None = None
    for one in series:
        try:
            candidates |= dict.fromkeys(_files_of(one, download, "the mask"))
        except _UnusableError as error:
            problem = error  # the other series may hold both
    size = (full.height_px, full.width_px)
    fitting = [
        path
        for path in candidates
        if path != image
        and (download.headers[path].height_px, download.headers[path].width_px) == size
    ]
    if len(fitting) > 1:  # a crop as large as the image, or two masks
        fitting = [path for path in fitting if _has_two_levels(path, reading)]
    if len(fitting) == 1:
        return fitting[0]
    if problem is not None and not fitting:
        raise problem
    if fitting:
        text = "the mask: several files are masks of this image"
        raise _UnusableError(text, _reason_within(fitting, download))
    raise _UnusableError(
        f"the mask: no file of the row has the {size[1]} x {size[0]} px of its image, so that "
        "nobody knows where the lesion lies",
        "no_region",
    )


def _has_two_levels(path: Path, reading: DicomReading) -> bool:
    try:
        mask_region(read_mask(path, reading))
    except InputError:
        return False
    return True
