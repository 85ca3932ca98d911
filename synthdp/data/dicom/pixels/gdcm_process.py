"""A process of its own that decodes one frame by GDCM, whose damaged ones end the process.

It is run by its path, and imports GDCM alone: that takes 0.05 s, where synthdp would take seconds.
A line of JSON and the frame come in, the pixels go out.
"""

import json
import sys


def main() -> int:
    """Decode the frame on the standard input to the standard output; 3 where GDCM is missing."""
    try:
        import gdcm  # noqa: PLC0415 (an extra; its absence is told from a failure)
    except ImportError:
        return 3
    shape = json.loads(sys.stdin.buffer.readline())
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(sys.stdin.buffer.read())
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((shape["columns"], shape["rows"], 1))
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(shape["syntax"])))
    stored = shape["bits_stored"]
    image.SetPixelFormat(
        gdcm.PixelFormat(1, shape["bits_allocated"], stored, stored - 1, shape["signed"])
    )
    image.SetDataElement(element)
    # GDCM gives its bytes as text
    sys.stdout.buffer.write(image.GetBuffer().encode("utf-8", "surrogateescape"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
