"""Files that a table names: whether each is safe and there, with each folder listed once."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from synthdp.data.images import path_problem
from synthdp.storage.files import refuse_without_descriptors
from synthdp.storage.unchanged import FileState


class NamedFiles:
    """The files below one folder that a table names by the thousand.

    Args:
        root: the folder, resolved.
        linked: resolved folders where a link may lead too.
        as_files: folders below the root, relative to it, that a table may name as it names files:
            a volume is one whose files are its slices.
    """

    def __init__(
        self, root: Path, linked: Sequence[Path] = (), *, as_files: Iterable[str] = ()
    ) -> None:
        self._root, self._linked = root, tuple(linked)
        self._as_files = frozenset(as_files)
        self._plain: dict[str, frozenset[str]] = {}
        self._all_plain = True

    def problem(self, name: str) -> str | None:
        """What is wrong with the file that the table calls `name`; exactly as `path_problem`.

        A plain file that stands in the listing of a folder inside the root, or a linked one, is
        safe and there. All else, links too, is looked at by itself.

        Raises:
            RunError: when no file descriptor is left.
        """
        if name.rstrip("/") in self._as_files:
            return None
        folder, _, last = name.rpartition("/")
        plain = self._plain.get(folder)
        if plain is None:
            plain = self._plain[folder] = self._plain_files(folder)
        if last in plain and not name.startswith("/"):
            return None
        self._all_plain = False
        return path_problem(name, self._root, self._linked)

    def named(self, name: str, folder: str = "") -> tuple[str, str | None]:
        """The file that the table calls `name`, relative to the root, and what is wrong with it.

        Tables and file systems spell one name in composed and in decomposed letters: it is the
        spelling that is there. `folder` is empty, or a folder below the root with its slash, which
        stays as it is.
        """
        problem = self.problem(folder + name)
        if problem is not None and not name.isascii():
            for form in ("NFC", "NFD"):
                other = folder + unicodedata.normalize(form, name)
                if self.problem(other) is None:
                    return other, None
        return folder + name, problem

    def states(self) -> dict[Path, FileState] | None:
        """The folders that were listed; while they stay in these states, what was safe is so.

        None where that can't be told, as of files behind links.
        """
        if not self._all_plain:
            return None
        try:
            folders = [self._root / folder for folder in self._plain]
            return {folder: FileState.of(folder.stat()) for folder in folders}
        except OSError:
            return None

    def _plain_files(self, folder: str) -> frozenset[str]:
        """The names of a folder's plain files; none of a folder that names may not lead to."""
        relative = PurePosixPath(folder)
        if relative.is_absolute() or ".." in relative.parts or "\\" in folder or "\0" in folder:
            return frozenset()
        try:
            path = Path(os.path.realpath(self._root / folder))  # of a loop, as far as it leads
            inside = any(path.is_relative_to(one) for one in (self._root, *self._linked))
            if not inside or not os.access(path, os.X_OK):
                return frozenset()
            with os.scandir(path) as entries:
                return frozenset(
                    entry.name
                    for entry in entries
                    if entry.is_file(follow_symlinks=False) and "\\" not in entry.name
                )
        except (OSError, UnicodeEncodeError) as error:
            if isinstance(error, OSError):
                refuse_without_descriptors(error)
            return frozenset()
