"""The pixel data of a DICOM image: their one frame, decoded and checked, as words that are stored."""
