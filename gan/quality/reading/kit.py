"""What a reader's page shows: which images, under which codes, and what the page says of itself.

The truth stands in the key alone. The page is made of codes and pixels, in a random order, and of
files that differ in their pixels alone: one encoder, one size, one number of bytes.
"""

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gan.quality.reading.key import Key, KeyImage, Kind, new_codes
from synthdp.data.dataset import Dataset, Row, load_pictures
from synthdp.data.images import encode_png, to_uint8
from synthdp.errors import InputError
from synthdp.privacy.accounting.bounds import epsilon_text
from synthdp.privacy.promise.plan import set_statement


@dataclass(frozen=True)
class Kit:
    """All of a reader's page: its key, (code, PNG) in the order of the page, and what it says.

    `holds` says in words whose images these are.
    """

    key: Key
    shown: tuple[tuple[str, bytes], ...]
    holds: tuple[str, ...]


def make_kit(
    real: Dataset,
    synthetic: Dataset,
    *,
    target: str | None,
    split: str,
    per_kind: int,
    size_px: int | None,
    seed: int,
) -> Kit:
    """Draw the images of both sets, half of either with the target, and give them codes.

    Args:
        real: the set of which real images are shown.
        synthetic: the other one.
        target: that readers rate; None where the synthetic set has one.
        split: of the real images.
        per_kind: how many images of each set.
        size_px: the side of all; that of both sets when None.
        seed: which images are drawn; codes and order come from the operating system.

    Raises:
        InputError: when a set has too few images of a class, or one is unreadable; when sides
            differ, and none is named.
    """
    name = _the_target(synthetic, target)
    side = size_px or _common_side(real, synthetic)
    images: list[KeyImage] = []
    files: list[bytes] = []
    codes = iter(new_codes(2 * per_kind + 1))
    kit = next(codes)
    sets: tuple[tuple[Kind, Dataset, str], ...] = (
        ("real", real, split),
        ("synthetic", synthetic, "all"),
    )
    for number, (kind, dataset, of) in enumerate(sets):
        column = dataset.info.targets.index(name)
        rng = np.random.default_rng((seed, number))
        rows = _drawn(dataset, dataset.split(of), column, per_kind, rng)
        for row, pixels in zip(rows, _pixels(dataset, rows, side), strict=True):
            images.append(
                KeyImage(
                    code=next(codes),
                    kind=kind,
                    label=1 if row.targets[column] == 1 else 0,
                    patient=row.patient_id,
                    image=row.image,
                )
            )
            files.append(encode_png(pixels, compress_level=0))
    order = secrets.SystemRandom().sample(range(len(images)), len(images))
    key = Key(
        kit=kit,
        target=name,
        real=real.info.name,
        synthetic=synthetic.info.name,
        protects_patients=real.info.protects_patients,
        size_px=side,
        images=tuple(sorted(images, key=lambda one: one.code)),
    )
    shown = tuple((images[index].code, files[index]) for index in order)
    return Kit(key, shown, tuple(_holds(real, synthetic)))


def _the_target(synthetic: Dataset, asked: str | None) -> str:
    names = synthetic.info.targets
    if asked is None and len(names) == 1:
        return names[0]
    if asked is None or asked not in names:
        raise InputError(
            f"target: {synthetic.info.name} has {', '.join(names)}; name the one that readers are "
            "to rate, as in target=" + names[0]
        )
    return asked


def _common_side(real: Dataset, synthetic: Dataset) -> int:
    """The side of both sets.

    Raises:
        InputError: when it differs: images of one kind alone would be resampled, which may show.
    """
    sides = real.info.size_px, synthetic.info.size_px
    if sides[0] != sides[1]:
        raise InputError(
            f"size_px: images of {real.info.name} have a side of {sides[0]} px, those of "
            f"{synthetic.info.name} {sides[1]} px. Those that are resampled may look smoother, "
            f"which would tell them apart: import the real ones at {sides[1]} px, or name a side "
            f"for both, as in size_px={min(sides) // 2}"
        )
    return sides[0]


def _drawn(
    dataset: Dataset,
    rows: Sequence[Row],
    column: int,
    count: int,
    rng: np.random.Generator,
) -> list[Row]:
    """`count` rows, half of them with the target, of as many patients as there are."""
    chosen: list[Row] = []
    met: Counter[str] = Counter()
    for value, wanted in ((1.0, count // 2), (0.0, count - count // 2)):
        of_class = [row for row in rows if row.targets[column] == value]
        if len(of_class) < wanted:
            raise InputError(
                f"{dataset.info.name}: {wanted} images with {dataset.info.targets[column]} "
                f"{value:g} were asked for (half of per_kind), and there are fewer; lower "
                "per_kind, or name another split"
            )
        mixed = [of_class[index] for index in rng.permutation(len(of_class))]
        seen = Counter(met)
        turns = []
        for row in mixed:
            turns.append(seen[row.patient_id])
            seen[row.patient_id] += 1
        # a patient's second image only when each has shown one: sorted() keeps the order of equals
        first = sorted(range(len(mixed)), key=lambda index: turns[index])[:wanted]
        chosen += [mixed[index] for index in first]
        met.update(mixed[index].patient_id for index in first)
    return chosen


def _pixels(dataset: Dataset, rows: Sequence[Row], side: int) -> NDArray[np.uint8]:
    """Images (N, side, side) in 8 bits, whatever depth and size they were stored in."""
    return to_uint8(load_pictures(dataset, rows, side)[:, 0])


def refuse_unasked(real: Dataset, synthetic: Dataset) -> None:
    """Refuse to show patients' images, or ones made from patients without a promise.

    Raises:
        InputError: with the setting that shows them.
    """
    mend = (
        "the page shows its images to whoever gets it. If they may be shown, say so with "
        "--yes-show-patients (yes_show_patients=true); public sets and phantoms need no such word"
    )
    if real.info.protects_patients:
        raise InputError(f"real: {real.info.name} holds images of patients, and {mend}")
    statement = set_statement(synthetic)
    if not np.isfinite(statement.epsilon):
        raise InputError(
            f"synthetic: the epsilon of {synthetic.info.name} is infinite ({statement.because}), "
            f"and {mend}"
        )


def _holds(real: Dataset, synthetic: Dataset) -> Iterator[str]:
    info = real.info
    if info.protects_patients:
        yield (
            f"Images of patients, of the data set {info.name}. Nobody but its readers may have "
            "this page: delete it when you have read."
        )
    elif info.shows_patients:
        yield f"Images of patients, of the data set {info.name}, which was declared public."
    else:
        yield f"Drawings of the data set {info.name}, which holds no patients, stand for real ones."
    if info.depth is not None:
        yield "Of each volume the slice in the middle is shown."
    statement = set_statement(synthetic)
    made = f"Images made by a computer, of the data set {synthetic.info.name}"
    if not synthetic.info.lineage.releases:
        yield f"{made}; no patient's image went into them."
    elif np.isfinite(statement.epsilon):
        promise = epsilon_text(statement.epsilon)
        yield (
            f"{made}; its promise to each {statement.unit} that it was made from is epsilon "
            f"{promise} (differential privacy)."
        )
    else:
        yield f"{made}; nothing is promised to the patients that it was made from."
