"""What stands in a folder: its images, and by reason what is not taken."""

import fnmatch
import glob
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from synthdp.data.decoding import IMAGE_SUFFIXES, kind_of
from synthdp.storage.files import refuse_without_descriptors

#: Others are not named in messages, since the end of a name may hold part of an id.
OTHER_SUFFIXES = (
    *(".bmp", ".gif", ".ppm", ".pnm", ".webp", ".heic", ".jp2", ".j2k", ".jpx", ".jxl"),
    *(".nii", ".gz", ".mha", ".mhd", ".nrrd", ".raw", ".les", ".avi", ".mp4", ".svs"),
    *(".csv", ".tsv", ".txt", ".json", ".xml", ".yaml", ".yml", ".md", ".pdf", ".html", ".log"),
    *(".xls", ".xlsx", ".ods", ".docx", ".zip", ".tar", ".7z", ".rar", ".py", ".ipynb", ".pt"),
    *(".bak", ".tmp", ".part", ".crdownload", ".lnk"),
)
#: Folders of systems and programs, in lower case, whose files are copies, thumbnails and rubbish.
SYSTEM_FOLDERS = (
    *("@eadir", "__macosx", "#recycle", "@recycle", "@tmp", "$recycle.bin", "recycler", "recycled"),
    *("lost+found", "system volume information", "__pycache__", "#snapshot", "~snapshot"),
)
#: Files of theirs, in lower case; a DICOMDIR lists images and holds none.
SYSTEM_FILES = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "dicomdir", "lockfile", "autorun.inf"),
)

LINKED_FOLDERS = "linked folders"
LINKED_AGAIN = "links to folders that they stand in"
LINKED_TWICE = "links to folders that were walked under another name"
SKIPPED = "files in hidden or system folders (as .ipynb_checkpoints, @eaDir, __MACOSX)"
HIDDEN_IMAGES = "hidden images (whose names begin with a dot)"
HIDDEN_FILES = "hidden files"
SYSTEM = "files of the system (as Thumbs.db, DICOMDIR)"
UNNAMED_IMAGES = "images whose names do not end as an image's"
UNREAD_FILES = "other files that cannot be read"
OTHER_FILES = "other files"
_BEGINNING = 132
#: A sign that `glob.escape` took its meaning.
_ESCAPED = re.compile(r"\[([*?[])\]")


@dataclass(frozen=True)
class FolderContents:
    """Images in the order of their paths, every other file with the reason why it is not taken,
    counts of what was not looked into, and problems.
    """

    images: tuple[Path, ...]
    others: Mapping[Path, str]
    skipped: Mapping[str, int]
    problems: tuple[str, ...]

    def left_out(self, used: Iterable[Path] = ()) -> dict[str, int]:
        """How many files are not taken, by reason; without those `used` after all."""
        but = set(used)
        others = Counter(reason for path, reason in self.others.items() if path not in but)
        return {**dict(sorted(others.items())), **self.skipped}


def folder_contents(src: Path, follow_links_into: Sequence[Path] = ()) -> FolderContents:
    """Walk `src`; hidden folders and those of systems are skipped and their files counted.

    Linked folders are followed where they lead into one of `follow_links_into`, and each folder is
    walked once: under which of its names depends on what else is there (`linked_folder_problems`).
    A folder that may not be read is a problem: what it holds would be left out unseen.

    Raises:
        RunError: when no file descriptor is left, so that nobody knows what is there.
    """
    allowed = [folder.resolve() for folder in follow_links_into]
    images: list[Path] = []
    others: dict[Path, str] = {}
    skipped = Counter({LINKED_FOLDERS: 0})
    unread = 0

    def count_unread(error: OSError) -> None:
        nonlocal unread
        refuse_without_descriptors(error)
        unread += 1

    links: list[Path] = [src]  # a folder's own tree comes first, then what its links lead to
    met = set[Path]()
    while links:
        root = links.pop(0)
        if root.resolve() in met:
            skipped[_again(root)] += 1
            continue
        met.add(root.resolve())
        for name, subfolders, files in os.walk(root, onerror=count_unread):
            folder = Path(name)
            if os.access(folder, os.X_OK):
                links += _choose(folder, subfolders, allowed, met, skipped)
            else:  # its files have names, and nothing else
                unread += 1
                subfolders.clear()
                continue
            for path in map(folder.joinpath, files):
                reason = _why_not(path)
                if reason is None:
                    images.append(path)
                elif reason == LINKED_FOLDERS:
                    skipped[reason] += 1
                else:
                    others[path] = reason
    problems = []
    if unread:
        problems.append(
            f"{unread} folder(s) cannot be read, so what they hold would be left out; give the "
            "user that runs this the right to read them, or move them away"
        )
    return FolderContents(tuple(sorted(images)), others, skipped, tuple(problems))


