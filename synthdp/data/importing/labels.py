"""Which words mean which class, in the cells of tables and in the names of folders and files.

Words count whole, whatever their case, accents, and what stands between their parts. In a name a
class's word counts where what stands beside it is known to change nothing: a number, a side, a word
such as `mass` or `cases`. Denials and doubts have more words than any list (`no_malignant`,
`absence of`, `Verdacht auf`), so every other word leaves the class open. An open name is no class,
not the other one: who has no malignant lesion may have no lesion at all. A value behind it decides
where it is one beyond doubt (`malignant=0`, `is_benign_true`); `malignant_0` may be a value or a
counter.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import Literal

from synthdp.data.importing.patients.ids import is_nothing

Words = tuple[str, ...]
#: What a name says of the class: 1, 0, nothing, both (such as a title of the whole set), that it is
#: none of them (`no_malignant`, `normal`), or something that no one may take for either.
Reading = Literal["positive", "negative", "nothing", "both", "doubt", "open"]

_TRUE = (
    *("1", "true", "t", "yes", "y", "positive", "pos", "ja", "oui", "si", "sim", "wahr", "vrai"),
    *("vero", "verdadero", "verdadeiro", "да", "是"),
)
_FALSE = (
    *("0", "false", "f", "no", "n", "negative", "neg", "nein", "non", "nao", "falsch", "faux"),
    *("falso", "нет", "否"),
)
_MALIGNANT = (
    *("malignant", "malignancy", "malign", "maligne", "maligner", "malignes", "malignen", "malin"),
    *("malins", "maligno", "maligna", "malignos", "malignas", "malignt", "bösartig", "bösartige"),
    *("bösartiger", "bösartiges", "bösartigen", "kwaadaardig", "elakartad", "ondartet"),
    *("złośliwy", "złośliwa", "złośliwe", "злокачественный", "злокачественная"),
    *("злокачественное", "злокачественные", "恶性", "惡性", "悪性"),
)
_BENIGN = (
    *("benign", "benigne", "benigner", "benignen", "bénigne", "bénignes", "bénin", "bénins"),
    *("benigno", "benigna", "benignos", "benignas", "benignt", "gutartig", "gutartige"),
    *("gutartiger", "gutartiges", "gutartigen", "goedaardig", "godartad", "godartet"),
    *("łagodny", "łagodna", "łagodne", "доброкачественный", "доброкачественная"),
    *("доброкачественное", "доброкачественные", "良性"),
    *("benign without callback", "benign without callbacks"),
)
_DENIALS = frozenset(
    (
        *("no", "non", "not", "without", "never", "un", "nil", "neg", "negative", "never"),
        *("excluded", "exclude", "exclusion", "pre", "post", "semi", "sub", "quasi", "pseudo"),
        *("suspected", "suspicious", "suspect", "possible", "possibly", "probable", "probably"),
        *("likely", "unlikely", "maybe", "presumed", "uncertain", "unknown", "unclear", "rule"),
        *("ruled", "kein", "keine", "keiner", "nicht", "ohne", "sans", "pas", "ni", "sin", "senza"),
        *("sem", "nao", "geen", "niet", "zonder", "utan", "inte", "ej", "ingen", "inget", "ikke"),
        *("uden", "uten", "bez", "nie", "без", "не", "нет", "非", "无", "無", "不"),
        *("anti", "ex", "former", "formerly", "history", "risk", "potential", "potentially", "?"),
    )
)
#: Words that may stand between a denial and what it denies.
_BETWEEN = frozenset(
    (
        *("a", "an", "any", "the", "o", "of", "for", "be", "is", "evidence", "signs", "sign", "de"),
        *("yet", "longer"),
    )
)
#: Words for who is neither: where a folder further out names a class, it is not of these.
_NEITHER = frozenset(
    (
        *("normal", "normals", "normale", "normales", "healthy", "control", "controls", "gesund"),
        *("unauffällig", "sain", "sano", "sana", "saudavel", "gezond", "正常"),
    )
)
#: Words in the name of a picture of where a lesion lies, which is no picture of it.
_MASKS = frozenset(
    (
        *("mask", "masks", "maske", "masken", "segmentation", "segmentations", "segmentierung"),
        *("masque", "masques", "mascara", "maschera", "groundtruth", "overlay", "overlays"),
    )
)
#: Words, as tokens, that may stand beside a class's and change nothing.
_PLAIN = frozenset(
    (
        *("mass", "masses", "masse", "massen", "masa", "masas", "massa", "tumor", "tumors"),
        *("tumour", "tumours", "tumoren", "tumore", "tumori", "tumeur", "tumeurs", "tumores"),
        *("lesion", "lesions", "lasion", "lasionen", "lesione", "lesioni", "lesiones", "lesao"),
        *("lesoes", "nodule", "nodules", "nodulo", "nodulos", "knoten", "finding", "findings"),
        *("calc", "calcs", "calcification", "calcifications", "microcalcification", "neoplasm"),
        *("microcalcifications", "mikrokalk", "melanoma", "melanom", "cyst", "tissue", "cells"),
        *("case", "cases", "fall", "cas", "caso", "casos", "casi", "patient", "patients", "pat"),
        *("image", "images", "img", "imgs", "imagenes", "bild", "bilder", "picture", "pictures"),
        *("patch", "patches", "crop", "crops", "cropped", "roi", "rois", "sample", "samples"),
        *("slice", "slices", "frame", "frames", "tile", "tiles", "scan", "scans", "film", "films"),
        *("data", "dataset", "set", "folder", "dir", "batch", "part", "group", "gruppe", "file"),
        *("class", "klasse", "classe", "clase", "label", "labels", "category", "type", "pathology"),
        *("diagnosis", "diagnose", "dx", "train", "training", "val", "valid", "validation"),
        *("test", "testing", "external", "all", "only", "new", "final", "full", "raw", "original"),
        *("resized", "processed", "aug", "augmented", "gray", "grey", "proven", "confirmed"),
        *("biopsy", "histology", "left", "right", "links", "rechts", "cc", "mlo", "ml", "lm"),
        *("view", "breast", "brust", "sein", "mama", "mammo", "mammogram", "mammograms"),
        *("mammography", "us", "ultrasound", "ct", "mr", "mri", "xray", "skin", "lung", "thyroid"),
        *("id", "nr", "sob", "png", "jpg", "jpeg", "tif", "tiff", "pgm", "npy", "npz", "dcm"),
        *("dicom", "is"),
    )
)
_UNHEARD = _BETWEEN | _PLAIN
#: Words behind a class's that leave it as it is, as CBIS-DDSM has them.
_PLAIN_ENDINGS = (("without", "callback"), ("without", "callbacks"))
#: Words behind a class's that leave it open.
_OPEN_ENDED = frozenset(
    (
        *("free", "absent", "unlikely", "excluded", "unknown", "uncertain", "suspected"),
        *("suspicious", "possible", "probable", "like", "no", "n", "f", "neg", "negative", "not"),
        *("none", "non", "nein", "falsch", "faux", "falso", "?", "mimic", "mimicking", "potential"),
        *("score", "risk", "probability", "prob", "grade", "rate", "suspicion"),
    )
)
_DEGREES = ("malignancy",)
_DENYING_BEGINNINGS = ("non", "not", "no", "pre", "un", "semi", "pseudo")
_TOKEN = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)?|[=:?]")
#: As in `isn't`, with the apostrophes that keyboards and word processors write.
_NOT = re.compile(r"n['\u2019\u02bc`]t(?![a-z])", re.IGNORECASE)
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NUMBER = re.compile(r"([+-]?)0*(\d+?)(?:[.,]0+)?")
#: Shorter words are too often a part of a name for something else.
_LEAST_LETTERS_IN_NAMES = 3
#: Shorter ones end too many other words.
_LEAST_LETTERS_GROWN = 5
_BLANKS_PART = re.compile(r"[\u0000-\u052f]")


@dataclass(frozen=True)
class Labels:
    """The class of each word: 1, 0, or nan where it says that nothing is known.

    `by_name` says the same of words in names, as tokens; `own` whether the user gave the words.
    """

    by_cell: Mapping[str, float]
    by_name: Mapping[Words, float]
    own: bool = False

    @cached_property
    def _beginnings(self) -> frozenset[str]:
        return frozenset(words[0] for words in self.by_name)

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.by_name), default=0)

    @cached_property
    def _endings(self) -> Words:
        single = (words[0] for words in self.by_name if len(words) == 1)
        return tuple(word for word in single if len(word) >= _LEAST_LETTERS_GROWN)

    @cached_property
    def _unspaced(self) -> Words:
        single = (words[0] for words in self.by_name if len(words) == 1)
        return tuple(word for word in single if not _BLANKS_PART.match(word))

    def of_cell(self, text: str) -> float | None:
        """The class that a cell of a table holds, nan for unknown; None for another word."""
        label = self.by_cell.get(_cell_key(text))
        return math.nan if label is None and is_nothing(text) else label

    def with_words(self, words: Iterable[str], label: float) -> "Labels":
        """The same, with words of cells that mean `label` whatever they meant before."""
        more = {_cell_key(word): label for word in words}
        return replace(self, by_cell={**self.by_cell, **more}) if more else self

    def of_benign_cell(self, text: str) -> float | None:
        """The same for a column that says whether an image is benign: yes and no change places.

        A word that names the class itself means it there too, as do all words of the user's.
        """
        label = self.of_cell(text)
        is_answer = not self.own and _cell_key(text) in _ANSWERS
        return 1 - label if label is not None and is_answer else label

    def is_answer(self, part: str) -> bool:
        """Whether a part of a path is a mere value, such as 0 or false."""
        return _cell_key(part) in _ANSWERS and (not self.own or _cell_key(part) not in self.by_cell)

    def of_name(self, part: str) -> Reading:
        """The class that one part of a path names, as a whole or by a word in it."""
        whole = self.by_cell.get(_cell_key(part)) if self.own else None
        if whole is not None and not math.isnan(whole):
            return "positive" if whole else "negative"
        tokens = _tokens(part)
        readings, at = set[Reading](), 0
        while at < len(tokens):
            words = self._words_at(tokens, at)
            if not words:
                if tokens[at] in _NEITHER_TOKENS or self._is_denied_word(tokens[at]):
                    readings.add("doubt")
                elif self._has_grown(tokens[at]):
                    readings.add("open")
                at += 1
                continue
            label = self.by_name[words]
            before, behind = tokens[:at], tokens[at + len(words) :]
            is_degree = words[-1] in _DEGREES
            readings.add(_in_context(label, before, behind, is_degree=is_degree))
            at += len(words)
        for one in ("doubt", "open"):
            if one in readings:
                return one
        return "both" if len(readings) > 1 else readings.pop() if readings else "nothing"

    def _words_at(self, tokens: Sequence[str], at: int) -> Words:
        """The longest words of a class that begin there; none, where none does."""
        if tokens[at] not in self._beginnings:
            return ()
        ends = range(min(len(tokens), at + self._longest), at, -1)
        return next((t for end in ends if (t := tuple(tokens[at:end])) in self.by_name), ())

    def _is_denied_word(self, token: str) -> bool:
        """Whether a token is a class's word with a denial grown to it, as in `nonmalignant`."""
        return token.startswith(_DENYING_BEGINNINGS) and any(
            token.startswith(denial) and (token.removeprefix(denial),) in self.by_name
            for denial in _DENYING_BEGINNINGS
        )

    def _has_grown(self, token: str) -> bool:
        """Whether a token ends with a class's word, or holds one of a script without blanks."""
        if token.endswith(self._endings):
            return True
        return not token.isascii() and any(word in token for word in self._unspaced)


