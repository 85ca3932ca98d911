"""A release on the Hugging Face hub: shown file by file, and uploaded only when somebody says yes.

What is uploaded is a release whose every file is the one that its `release.json` names, or the
release of a synthetic set, made for the upload. Nothing else goes: no run with a private part, and
no file that stands beside.
"""

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from synthdp import __version__
from synthdp.data.dataset import described_dataset
from synthdp.data.description import is_dataset, read_info
from synthdp.errors import InputError, RunError
from synthdp.privacy.accounting.bounds import epsilon_text
from synthdp.privacy.promise.plan import statement_of
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.promise.words import headline
from synthdp.releases.contents import CONTENTS_FILE, Contents, check_release
from synthdp.releases.record import Noting
from synthdp.releases.release import Asked, noting_of, prepared_release

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_NO_ACCESS, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


@dataclass(frozen=True)
class Upload:
    """What would leave: the folder of a release, its files, and where they would go.

    repo: owner/name; kind: of repository, `model` or `dataset`; public: whether everybody can see
    a repository that is made for it; noting: how it goes on the record of the patients' sets.
    """

    folder: Path
    repo: str
    kind: str
    public: bool
    statement: Statement
    contents: Contents
    noting: Noting

    @property
    def files(self) -> list[str]:
        """Paths below the folder, `release.json` among them."""
        return sorted([*self.contents.files, CONTENTS_FILE])

    def words(self) -> str:
        """What would leave, for whoever is to say yes: files with sizes, promise, licence."""
        sizes = {name: (self.folder / name).stat().st_size for name in self.files}
        images = [name for name in sizes if name.startswith("images/")]
        lines = [f"  {_size(sizes[name])}  {name}" for name in sizes if name not in images]
        if images:
            lines.append(f"  {_size(sum(sizes[one] for one in images))}  images/ ({len(images):,})")
        if self.contents.included:
            lines.append(f"  with exact {', '.join(self.contents.included)}, asked for by name")
        seen = "everybody can see it" if self.public else "private, if it is new"
        return "\n".join(
            [
                f"{len(sizes):,} files, {_size(sum(sizes.values())).strip()}, to the {self.kind} "
                f"repository {self.repo} ({seen}):",
                *lines,
                headline(self.statement),
                f"Epsilon {epsilon_text(self.statement.epsilon)} at delta "
                f"{self.statement.delta:g}; licence: {self.contents.licence or 'not stated'}.",
                *self._record_words(),
            ]
        )

    def _record_words(self) -> Iterator[str]:
        """Where it goes on record as something that left, and where not."""
        if self.noting.datasets:
            names = ", ".join(one.info.name for one in self.noting.datasets)
            yield f"It goes on record as having left at: {names}."
        if self.noting.unrecorded:
            yield (
                f"NOT put on record at: {', '.join(self.noting.unrecorded)}, which nothing here "
                "leads to. Where you hold that set, name it with --record DATA, here or in "
                "`synthdp privacy --release SET OUT --record DATA`, whose OUT can be pushed."
            )


@contextmanager
def prepared_upload(
    folder: Path,
    repo: str,
    *,
    public: bool = False,
    without_protection: bool = False,
    record: Sequence[Path] = (),
) -> Iterator[Upload]:
    """What would leave of a folder; nothing is sent, and nothing goes on record.

    Args:
        folder: a release, or a synthetic set, of which a release is made that lasts as long as
            this context.
        repo: owner/name on the hub.
        public: whether a new repository is one that everybody can see.
        without_protection: that what has an infinite epsilon may leave.
        record: data sets of patients that are to note it, beside those that are found from a set.

    Raises:
        InputError: when the folder is neither, a file is not as it was released, its epsilon is
            infinite while `without_protection` is not set, or `repo` is no such name.
    """
    if not _REPO.fullmatch(repo):
        raise InputError(f"{repo!r}: name a repository as OWNER/NAME, such as clinic/synthetic")
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name a release or a synthetic set")
    is_set = is_dataset(folder)
    if (folder / CONTENTS_FILE).is_file() and not (folder / "private").exists():
        contents = check_release(folder)
        statement = _protected(folder, without_protection=without_protection)
        sets = [described_dataset(path) for path in record]
        to_note = noting_of(folder, repo, statement, sets)
        if not record:  # whoever made the release was told where it is on record
            to_note = replace(to_note, unrecorded=())
        yield Upload(folder, repo, _kind(folder), public, statement, contents, to_note)
        return
    if not is_set or read_info(folder).kind != "synthetic":
        raise InputError(
            f"{folder}: is no release, so that it may hold what must not leave; make one with "
            "`synthdp privacy --release RUN OUT`, look at it, and name OUT"
        )
    with TemporaryDirectory() as scratch:
        released = Path(scratch) / folder.resolve().name
        released.mkdir()
        asked = Asked(without_protection=without_protection, record=record)
        statement, to_note = prepared_release(folder, released, repo, asked)
        contents = check_release(released)
        yield Upload(released, repo, _kind(released), public, statement, contents, to_note)


