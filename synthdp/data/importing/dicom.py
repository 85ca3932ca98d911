"""Import mammograms and other radiographs in DICOM files, by a table of their lesions."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthdp.config.settings import read_settings, validate_settings
from synthdp.data.description import KEY_FILE
from synthdp.data.dicom.header import VIEWS, DicomHeader, read_header, same_instance
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.importing.findings import Finding, Number, in_order
from synthdp.data.importing.lesions.full_images import is_dicom
from synthdp.data.importing.lesions.region import guessed_columns, half_a_region
from synthdp.data.importing.listing import Listing, list_patches, tables_of
from synthdp.data.importing.note import named_numbers
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.patches import import_once
from synthdp.data.importing.patients.ids import normalised_id
from synthdp.data.importing.patients.links import read_links
from synthdp.data.importing.settings.dicom import DicomSettings
from synthdp.data.importing.settings.patches import on_its_mapping
from synthdp.data.importing.sources import refuse_changed_sources, source_files
from synthdp.data.importing.tables.cells import is_side, same_side_or_view
from synthdp.data.importing.tables.reader import asked_columns
from synthdp.data.importing.tables.sheets import read_sheet
from synthdp.errors import InputError
from synthdp.machine.progress import progress
from synthdp.machine.terminal import for_the_holder

logger = logging.getLogger(__name__)

#: What both a table and a header may say of an image.
_OF_BOTH = ("laterality", "view")
#: How many groups of ids that may be one person an error names.
MAX_GROUPS = 30


#: Settings that are of one set, and say nothing of how other images and tables are read.
_OF_ONE_SET = (
    *(
        "like",
        "src",
        "metadata",
        "tables",
        "out",
        "name",
        "licence",
        "description",
        "kind",
        "lineage",
    ),
    *("lineage_data", "ids", "key", "links", "unit_from", "cohort", "cohort_key", "val_fraction"),
    *("split", "splits", "split_column", "split_words", "population", "privacy", "workers"),
    *("follow_links_into", "joined", "given_splits"),
)


def settings_as_imported(file: Path | None, **others: Any) -> DicomSettings:
    """How other images and their table are read: by the settings file of an import, if any.

    What the file says of one set alone (places, ids, splits) is left aside; what `others` have
    counts before what it says of columns, words and crops, unless it is None.

    Raises:
        InputError: when there is no such file, or with all that is wrong in it.
    """
    values = on_its_mapping(read_settings(DicomSettings, file)) if file is not None else {}
    kept = {key: value for key, value in values.items() if key not in _OF_ONE_SET}
    given = {key: value for key, value in others.items() if value is not None}
    where = "settings" if file is None else f"as_imported, {file.name}"
    return validate_settings(DicomSettings, kept | given, where=where)


def run_dicom(settings: DicomSettings) -> Path:
    """Import the images that a table names to the data set `out`; returns `out`.

    Each full image is read once, its lesions are cut (`synthdp.data.importing.lesions.crops`), and
    nothing of its header is kept but view and laterality, where the table has none.

    Guarantee: as `run_patches`.

    Raises:
        InputError: as `run_patches`; also when files share a UID, or a header and the table name
            two sides or views for one image.
    """
    settings = with_region(settings)
    return import_once(settings, lambda: checked_by_headers(list_patches(settings), settings))


def refuse_other_sources(imported: Path, settings: DicomSettings) -> None:
    """Refuse to take a set for the import of these files where they have changed since.

    Raises:
        InputError: saying what has changed.
    """
    settings = with_region(settings)
    refuse_changed_sources(
        imported, settings, settings.src, lambda: source_files(settings), key_file=KEY_FILE
    )


def with_region(settings: DicomSettings) -> DicomSettings:
    """The settings, with the columns of the table that say where a lesion lies.

    Raises:
        InputError: when there is no table, or its columns say it in two ways, or by half.
    """
    tables = tables_of(settings) if settings.src.is_dir() else None
    if tables is None:
        raise InputError(
            "metadata: there is no table of the images; name one with --table, with a row for each "
            "lesion (DICOM files in class folders are imported by `synthdp data patches`)"
        )
    if settings.region is not None or settings.whole_images:
        return settings
    wanted = asked_columns(settings)  # by which the header is told from a title
    sheets = [read_sheet(path, settings.sheet_form, wanted=wanted) for path in tables]
    forms = {guessed_columns(sheet.columns) for sheet in sheets}
    if len(forms) > 1:
        raise InputError("region: the tables say in different ways where lesions lie; name columns")
    region = forms.pop()
    if region is None and settings.crop is not None:
        raise InputError(
            "crop: no column is called as those of lesions usually are, so that nothing is cut; "
            "name the columns in `region`, or leave `crop` out for whole images"
        )
    if region is None:
        half = half_a_region([name for sheet in sheets for name in sheet.columns])
        if half:
            raise InputError(
                f"region: the columns {', '.join(dict.fromkeys(half))} are called as those of "
                "lesions are, but don't make a box, an outline or a mask that is read; name "
                "the columns in `region`, give them usual names (xmin, ymin, xmax, ymax), or set "
                "whole_images: true"
            )
        logger.info("no column says where a lesion lies, so that images are taken whole")
        return settings
    logger.info("lesions are cut by the columns %s", ", ".join(region.names))
    return settings.model_copy(update={"region": region})


def checked_by_headers(listing: Listing, settings: DicomSettings) -> Listing:
    """The listing, with what its DICOM headers say of persons, view and side, or say otherwise.

    A file that can't be read is passed over: that is found when its pixels are. View and side are
    columns whether a header says them or not.
    """
    paths = list(dict.fromkeys(patch.path for patch in listing.patches))
    reading = settings.dicom or DicomReading()
    headers = dict(zip(paths, read_headers(paths, reading), strict=True))
    known = {path: header for path, header in headers.items() if header is not None}
    if unsaid := sum(header.burned_in == "unsaid" for header in known.values()):
        logger.info(
            "%d DICOM images do not say whether anything is written into the picture; look at the "
            "page of `synthdp data show`",
            unsaid,
            extra=for_the_holder(
                "some DICOM images do not say whether anything is written into the picture"
            ),
        )
    bearing = list(known)
    shared = {bearing[index] for group in same_instance(list(known.values())) for index in group}
    filled = [name for name in _OF_BOTH if name not in settings.targets]
    filled = filled if settings.attributes is None else []
    findings: list[Finding] = []
    patches = []
    for patch in listing.patches:
        if patch.path in shared:
            text = "another file has the UID of this one (SOP instance), so that one is a copy"
            findings.append(Finding(patch.number, f"{text}; name each image once"))
        if (header := known.get(patch.path)) is None:
            patches.append(patch)
            continue
        attributes, of_patch = _side_and_view(patch, header, filled, settings.attribute_words)
        findings += of_patch
        patches.append(replace(patch, attributes=attributes))
    columns = tuple(dict.fromkeys((*listing.attributes, *filled)))
    listing = replace(listing, patches=tuple(patches), attributes=columns)
    listing = listing.sifted(findings, settings.leave_out)
    if settings.header_ids == "compare" and not settings.images_are_patients:
        person_of = read_links(settings.links) if settings.links is not None else {}
        torn = torn_person_problems(listing, known, person_of)
        listing = replace(listing, problems=(*listing.problems, *torn))
    bad = {finding.number for finding in findings}
    return replace(listing, patches=tuple(one for one in listing.patches if one.number not in bad))


def _side_and_view(
    patch: Patch, header: DicomHeader, filled: Collection[str], said_of: Collection[str]
) -> tuple[dict[str, str], list[Finding]]:
    """The attributes of a patch with what its header says, and where the two disagree.

    Args:
        patch: with the words of its row.
        header: of its image.
        filled: the attributes that the header gives where the table has none.
        said_of: the attributes for whose words the settings have others, which stand.
    """
    attributes, findings = dict(patch.attributes), list[Finding]()
    for name in _OF_BOTH:
        said = str(getattr(header, name))
        if not attributes.get(name) and name in filled and said:
            attributes[name] = said
        elif said and attributes.get(name):
            if not same_side_or_view(said, attributes[name]):
                findings.append(_disagreement(patch.number, name, attributes[name]))
            elif name not in said_of:
                attributes[name] = said  # the header's word, so that a set has one for each
    return attributes, findings


def _disagreement(number: Number, name: str, word: str) -> Finding:
    """A table's word for a side or view that is not what the header says."""
    if is_side(word) if name == "laterality" else word.strip().upper() in VIEWS:
        text = f"{name}: the table and the image's header name two for one image"
        return Finding(number, text, "contradiction")
    meant = "L" if name == "laterality" else "CC"
    text = f"{name}: the table's word is none that is known; say what each means"
    return Finding(number, f"{text}, as in attribute_words: {{{name}: {{WORD: {meant}}}}}")


