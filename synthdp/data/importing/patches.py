"""Import patches that stand in class folders, with a metadata table or without, as a data set."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from synthdp.config.spellings import respelled, started_in
from synthdp.data.dataset import raise_problems
from synthdp.data.decoding import NARROW, decode_pixels
from synthdp.data.description import KEY_FILE, DatasetInfo, read_info
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.importing.declared import (
    imported_statement,
    refuse_protected_files,
    refuse_relabelled,
)
from synthdp.data.importing.findings import Finding, Reason
from synthdp.data.importing.folders.arrays import array_image
from synthdp.data.importing.images.prepare import Prepared, PreparedImages, prepare, staging_beside
from synthdp.data.importing.images.survey import Pixels
from synthdp.data.importing.images.volumes import prepare_volumes
from synthdp.data.importing.lesions.full_images import (
    FULL_IMAGES_AT_ONCE,
    full_images,
    read_lesions,
)
from synthdp.data.importing.listing import Listing, list_patches
from synthdp.data.importing.note import (
    NOTE,
    ImportNote,
    import_note,
    note_words,
    noted_settings,
    read_note,
)
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.patients.assignment import (
    AssignedImages,
    assign,
    id_problems,
    in_cohort,
    link_problems,
    refuse_empty_split,
    set_key,
    split_problems,
    unit_problems,
)
from synthdp.data.importing.patients.links import read_links
from synthdp.data.importing.settings.lesions import CropSettings
from synthdp.data.importing.settings.listing import FORMER_PATTERNS
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.importing.sources import (
    CHANGED_MEND,
    SOURCE_DIGESTS_FILE,
    refuse_changed_sources,
    source_files,
    source_inputs,
)
from synthdp.data.looks.pose import Poses, shows_chests, unlike_poses
from synthdp.data.people.cohorts import SHARED_KEY_FILE
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError, for_shell
from synthdp.machine.progress import progress
from synthdp.machine.terminal import for_the_holder
from synthdp.privacy.lineage import Cohort, Lineage, key_id
from synthdp.privacy.promise.statement import Statement
from synthdp.runs.cards import dataset_card
from synthdp.runs.inputs import INPUTS_FILE, Input, as_json
from synthdp.storage.files import sha256_file

logger = logging.getLogger(__name__)


def run_patches(settings: PatchesSettings) -> Path:
    """Import the images below `src` to the data set `out`; returns `out`.

    Copies, near-copies of different patients and conflicting labels are reported (in full in
    `private/import.json`) and stop nothing.

    Guarantee: without `unit_from: looks`, the written id, split, cohort, targets, attributes and
    pixels of a patient are functions of that patient's rows and files, of the key and of public
    settings, whoever else is there. Persons are what ids and `links` say: no image is compared with
    another to find out.

    Raises:
        InputError: with every problem at once, when an image is unreadable or unsafe, it is not
            known what it shows or whose it is, or a split or cohort stays empty.
    """
    return import_once(settings, lambda: list_patches(settings))


def import_once(settings: PatchesSettings, listed: Callable[[], Listing]) -> Path:
    """Import what is `listed` to the data set `out`, if it is not there; returns `out`.

    Guarantee: as `run_patches`, where the listing of a patient's images depends on nobody else.

    Raises:
        InputError: as `run_patches`.
    """
    if _is_imported(settings):
        logger.info("%s is there already, from these settings", settings.out)
        return settings.out
    refuse_relabelled(settings)
    sources = source_files(settings)
    listing = listed()
    refuse_protected_files(settings, listing)
    statement = imported_statement(settings)
    person_of = read_links(settings.links) if settings.links is not None else {}
    with staging_beside(settings.out) as staging:
        kept, key = staging / SOURCE_DIGESTS_FILE, set_key(settings)
        # before they are read, so that an edit of one meanwhile, or a file that comes late, shows
        inputs = source_inputs(settings, settings.src, sources, key=key, kept=kept)
        made, outcomes = _prepared(settings, listing, staging)
        listing, prepared = _readable(settings, listing, outcomes)
        _refuse_problems(settings, listing, person_of)
        if idle := person_of.keys() - {patch.patient for patch in listing.patches}:
            logger.info(
                "links: %d of %d ids are of no image here",
                len(idle),
                len(person_of),
                extra=_of_patients(settings),
            )
        facts = [image.facts for image in prepared]
        looks = made.thumbnails.of([image.row for image in prepared])
        if shows_chests(settings.targets) and (poses := unlike_poses(looks)) != Poses():
            logger.info(
                "%d image(s) look inverted or turned%s; `synthdp data check` names the rows",
                len(poses.of_images),
                f", and {poses.of_set}" if poses.of_set else "",
                extra=_of_patients(settings),
            )
        assignment = assign(settings, listing, facts, looks, key=key, person_of=person_of)
        images, cohort = AssignedImages(listing, facts, assignment), None
        members = _without_extra_crops(listing.patches, assignment.splits)
        if settings.cohort is not None:
            cohort = Cohort(key_id=key_id(key, assignment.linked), part=settings.cohort)
            in_part = set(in_cohort(settings, cohort, assignment, key))
            members = [index for index in members if index in in_part]
        images, prepared = images.only(members), [prepared[index] for index in members]
        if settings.val_fraction is not None and settings.shows_patients:
            refuse_empty_split(images.assignment.splits)
        info = _described(settings, statement, cohort, assignment.linked)
        card = _card(settings, statement, len(images.facts))
        digests = kept.read_bytes() if kept.is_file() else None
        _write(settings, info, images, prepared, key, card=card, inputs=inputs, digests=digests)
    return settings.out


def _prepared(
    settings: PatchesSettings, listing: Listing, staging: Path
) -> tuple[PreparedImages, list[tuple[Patch, Prepared | str]]]:
    """Prepare all listed images; each with its patch, or the text of what is wrong with it.

    A full image is read once, and what is cut from it comes together.
    """
    size_px, workers = settings.size_px, settings.workers
    of_each: list[tuple[Patch, ...]]
    if settings.form is not None:
        of_each = [(patch,) for patch in listing.patches]
        made = prepare_volumes(listing.patches, settings, settings.form, staging)
    elif all(patch.lesion is None for patch in listing.patches):
        of_each = [(patch,) for patch in listing.patches]
        made = prepare(
            [ImageFile(patch.path, patch.entry) for patch in listing.patches],
            partial(read_image_file, bits=settings.bits, reading=settings.dicom),
            staging=staging,
            size_px=size_px,
            workers=workers,
        )
    else:
        together = list(full_images(listing.patches))
        crop = settings.crop or CropSettings()
        of_each = [
            tuple(replace(patch, extra=at > 0) for patch in some for at in range(crop.crops))
            for _, some in together
        ]
        reading = settings.dicom or DicomReading()
        made = prepare(
            [source for source, _ in together],
            partial(read_lesions, crop=crop, reading=reading, bits=settings.bits, size_px=size_px),
            staging=staging,
            size_px=size_px,
            workers=workers,
            at_once=FULL_IMAGES_AT_ONCE,
        )
    outcomes: list[tuple[Patch, Prepared | str]] = []
    for patches, outcome in zip(of_each, made.outcomes, strict=True):
        images = [outcome] * len(patches) if isinstance(outcome, str) else outcome
        outcomes += zip(patches, images, strict=True)
    return made, outcomes


def _without_extra_crops(patches: Sequence[Patch], splits: Sequence[str]) -> list[int]:
    """The indices of all images but the extra crops outside train: what is judged counts once."""
    return [
        index
        for index, (patch, split) in enumerate(zip(patches, splits, strict=True))
        if split == "train" or not patch.extra
    ]


@dataclass(frozen=True)
class ImageFile:
    """A file that is one image of the set, or holds it at an index of an array."""

    path: Path
    entry: tuple[str, int] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """That file alone."""
        return (self.path,)


def read_image_file(
    source: ImageFile, *, bits: int | None = None, reading: DicomReading | None = None
) -> list[Pixels]:
    """The one image of a file, of whose samples `bits` are used; of DICOM, as `reading` says.

    Raises:
        InputError: as `decode_pixels` and `array_image`.
    """
    if source.entry is not None:
        return [array_image(source.path, *source.entry, bits=bits)]
    return [decode_pixels(source.path, bits=bits, reading=reading)]


def _readable(
    settings: PatchesSettings, listing: Listing, outcomes: Sequence[tuple[Patch, Prepared | str]]
) -> tuple[Listing, list[Prepared]]:
    """The listing of the images that could be read, and these; what is wrong with the others."""
    findings, kept = list[Finding](), list[tuple[Patch, Prepared]]()
    for patch, outcome in outcomes:
        if not isinstance(outcome, str):
            kept.append((patch, outcome))
        elif not patch.extra:
            reason: Reason = "narrow_range" if NARROW in outcome else "unreadable"
            findings.append(Finding(patch.number, outcome, reason))
    listing = listing.sifted(findings, settings.leave_out)
    return replace(listing, patches=tuple(patch for patch, _ in kept)), [one for _, one in kept]


def _refuse_problems(
    settings: PatchesSettings, listing: Listing, person_of: Mapping[str, str]
) -> None:
    """Refuse an import with all that is wrong with it.

    Raises:
        InputError: when anything is.
    """
    problems = [
        *listing.problems,
        *link_problems(listing, person_of),
        *id_problems(settings, listing, person_of),
        *unit_problems(settings, listing),
        *split_problems(settings, listing, person_of),
    ]
    if not listing.patches and not problems:
        problems.append("every image was left out")
    raise_problems(
        f"{settings.src}: nothing was imported (images are counted in the order of their paths, "
        "rows as in a spreadsheet)",
        problems,
    )


def _is_imported(settings: PatchesSettings) -> bool:
    """Whether `out` was imported with the same settings from the same sources.

    Raises:
        InputError: when it was imported otherwise, or holds something else.
    """
    note = read_note(settings.out)
    if note is not None and _is_as_noted(settings, _settings_now(note, settings)):
        if note.moved_by_others:
            raise InputError(
                f"{settings.out}: imported by an earlier version, which split patients or made ids "
                "one by who else was there; import into a new `out` for a split by a keyed hash "
                "of each id, and keep this folder if anything was ever made of it"
            )
        if note.links_sha256 != _links_sha256(settings):
            raise InputError(
                f"{settings.out}: the table of links has changed since this was imported; "
                f"{CHANGED_MEND}"
            )
        key_file = KEY_FILE if settings.cohort is None else SHARED_KEY_FILE
        refuse_changed_sources(
            settings.out, settings, settings.src, lambda: source_files(settings), key_file=key_file
        )
        return True
    if settings.out.exists() and (not settings.out.is_dir() or any(settings.out.iterdir())):
        raise InputError(
            f"{settings.out}: exists already, and not from these settings; name a new `out` (and "
            "keep this one, if it is a data set of which anything was ever made)"
        )
    return False


def _is_as_noted(settings: PatchesSettings, noted: Mapping[str, Any]) -> bool:
    """Whether settings are those of an import, however paths of one place are spelled."""
    asked = noted_settings(settings)
    base = started_in(settings.out, noted.get("out"))
    return bool(noted == respelled(settings, asked, noted, base))


def _settings_now(note: ImportNote, settings: PatchesSettings) -> dict[str, Any]:
    """The settings of an import; those of earlier versions, in today's words."""
    fields = type(settings).model_fields
    defaults = {name: field.default for name, field in fields.items()}
    added = {
        name: list(default) if isinstance(default, tuple) else default  # as JSON has it
        for name, default in defaults.items()
        if name not in note.settings
    }
    # Once a size of None stood for the images' own.
    size_px = note.settings.get("size_px") or read_info(settings.out).size_px
    # Once patterns stood for the words of a class.
    former = {
        name: None
        for name, pattern in FORMER_PATTERNS.items()
        if note.settings.get(name) == pattern
    }
    now = {"size_px": size_px, "workers": settings.workers}  # how many worked decides nothing
    return {**added, **note.settings, **former, **now}