def _in_context(
    label: float, before: Sequence[str], behind: Sequence[str], *, is_degree: bool
) -> Reading:
    """What a class's word says between other tokens of a name.

    A number behind a word that `is_degree` may be a grade, as in `malignancy_1` of 5.
    """
    is_value = bool(before) and before[-1] == "is"
    if behind and behind[0] in "=:":
        is_value, behind = True, behind[1:]
    value, further = _cell_key(behind[0]) if behind else "", behind[1:]
    true, false = value in _TRUE_KEYS, value in _FALSE_KEYS
    near = next((one for one in reversed(before) if one not in _UNHEARD), "")
    doubt = near in _DENIALS or math.isnan(label) or (is_degree and value.isdigit())
    is_open = False
    if is_value or value == "false":
        doubt = doubt or true == false
        label, behind = label if true else 1 - label, further
    elif true and not value.isdigit():
        behind = further
    else:
        doubt = doubt or value in _OPEN_ENDED
        is_open = bool(behind) and behind[0] == "0"
    if doubt:
        return "doubt"
    if tuple(behind[:2]) in _PLAIN_ENDINGS:
        behind = behind[2:]
    if is_open or not (_changes_nothing(before[::-1]) and _changes_nothing(behind)):
        return "open"
    return "positive" if label else "negative"