def torn_person_problems(
    listing: Listing, headers: Mapping[Path, DicomHeader], person_of: Mapping[str, str]
) -> list[str]:
    """Patients of the table who are one by the headers of their images, each group once.

    A table of exams or of pseudonyms made twice tears persons so, and a promise for each patient
    would then be one for each part of a person. Nobody is joined unasked: two hospitals may have
    given two persons one PatientID.

    Args:
        listing: of images with the patients that the table names.
        headers: of those images that have one.
        person_of: what `links` declare; whom it names all, it has settled.
    """
    first_number: dict[str, Number] = {}
    ids_sharing: dict[tuple[str, str], set[str]] = {}
    for patch in listing.patches:
        header = headers.get(patch.path)
        if header is None or not patch.patient:
            continue
        first_number.setdefault(patch.patient, patch.number)
        shared = (("have one PatientID", header.patient_id), ("are of one study", header.study_uid))
        for how, one in shared:
            if normalised_id(one) is not None:
                ids_sharing.setdefault((how, one), set()).add(patch.patient)
    torn: dict[str, set[frozenset[str]]] = {"have one PatientID": set(), "are of one study": set()}
    for (how, _), ids in ids_sharing.items():
        if len(ids) > 1 and not person_of.keys() >= ids:
            torn[how].add(frozenset(ids))
    torn["are of one study"] -= torn["have one PatientID"]
    problems = []
    for how, groups in torn.items():
        rows = sorted(in_order(first_number[one] for one in ids) for ids in groups)
        named = "; ".join(named_numbers(row) for row in rows[:MAX_GROUPS])
        more = f"; and {len(rows) - MAX_GROUPS} more" if len(rows) > MAX_GROUPS else ""
        if rows:
            problems.append(
                f"{listing.counted_by} {named}{more}: the table has several patients where the "
                f"headers of their images {how}; give each of these ids a row in `links`, with one "
                "person where they are one and else each with its own (header_ids: leave_aside is "
                "for files whose ids an anonymiser has made alike)"
            )
    return problems


def read_headers(paths: Sequence[Path], reading: DicomReading) -> list[DicomHeader | None]:
    """The header of each file; None of one that is not DICOM, or can't be read."""
    return [_header(path, reading) for path in progress(paths, what="reading headers")]


def _header(path: Path, reading: DicomReading) -> DicomHeader | None:
    try:
        return read_header(path, reading) if is_dicom(path) else None
    except InputError:
        return None
