import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from synthdp.machine.memory import keep_freed_memory

FAULTS = """
import resource, numpy
from synthdp.machine.memory import keep_freed_memory
{first}
for _ in range(3):
    numpy.ones(2**19).sum()  # 4 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    numpy.ones(2**19).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_what_is_freed_is_taken_again_without_the_system() -> None:
    """Pages that the system maps anew, in 50 arrays of 1,024 pages each."""
    code = FAULTS.format(first="assert keep_freed_memory()")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1024


def test_an_older_library_takes_the_most_that_it_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which refuses a threshold above 32 MB, with 0 (mallopt(3))."""
    asked = []

    def mallopt(parameter: int, value: int) -> int:
        asked.append((parameter, value))
        return int(parameter != -3 or value <= 32 * 2**20)

    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    assert keep_freed_memory.__wrapped__()
    assert asked[-2:] == [(-3, 32 * 2**20), (-1, 512 * 2**20)]
