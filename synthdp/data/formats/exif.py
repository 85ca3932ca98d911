"""The orientation that PNG and JPEG keep in EXIF, by the rule of TIFF's tag 274."""

from PIL import Image

from synthdp.data.formats.tiff import ORIENTATION
from synthdp.errors import InputError


def exif_orientation(image: Image.Image) -> int:
    """The orientation tag of an opened image; 1 where it has none.

    Raises:
        InputError: when the block is there and damaged, so that nobody knows which way is up.
    """
    try:
        stated = image.getexif().get(ORIENTATION, 1)
    except Exception as error:  # Pillow raises whatever a damaged block leads it into
        raise InputError("its EXIF block is damaged; save it upright, without one") from error
    return stated if isinstance(stated, int) else -1