def _links_sha256(settings: PatchesSettings) -> str | None:
    links = settings.links
    return sha256_file(links) if links is not None and links.is_file() else None


def _described(
    settings: PatchesSettings, statement: Statement | None, cohort: Cohort | None, linked: str
) -> DatasetInfo:
    lineage = Lineage() if statement is None else statement.lineage
    if settings.kind == "public":
        lineage = Lineage(public=(settings.name,))
    return DatasetInfo(
        name=settings.name,
        kind=settings.kind,
        size_px=settings.size_px,
        targets=settings.targets,
        licence=settings.licence,
        description=settings.description,
        unit="image" if settings.images_are_patients else "patient",
        unit_from=settings.unit_from,
        linked=linked,
        lineage=lineage,
        delta=statement.delta if statement is not None and lineage.releases else None,
        cohort=cohort,
        population=settings.population,
        depth=None if settings.form is None else settings.form.depth,
        volumes=settings.form,
    )


def _card(settings: PatchesSettings, statement: Statement | None, n_images: int) -> str:
    """The card of a synthetic set; real ones, which have no statement, get none."""
    if statement is None:
        return ""
    sides = f"{settings.size_px} x {settings.size_px} px"
    what = f"Synthetic {sides} images, imported."
    if settings.form is not None:
        what = f"Synthetic volumes of {settings.form.depth} slices of {sides}, imported."
    return dataset_card(
        title=settings.name,
        summary=settings.description or what,
        licence=settings.licence,
        statement=statement,
        n_images=n_images,
    )


