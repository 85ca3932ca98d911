"""Where Gaussian noise comes from, and the one place where a private sum becomes public.

A key comes from the operating system at each start of a run, and moves noise and sampling and
nothing else. It is never written down: the streams of two keys are independent, so that a run which
goes on under a new key is the run that its mechanism describes.
"""

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthdp.config import PrivacySettings
from synthdp.errors import InputError
from synthdp.privacy.clipping import clip_rows
from synthdp.privacy.mechanism import Mechanism

KEY_BYTES = 32
#: Where earlier versions kept the key of a run; `open_run` removes it.
KEY_FILE = "noise.key"
NoiseKind = Literal["philox", "shake256"]

#: How many normal draws make one: their sum hides the gaps that one draw leaves between floats.
_SUMMED = 4
_WORD_BYTES = 8
_MANTISSA_BITS = 53
_CHUNK = 2**18


def new_key() -> bytes:
    """256 random bits from the operating system."""
    return secrets.token_bytes(KEY_BYTES)


def keep_key(path: Path) -> bytes:
    """The key at `path`, made there (mode 600) when there is none yet."""
    try:
        return write_key(path, new_key())
    except FileExistsError:
        key = path.read_bytes()
        if len(key) == KEY_BYTES:
            return key
        path.unlink()  # torn by a crash before its first use: nothing was drawn from it
        return keep_key(path)


def write_key(path: Path, key: bytes) -> bytes:
    """Write a key to a new file that its owner alone may read; gives it back.

    Raises:
        FileExistsError: when there is such a file.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(key)
        stream.flush()
        os.fsync(stream.fileno())
    return key


@dataclass(frozen=True, repr=False)
class NoiseSource:
    """Independent streams of Gaussian noise under one secret key.

    kind: `philox`, a counter-based generator, fast; `shake256`, a cryptographic one, several of
    whose draws are summed.
    """

    key: bytes
    kind: NoiseKind = "philox"

    def gaussian(self, shape: tuple[int, ...], scale: float, *, stream: int) -> Tensor:
        """Float32 noise N(0, scale^2) of `shape`, a function of key, kind and stream alone.

        Guarantee: streams of one key, and any streams of two keys, are independent as far as the
        generator is: Philox with 256 bits of seed, or SHAKE-256 keyed by prefix (FIPS 202). Drawn
        in double precision and rounded. Philox leaves the floating-point attack of Mironov (CCS
        2012) open; `shake256` sums four draws, which makes it infeasible (Holohan and Braghin,
        arXiv 2107.10138).
        """
        count = int(np.prod(shape, dtype=np.int64))
        draw = self._philox(count, stream) if self.kind == "philox" else self._shake(count, stream)
        return torch.from_numpy((draw * scale).astype(np.float32).reshape(shape))

    def _philox(self, count: int, stream: int) -> NDArray[np.float64]:
        seed = np.random.SeedSequence([int.from_bytes(self.key, "big"), stream])
        draw: NDArray[np.float64] = np.random.Generator(np.random.Philox(seed)).standard_normal(
            count
        )
        return draw

    def _shake(self, count: int, stream: int) -> NDArray[np.float64]:
        draw = np.empty(count)
        for chunk, start in enumerate(range(0, count, _CHUNK)):
            size = min(_CHUNK, count - start)
            normals = _box_muller(self._bits(f"noise {stream} {chunk}", size * _SUMMED))
            draw[start : start + size] = normals.reshape(size, _SUMMED).sum(axis=1)
        draw /= np.sqrt(_SUMMED)
        return draw

    def _bits(self, purpose: str, words: int) -> NDArray[np.uint64]:
        stream = hashlib.shake_256(self.key + purpose.encode())
        return np.frombuffer(stream.digest(words * _WORD_BYTES), dtype="<u8")


def _box_muller(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Normal draws from an even number of random 64-bit words (Box and Muller, 1958)."""
    uniform = ((bits >> np.uint64(64 - _MANTISSA_BITS)) + np.uint64(1)) * 2.0**-_MANTISSA_BITS
    radius = np.sqrt(-2 * np.log(uniform[0::2]))
    angle = 2 * np.pi * uniform[1::2]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])


def open_noise_source(privacy: PrivacySettings) -> NoiseSource:
    """The noise of one start of a run: a new key from the operating system, in memory alone.

    Args:
        privacy: which generator; a fixed key, for tests, takes the place of the secret one.

    Guarantee: no two starts share a key, and no file holds one, so that no copy of a run draws the
    noise of another. What a start drew, nobody can draw again.
    """
    if privacy.fixed_noise_key is not None:
        key = hashlib.sha256(str(privacy.fixed_noise_key).encode()).digest()
        return NoiseSource(key, privacy.noise)
    return NoiseSource(new_key(), privacy.noise)


def noisy_mean(total: Tensor, mechanism: Mechanism, noise_source: NoiseSource, step: int) -> Tensor:
    """A step's sum with its noise, over the public normaliser.

    Args:
        total: sum of vectors clipped to the mechanism's clip norm, one for each sampled unit;
            float32, any shape; zeros when nobody was sampled.
        mechanism: noise and normaliser.
        noise_source: the run's noise.
        step: the number of the step, which names the stream: used once, ever.

    Guarantee: what `Mechanism` promises of one step, when the sum moves by at most its clip norm.
    """
    noise = noise_source.gaussian(tuple(total.shape), mechanism.noise_scale, stream=step)
    return (total + noise.to(total.device)) / mechanism.normaliser


def release_once(rows: Tensor, mechanism: Mechanism, noise_source: NoiseSource) -> Tensor:
    """The noisy mean of one vector a unit: a whole release in a single step.

    Args:
        rows: (U, D) float32, one row a unit; a row longer than the clip norm is clipped.
        mechanism: of one step that everybody takes part in.
        noise_source: of a key that is used for nothing else.

    Returns:
        (D,): sum of the clipped rows with its noise, over the normaliser.

    Guarantee: that of `mechanism`.

    Raises:
        InputError: when the mechanism has more steps or a sampling rate below 1.
    """
    if mechanism.steps != 1 or mechanism.sampling_rate != 1:
        raise InputError("a single release takes a mechanism of one step on all units")
    return noisy_mean(clip_rows(rows, mechanism.clip_norm).sum(dim=0), mechanism, noise_source, 0)
