"""Which spellings are one id, which are none, and which look like one person's: see a finding.

An id is taken in Unicode's composed form (NFC) and without blanks or unseen characters at its ends,
since no system means two persons by these. Nothing else is changed: two ids that differ in case, in
leading zeros or as 1001 and 1001.0 do are most often one person's, read twice by programs that
differ, yet some clinics do mean two. So they are a finding, which `links` settles by a row each.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping

from synthdp.data.importing.findings import Number, in_order

#: What programs, spreadsheets and people write where there is nothing, as `_folded` spells it.
NOTHING = frozenset(
    (
        *("nan", "na", "n/a", "n.a.", "n.a", "#n/a", "#na", "#n/an/a", "<na>", "-nan", "nat"),
        *("none", "null", "nil", "nul", "undefined", "unknown", "unk", "unspecified", "missing"),
        *("empty", "blank", "notavailable", "notapplicable", "notknown", "?", "??", "???"),
        *("(null)", "(none)", "(blank)", "(empty)", "[null]", "\\n", "#ref!", "#value!", "#name?"),
        *("#div/0!", "#null!", "#num!", "#n/d", "#nv", "#wert!", "#bezug!", "1.#qnan", "-1.#ind"),
        *("1.#ind", "unbekannt", "inconnu", "desconocido", "desconhecido", "sconosciuto"),
        *("onbekend", "okänd", "ukendt", "ukjent", "nieznany", "неизвестно", "未知", "不明"),
    )
)
#: The same for ids alone, and what means the row above. Who is truly called so needs another id in
#: the table, such as one with a letter before it.
NOBODY = frozenset(
    (
        *("-", "--", "---", ".", "..", "...", "_", "__", "/", "\\", "*", "xxx", "-1"),
        *("-1.0", "noid", "nopatient", "nopatientid", "tba", "tbd", "todo", "anonymous"),
        *("anonymized", "anonymised", "anonym", "anon", "deidentified", "de-identified", "removed"),
        *("redacted", "inf", "-inf", '"', "''", "``", "\u201d", "\u3003", "ditto", "idem", "dito"),
    )
)
#: How a spreadsheet shortens a long number: the digits behind are lost, and persons with them.
_SHORTENED = re.compile(r"[+-]?\d(?:[.,](\d+))?e\+(\d+)", re.IGNORECASE)
#: What a spreadsheet makes of 1-2, 2/1 or MAR5, so that several ids become one.
_MONTH = "(?:jan|feb|mar|mär|mrz|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)"
_DATED = re.compile(rf"\d{{1,2}}[-. ]+{_MONTH}\.?|{_MONTH}[-. ]+\d{{2}}")
_NUMBER = re.compile(r"([+-]?)(\d*)(?:[.,](\d*))?(?:e([+-]?\d{1,4}))?", re.IGNORECASE)
_AS_NUMBER = "number "  # begins what ids share that are equal as numbers
#: Small Cyrillic and Greek letters whose capitals look as Latin ones do, by what they look like.
_LOOK_LATIN = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456"
    "\u03b1\u03b2\u03b5\u03ba\u03b7\u03b9\u03bc\u03bf\u03c1\u03c4\u03c5\u03c7",
    "abekmhopctyxi" + "abekhimoptyx",
)
_UNSEEN = ("Cc", "Cf", "Zs", "Zl", "Zp")


def normalised_id(text: str) -> str | None:
    """An id in its one spelling; None for an empty one, and for the words for nothing."""
    if text.isascii() and text.isprintable():
        one = text.strip()
        return None if is_nothing(one) or _folded(one) in NOBODY else one
    first, last = 0, len(text)
    while first < last and _is_unseen(text[first]):
        first += 1
    while last > first and _is_unseen(text[last - 1]):
        last -= 1
    one = unicodedata.normalize("NFC", text[first:last])
    return None if is_nothing(one) or _folded(one) in NOBODY else one


def is_nothing(text: str) -> bool:
    """Whether a text is empty, or one of the words for nothing."""
    return not (folded := _folded(text)) or folded in NOTHING


def id_problem(text: str) -> str | None:
    """What is wrong with the text of an id; None when it is one. The id is not repeated."""
    one = normalised_id(text)
    if one is None:
        return (
            "no patient is given" + (", but a word for nothing" if text.strip() else "") + "; give "
            "the id, or leave_out: [no_patient] (who is truly called so needs another id)"
        )
    shortened = _SHORTENED.fullmatch(one)
    if shortened is not None and int(shortened[2][:6]) > len(shortened[1] or ""):
        return (
            "the id is a number that a spreadsheet has shortened (as 1.23E+15), so that several "
            "persons may have become one; export the ids as text"
        )
    if _DATED.fullmatch(one.casefold()) or not one.strip("#"):
        return (
            "the id is what a spreadsheet makes of another (a date of 1-2, ### of a long number), "
            "so that several persons may have become one; export the ids as text"
        )
    return None


def _is_unseen(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in _UNSEEN


def _folded(one: str) -> str:
    """An id without what programs and people change unasked: width, case, blanks, unseen marks.

    A blank between two digits stays one, since `1 11` and `11 1` are two ids.
    """
    if one.isascii() and one.isprintable() and " " not in one:
        return one.lower()
    wide = unicodedata.normalize("NFKC", one).casefold()
    text = "".join(
        "-" if unicodedata.category(c) == "Pd" else " " if c.isspace() else c
        for c in wide
        if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf")
    )
    return re.sub(r"(?<!\d) +| +(?!\d)", "", re.sub(" +", " ", text))


def _as_number(folded: str) -> str | None:
    """A number in its one spelling, exact whatever its length; None for another text."""
    match = _NUMBER.fullmatch(folded)
    if match is None or not (match[2] or match[3]):
        return None
    fraction = match[3] or ""
    digits = ((match[2] or "") + fraction).lstrip("0")
    bare = digits.rstrip("0")
    power = int(match[4] or 0) - len(fraction) + len(digits) - len(bare)
    sign = "-" if match[1] == "-" and bare else ""
    return f"{_AS_NUMBER}{sign}{bare or 0}e{power if bare else 0}"


def _likeness(one: str) -> str:
    """What ids share that are most often one person's."""
    folded = re.sub(r"^=?[\"'](.*)[\"']$|^'", r"\1", _folded(one))
    plain = folded
    if not folded.isascii():
        plain = "".join(str(unicodedata.decimal(c, c)) for c in folded).translate(_LOOK_LATIN)
    number = _as_number(plain)
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain) if number is None else number


