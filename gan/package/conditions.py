"""Attributes that a generator is given beside the class: their levels, codes and frequencies."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from synthdp.config.settings import Settings
from synthdp.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from synthdp.data.dataset import Row

MAX_LEVELS = 16
MAX_NAMES = 16
#: Findings that one generator knows, and combinations of them that its file lists, at most.
MAX_FINDINGS = 32
MAX_COMBINATIONS = 8192
UNKNOWN = 0
#: The codes of a finding in a combination: its label and one more, 0 where it is unknown.
FINDING_LEVELS = 2


class Combination(Settings):
    """One combination of attributes by their codes, and how often it is drawn within a class."""

    codes: tuple[Annotated[int, Field(ge=0, le=MAX_LEVELS)], ...]
    share: float = Field(ge=0, le=1)


class Conditions(Settings):
    """What a generator knows beside the class; `model/settings.json` holds it.

    The code of an attribute is the position of its value in `levels`, from 1; an empty cell is 0.
    `prior` lists the combinations to draw, for benign and for malignant images. A generator of
    several targets has them in `findings`, and in place of `prior` its `blocks`: what is drawn of
    findings and attributes together, one block apart from the next.
    """

    names: tuple[str, ...] = Field(default=(), max_length=MAX_NAMES)
    levels: tuple[Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_LEVELS)], ...] = (
        Field(default=(), max_length=MAX_NAMES)
    )
    prior: tuple[tuple[Combination, ...], tuple[Combination, ...]] = ((), ())
    findings: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        default=(), max_length=MAX_FINDINGS
    )
    blocks: tuple[Annotated[tuple[Combination, ...], Field(max_length=MAX_COMBINATIONS)], ...] = (
        Field(default=(), max_length=MAX_FINDINGS + MAX_NAMES)
    )

    @model_serializer(mode="wrap")
    def _leave_out_several_findings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Generators of one target are written as they were before there were others."""
        values: dict[str, Any] = handler(self)
        if not self.findings:
            del values["findings"], values["blocks"]
        return values

    @model_validator(mode="after")
    def _blocks_fit(self) -> "Conditions":
        if len(self.findings) == 1 or len(set(self.findings)) != len(self.findings):
            raise ValueError("findings: two or more, each once")
        if bool(self.findings) != bool(self.blocks) or (self.findings and any(self.prior)):
            raise ValueError("a generator of several findings has blocks, and no prior")
        counts, column = [FINDING_LEVELS] * len(self.findings) + self.level_counts, 0
        for block in self.blocks:
            width = len(block[0].codes) if block else 0
            own = counts[column : column + width]
            if not width or any(
                len(one.codes) != len(own)
                or any(code > count for code, count in zip(one.codes, own, strict=True))
                for one in block
            ):
                raise ValueError("blocks: a combination is not one of findings and levels")
            column += width
        if self.findings and column != len(counts):
            raise ValueError("blocks: they leave out a finding or a condition")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> "Conditions":
        if len(self.names) != len(self.levels) or len(set(self.names)) != len(self.names):
            raise ValueError("each condition has one name and one list of levels")
        counts = self.level_counts
        for one in (*self.prior[0], *self.prior[1]):
            if len(one.codes) != len(counts) or any(
                code > count for code, count in zip(one.codes, counts, strict=False)
            ):
                raise ValueError("prior: a combination is not one of the levels")
        return self

    def refuse_undrawable(self, where: str) -> None:
        """Refuse conditions of which a file does not say how they are drawn; `where` names it.

        Raises:
            InputError: when the shares of a class don't add up to anything.
        """
        tables = self.blocks if self.findings else self.prior if self.names else ()
        if any(sum(one.share for one in table) <= 0 for table in tables):
            raise InputError(f"{where}: conditions.prior: nothing can be drawn by it; restore it")

    @property
    def level_counts(self) -> list[int]:
        """How many known levels each attribute has."""
        return [len(levels) for levels in self.levels]

    @property
    def n_findings(self) -> int:
        """How many targets a generator knows: one where `findings` names none."""
        return len(self.findings) or 1

    @property
    def tables(self) -> list[list[tuple[list[int], float]]]:
        """The prior as `gan.network.sampling.draw_codes` takes it; empty without attributes.

        Of several findings, the blocks of `draw_findings`.
        """
        if not self.names and not self.findings:
            return []
        tables = self.blocks or self.prior
        return [[(list(one.codes), one.share) for one in table] for table in tables]

    @property
    def finding_shares(self) -> tuple[float, ...]:
        """Of several findings the share of images with each, of those where it is known."""
        having, known = [0.0] * len(self.findings), [0.0] * len(self.findings)
        column = 0
        for block in self.blocks:
            for one in block:
                for index, code in enumerate(one.codes, start=column):
                    if index < len(self.findings) and code != UNKNOWN:
                        known[index] += one.share
                        having[index] += one.share * (code == FINDING_LEVELS)
            column += len(block[0].codes)
        return tuple(a / b if b else 0.0 for a, b in zip(having, known, strict=True))

    def with_shares(self, shares: Mapping[str, float]) -> "Conditions":
        """The same of several findings, each drawn apart from the others, with these shares.

        Attributes are drawn as before, whatever the findings are.

        Raises:
            InputError: when a finding is missing, or there is another.
        """
        refuse_other_findings(shares, self.findings)
        return self.with_blocks([*_share_blocks(self.findings, shares), *self.attribute_blocks])

    def with_blocks(self, blocks: "Sequence[tuple[Combination, ...]]") -> "Conditions":
        """The same, drawn by other blocks."""
        return self.model_copy(update={"blocks": tuple(blocks)})

    @property
    def attribute_blocks(self) -> list[tuple[Combination, ...]]:
        """Of several findings, what is drawn of attributes whatever the findings are."""
        blocks, left = [], len(self.findings)
        for block in self.blocks:
            width = len(block[0].codes)
            if left < width:  # it has attributes behind its findings, if any
                blocks.append(_marginal(block, left))
            left = max(left - width, 0)
        return blocks


