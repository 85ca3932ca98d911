"""How the C library hands out memory to loops that take and free large arrays again and again."""

import ctypes
from contextlib import suppress
from functools import lru_cache

#: Of glibc's malloc.h: parameters of `mallopt`.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: In bytes: larger blocks are still given back at once, of which an older glibc takes the second
#: alone (the most that mallopt(3) allows); so much that is free is kept.
_LARGE, _KEPT = (256 * 2**20, 32 * 2**20), 512 * 2**20


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Keep what is freed for the next array, instead of giving it back to the system each time.

    A block of some 128 kB is otherwise mapped anew, and the system clears each of its pages: a
    sixth of the time of drawing phantoms, and a twentieth of that of mapping them. No number
    changes. Holds for the rest of the process.

    Returns:
        Whether the C library took it; others than glibc know no such thing.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        taken = any(mallopt(_M_MMAP_THRESHOLD, large) for large in _LARGE)
        return bool(taken and mallopt(_M_TRIM_THRESHOLD, _KEPT))
    return False