def alike_ids(first_number: Mapping[str, Number], settled: Iterable[str] = ()) -> list[str]:
    """Problems of ids that differ only as spellings of one id do, by the numbers of their rows.

    Args:
        first_number: of each id, as `normalised_id` gives it, the row or image where it first
            stands.
        settled: the ids about which `links` says who they are.
    """
    groups: dict[str, list[str]] = {}
    for one in first_number:
        groups.setdefault(_likeness(one), []).append(one)
    declared = set(settled)
    problems = []
    for shared, group in groups.items():
        if len(group) == 1 or declared.issuperset(group):
            continue
        how = (
            "are equal as numbers (as 1001, 01001 and 1001.0 are)"
            if shared.startswith(_AS_NUMBER)
            else "differ only in case, blanks, width, leading zeros or letters that look alike"
        )
        numbers = ", ".join(str(number) for number in in_order(first_number[one] for one in group))
        problems.append(
            f"{numbers}: the ids {how}; write them alike where they are one person, else give "
            "each of them a row in `links`, or set alike_ids=distinct where all such are"
        )
    return problems


def misspelled_links(ids: Iterable[str], linked: Iterable[str]) -> int:
    """How many ids of `links` are of no image, but for their spelling one that has no row there.

    Their row would link nobody, unseen: P01 in the one file, p01 in the other.
    """
    of_images, of_links = set(ids), set(linked)
    without_row = {_likeness(one) for one in of_images - of_links}
    return sum(_likeness(one) in without_row for one in of_links - of_images)