def _choose(
    folder: Path,
    subfolders: list[str],
    allowed: Sequence[Path],
    met: set[Path],
    skipped: Counter[str],
) -> list[Path]:
    """Leave those of `subfolders` that are walked, and return the links that may be followed too.

    Args:
        folder: where they stand.
        subfolders: their names; the others are taken out.
        allowed: resolved folders into which links are followed.
        met: resolved folders where the walk has been or will be; gets these.
        skipped: counts what is passed over.
    """
    names, followed = sorted(subfolders), []
    subfolders.clear()
    for name in names:
        path = folder / name
        if is_skipped_folder(name):
            skipped[SKIPPED] += _files_in(path)
        elif path.is_symlink():
            if is_inside(path, allowed):
                followed.append(path)
            else:
                skipped[LINKED_FOLDERS] += 1
        elif (real := path.resolve()) in met:
            skipped[_again(path)] += 1
        else:
            met.add(real)
            subfolders.append(name)
    return followed


def _again(path: Path) -> str:
    """What it is that a folder which was walked already is met again: a circle, or another name."""
    return LINKED_AGAIN if is_inside(path.parent, [path.resolve()]) else LINKED_TWICE


def files_fitting(src: Path, pattern: str) -> list[str]:
    """The files below `src` whose paths fit a pattern, relative to it and in order.

    Hidden ones and what lies in folders of systems is left out, as by `folder_contents`. A pattern
    fits names in composed and in decomposed letters, as systems write them.
    """
    spellings = {pattern, *(unicodedata.normalize(form, pattern) for form in ("NFC", "NFD"))}
    matches = {path for spelling in spellings for path in src.glob(spelling)}
    fitting = (path.relative_to(src) for path in matches if path.is_file())
    return sorted(
        path.as_posix()
        for path in fitting
        if not path.name.startswith(".") and not any(map(is_skipped_folder, path.parts[:-1]))
    )


def is_pattern(text: str) -> bool:
    """Whether a path below a folder may fit several files; not where its signs are escaped."""
    return glob.has_magic(_ESCAPED.sub("", text))


def unescaped(text: str) -> str:
    """A path below a folder, or a part of it, with its escaped signs as files have them."""
    return _ESCAPED.sub(r"\1", text)


class FilesBelow:
    """The files below a folder by their last names, walked once when the first is asked for.

    A table of a hundred thousand rows asks for each by a pattern of folders, as `**/images/1.png`.
    """

    def __init__(self, src: Path) -> None:
        self._src = src
        self._by_name: dict[str, list[str]] | None = None

    def fitting(self, pattern: str) -> list[str]:
        """As `files_fitting` gives them."""
        *folders, last = pattern.split("/")
        plain = is_pattern(last) or any(
            one != "**" and set("?[").intersection(_ESCAPED.sub("", one)) for one in folders
        )
        if not plain and self._by_name is None:
            self._by_name = _files_by_name(self._src)
        if plain or not self._by_name:
            return files_fitting(self._src, pattern)
        candidates = self._by_name.get(unicodedata.normalize("NFC", unescaped(last)), [])
        fits = re.compile(_path_pattern(unicodedata.normalize("NFC", pattern)))
        return sorted(
            path for path in candidates if fits.fullmatch(unicodedata.normalize("NFC", path))
        )


