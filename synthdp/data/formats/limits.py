"""How large an image may be that is read, and the words for one that is damaged or larger."""

from synthdp.errors import InputError

MAX_SIDE_PX = 8192
MAX_PIXELS = 32 * 2**20
_AT_MOST = f"this reader takes (side {MAX_SIDE_PX} px, {MAX_PIXELS:,} pixels at most)"
TOO_MANY_PIXELS = f"more pixels than {_AT_MOST}"
SEVERAL_FRAMES = (
    "holds several frames where one image is expected; export the one that is meant to a file of "
    "its own"
)
TRUNCATED = "ends before its pixels do (truncated, or its header lies); copy or export it again"


def refuse_size(width: int, height: int) -> None:
    """Refuse an image by what its header says, before any memory is taken for it.

    Raises:
        InputError: when a side is 0, or the image is larger than this reader takes.
    """
    if min(width, height) < 1:
        raise InputError(f"has no pixels: its header says {width}x{height}")
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
        raise InputError(f"{width}x{height} px is {TOO_MANY_PIXELS}")