def _changes_nothing(beside: Sequence[str]) -> bool:
    """Whether the tokens that lead away from a class's word begin with one that leaves it as it is.

    A single letter counts a case or names a side; two are short for words, as in `w/o`.
    """
    one, following = (*beside[:2], "", "")[:2]
    if len(one) == 1 and one.isascii() and one.isalpha():
        return not (len(following) == 1 and following.isalpha())
    return not one or not any(map(str.isalpha, one)) or one in _PLAIN


def names_mask(path: str) -> bool:
    """Whether a path says that its image is a mask: a word in the file's name, or a folder's name.

    `BUSI_with_masks/` is the title of all, and says nothing of one image.
    """
    *folders, file = path.split("/")
    if not _MASKS.isdisjoint(_tokens(file)):
        return True
    words = ([token for token in _tokens(folder) if token not in _PLAIN] for folder in folders)
    return any(
        not _MASKS.isdisjoint(tokens) and all(t in _MASKS or not t.isalpha() for t in tokens)
        for tokens in words
    )


def _plain(text: str) -> str:
    """A text without width, case and accents."""
    if text.isascii():
        return text.lower()
    parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in parts if unicodedata.category(c) not in ("Mn", "Cf"))


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(_plain(_NOT.sub(" not", _HUMP.sub(" ", text))))


