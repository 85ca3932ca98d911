"""DICOM files that tests write: one small mammogram, and whatever is to be other in it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

MG_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"
MG_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2.1"


def a_ramp(height: int = 16, width: int = 12, top: int = 4095) -> NDArray[np.uint16]:
    """Grey levels from 0 to `top`, line after line."""
    return np.linspace(0, top, height * width).round().astype(np.uint16).reshape(height, width)


def mammogram(pixels: NDArray[Any] | None = None, **others: Any) -> Dataset:
    """A data set of a mammogram of 12 bits in 16; `others` are elements that it has instead."""
    pixels = a_ramp() if pixels is None else pixels
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID = MG_FOR_PRESENTATION
    dataset.SOPInstanceUID = "2.25.111"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.11", "2.25.1"
    dataset.Modality, dataset.PatientID = "MG", "P-1"
    dataset.ImageLaterality, dataset.ViewPosition = "L", "MLO"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * pixels.itemsize
    dataset.BitsStored = 8 if pixels.itemsize == 1 else 12
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is not as DICOM has it is what some tests are about
        for keyword, value in others.items():
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def of_person(number: int) -> dict[str, str]:
    """Elements of the one image of a person of a number, who shares nothing with others."""
    return {
        "PatientID": f"P-{number}",
        "StudyInstanceUID": f"2.25.{5000 + number}",
        "SOPInstanceUID": f"2.25.{1000 + number}",
    }


def save(dataset: Dataset, path: Path) -> Path:
    """Write a data set in the transfer syntax of its file meta information."""
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_mammogram(path: Path, pixels: NDArray[Any] | None = None, **others: Any) -> Path:
    """Write a mammogram in Explicit VR Little Endian."""
    return save(mammogram(pixels, **others), path)
