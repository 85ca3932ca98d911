"""Model and data-set cards: Markdown with a YAML header, in the form of the Hugging Face hub."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from synthdp import __version__
from synthdp.config.card_file import split_card, with_header
from synthdp.config.yaml_core import dump_yaml
from synthdp.errors import InputError
from synthdp.privacy.accounting.bounds import epsilon_text
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.promise.words import statement_text

#: Licences by the names that the Hub knows; any other one is `other`, with its name beside it.
HUB_LICENCES = (
    *("apache-2.0", "mit", "cc0-1.0", "pddl", "odbl", "odc-by", "openrail", "unknown"),
    *("cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nd-4.0"),
    *("cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
)
#: The Hub's words for a number of rows below each bound, and for more.
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"))
_LARGEST = "1M<n<10M"

#: Sections that tell of the files of a folder: a copy in another form writes them anew.
LICENCE, RUNS, FILES = "Licence", "How to use it", "Files"
USE = (
    "For research. Not a medical device: no diagnosis and no treatment may rest on it without "
    "the validation that the law of the place asks for."
)
_OUT_OF_SCOPE = """\
- Diagnosis, treatment, or any other decision about a person.
- Statements about the population of the real images: how often something is seen here is not how
  often it is there, and rare findings may be missing.
- Tests of a detector of disease: labels are what the generator was asked for, not a reading.
- Attempts to find the patients whose images the generator learned from.
- Anything that takes the images for real ones, or passes them on without this card."""
_READ = """\
```python
from datasets import load_dataset

rows = load_dataset("FOLDER_OR_REPOSITORY", split="train")  # pictures, labels, columns
```

or with `synthdp.open_dataset("FOLDER")`, which reads `manifest.csv`. `metadata.csv` has the same
rows, where `file_name` is the column `image`."""
_CITATION = (
    "Name synthdp {version} and the data that the generator learned from, as its licence asks. "
    "Class-conditional generators of patches for private classifiers go back to "
    "Osuala et al., *Enhancing the Utility of Privacy-Preserving Cancer Classification using "
    "Synthetic Data*, arXiv 2407.12669."
)


def card_text(header: Mapping[str, Any], title: str, sections: Sequence[tuple[str, str]]) -> str:
    """A card: its YAML header, a title, and the sections that say something."""
    head = dump_yaml(dict(header))
    body = "\n\n".join(f"## {one_line(name)}\n\n{text}" for name, text in sections if text)
    return f"---\n{head}---\n\n# {one_line(title)}\n\n{body}\n"


#: What is markup anywhere in a text: HTML, and the middle of a link, a picture or a definition.
_MARKUP = r"<|\](?=[(\[:])"
_IN_A_LINE = re.compile(rf"([\\`*|~]|(?<!\w)_|_(?!\w)|{_MARKUP})")
#: The same behind backslashes of the text's own, which must not take the one put there for a pair.
_IN_PARAGRAPHS = re.compile(rf"(\\*)({_MARKUP})")
#: What is markup where a line or an item of a list begins: headings, quotations, tables, fences
#: and rules.
_AT_A_START = re.compile(
    r"(?m)^([ \t]*(?:(?:[-+*]|\d+[.)])[ \t]+)*)([#=>~|]|`{3}|(?:[-*_][ \t]*){2,}$|-[ \t]*$)"
)


def one_line(text: str) -> str:
    """A text of anybody's as Markdown on one line, in which every character stands for itself."""
    return _IN_A_LINE.sub(r"\\\1", " ".join(text.split()))


def paragraphs(text: str) -> str:
    """Markdown of paragraphs, lists, bold words and code, in which nothing else is marked up.

    Names and notes of other people stand in it: no link, picture, HTML, heading or rule.
    """
    plain = _IN_PARAGRAPHS.sub(r"\1\1\\\2", text.replace("\r", " "))
    return _AT_A_START.sub(r"\1\\\2", plain)


def privacy_header(statement: Statement) -> dict[str, Any]:
    """The `privacy:` block of a card's header; its epsilon is rounded up."""
    values = statement.model_dump(mode="json")
    header = {key: values[key] for key in ("epsilon", "delta", "unit", "neighbours")}
    if math.isfinite(statement.epsilon):
        header["epsilon"] = float(epsilon_text(statement.epsilon))
    return header


def model_card(
    *, title: str, summary: str, statement: Statement, settings: Mapping[str, Any]
) -> str:
    """The card of a model: what it is, what it promises, how it was made.

    Args:
        title: one line.
        summary: what it is.
        statement: what the model promises.
        settings: name and value of what decided it.
    """
    header = {
        "library_name": "synthdp",
        "tags": ["medical-imaging", "differential-privacy"],
        "privacy": privacy_header(statement),
    }
    sections = [
        ("What it is", paragraphs(summary)),
        ("Privacy", paragraphs(statement_text(statement))),
        ("How it was made", f"synthdp {__version__}\n\n{listed(settings)}"),
        ("Use", USE),
    ]
    return card_text(header, title, sections)