@lru_cache(maxsize=4096)
def _cell_key(text: str) -> str:
    """What spellings of one word share: `1.0` and `1`, or `Benign_without callback`."""
    plain = _plain(text).strip()
    number = _NUMBER.fullmatch(plain)
    if number is not None:
        return f"{'-' if number[1] == '-' and number[2] != '0' else ''}{number[2]}"
    # A sign parts words where it stands between two; elsewhere, as in `ER-`, it says something.
    parted = re.sub(
        r"(?<=[^\W_])\s*-+\s*(?=[^\W_])", " ", re.sub(r"(?<!\d)[./]|[./](?!\d)", " ", plain)
    )
    return " ".join(re.findall(r"\d+[./]\d+|[^\W_]+|[^\w\s]", parted)) or plain


_TRUE_KEYS, _FALSE_KEYS = (frozenset(map(_cell_key, words)) for words in (_TRUE, _FALSE))
_ANSWERS = _TRUE_KEYS | _FALSE_KEYS
_NEITHER_TOKENS = frozenset(token for word in _NEITHER for token in _tokens(word))


def _in_names(words: Iterable[str]) -> list[Words]:
    split = (tuple(_tokens(word)) for word in words)
    return [
        tokens
        for tokens in split
        if any(len(token) >= _LEAST_LETTERS_IN_NAMES and not token.isdigit() for token in tokens)
        or any(not token.isascii() for token in tokens)
    ]


@cache
def answers() -> Labels:
    """Yes and no, true and false, 1 and 0: what a cell says of any target."""
    return Labels({**dict.fromkeys(_TRUE_KEYS, 1.0), **dict.fromkeys(_FALSE_KEYS, 0.0)}, {})


def default_labels() -> Labels:
    """The same, and the words for malignant and benign."""
    meaning = {1.0: _MALIGNANT, 0.0: _BENIGN}
    by_cell = dict(answers().by_cell)
    by_cell |= {_cell_key(word): label for label, words in meaning.items() for word in words}
    by_name = {words: label for label, given in meaning.items() for words in _in_names(given)}
    return Labels(by_cell, by_name)


def own_labels(positive: Words, negative: Words, unknown: Words = ()) -> Labels:
    """The words that a user gave, which then are all: as whole cells or whole parts of a path, and
    those of three letters or more also as words in a name.

    Raises:
        ValueError: when a word stands under two meanings, or is empty.
    """
    by_cell: dict[str, float] = {}
    by_name: dict[Words, float] = {}
    for label, words in ((1.0, positive), (0.0, negative), (math.nan, unknown)):
        for word in words:
            key = _cell_key(word)
            if not key:
                raise ValueError("an empty word; an empty cell is unknown anyway")
            known = by_cell.setdefault(key, label)
            if known is not label and known != label:
                raise ValueError(f"{word[:40]!r} stands under two meanings; leave it under one")
        by_name |= dict.fromkeys(_in_names(words), label)
    return Labels(by_cell, by_name, own=True)
