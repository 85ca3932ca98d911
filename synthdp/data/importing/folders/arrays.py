"""Images that stand as arrays in one .npz file, a split beside the other, as MedMNIST's do."""

import zipfile
from collections import Counter
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthdp.data.formats.samples import Samples, grey_levels
from synthdp.data.importing.findings import Finding
from synthdp.data.importing.images.survey import Pixels
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.patients.ids import id_problem, normalised_id
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.settings.tables import ArraySettings
from synthdp.data.manifest.contract import SPLITS
from synthdp.errors import InputError
from synthdp.storage.files import refuse_without_descriptors

#: An array is unpacked whole, and held while its images are read.
MAX_ARRAY_BYTES = 2 * 2**30
_IMAGE_DIMENSIONS, _COLOUR_DIMENSIONS, _VOLUME_DIMENSIONS = 3, 4, 4


def array_image(path: Path, array: str, index: int, *, bits: int | None = None) -> Pixels:
    """The (H, W) grey levels of the image of that index in an array of a .npz file.

    Args:
        path: of the file.
        array: its name in the file.
        index: along its first axis.
        bits: how many bits of a sample are used, where its type has more.

    Raises:
        InputError: when the array can't be read, or the image is no grey one.
    """
    stored = entry_of(path, array, index)
    values = stored.reshape(*stored.shape[:2], -1)
    return grey_levels(Samples(values, top=2 ** (8 * values.dtype.itemsize) - 1), bits)


def entry_of(path: Path, array: str, index: int) -> NDArray[Any]:
    """What stands at an index of an array of a .npz file.

    Raises:
        InputError: when the array can't be read.
    """
    entry: NDArray[Any] = _array(path, array, path.stat().st_mtime_ns)[index]
    return entry


def patches_in_arrays(
    settings: ListingSettings, arrays: ArraySettings, path: Path
) -> tuple[list[Patch], list[Finding], list[str]]:
    """The images of a .npz file that were asked for, counted through its splits; what is wrong with
    others; and with the file.
    """
    patches: list[Patch] = []
    findings: list[Finding] = []
    problems: list[str] = []
    seen = Counter[str]()
    number = 0
    for split in SPLITS:
        try:
            images, labels, patients = _of_split(settings, arrays, path, split)
        except InputError as error:
            problems.append(str(error))
            continue
        if images is None or split not in settings.splits:
            number += 0 if images is None else len(images)
            continue
        for index in range(len(images)):
            number += 1
            targets, of_image = _targets(settings, labels[index], number)
            # Of what labels mean, since how they are stored may depend on another's (1 or 1.0).
            digest = sha256(f"{split} {targets} {images[index].shape}".encode())
            digest.update(images[index].tobytes())
            # Its place in the array would depend on who else is there; what it shows does not.
            own = f"pixels {digest.hexdigest()[:32]}"  # no safe id, so that a keyed hash is written
            patient = own if not seen[own] else f"{own}-{seen[own]}"
            seen[own] += 1
            if patients is not None:
                text = str(patients[index])
                patient = normalised_id(text) or ""
                if (problem := id_problem(text)) is not None:
                    of_image.append(Finding(number, problem, "no_patient"))
            findings += of_image
            if not of_image:
                entry = (arrays.images.replace("{split}", split), index)
                patches.append(Patch(number, path, patient, split, targets, entry=entry))
    if arrays.patients is None and settings.shows_patients and not settings.images_are_patients:
        problems.append(
            "arrays: no array tells whose an image is; name it as `patients`, or set "
            "patient_pattern to the word none where each image counts as a patient of its own"
        )
    if not number and not problems:
        problems.append(
            f"holds no array {arrays.images.replace('{split}', 'train')}; name its arrays in "
            "`arrays`"
        )
    return patches, findings, problems


def _of_split(
    settings: ListingSettings, arrays: ArraySettings, path: Path, split: str
) -> tuple[NDArray[Any] | None, NDArray[Any], NDArray[Any] | None]:
    """Images (N, H, W) or (N, H, W, 3), of volumes (N, D, H, W), labels (N, K) and patients (N,) of
    one split, if any.
    """
    image_name, label_name = (
        name.replace("{split}", split) for name in (arrays.images, arrays.labels)
    )
    names = _names(path)
    if image_name not in names:
        return None, np.empty(0), None
    stamp = path.stat().st_mtime_ns
    images = _array(path, image_name, stamp)
    if settings.form is not None:
        if images.ndim != _VOLUME_DIMENSIONS or images.dtype.kind not in "uif":
            raise InputError(
                f"{image_name}: an array of {images.ndim} dimensions of {images.dtype}; volumes "
                "are (N, slices, height, width) of numbers"
            )
    elif images.ndim not in (_IMAGE_DIMENSIONS, _COLOUR_DIMENSIONS) or images.dtype.kind != "u":
        raise InputError(
            f"{image_name}: an array of {images.ndim} dimensions of {images.dtype}; images are "
            "(N, height, width) of uint8 or uint16"
        )
    if label_name not in names:
        raise InputError(f"{label_name}: there is no such array; name it in `arrays`")
    labels = _array(path, label_name, stamp)
    labels = labels.reshape(len(labels), -1) if labels.ndim else labels.reshape(1, 1)
    if labels.shape != (len(images), len(settings.targets)):
        raise InputError(
            f"{label_name}: of shape {labels.shape} for {len(images)} images and "
            f"{len(settings.targets)} target(s); name the targets in their order"
        )
    patients = None
    if arrays.patients is not None:
        patients = _array(path, arrays.patients.replace("{split}", split), stamp).ravel()
        if len(patients) != len(images):
            raise InputError(f"{arrays.patients}: {len(patients)} for {len(images)} images")
    return images, labels, patients


def _targets(
    settings: ListingSettings, labels: NDArray[Any], number: int
) -> tuple[tuple[float, ...], list[Finding]]:
    values, findings = [], []
    for target, label in zip(settings.targets, labels.tolist(), strict=True):
        value = settings.words_of(target).of_cell(str(label))
        if value is None:
            problem = f"{target}: {label!r} is no word for a class; say what it means in `labels`"
            findings.append(Finding(number, problem, "unknown_class"))
        else:
            values.append(value)
    return tuple(values), findings


def _names(path: Path) -> frozenset[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(name.removesuffix(".npy") for name in archive.namelist())
    except OSError as error:
        refuse_without_descriptors(error)
        raise InputError("cannot be read; give the user that runs this the right to") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError("not a readable .npz file (truncated, or of another kind)") from error


@lru_cache(maxsize=3)
def _array(path: Path, name: str, stamp: int) -> NDArray[Any]:
    """An array of a .npz file, which `stamp` tells from another of that name.

    Raises:
        InputError: when it is larger than `MAX_ARRAY_BYTES`, damaged, or holds objects.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(member)
            if int(np.prod(shape, dtype=object)) * dtype.itemsize > MAX_ARRAY_BYTES:
                raise InputError(f"{name}: an array of more than {MAX_ARRAY_BYTES // 2**30} GiB")
        with np.load(path, allow_pickle=False) as content:
            array: NDArray[Any] = content[name]
            return array
    except InputError:
        raise
    except OSError as error:
        refuse_without_descriptors(error)
        raise InputError(f"{name}: cannot be read") from error
    except Exception as error:  # a damaged file leads the reader into anything
        raise InputError(f"{name}: not a readable array of numbers") from error