def read_conditions(
    rows: "Sequence[Row]",
    names: Sequence[str],
    public_prior: Mapping[str, Mapping[str, float]] | None = None,
    column: int = 0,
) -> Conditions:
    """Read the levels of the named attributes, in sorted order, and how they are to be drawn.

    Without a public prior, combinations are drawn as often as they stand with each class in `rows`.
    That is a function of private data, for generators whose epsilon is infinite anyway. With one,
    each attribute is drawn by itself with these weights, in either class.

    Args:
        rows: train rows, every target known.
        names: columns of the manifest.
        public_prior: by attribute, a weight for some of its levels; needs every name.
        column: which of the rows' targets the class is.

    Raises:
        InputError: when a column is missing, empty, or has more than 16 levels, or the prior names
            a level that no row has.
    """
    if not names:
        return Conditions()
    levels = tuple(_levels(rows, name) for name in names)
    without_prior = Conditions(names=tuple(names), levels=levels)
    if public_prior is None:
        codes = _codes(without_prior, rows)
        labels = [row.targets[column] for row in rows]
        prior = tuple(
            _shares([c for c, label in zip(codes, labels, strict=True) if label == value])
            for value in (0, 1)
        )
    else:
        prior = 2 * (_independent(without_prior, public_prior),)
    return Conditions.model_validate({**without_prior.model_dump(), "prior": prior})


def public_conditions(
    rows: "Sequence[Row]",
    names: Sequence[str],
    shares: Mapping[str, Mapping[str, float]] | None,
    images: int,
) -> Conditions:
    """The conditions by which `images` of each class are kept of public rows, and drawn later.

    Each value is drawn by its public weight, whatever the others and the class are, or all values
    as often as each other; shares are rounded to whole images. No other value is known.

    Args:
        rows: of sets without patients, with a cell for each name.
        names: columns of their manifests.
        shares: by name, a weight for some of its values; needs every name.
        images: how many are kept of each class.

    Raises:
        InputError: when no row has a value, a column has none, one or more than 16, or an image is
            too much for a combination's share.
    """
    if not names:
        return Conditions()
    weights: dict[str, Mapping[str, float]] = {}
    for name in names:
        there = _levels(rows, name) if rows else ()
        asked = dict.fromkeys(there, 1.0) if shares is None else shares[name]
        if unknown := sorted(set(asked) - set(there)):
            raise InputError(
                f"condition_prior.{name}: no candidate of selection.pool has {unknown[0]!r} (they "
                f"have: {', '.join(there)}); name what they have, each with a weight"
            )
        if not asked:
            raise InputError(f"condition_prior.{name}: names no value; give some, each a weight")
        weights[name] = asked
    levels = tuple(tuple(sorted(weights[name])) for name in names)
    known = Conditions(names=tuple(names), levels=levels)
    kept = _whole(_independent(known, weights), images)
    return known.model_copy(update={"prior": (kept, kept)})


