"""Files that a table names: whether each is safe and there, with each folder listed once."""

import os
from pathlib import Path, PurePosixPath

from synthdp.data.images import path_problem
from synthdp.files import refuse_without_descriptors
from synthdp.unchanged import FileState


class NamedFiles:
    """The files below one folder that a table names by the thousand.

    Args:
        root: the folder, resolved.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._plain: dict[str, frozenset[str]] = {}
        self._all_plain = True

    def problem(self, name: str) -> str | None:
        """What is wrong with the file that the table calls `name`; exactly as `path_problem`.

        A plain file that stands in the listing of a folder inside the root is safe and there. All
        else, links too, is looked at by itself.

        Raises:
            RunError: when no file descriptor is left.
        """
        folder, _, last = name.rpartition("/")
        plain = self._plain.get(folder)
        if plain is None:
            plain = self._plain[folder] = self._plain_files(folder)
        if last in plain and not name.startswith("/"):
            return None
        self._all_plain = False
        return path_problem(name, self._root)

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
            if not path.is_relative_to(self._root) or not os.access(path, os.X_OK):
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
