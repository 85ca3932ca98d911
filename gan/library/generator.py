"""A generator as an object: opened by its run, and asked for images as arrays.

The stage `generate` draws its sets by this same class, so that an array and a file of one seed hold
the same image.
"""

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.network.bank import Bank
from gan.network.sampling import (
    AnyGenerator,
    Conditioned,
    draw_codes,
    draw_findings,
    prior_codes,
    sample_images,
)
from gan.package.conditions import Conditions, attribute_cells, level_codes
from gan.package.model import load_opened
from gan.package.opened import GeneratorRun, open_generator
from synthdp.data.images import to_uint8, to_uint16
from synthdp.errors import InputError, RunError
from synthdp.machine.devices import chosen_device

if TYPE_CHECKING:
    from synthdp.privacy.promise.statement import Statement

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
PixelType: TypeAlias = Literal["float32", "uint8", "uint16"]
BATCH = 64
#: More at once would fill the memory of most machines; a set of more is a job for the stage.
MAX_AT_ONCE = 100_000


class Samples(NamedTuple):
    """Images that were drawn, and what was asked for of each.

    images: (N, S, S), grey, 0 black; float32 in [0, 1], or uint8 or uint16 over their whole range;
    malignant: (N,) int64, 1 or 0, the class that was asked for (of a generator of another target,
    that target; of several findings (N, T), in the order of its `targets`, -1 unknown);
    conditions: name -> (N,) of texts, empty where unknown, such as the view.
    """

    images: NDArray[Any]
    malignant: NDArray[np.int64]
    conditions: dict[str, NDArray[np.str_]]


