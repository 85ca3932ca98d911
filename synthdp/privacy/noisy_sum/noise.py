"""Where Gaussian noise comes from.

`synthdp.privacy.noisy_sum.lattice` adds it to sums. A key comes from the operating system at each
start of a run, and moves noise and sampling and nothing else. It is never written down: the streams
of two keys are independent, so that a run which goes on under a new key is the run that its
mechanism describes.
"""

import hashlib
import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from synthdp.privacy.keys import new_key
from synthdp.privacy.noisy_sum.discrete import discrete_gaussian
from synthdp.privacy.settings import PrivacySettings

if TYPE_CHECKING:
    from torch import Tensor

#: Where earlier versions kept the key of a run; `open_run` removes it.
KEY_FILE = "noise.key"
NoiseKind = Literal["philox", "shake256", "discrete"]

#: How many normal draws make one: their sum hides the gaps that one draw leaves between floats.
_SUMMED = 4
_WORD_BYTES = 8
_MANTISSA_BITS = 53
_CHUNK = 2**18
#: Pairs of draws that are made at a time.
_PAIRS = 2**13
#: Chunks that are drawn at once, each with memory of its own.
_MOST_THREADS = 8


@dataclass(frozen=True, repr=False)
class NoiseSource:
    """Independent streams of Gaussian noise under one secret key.

    kind: `philox`, a counter-based generator, fast; `shake256`, a cryptographic one, several of
    whose draws are summed; `discrete`, whole numbers of a discrete Gaussian from the same bits,
    exactly.
    """

    key: bytes
    kind: NoiseKind = "philox"

    def gaussian(self, shape: tuple[int, ...], scale: float, *, stream: int) -> "Tensor":
        """Float64 noise N(0, scale^2) of `shape`, a function of key, kind, scale and stream alone.

        `discrete` gives whole numbers, for a scale counted in the steps of a lattice.

        Guarantee: streams of one key, and any streams of two keys, are independent as far as the
        generator is. SHAKE-256 is keyed by prefix with all 256 bits (FIPS 202). Philox4x64-10 has
        128 bits of key, which NumPy's `SeedSequence` hashes our 256 bits and the stream into; it is
        no cryptographic generator. Both compute in float64 from 52 or 53 random bits; that a
        draw's last bits do not speak of what it is added to is the lattice's doing. `shake256`
        sums four draws, which fills the gaps that one leaves far from zero (Holohan and Braghin,
        arXiv 2107.10138).

        The distribution of `discrete` is exact (`synthdp.privacy.noisy_sum.discrete`). Moved by a
        vector, it has the Gaussian's Renyi divergences or smaller ones (arXiv 2004.00010, theorem
        14). Its trade-off curve is not exactly the Gaussian's: sums over whole numbers stand where
        the Gaussian has integrals, and by the midpoint rule's error a step's delta at any epsilon
        is off by at most about (4 D + 0.4 mu + mu^2) / (8 scale^2), to first order, for D
        coordinates and mu = clip norm / standard deviation: 2^-29 for 4000 weights and a noise
        multiplier of 1. That is not charged; where D may be millions, settings refuse it
        (`PrivacySettings.refuse_discrete`).
        """
        import torch  # noqa: PLC0415 (commands start without it)

        count = int(np.prod(shape, dtype=np.int64))
        return torch.from_numpy(self._draws(count, scale, stream).reshape(shape))

    def _draws(self, count: int, scale: float, stream: int) -> NDArray[np.float64]:
        if self.kind != "discrete":
            draw = (self._philox if self.kind == "philox" else self._shake)(count, stream)
            draw *= scale  # in place: it may hold millions
            return draw
        calls = itertools.count()  # each call for words has bits of its own
        whole = discrete_gaussian(
            count, scale, lambda words: self._bits(f"discrete {stream} {next(calls)}", words)
        )
        return whole.astype(np.float64)

    def _philox(self, count: int, stream: int) -> NDArray[np.float64]:
        seed = np.random.SeedSequence([int.from_bytes(self.key, "big"), stream])
        draw: NDArray[np.float64] = np.random.Generator(np.random.Philox(seed)).standard_normal(
            count
        )
        return draw

    def _shake(self, count: int, stream: int) -> NDArray[np.float64]:
        import torch  # noqa: PLC0415 (commands start without it)

        draw = np.empty(count)

        def fill(chunk: int) -> None:
            total = draw[chunk * _CHUNK : (chunk + 1) * _CHUNK]
            normals = _box_muller(self._bits(f"noise {stream} {chunk}", len(total) * _SUMMED))
            few = normals.reshape(len(total), _SUMMED)
            total[:] = few[:, 0]
            for summed in range(1, _SUMMED):  # a sum along rows so short takes ten times as long
                total += few[:, summed]

        chunks = -(-count // _CHUNK)
        with ThreadPoolExecutor(min(torch.get_num_threads(), _MOST_THREADS)) as threads:
            # each chunk has bits of its own; to start a thread takes as long as a head's noise
            list((map if chunks == 1 else threads.map)(fill, range(chunks)))
        draw /= np.sqrt(_SUMMED)
        return draw

    def _bits(self, purpose: str, words: int) -> NDArray[np.uint64]:
        stream = hashlib.shake_256(self.key + purpose.encode())
        return np.frombuffer(stream.digest(words * _WORD_BYTES), dtype="<u8")


def _box_muller(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Normal draws from an even number of random 64-bit words (Box and Muller, 1958).

    A few at a time, so that what is between stays in the processor's cache; and by torch, whose
    functions of float64 take a quarter of the time of NumPy's.
    """
    import torch  # noqa: PLC0415 (commands start without it)

    half = bits.size // 2
    normals = torch.empty(bits.size, dtype=torch.float64)
    for start in range(0, half, _PAIRS):
        words = bits[2 * start : 2 * (start + _PAIRS)]
        # from 2^-53 to 1: the logarithm below takes no zero
        uniform = ((words >> np.uint64(64 - _MANTISSA_BITS)) + np.uint64(1)) * 2.0**-_MANTISSA_BITS
        first, second = torch.from_numpy(uniform).view(-1, 2).unbind(1)
        radius, angle = (first.log() * -2).sqrt(), second * (2 * math.pi)
        end = start + len(first)
        torch.mul(radius, angle.cos(), out=normals[start:end])
        torch.mul(radius, angle.sin(), out=normals[half + start : half + end])
    return normals.numpy()


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