def _whole(drawn: Sequence[Combination], images: int) -> tuple[Combination, ...]:
    """Combinations whose shares are those of whole images: by largest remainders (Hamilton).

    Raises:
        InputError: when one gets none.
    """
    exact = [one.share * images for one in drawn]
    counts = [math.floor(one) for one in exact]
    by_rest = sorted(range(len(drawn)), key=lambda index: counts[index] - exact[index])
    for index in by_rest[: images - sum(counts)]:
        counts[index] += 1
    if not all(counts):
        raise InputError(
            f"selection.images: of {images:,} images of each class, {counts.count(0):,} of the "
            f"{len(counts):,} combinations of conditions get none by their shares; keep more "
            "images, or name fewer conditions, or values of larger shares in condition_prior"
        )
    return tuple(
        Combination(codes=one.codes, share=count / images)
        for one, count in zip(drawn, counts, strict=True)
    )


def combinations_of(conditions: Conditions, rows: "Sequence[Row]") -> "NDArray[np.int64]":
    """Which combination of the prior each row is, (N,) int64; -1 where it is none of them.

    All are 0 where there are no conditions.
    """
    import numpy as np  # noqa: PLC0415 (settings start without it)

    index_of = {one.codes: index for index, one in enumerate(conditions.prior[0])} or {(): 0}
    columns = _code_columns(conditions)
    codes = [
        tuple(code_of.get(row.attributes[name], UNKNOWN) for name, code_of in columns)
        for row in rows
    ]
    return np.array([index_of.get(one, -1) for one in codes], dtype=np.int64)


def read_findings(
    rows: "Sequence[Row]",
    targets: Mapping[str, int],
    names: Sequence[str] = (),
    public_prior: Mapping[str, Mapping[str, float]] | None = None,
    shares: Mapping[str, float] | None = None,
) -> Conditions:
    """What a generator of several findings knows, and how findings and attributes are drawn.

    Together, as often as they stand so in `rows`, unknown labels included: a function of private
    data, as in `read_conditions`. With public shares each finding is drawn by itself, and with a
    public prior each attribute, apart from what is read of the rows.

    Args:
        rows: train rows.
        targets: the findings, each with its place among the rows' targets.
        names: columns of the manifest.
        public_prior: as in `read_conditions`.
        shares: by finding, the public share of images that have it; needs every one.

    Raises:
        InputError: as `read_conditions`, or when there are too many findings or combinations, or
            shares of others.
    """
    if len(targets) > MAX_FINDINGS:
        raise InputError(
            f"targets: a generator knows at most {MAX_FINDINGS} findings, not {len(targets)}; name "
            "some of them in `targets`"
        )
    attributes = Conditions(names=tuple(names), levels=tuple(_levels(rows, one) for one in names))
    of_findings = [
        tuple(finding_code(row.targets[column]) for column in targets.values()) for row in rows
    ]
    of_attributes = _codes(attributes, rows)
    if shares is None and public_prior is None:
        together = [(*one, *other) for one, other in zip(of_findings, of_attributes, strict=True)]
        blocks = [shares_of(together)]
    else:
        if shares is None:
            blocks = [shares_of(of_findings)]
        else:  # nothing of the rows' findings counts, nor is refused
            refuse_other_findings(shares, list(targets))
            blocks = _share_blocks(list(targets), shares)
        if names:
            drawn = _independent(attributes, public_prior) if public_prior else None
            blocks.append(drawn or shares_of(of_attributes))
    return Conditions(
        names=attributes.names,
        levels=attributes.levels,
        findings=tuple(targets),
        blocks=tuple(blocks),
    )


def refuse_other_findings(shares: Mapping[str, float], findings: Sequence[str]) -> None:
    """Refuse shares that leave out a finding, or name another.

    Raises:
        InputError: naming it.
    """
    if odd := sorted(set(shares) ^ set(findings)):
        raise InputError(
            f"findings: {', '.join(odd)}: give a share for each finding of the generator, and for "
            f"no other ({', '.join(findings)})"
        )


def finding_code(label: float) -> int:
    """A label of a finding, 0, 1 or nan, as conditions count it: 1, 2 or `UNKNOWN`."""
    return UNKNOWN if math.isnan(label) else 1 + int(label)


def _share_blocks(
    findings: Sequence[str], shares: Mapping[str, float]
) -> list[tuple[Combination, ...]]:
    return [
        (
            Combination(codes=(1,), share=1 - shares[name]),
            Combination(codes=(2,), share=shares[name]),
        )
        for name in findings
    ]


def _marginal(block: Sequence[Combination], first: int) -> tuple[Combination, ...]:
    """A block without its first columns: shares of what they leave equal are added."""
    totals: dict[tuple[int, ...], float] = {}
    for one in block:
        totals[one.codes[first:]] = totals.get(one.codes[first:], 0.0) + one.share
    return tuple(
        Combination(codes=codes, share=min(totals[codes], 1.0)) for codes in sorted(totals)
    )


