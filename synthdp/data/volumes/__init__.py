"""Volumes (NIfTI, arrays, DICOM series): read, straightened, and brought to the form of a set."""