def _kind(folder: Path) -> str:
    return "dataset" if is_dataset(folder) else "model"


def _protected(folder: Path, *, without_protection: bool) -> Statement:
    """The statement of a release, which protects, or was allowed not to."""
    statement = statement_of([folder])
    if math.isinf(statement.epsilon) and not without_protection:
        raise InputError(
            f"{folder.name}: its epsilon is infinite ({statement.because}): whoever downloads it "
            "may find patients in it. If the patients' data may be given away like this, say so "
            "with --yes-without-protection"
        )
    return statement


def push(upload: Upload) -> str:
    """Upload the files of a release; gives the address of the repository.

    The account is that of `hf auth login` or of the variable HF_TOKEN; no token is read here.

    Guarantee: before a file is sent, each set of patients at hand has it on record.

    Raises:
        InputError: when the extra is missing, nobody is logged in, or the account has no right.
        RunError: when the hub can't be reached, or refuses.
    """
    try:
        from huggingface_hub import HfApi  # noqa: PLC0415 (an extra, and slow)
    except ImportError as error:
        raise InputError(
            "push: the package huggingface_hub is not installed; install it with "
            "pip install 'synthdp[hub]'"
        ) from error
    with _in_plain_words(upload.repo):
        api = HfApi()
        api.create_repo(
            upload.repo, repo_type=upload.kind, private=not upload.public, exist_ok=True
        )
    upload.noting.note()
    with _in_plain_words(upload.repo):
        api.upload_folder(
            repo_id=upload.repo,
            repo_type=upload.kind,
            folder_path=str(upload.folder),
            allow_patterns=upload.files,
            commit_message=f"Release made by synthdp {__version__}",
        )
    prefix = "datasets/" if upload.kind == "dataset" else ""
    return f"https://huggingface.co/{prefix}{upload.repo}"


@contextmanager
def _in_plain_words(repo: str) -> Iterator[None]:
    """Errors of the hub in our words alone: theirs may hold addresses with tokens in them."""
    from huggingface_hub.errors import (  # noqa: PLC0415 (as above)
        HfHubHTTPError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    of_its_library = [one for one in HfHubHTTPError.__bases__ if issubclass(one, Exception)]
    unreached: tuple[type[Exception], ...] = (OSError, ValueError, *of_its_library)
    try:
        yield
    except LocalTokenNotFoundError:
        raise InputError(_words_of(_NO_ACCESS, repo)) from None
    except OfflineModeIsEnabled:
        raise InputError(
            "push: HF_HUB_OFFLINE is set, so nothing is sent; unset it first"
        ) from None
    except HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        words = _words_of(status, repo)
        if status in (_NO_ACCESS, _FORBIDDEN, _NOT_FOUND):
            raise InputError(words) from None
        raise RunError(words) from None
    except unreached as error:
        raise RunError(
            f"push: {repo}: the hub could not be reached, or a file could not be read "
            f"({type(error).__name__}); the same command tries again, and sends only what is "
            "missing"
        ) from None


def _words_of(status: int | None, repo: str) -> str:
    if status == _NO_ACCESS:
        return "push: nobody is logged in; run `hf auth login`, or set HF_TOKEN to a write token"
    if status in (_FORBIDDEN, _NOT_FOUND):
        owner = repo.partition("/")[0]
        return (
            f"push: this account may not write to {repo}; log in as a member of {owner} with a "
            "write token (`hf auth login`), or name a repository of your own"
        )
    return f"push: {repo}: the hub refused (HTTP {status or 'error'}); try again later"


def may_ask() -> bool:
    """Whether somebody sits at a terminal who can be asked."""
    return os.isatty(0) and os.isatty(1)


def _size(count: int) -> str:
    """Bytes for people, eight characters wide."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{f'{size:.3g} {unit}':>8}"
