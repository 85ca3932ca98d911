"""A bank of phantoms, which holds not their images but which ones they are, and draws them again.

A private selection keeps images of a public pool. Where the pool is one of phantoms, anybody can
draw them: its settings, and the patient and patch of each, are all that need be handed on. What is
drawn again is the very image, to the bit, with the libraries that it was drawn with; others, and
other processors, may round a grey level otherwise; and libraries that draw other random numbers
give other images. So the means of each image's quarters are kept too, and what is drawn is held
against them.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.network.bank import Bank
from gan.package.description import PhantomBankShape
from synthdp.checkpoint import load_weights
from synthdp.errors import InputError
from synthdp.machine.memory import keep_freed_memory
from synthdp.machine.progress import progress

#: An image is another one when its quarters differ by more grey levels than this on average. What
#: rounding does stays below 1; two phantoms differ by some 25.
MAX_QUARTER_DIFFERENCE = 3.0
#: How many images may be others before all are refused: one, and this share of what was drawn. A
#: last bit that differs can turn a number that is drawn, and with it all that follows of a patient.
MAX_OTHERS = 0.01

Kept = Mapping[str, Tensor]


def quarters(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mean grey level of each quarter of an image (S, S), rounded: (2, 2)."""
    half = len(image) // 2
    halves = (slice(None, half), slice(half, None))
    means = [[image[rows, columns].mean() for columns in halves] for rows in halves]
    return np.rint(means).astype(np.uint8)


class KeptPhantoms:
    """The images of a bank of phantoms, each drawn when it is first asked for.

    images: (2, N, S, S) uint8, of class 0 and of class 1; black before they are drawn.

    Args:
        shape: of the bank.
        kept: as its file holds them, each for class and image: `pools` (2, N), the number of the
            pool; `patients` (2, N), that of the patient, from 0; `patches` (2, N), that of the
            patch among the patient's; `quarters` (2, N, 2, 2), the `quarters` of the image.
        called: names the file, for errors.

    Raises:
        InputError: when `kept` names what is not in the pools.
    """

    def __init__(self, shape: PhantomBankShape, kept: Kept, called: str) -> None:
        self._called = called
        self._settings = [pool.settings(shape.size_px) for pool in shape.pools]
        # zeros take no memory before they are written over
        self.images = np.zeros((2, shape.images, shape.size_px, shape.size_px), np.uint8)
        self._missing = np.ones((2, shape.images), bool)
        self._others = 0
        self._pools, self._patients, self._patches, self._quarters = (
            kept[name].numpy().astype(np.int64) for name in shape.tensors
        )
        counts = np.array([pool.patients for pool in shape.pools])
        named = (self._pools, self._patients, self._patches)
        if (
            min(int(numbers.min()) for numbers in named) < 0
            or self._pools.max() >= len(counts)
            or (self._patients >= counts[self._pools]).any()
        ):
            raise InputError(
                f"{called}: names phantoms that its pools don't have; restore the file"
            )
        self._cells: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for label, index in np.ndindex(self._missing.shape):
            self._cells[self._patient(label, index)].append((label, index))

    def _patient(self, label: int, index: int) -> tuple[int, int]:
        return int(self._pools[label, index]), int(self._patients[label, index])

    def draw(self, labels: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
        """Draw the images of classes (B,) by index (B,) that were not drawn yet.

        Raises:
            InputError: when phantoms are drawn otherwise here than where they were kept.
        """
        missing = self._missing[labels, indices]
        pairs = zip(labels[missing].tolist(), indices[missing].tolist(), strict=True)
        patients = sorted({self._patient(*pair) for pair in pairs})
        if patients:
            keep_freed_memory()
        for patient in progress(patients, what="drawing phantoms", public_unit="patients"):
            self._draw_patient(patient)
        self._refuse_others()

    def _draw_patient(self, patient: tuple[int, int]) -> None:
        # not at the top, so that what draws nothing starts without scipy
        from synthdp.data.phantoms.phantoms import draw_patient  # noqa: PLC0415

        (pool, number), cells = patient, self._cells[patient]
        needed = 1 + max(int(self._patches[cell]) for cell in cells)
        drawn = draw_patient(self._settings[pool], number, patches=needed).patches
        for label, index in cells:
            patch = int(self._patches[label, index])
            if patch >= len(drawn) or drawn[patch].malignant != bool(label):
                self._others += 1  # it is left black, and soon refused if there are many
            else:
                image = drawn[patch].pixels
                self.images[label, index] = image
                difference = np.abs(quarters(image) - self._quarters[label, index]).mean()
                self._others += int(difference > MAX_QUARTER_DIFFERENCE)
            self._missing[label, index] = False

    def _refuse_others(self) -> None:
        drawn = int((~self._missing).sum())
        if self._others > 1 + MAX_OTHERS * drawn:
            raise InputError(
                f"{self._called}: of {drawn} phantoms that were drawn again {self._others} are "
                "other images than were kept: this version of synthdp, numpy or scipy draws "
                "otherwise than that which kept them (its status.json names versions); install "
                "that one, or take a release that holds the images"
            )


class PhantomBank(Bank):
    """A bank whose images are drawn when they are first asked for; without weights of its own.

    Args:
        shape: of the bank.
        phantoms: its images, which several banks may share.
    """

    def __init__(self, shape: PhantomBankShape, phantoms: KeptPhantoms) -> None:
        with torch.device("meta"):  # images take no memory here, whatever a file says of them
            super().__init__(**shape.arguments)
        del self.images
        self._shape, self._phantoms = shape, phantoms

    def kept(self, labels: Tensor, indices: Tensor) -> Tensor:
        """As `Bank.kept`.

        Raises:
            InputError: as `KeptPhantoms.draw`.
        """
        at = labels.cpu().numpy(), indices.cpu().numpy()
        self._phantoms.draw(*at)
        return torch.from_numpy(self._phantoms.images[at]).to(self.device)

    def whole(self) -> Bank:
        """The bank that holds all the images itself, on the same device.

        Raises:
            InputError: as `KeptPhantoms.draw`.
        """
        labels, indices = np.indices((2, self._shape.images)).reshape(2, -1)
        self._phantoms.draw(labels, indices)
        bank = Bank(**self._shape.whole.arguments)
        bank.images.copy_(torch.from_numpy(self._phantoms.images))
        return bank.eval().requires_grad_(False).to(self.device)


@lru_cache(maxsize=2)
def read_kept(weights: Path, sha256: str, shape: PhantomBankShape) -> KeptPhantoms:
    """The phantoms of a file; what this process drew of it already is there.

    Args:
        weights: the file.
        sha256: of the file, which tells it from another under its name.
        shape: of the bank.

    Raises:
        InputError: when it is damaged.
    """
    return KeptPhantoms(shape, load_weights(weights, sha256), str(weights))