def _levels(rows: "Sequence[Row]", name: str) -> tuple[str, ...]:
    if name not in rows[0].attributes:
        known = ", ".join(sorted(rows[0].attributes)) or "none"
        raise InputError(f"conditions: the manifest has no column {name!r} (attributes: {known})")
    levels = sorted({row.attributes[name] for row in rows} - {""})
    if not levels:
        raise InputError(f"conditions: {name!r} is empty in every row; leave it out")
    if len(levels) > MAX_LEVELS:
        raise InputError(
            f"conditions: {name!r} has more than {MAX_LEVELS} different values; a condition has "
            "few levels, so group them in a column of their own, or leave it out"
        )
    return tuple(levels)


def encode(conditions: Conditions, rows: "Sequence[Row]") -> "Tensor":
    """The codes of the rows' attributes, (N, A) int64; 0 where a cell is empty."""
    import torch  # noqa: PLC0415 (commands start without it)

    codes = torch.tensor(_codes(conditions, rows), dtype=torch.int64)
    return codes.reshape(len(rows), len(conditions.names))


def encode_known(conditions: Conditions, rows: "Sequence[Row]") -> "Tensor":
    """The codes of the rows' attributes as they stand in public lists, (N, A) int64.

    0 where a cell is empty or holds a value that is on no list: of whoever has it nothing is told.
    """
    import torch  # noqa: PLC0415 (commands start without it)

    columns = _code_columns(conditions)
    codes = [
        [code_of.get(row.attributes.get(name, ""), UNKNOWN) for name, code_of in columns]
        for row in rows
    ]
    return torch.tensor(codes, dtype=torch.int64).reshape(len(rows), len(conditions.names))


def _codes(conditions: Conditions, rows: "Sequence[Row]") -> list[tuple[int, ...]]:
    """The codes of each row's attributes; 0 where a cell is empty."""
    columns = _code_columns(conditions)
    return [tuple(code_of[row.attributes[name]] for name, code_of in columns) for row in rows]


def _code_columns(conditions: Conditions) -> list[tuple[str, dict[str, int]]]:
    """Each attribute with the code of each of its values."""
    return list(zip(conditions.names, map(level_codes, conditions.levels), strict=True))


def level_codes(levels: Sequence[str]) -> dict[str, int]:
    """The code of each value of an attribute, from 1 in this order; `UNKNOWN` of an empty cell."""
    return {"": UNKNOWN, **{level: code for code, level in enumerate(levels, start=1)}}


def shares_of(codes: Sequence[tuple[int, ...]]) -> tuple[Combination, ...]:
    """How often each combination of findings and attributes stands among those of N images.

    Raises:
        InputError: when they are too many to be listed.
    """
    if len(set(codes)) > MAX_COMBINATIONS:
        raise InputError(
            f"targets: findings and conditions stand together in more than {MAX_COMBINATIONS:,} "
            "ways; name fewer `targets` or `conditions`, or give public shares in `findings`"
        )
    return _shares(codes)


def _shares(codes: Sequence[tuple[int, ...]]) -> tuple[Combination, ...]:
    counts = Counter(codes)
    return tuple(
        Combination(codes=combination, share=counts[combination] / len(codes))
        for combination in sorted(counts)
    )


def _independent(
    conditions: Conditions, weights: Mapping[str, Mapping[str, float]]
) -> tuple[Combination, ...]:
    """Every combination of the weighted levels; its share is the product of its levels' shares."""
    marginals = []
    for name, levels in zip(conditions.names, conditions.levels, strict=True):
        unknown = sorted(set(weights[name]) - set(levels))
        if unknown or not weights[name]:
            raise InputError(
                f"condition_prior.{name}: {', '.join(unknown) or 'nothing'} is no level of it in "
                "the train split; name some of its levels, each with a weight"
            )
        total, code_of = sum(weights[name].values()), level_codes(levels)
        marginals.append(
            [(code_of[level], weight / total) for level, weight in weights[name].items()]
        )
    return tuple(
        Combination(codes=tuple(code for code, _ in one), share=math.prod(part for _, part in one))
        for one in product(*marginals)
    )


def attribute_cells(conditions: Conditions, codes: Sequence[int]) -> dict[str, str]:
    """Codes (A,) of one image as cells of a manifest: column -> level, empty for unknown."""
    return {
        name: levels[code - 1] if code != UNKNOWN else ""
        for name, levels, code in zip(conditions.names, conditions.levels, codes, strict=True)
    }