def dataset_card(
    *,
    title: str,
    summary: str,
    licence: str,
    statement: Statement,
    n_images: int | None = None,
    made: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> str:
    """The card of a synthetic data set, under the header keys that the Hub searches by.

    Args:
        title: one line.
        summary: what it is.
        licence: of the images, such as CC-BY-4.0; empty where it is not known.
        statement: what the set promises.
        n_images: how many there are, where that is public.
        made: name and value of what decided the images.
        columns: what each column of the manifest means.
    """
    promised = 0 < statement.epsilon < math.inf
    header = {
        "pretty_name": title,
        **licence_keys(licence),
        "task_categories": ["image-classification"],
        **({} if n_images is None else {"size_categories": [size_category(n_images)]}),
        "tags": ["synthetic", "medical-imaging", *(["differential-privacy"] * promised)],
        "privacy": privacy_header(statement),
    }
    steps = {"synthdp": __version__, **(made or {})}
    sections = [
        ("What it is", paragraphs(summary)),
        ("How it was made", listed(steps) if made else ""),
        ("Columns of manifest.csv", listed(columns or {})),
        ("How to read it", _READ),
        ("Privacy", paragraphs(statement_text(statement))),
        ("Lineage", _lineage_words(statement)),
        ("Use", USE),
        ("Out of scope", _OUT_OF_SCOPE),
        ("Citation", _CITATION.format(version=__version__)),
    ]
    return card_text(header, title, sections)


def plain_card(title: str, statement: Statement) -> str:
    """A card without a header: a title, and what is promised."""
    return f"# {one_line(title)}\n\n{paragraphs(statement_text(statement))}\n"


def restated(card: str, statement: Statement) -> str:
    """A card with this statement in place of what it promised, in its header and its text.

    Raises:
        InputError: when the text is no card of a model or a data set.
    """
    _, body = _header_and_body(card)
    if len(_section("Privacy").findall(body)) != 1:
        raise InputError(_NO_CARD)
    changed = with_header(card, {"privacy": privacy_header(statement)})
    return with_section(changed, "Privacy", paragraphs(statement_text(statement)), before="Use")


def with_section(card: str, name: str, text: str, *, before: str) -> str:
    """A card with this section in its place, or before another one where it is new; or without it.

    Args:
        card: as written here.
        name: of the section.
        text: of it; empty to leave it out.
        before: the section that a new one stands before.

    Raises:
        InputError: when the text is no card, or has no section `before`.
    """
    header, body = _header_and_body(card)
    written = f"## {name}\n\n{text}\n\n" if text else ""
    if _section(name).search(body):
        body = _section(name).sub(lambda _: written, body)
    elif _section(before).search(body):
        body = _section(before).sub(lambda match: f"{written}{match[0]}", body)
    else:
        raise InputError(_NO_CARD)
    return f"---\n{dump_yaml(header)}---\n{body.rstrip(chr(10))}\n"


_NO_CARD = "card.md: not a card as it was written; make the run or the set again"


def _section(name: str) -> re.Pattern[str]:
    """A section from its heading to the next one."""
    return re.compile(rf"^## {re.escape(name)}\n\n.*?(?=^## |\Z)", flags=re.DOTALL | re.MULTILINE)


def section_text(card: str, name: str) -> str:
    """What stands in a section of a card; empty where it has none."""
    match = _section(name).search(card)
    return "" if match is None else match[0].partition("\n\n")[2].strip()


def _header_and_body(card: str) -> tuple[dict[str, Any], str]:
    header, body = split_card(card)
    if not header:
        raise InputError(_NO_CARD)
    return header, body


def size_category(n_images: int) -> str:
    """The Hub's word for a number of rows."""
    return next((words for below, words in _SIZES if n_images < below), _LARGEST)


def licence_keys(licence: str) -> dict[str, str]:
    """The header's keys for a licence, by the Hub's name where it has one."""
    name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-") or "unknown"
    return {"license": name} if name in HUB_LICENCES else {"license": "other", "license_name": name}


def listed(items: Mapping[str, Any]) -> str:
    """Names and values as a Markdown list; settings within settings are told in words."""
    return "\n".join(
        f"- {one_line(str(name))}: {one_line(_in_words(value))}" for name, value in items.items()
    )


def _in_words(value: Any) -> str:
    """A setting as people write it: no braces, quotes or names of Python.

    >>> _in_words({"size_px": 160, "layers": [4, 5], "whiten": None, "again": True})
    'size_px 160, layers 4 and 5, whiten none, again yes'
    >>> _in_words([{"arch": "haar"}, {"arch": "dcgan"}]), _in_words([]), _in_words(0.5)
    ('(1) arch haar; (2) arch dcgan', 'none', '0.5')
    """
    if value is None or value in ([], (), {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        if any(isinstance(one, Mapping) for one in value):
            return "; ".join(f"({n}) {_in_words(one)}" for n, one in enumerate(value, start=1))
        words = [_in_words(one) for one in value]
        return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    return str(value)


def _lineage_words(statement: Statement) -> str:
    """Every release by its id, by which it is counted once for several sets that share it."""
    releases = statement.lineage.releases
    if not releases:
        if statement.lineage.declared:
            return "No release on any patient, as declared by the importer or the sender."
        if names := statement.lineage.public:
            return (
                "No release on any patient whom a promise protects. What is here descends from the "
                f"public {'sets' if len(names) > 1 else 'set'} {one_line(' and '.join(names))}, "
                "whose patients are not protected."
            )
        return "No release on any patient: nothing here descends from a patient's image."
    return "\n".join(
        f"- release {one_line(f'{one.id}: {one.stage} on {one.data}')}" for one in releases
    )