def _files_by_name(src: Path) -> dict[str, list[str]]:
    """The files that `files_fitting` may find, by their names in composed letters; none where a
    link leads to a folder, which a pattern may follow.
    """
    by_name: dict[str, list[str]] = {}
    for folder, folders, names in os.walk(src):
        folders[:] = [one for one in folders if not is_skipped_folder(one)]
        if any(os.path.islink(os.path.join(folder, one)) for one in folders):
            return {}
        below = Path(folder).relative_to(src).as_posix()
        for name in names:
            if not name.startswith("."):
                path = name if below == "." else f"{below}/{name}"
                by_name.setdefault(unicodedata.normalize("NFC", name), []).append(path)
    return by_name


def _path_pattern(pattern: str) -> str:
    """A pattern of paths as a regular expression; `**` is any folders, one after another."""
    *folders, last = pattern.split("/")
    parts = ["(?:[^/]+/)*" if one == "**" else f"{_part_pattern(one)}/" for one in folders]
    return "".join([*parts, _part_pattern(last)])


def _part_pattern(part: str) -> str:
    # `fnmatch` lets `*` run over slashes; in a path it ends at one.
    return fnmatch.translate(part).removesuffix(r"\Z").replace(".*", "[^/]*")


def is_skipped_folder(name: str) -> bool:
    """Whether a folder is hidden, or one of a system or program."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def is_inside(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a path, links followed, lies in one of these resolved folders."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return False
    return any(real.is_relative_to(folder) for folder in folders)


def _files_in(folder: Path) -> int:
    """How many files lie in a folder that is skipped; what cannot be read there counts nothing."""
    return sum(len(files) for _, _, files in os.walk(folder))


def _why_not(path: Path) -> str | None:
    """Why a file is not taken for an image; None for one that is.

    Raises:
        RunError: when no file descriptor is left.
    """
    name, suffix = path.name.lower(), path.suffix.lower()
    if name in SYSTEM_FILES:
        return SYSTEM
    hidden = name.startswith(".")
    if suffix in IMAGE_SUFFIXES and not hidden:
        return None
    if suffix in OTHER_SUFFIXES and not hidden:
        return f"{suffix} files"
    if path.is_symlink() and not os.path.exists(path) and not hidden:
        return LINKED_FOLDERS  # may lead to a folder on a disk that is not mounted
    return _why_not_by_content(path, hidden=hidden)


def _why_not_by_content(path: Path, *, hidden: bool) -> str | None:
    """The same for a file whose name does not say what it is."""
    try:
        begins_as_image = _begins_as_image(path)
    except OSError as error:
        refuse_without_descriptors(error)
        return HIDDEN_FILES if hidden else UNREAD_FILES
    if not begins_as_image:
        return HIDDEN_FILES if hidden else OTHER_FILES
    if hidden:
        return HIDDEN_IMAGES
    # Scanners write names without an end, or with a number of a series behind the last dot.
    return UNNAMED_IMAGES if path.suffix.strip(".0123456789") else None


def _begins_as_image(path: Path) -> bool:
    with open(path, "rb") if path.is_file() else BytesIO() as stream:
        # An archive without a name that says so is seldom one of arrays.
        return kind_of(stream.read(_BEGINNING)) not in (None, "NPZ")


def linked_folder_problems(left_out: Mapping[str, int]) -> list[str]:
    """What to say of folders that are links, where nothing else names the images."""
    problems = []
    if left_out[LINKED_FOLDERS]:
        problems.append(
            f"{left_out[LINKED_FOLDERS]} folder(s) are links, which are not followed or lead "
            "nowhere; put the folders themselves there, or name them in follow_links_into"
        )
    if twice := left_out.get(LINKED_TWICE, 0):
        problems.append(
            f"{twice} link(s) lead to folders that have another name below the folder too, so that "
            "it can't be told whose their images are; keep one of the names of each"
        )
    return problems


def left_out_words(left_out: Mapping[str, int]) -> str:
    """How many files are not used, by reason, for the terminal; empty where all are."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
