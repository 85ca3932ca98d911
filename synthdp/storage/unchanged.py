"""Whether a file is the one that it was: what the file system says of it, without a look inside."""

import os
import time
from typing import NamedTuple

#: Times of files may be as coarse as this, so that a file which was written since is not known by
#: them: what is younger is read again.
COARSE_NS = 2_000_000_000


class FileState(NamedTuple):
    """What a file system says of one file or folder; times in nanoseconds.

    An edit that sets the time of change back, as some copying tools do, still moves `ctime`.
    """

    size: int
    mtime: int
    ctime: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> "FileState":
        """The state that a call of `os.stat` tells."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

    def is_settled(self, at: int) -> bool:
        """Whether an edit after the time `at` (`clock_ns`) would show in the state."""
        return max(self.mtime, self.ctime) < at - COARSE_NS


def clock_ns() -> int:
    """Nanoseconds since 1970 by this machine's clock."""
    return time.time_ns()