def _write(
    settings: PatchesSettings,
    info: DatasetInfo,
    images: AssignedImages,
    prepared: Sequence[Prepared],
    key: bytes,
    *,
    card: str,
    inputs: Mapping[str, Input],
    digests: bytes | None,
) -> None:
    listing, assignment = images.listing, images.assignment
    budget = None
    if settings.privacy is not None:
        budget = settings.privacy.budget.model_copy(update={"unit": info.unit})
    with create_dataset(settings.out, info, card=card, budget=budget) as writer:
        writer.keep_key(KEY_FILE if info.cohort is None else SHARED_KEY_FILE, key)
        rows = zip(listing.patches, prepared, assignment.ids, assignment.splits, strict=True)
        for patch, image, patient_id, split in progress(
            rows, what="writing images", total=len(prepared)
        ):
            writer.add_png(
                image.png(),
                patient_id=patient_id,
                split=split,
                targets=patch.targets,
                attributes={name: patch.attributes.get(name, "") for name in listing.attributes},
            )
        note = import_note(
            images,
            size_px=None if info.depth is not None else info.size_px,
            with_ids=settings.ids == "kept",
        )
        source = {
            "settings": noted_settings(settings),
            "links_sha256": _links_sha256(settings),
        }
        writer.note(NOTE, {**source, **note})
        writer.note(INPUTS_FILE.name, as_json(inputs))
        if digests is not None:
            writer.keep_file(SOURCE_DIGESTS_FILE, digests)
    if settings.kind == "public":
        logger.info(
            "declared public: nothing that learns from this set is charged to its patients, "
            "nothing protects them, and each statement says so"
        )
    elif settings.images_are_patients:
        logger.info("each image counts as a patient of its own, so ask for privacy.unit=image")
    for line in note_words(note, images, settings.targets, kind=settings.kind):
        logger.info(line, extra=_of_patients(settings))


def _of_patients(settings: PatchesSettings) -> dict[str, str] | None:
    """The `extra` of log calls that tell of a set's images; None where no patient is protected.

    It is the same for all lines, so that a log does not say whether there was one of a kind.
    """
    if settings.kind != "real":
        return None
    page = f"`synthdp data show {for_shell(settings.out)}`"
    return for_the_holder(f"those of this set stand on the page of {page}")
