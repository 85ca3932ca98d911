"""The pixel data of a DICOM image: one frame, decoded, checked, as the words that are stored."""
