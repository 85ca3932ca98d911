"""Which reader is right about TIFF more often: ours over libtiff, tifffile, or Pillow as it is.

Run from the repository's root: `python scripts/bench_tiff_readers.py`, with tifffile installed, and
once more with imagecodecs beside it. A reader is right about a file where it gives the grey levels
that were stored, or refuses a file that has no one meaning. "By the same rules" is its array, read
by the tags that it hands out as ours is: polarity, depth, sign, orientation, channels.
"""

import importlib.util
import io
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from synthdp.data.decoding import decode_pixels
from synthdp.data.formats.samples import Samples, grey_levels
from synthdp.errors import InputError

try:
    import tifffile
except ImportError:
    tifffile = None


def ours(specimen: Any) -> np.ndarray:
    """By synthdp."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(specimen.content)
        return decode_pixels(Path(file.name), bits=specimen.bits)


def pillow(specimen: Any) -> np.ndarray:
    """By Pillow alone, as `np.asarray(Image.open(file))`."""
    with Image.open(io.BytesIO(specimen.content)) as image:
        array = np.asarray(image)
    return array if array.dtype != bool else array * np.uint8(255)


def tifffile_alone(specimen: Any) -> np.ndarray:
    """By tifffile alone, as `tifffile.imread(file)`."""
    array = tifffile.imread(io.BytesIO(specimen.content))
    return array if array.dtype != bool else array * np.uint8(255)


def tifffile_by_tags(specimen: Any) -> np.ndarray:
    """By tifffile, and the tags that it hands out read by our rules."""
    with tifffile.TiffFile(io.BytesIO(specimen.content)) as file:
        series = file.series[0]
        if len(file.pages) != 1 or len(series.shape) - (file.pages[0].samplesperpixel > 1) != 2:
            raise InputError("several frames")
        page = file.pages[0]
        photometric, format_ = int(page.photometric), int(page.sampleformat)
        if photometric not in (0, 1, 2, 3) or format_ not in (1, 2, 4) or 262 not in page.tags:
            raise InputError("not grey")
        values = page.asarray()
        if values.dtype == bool:
            values = values.astype(np.uint8)
        if page.samplesperpixel > 1 and int(page.planarconfig) == 2:
            values = np.moveaxis(values, 0, -1)
        values = values.reshape(page.imagelength, page.imagewidth, -1)
        bits = page.bitspersample
        top, doubt = 2**bits - 1, None
        if photometric == 3:
            colours = page.colormap.astype(np.int64)
            divisor = next((d for d in (257, 256) if not (colours % d).any()), 1)
            divisor = 1 if colours.max() < 256 else divisor
            top = 255 if divisor > 1 or colours.max() < 256 else 65535
            values = np.moveaxis(colours[:, values[..., 0]] // divisor, 0, -1)
        elif 281 in page.tags and format_ != 2:
            greatest = int(np.max(page.tags[281].value))
            if greatest.bit_length() < bits:
                power = (greatest + 1) & greatest == 0
                top, doubt = (greatest, None) if power else (top, "tag 281")
        signed = format_ == 2
        samples = Samples(
            values,
            top,
            least=-(2 ** (bits - 1)) if signed else 0,
            has_alpha=page.samplesperpixel in (2, 4),
            white_is_zero=photometric == 0,
            orientation=page.tags[274].value if 274 in page.tags else 1,
            doubt=doubt,
        )
        return grey_levels(samples, specimen.bits)


def is_right(read: Callable[[Any], np.ndarray], specimen: Any) -> bool:
    """Whether a reader gives what a file means, or refuses what means nothing."""
    try:
        shown = read(specimen)
    except Exception:
        return specimen.meant is None
    meant = specimen.meant
    return meant is not None and shown.dtype == meant.dtype and np.array_equal(shown, meant)


def main() -> None:
    """Print how often each reader is right."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    zoo = importlib.import_module("image_zoo").zoo
    logging.disable()
    tiffs = [specimen for specimen in zoo() if specimen.name.startswith("tiff")]
    meant = sum(specimen.meant is not None for specimen in tiffs)
    print(f"{len(tiffs)} TIFF files: {meant} with a meaning, {len(tiffs) - meant} to be refused")
    readers = [("synthdp (tags read here, libtiff of Pillow)", ours)]
    versions = f"Pillow {Image.__version__}"
    if tifffile is not None:
        readers += [
            ("tifffile, tags by the same rules", tifffile_by_tags),
            ("tifffile as it is", tifffile_alone),
        ]
        has_codecs = importlib.util.find_spec("imagecodecs") is not None
        versions += (
            f", tifffile {tifffile.__version__} with{'' if has_codecs else 'out'} imagecodecs"
        )
    readers.append(("Pillow as it is", pillow))
    print(versions)
    for name, read in readers:
        right = [specimen for specimen in tiffs if is_right(read, specimen)]
        of_meaning = sum(specimen.meant is not None for specimen in right)
        print(
            f"  {name}: right {len(right)} ({of_meaning} read, {len(right) - of_meaning} refused)"
        )


if __name__ == "__main__":
    main()
