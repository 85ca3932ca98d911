import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from synthdp.storage.files import write_atomic
from synthdp.storage.shared_work import make_parts, remove_locks

NAMES = [f"{part}.bin" for part in range(6)]

#: Makes parts, and hangs in the third.
_HANGS = """
import sys, time
from pathlib import Path
from synthdp.storage.files import write_atomic
from synthdp.storage.shared_work import make_parts

folder = Path(sys.argv[1])

def make(part):
    if part == 2:
        (folder / "hanging").write_text("")
        time.sleep(600)
    write_atomic(folder / f"{part}.bin", "killed")

make_parts(folder, [f"{part}.bin" for part in range(6)], make, what="parts")
"""


class Maker:
    """Makes parts of a folder, and notes which; the first when others have begun with theirs."""

    def __init__(self, folder: Path, others: threading.Barrier | None = None) -> None:
        self.folder, self.others, self.made = folder, others, list[int]()

    def __call__(self, part: int) -> None:
        self.made.append(part)
        if self.others is not None and len(self.made) == 1:
            self.others.wait(120)
        write_atomic(self.folder / NAMES[part], "here")


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    (tmp_path / NAMES[1]).write_text("there")
    make_parts(tmp_path, NAMES, maker, what="parts")
    make_parts(tmp_path, NAMES, maker, what="parts")
    assert maker.made == [0, 2, 3, 4, 5]
    remove_locks(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES


def test_two_share_the_parts(tmp_path: Path) -> None:
    both_have_one = threading.Barrier(2)
    makers = [Maker(tmp_path, both_have_one) for _ in range(2)]
    threads = [
        threading.Thread(target=make_parts, args=(tmp_path, NAMES, maker), kwargs={"what": "parts"})
        for maker in makers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(makers[0].made + makers[1].made) == list(range(6))
    assert makers[0].made
    assert makers[1].made


def test_the_part_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HANGS, str(tmp_path)]
    with subprocess.Popen(command) as killed:
        while not (tmp_path / "hanging").exists():
            assert killed.poll() is None
            time.sleep(0.01)
        maker = Maker(tmp_path)
        thread = threading.Thread(
            target=make_parts, args=(tmp_path, NAMES, maker), kwargs={"what": "parts"}
        )
        thread.start()
        while len(maker.made) < 3:  # all but the one that hangs, which is waited for
            time.sleep(0.01)
        assert maker.made == [3, 4, 5]
        os.kill(killed.pid, signal.SIGKILL)
        thread.join()
    assert maker.made == [3, 4, 5, 2]
    assert [(tmp_path / name).read_text() for name in NAMES] == ["killed"] * 2 + ["here"] * 4


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        make_parts(tmp_path / "gone", NAMES, Maker(tmp_path), what="parts")