class Generator:
    """A finished generator, to draw synthetic images from.

    `Generator.load` opens one; `sample` draws. What is drawn descends from the generator, and its
    promise is that of the generator, `statement`: drawing costs nothing more.

    Example:
        >>> generator = Generator.load("pretrained:mcgan-cbis-dp6")
        >>> drawn = generator.sample(2, malignant=1, seed=0)
        >>> drawn.images.shape, str(drawn.images.dtype), drawn.malignant.tolist()
        ((2, 128, 128), 'float32', [1, 1])
    """

    def __init__(self, opened: GeneratorRun, network: AnyGenerator) -> None:
        self._opened = opened
        self._network = network

    @classmethod
    def load(cls, run: str | PathLike[str], *, device: Device = "auto") -> "Generator":
        """Open a generator: `pretrained:NAME`, the folder of a run, or a released folder.

        Args:
            run: names it.
            device: where it draws; `auto` takes a GPU where there is one.

        Raises:
            InputError: when the run is not finished or is no generator, its weights are missing or
                do not fit, or the package has none of that name.
        """
        return cls.of(open_generator(Path(run)), device)

    @classmethod
    def of(cls, opened: GeneratorRun, device: Device = "auto") -> "Generator":
        """The same of a generator that was opened already.

        Raises:
            InputError: when its weights are missing or do not fit its description.
        """
        return cls(opened, load_opened(opened, chosen_device(device)))

    def __repr__(self) -> str:
        shape = self._opened.description.shape
        return (
            f"<Generator {shape.architecture}, {self.size_px} px, of {', '.join(self.targets)}, "
            f"trained on {self._opened.description.data}, epsilon {self.statement.epsilon:g}>"
        )

    @property
    def statement(self) -> "Statement":
        """What is promised of the generator and of all that it draws."""
        return self._opened.statement

    @property
    def size_px(self) -> int:
        """The side S of its images."""
        return self._opened.description.shape.size_px

    @property
    def target(self) -> str:
        """What class 1 is, such as `malignant`; empty of a generator of several `targets`."""
        return self._opened.description.target

    @property
    def targets(self) -> tuple[str, ...]:
        """The target, or the several findings that its images are drawn with and without."""
        return self._opened.description.targets

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """What can be asked for beside the class: name -> its levels."""
        known = self.known
        return dict(zip(known.names, known.levels, strict=True))

    @property
    def known(self) -> Conditions:
        """Its conditions and findings, with how they are drawn."""
        return self._opened.description.shape.conditions

    def sample(
        self,
        n: int,
        malignant: int | Sequence[int] | NDArray[np.integer] | None = None,
        *,
        findings: Mapping[str, int | Sequence[int]] | None = None,
        conditions: Mapping[str, str | Sequence[str]] | None = None,
        seed: int = 0,
        truncation: float = 1.0,
        pixels: PixelType = "float32",
    ) -> Samples:
        """Draw `n` images. The same arguments draw the same images; a longer call begins with them.

        Args:
            n: how many.
            malignant: the class of all, 1 or 0, or of each, (n,); None alternates 0, 1, 0, 1.
            findings: of a generator of several, by name, in place of `malignant`: 1 or 0 for all
                images, or for each, (n,). What is not named is drawn as for conditions.
            conditions: a level for all images, or one for each, by the names in `conditions`; an
                empty text is unknown. What is not named is drawn as the generator's prior has it
                beside what is (or, where the prior never has that, as if nothing were named).
            seed: names the series. One image is fixed by the seed, its position, its class and its
                conditions.
            truncation: in (0, 1]; below 1 images are more typical and less varied.
            pixels: `float32` in [0, 1], or `uint8` or `uint16` as the stage writes them.

        Raises:
            InputError: when an argument is out of its range, or the generator knows no such
                condition or level.
            RunError: when a pixel is no number.
        """
        count = _checked_count(n)
        if not 0 < truncation <= 1:
            raise InputError(f"truncation is {truncation}; give a number above 0 and at most 1")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise InputError(f"seed is {seed!r}; give a whole number, 0 or above")
        if self.known.findings:
            if malignant is not None:
                raise InputError(
                    f"malignant: the generator draws several findings ({', '.join(self.targets)}); "
                    "name them in findings"
                )
            asked = self._asked_of_several(count, findings or {}, conditions or {})
            labels, codes = self._several(count, asked, int(seed))
        else:
            if findings is not None:
                raise InputError(f"findings: the generator knows one, {self.target}: see malignant")
            labels = self._labels(count, malignant)
            codes = self._codes(labels, conditions or {}, int(seed))
        shape = (n, self.size_px, self.size_px)
        if pixels not in ("float32", "uint8", "uint16"):
            raise InputError(f"pixels is {pixels!r}; choose float32, uint8 or uint16")
        images = np.empty(shape, dtype=pixels)
        start = 0
        for batch in self.draw(labels, codes, int(seed), truncation=truncation):
            images[start : start + len(batch)] = _as_pixels(batch, pixels)
            start += len(batch)
        return Samples(images, labels.numpy(), self._cells(codes))

    def prior_codes(self, labels: Tensor, seed: int) -> Tensor:
        """Conditions of images as the generator's prior has them, codes (N, A) int64."""
        return prior_codes(self._network, self.known.tables, labels, seed)

    def prior_findings(self, count: int, seed: int, drawn: Conditions | None = None) -> Conditioned:
        """Findings and conditions of images: labels (N, T), -1 unknown, and codes (N, A), int64.

        As they stand together in the generator, or as `drawn`, the same with other blocks, says.
        """
        known = drawn or self.known
        return draw_findings(known.tables, count, seed, len(known.findings))

    def draw(
        self,
        labels: Tensor,
        codes: Tensor,
        seed: int,
        *,
        batch: int = BATCH,
        truncation: float = 1.0,
    ) -> Iterator[NDArray[np.float32]]:
        """Yield images in order, (<= batch, S, S) float32, about [-1, 1]; not clamped.

        Args:
            labels: (N,) int64, 1 or 0; of several findings (N, T), -1 unknown.
            codes: (N, A) int64, of the conditions.
            seed: names the series.
            batch: how many are computed at a time; it moves an image by a grey level at most.
            truncation: in (0, 1].

        Raises:
            InputError: when a bank is to be truncated.
            RunError: when a pixel is no number.
        """
        if truncation < 1 and isinstance(self._network, Bank):
            raise InputError(
                "truncation: this generator keeps images and has no styles to bring nearer to "
                "their mean; leave truncation at 1"
            )
        for images in sample_images(
            self._network, labels, codes, seed, batch=batch, truncation=truncation
        ):
            if not torch.isfinite(images).all():
                raise RunError(
                    "the generator draws pixels that are no numbers: its weights have diverged or "
                    "are damaged; restore them, or train it again"
                )
            yield images[:, 0].cpu().numpy()

    @staticmethod
    def _labels(n: int, malignant: object) -> Tensor:
        if malignant is None:
            return torch.arange(n) % 2
        classes = np.asarray(malignant)
        if classes.shape not in ((), (n,)):
            raise InputError(f"malignant has the shape {classes.shape}; give one class, or {n}")
        if not np.isin(classes, (0, 1)).all():
            raise InputError("malignant: a class is neither 0 nor 1")
        return torch.from_numpy(np.broadcast_to(classes, (n,)).astype(np.int64))

    def _codes(self, labels: Tensor, asked: Mapping[str, str | Sequence[str]], seed: int) -> Tensor:
        """The codes (N, A) of the conditions: those that were asked for, and the others drawn."""
        known = self.known
        wanted = self._asked_levels(asked, len(labels))
        if not wanted:
            return self.prior_codes(labels, seed)
        columns = np.stack(list(wanted.values()), axis=1)
        codes = torch.empty(len(labels), len(known.names), dtype=torch.int64)
        for combination in np.unique(columns, axis=0):
            fixed = dict(zip(wanted, combination.tolist(), strict=True))
            chosen = torch.from_numpy((columns == combination).all(axis=1))
            drawn = draw_codes(_where(known.tables, fixed), labels, seed)
            for column, code in fixed.items():
                drawn[:, column] = code
            codes[chosen] = drawn[chosen]
        return codes

    def _asked_levels(
        self, asked: Mapping[str, str | Sequence[str]], n: int
    ) -> dict[int, NDArray[np.int64]]:
        """The codes (N,) of the conditions that were asked for, by their place."""
        known = self.known
        wanted: dict[int, NDArray[np.int64]] = {}
        for name, levels in asked.items():
            if name not in known.names:
                has = ", ".join(known.names) or "none"
                raise InputError(f"conditions: the generator knows no {name!r} (it knows: {has})")
            column = known.names.index(name)
            wanted[column] = self._asked(name, known.levels[column], levels, n)
        return wanted

    def _asked_of_several(
        self,
        n: int,
        findings: Mapping[str, int | Sequence[int]],
        conditions: Mapping[str, str | Sequence[str]],
    ) -> dict[int, NDArray[np.int64]]:
        """The codes (N,) of what was asked for, by its column in a block of `draw_findings`."""
        known = self.known.findings
        wanted: dict[int, NDArray[np.int64]] = {}
        for name, classes in findings.items():
            if name not in known:
                raise InputError(
                    f"findings: the generator knows no {name!r} (it knows: {', '.join(known)})"
                )
            given = np.asarray(classes)
            if given.shape not in ((), (n,)) or not np.isin(given, (0, 1)).all():
                raise InputError(
                    f"findings: {name}: give 0 or 1, for all images or for each of {n}"
                )
            wanted[known.index(name)] = np.broadcast_to(given, (n,)).astype(np.int64) + 1
        levels = self._asked_levels(conditions, n)
        return {**wanted, **{len(known) + column: codes for column, codes in levels.items()}}

    def _several(self, n: int, wanted: Mapping[int, NDArray[np.int64]], seed: int) -> Conditioned:
        """Labels (N, T) and codes (N, A): what is wanted, and the rest as it stands beside it."""
        blocks, findings = self.known.tables, len(self.known.findings)
        labels, codes = draw_findings(blocks, n, seed, findings)
        if not wanted:
            return labels, codes
        drawn = torch.cat([labels + 1, codes], dim=1)
        columns = np.stack(list(wanted.values()), axis=1)
        for combination in np.unique(columns, axis=0):
            fixed = dict(zip(wanted, combination.tolist(), strict=True))
            chosen = torch.from_numpy((columns == combination).all(axis=1))
            own = torch.cat(draw_findings(_blocks_where(blocks, fixed), n, seed, findings), dim=1)
            own[:, :findings] += 1
            for column, code in fixed.items():
                own[:, column] = code
            drawn[chosen] = own[chosen]
        return drawn[:, :findings] - 1, drawn[:, findings:]

    @staticmethod
    def _asked(
        name: str, known: Sequence[str], asked: str | Sequence[str], n: int
    ) -> NDArray[np.int64]:
        levels = [asked] * n if isinstance(asked, str) else [str(level) for level in asked]
        if len(levels) != n:
            raise InputError(f"conditions: {name} has {len(levels)} levels for {n} images")
        code_of = level_codes(known)
        if unknown := sorted(set(levels) - set(code_of)):
            raise InputError(
                f"conditions: {name} has no level {unknown[0]!r} (it has: {', '.join(known)})"
            )
        return np.array([code_of[level] for level in levels], dtype=np.int64)

    def _cells(self, codes: Tensor) -> dict[str, NDArray[np.str_]]:
        rows = [attribute_cells(self.known, row) for row in codes.tolist()]
        return {name: np.array([row[name] for row in rows]) for name in self.known.names}


