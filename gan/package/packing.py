"""Packing a generator small: among those that come with the package, or as it leaves the house."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.package.description import (
    AnyShape,
    BankShape,
    BuiltShape,
    PhantomBankShape,
    PhantomPool,
    read_description,
)
from gan.package.kept_phantoms import KeptPhantoms, quarters
from gan.package.model import write_generator
from gan.package.networks import build_generator
from gan.package.pretrained import WEIGHTS
from synthdp.checkpoint import load_weights, save_weights
from synthdp.config.card_file import HUB_CARD
from synthdp.data.dataset import load_images, open_dataset
from synthdp.data.images import to_uint8
from synthdp.data.phantoms.phantoms import drawn_masses
from synthdp.errors import InputError, RunError
from synthdp.runs.cards import FILES, RUNS, with_section
from synthdp.runs.inputs import noted_paths
from synthdp.storage.files import atomic_folder, write_atomic

MAX_ROUNDING = 2 / 255  # one grey level, of images in [-1, 1]
_CHECKED = 16
_READ_AT_ONCE = 512


def package_generator(released: Path, out: Path) -> Path:
    """Copy a released run (`synthdp privacy --release`) to `out`, its weights as float16.

    Guarantee: the statement is the run's; a folder with a private part is refused.

    Raises:
        InputError: when it was not released, or its model is no generator.
        RunError: when an image of the packed generator differs by more than one grey level.
    """
    if (released / "private").exists():
        raise InputError(
            f"{released}: has a private part; copy out what may leave first, with `synthdp privacy "
            "--release RUN OUT`, and name OUT"
        )
    if not (released / WEIGHTS).is_file():
        raise InputError(f"{released}: its model is no generator; name a released train-gan run")
    with atomic_folder(out) as packed:
        # digests of a release's files are not those of packed ones
        left = shutil.ignore_patterns("release.json")
        shutil.copytree(released, packed, dirs_exist_ok=True, ignore=left)
        weights = load_weights(released / WEIGHTS)
        halves = {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in weights.items()
        }
        shape = read_description(released).shape
        if not isinstance(shape, PhantomBankShape):  # which has no numbers to round
            _refuse_other_images(shape, weights, halves)
        save_weights(packed / WEIGHTS, halves)
        if (packed / HUB_CARD).is_file():
            write_atomic(packed / HUB_CARD, _card((packed / HUB_CARD).read_text(), out.name))
    return out


def _card(released: str, name: str) -> str:
    """The card of a release without what tells of its folder and of `release.json`."""
    runs = f"`synthdp generate pretrained:{name}` makes a data set with it, wherever synthdp is."
    return with_section(with_section(released, FILES, "", before="Use"), RUNS, runs, before="Use")


def _refuse_other_images(
    shape: BuiltShape, weights: dict[str, Tensor], halves: dict[str, Tensor]
) -> None:
    first, second = (_images(shape, state) for state in (weights, halves))
    worst = float((first - second).abs().max())
    if not worst <= MAX_ROUNDING:
        raise RunError(
            f"in float16 the generator's images differ by {255 / 2 * worst:.2g} grey levels, more "
            "than 1; its weights need float32, so it was not packed"
        )


def example_labels(shape: AnyShape, count: int) -> Tensor:
    """Labels that take turns, (N,) int64, or (N, T) of several findings."""
    turns = torch.arange(count)
    findings = len(shape.conditions.findings)
    return (turns[:, None] + torch.arange(findings)) % 2 if findings else turns % 2


def _images(shape: BuiltShape, state: dict[str, Tensor]) -> Tensor:
    generator = build_generator(shape)
    generator.load_state_dict(state)  # copies float16 into float32
    generator.eval()
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(_CHECKED, generator.z_dim + generator.noise_dim, generator=rng)
    z, noise = latents.split([generator.z_dim, generator.noise_dim], dim=1)
    labels = example_labels(shape, _CHECKED)
    codes = torch.zeros(_CHECKED, len(shape.conditions.names), dtype=torch.int64)
    with torch.no_grad():
        images: Tensor = generator(z, noise, labels, 1.0, codes)
    return images.clamp(-1, 1)


# A bank of phantoms without their images.


def compact_model(run: Path, folder: Path) -> None:
    """Put into the model in `folder` which phantoms it keeps, in the place of their images.

    Args:
        run: a finished run of `method: selection`, whose pool is still there.
        folder: a copy of it, whose `model/` is written anew.

    Guarantee: a function of the model and of public sets.

    Raises:
        InputError: when the model is no bank, its pool is not at hand, or its images are no
            phantoms that are drawn again to the bit.
    """
    description = read_description(folder)
    if not isinstance(description.shape, BankShape):
        raise InputError(
            f"{run.name}: its generator keeps no images (architecture "
            f"{description.shape.architecture}), so there is nothing to make compact; leave that "
            "out"
        )
    noted = noted_paths(run)
    pools = [path for key, path in noted.items() if key.startswith("selection.pool")]
    if not pools or not all(path.is_dir() for path in pools):
        raise InputError(
            f"{run.name}: the pool that its images were kept of is not where it was when the run "
            "was made; bring it back, or release the generator with its images"
        )
    images = load_weights(folder / WEIGHTS)["images"].numpy()
    shape, kept = phantoms_of_bank(description.shape, images, pools)
    write_generator(folder, kept, replace(description, shape=shape))


def phantoms_of_bank(
    bank: BankShape, images: NDArray[np.uint8], pools: Sequence[Path]
) -> tuple[PhantomBankShape, dict[str, Tensor]]:
    """Which phantoms of some sets the images of a bank are: its shape, and what its file holds.

    All of them are drawn again, and have to be the same to the bit.

    Args:
        bank: its shape as it is.
        images: (2, N, S, S), those of class 0 and of class 1.
        pools: the sets that they were kept of.

    Raises:
        InputError: when a set is not of mass patches as `synthdp data phantoms` draws them, does
            not hold an image, or is drawn otherwise by this version.
    """
    wanted = {image.tobytes() for of_class in images for image in of_class}
    known: dict[bytes, tuple[int, int, int]] = {}
    drawn_by = list[PhantomPool]()
    for number, path in enumerate(pools):
        drawn_by.append(_drawn_by(path, bank.size_px))
        known |= _phantoms_in(path, number, wanted - known.keys())
    if missing := len(wanted - known.keys()):
        raise InputError(
            f"selection.pool: holds {missing:,} of the generator's images no more, so these were "
            "kept of another one; bring that back, or release the generator with its images"
        )
    named = np.array([[known[image.tobytes()] for image in of_class] for of_class in images])
    kept = {
        "pools": named[..., 0].astype(np.uint8),
        "patients": named[..., 1].astype(np.int32),
        "patches": named[..., 2].astype(np.uint8),
        "quarters": np.array([[quarters(image) for image in of_class] for of_class in images]),
    }
    shape = PhantomBankShape(
        size_px=bank.size_px,
        images=bank.images,
        z_dim=bank.z_dim,
        conditions=bank.conditions,
        pools=tuple(drawn_by),
    )
    tensors = {name: torch.from_numpy(numbers) for name, numbers in kept.items()}
    drawn = KeptPhantoms(shape, tensors, "selection.pool")
    drawn.draw(*np.indices(images.shape[:2]).reshape(2, -1))
    if others := int((drawn.images != images).any(axis=(2, 3)).sum()):
        raise InputError(
            f"selection.pool: this version of synthdp draws {others:,} of the generator's images "
            "otherwise than they were drawn; release the generator with its images"
        )
    return shape, tensors


def _drawn_by(path: Path, size_px: int) -> PhantomPool:
    info = open_dataset(path).info
    settings = drawn_masses(info)
    if settings is None or settings.size_px != size_px:
        raise InputError(
            f"selection.pool: {info.name} is no set of mass patches of {size_px} px as `synthdp "
            "data phantoms` writes it, so that its images can't be drawn again; release the "
            "generator with its images"
        )
    return PhantomPool.of(settings)


def _phantoms_in(path: Path, number: int, wanted: set[bytes]) -> dict[bytes, tuple[int, int, int]]:
    """Of the images that are wanted those in a set: its number, the patient, the patch."""
    dataset = open_dataset(path)
    phantoms: dict[bytes, tuple[int, int, int]] = {}
    patient_id, patch = "", 0
    for first in range(0, len(dataset.rows), _READ_AT_ONCE):
        rows = dataset.rows[first : first + _READ_AT_ONCE]
        greys = to_uint8(load_images(dataset, rows)[:, 0])
        for row, grey in zip(rows, greys, strict=True):
            patch = patch + 1 if row.patient_id == patient_id else 0
            patient_id = row.patient_id
            if grey.tobytes() in wanted:
                phantoms[grey.tobytes()] = number, int(patient_id.rpartition("-")[2]) - 1, patch
    return phantoms
