"""DICOM as it comes from a hospital: allow-listed facts and grey levels as they are to be seen."""