def _checked_count(n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= MAX_AT_ONCE:
        raise InputError(
            f"n is {n!r}; give a whole number from 1 to {MAX_AT_ONCE:,}, and draw larger sets "
            "with `synthdp generate`"
        )
    return int(n)


def _blocks_where(
    blocks: Sequence[Sequence[tuple[list[int], float]]], fixed: Mapping[int, int]
) -> list[list[tuple[list[int], float]]]:
    """Blocks of `draw_findings` given some columns; each is whole where it never has its own so."""
    kept, first = [], 0
    for block in blocks:
        width = len(block[0][0])
        own = {
            column - first: code for column, code in fixed.items() if 0 <= column - first < width
        }
        kept += _where([block], own)
        first += width
    return kept


def _where(
    tables: Sequence[Sequence[tuple[list[int], float]]], fixed: Mapping[int, int]
) -> list[list[tuple[list[int], float]]]:
    """A prior given some of its codes; the whole one of a class that never has them together."""
    kept = []
    for table in tables:
        fitting = [
            (codes, share)
            for codes, share in table
            if share > 0 and all(codes[column] == code for column, code in fixed.items())
        ]
        kept.append(fitting or list(table))
    return kept


def _as_pixels(images: NDArray[np.float32], pixels: PixelType) -> NDArray[Any]:
    if pixels == "uint8":
        return to_uint8(images)
    if pixels == "uint16":
        return to_uint16(images)
    return (np.clip(images, -1, 1) + np.float32(1)) / np.float32(2)
