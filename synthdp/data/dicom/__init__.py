"""DICOM as it comes from a hospital: allow-listed facts and grey levels as they are to be seen."""

from synthdp.data.dicom.file import looks_like_dicom
from synthdp.data.dicom.header import DicomHeader, DicomReading, read_header, same_instance
from synthdp.data.dicom.image import DicomImage, read_dicom

__all__ = [
    "DicomHeader",
    "DicomImage",
    "DicomReading",
    "looks_like_dicom",
    "read_dicom",
    "read_header",
    "same_instance",
]
