"""Where a private sum becomes public: whole numbers of a public step, noise on the same lattice.

What leaves a private computation is a whole number of steps in each coordinate, so that its last
bits say nothing of what was summed (Mironov, CCS 2012, read floating-point noise there). The step
h is a power of two, more than 2^-21 and at most 2^-20 of the clip norm C.

The promise is that of a Gaussian mechanism of sensitivity C with noise N(0, (sigma C)^2) in each of
D coordinates. It holds for these reasons, one for each line of code:

1. Each unit's vector is a function of that unit's data and of public values alone, to the last bit
   (`synthdp.privacy.noisy_sum.exact`, or a computation of the unit's own), of norm at most
   C' = `clip_bound(C, D)`.
2. It is brought to whole numbers of a finer step, h 2^-20, towards zero in each coordinate, which
   makes no vector longer. (Where rows are weighted, weights are rounded towards zero, and the
   length of each row bounds its part: `ExactRows.weighted_sum`.)
3. Sums of these whole numbers are exact, modulo 2^64 (torch's integers wrap around). So, with and
   without a unit, sums differ by that unit's vector, of norm at most C', however many other units
   there are, and in whatever order they come. Nothing wraps below 2^22 units, since a coordinate of
   a vector is at most C, less than 2^41 finer steps; but nothing is refused for their number, which
   is private, and the promise does not depend on it: see 5.
4. The sum is rounded to the step h, once. Two numbers that differ by d are rounded to multiples of
   h that differ by at most |d| + h; over D coordinates the difference is at most C' + sqrt(D) h in
   norm, which is at most C: that is how C' is chosen. A sum modulo 2^64 gives the rounded sum
   modulo 2^44, since rounding drops 20 bits.
5. The noise is rounded to the same lattice and added in integers. For a whole number k,
   round(Z / h) + k = round((Z + k h) / h): what is released is the Gaussian mechanism's own output,
   rounded, and rounding is post-processing. So is taking it modulo 2^44, which comes last and
   needs the sum modulo 2^44 alone.
6. Division by the public normaliser is post-processing.

The bound does not grow with N, since no sum is rounded until the last one. What is charged is
sqrt(D) 2^-20 of the clip norm at most: 6e-5 at 4000 weights, 0.002 at 3.5 million. Clip norms are
within `synthdp.privacy.settings.ClipNorm`, far from where squares of float32 come to 0 or overflow.

Assumed and not proven: that the same kernel on the same machine gives the same bits for the same
image. What is beside it in a batch decides none (`synthdp.networks.alone`, of features, tokens, a
head's inputs, and scores that are counted). Trained networks take one unit at a time.

What else is left is the noise itself: Z of `philox` and `shake256` is computed in float64 from
53-bit uniform numbers, a fine grid beside h (at sigma 10 a step holds some 2^29 of its values),
whose distance from a Gaussian is not proven here. `discrete` (`synthdp.privacy.noisy_sum.discrete`)
draws whole numbers of steps from a discrete Gaussian, exactly.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from synthdp.errors import InputError
from synthdp.privacy.mechanism import Mechanism, refuse_too_much_noise
from synthdp.privacy.noisy_sum.clipping import clip_rows
from synthdp.privacy.settings import LEAST_CLIP_NORM, MOST_CLIP_NORM

#: Bits of a step below the clip norm, and of the finer step of a sum below that.
_STEP_BITS = 20
FINER_BITS = 20
#: Rows that are clipped at a time, for memory.
_ROWS = 1024
#: Entries of a released vector that are computed at a time.
_AT_ONCE = 2**18
#: Bits of what leaves, in steps: those of a sum modulo 2^64 that rounding leaves.
_LEFT_BITS = 64 - FINER_BITS
#: What a float64 norm, factor and product can be off by, relatively, for D below 2^40.
_FLOAT64 = 2.0**-40


def lattice_step(clip_norm: float) -> float:
    """The step h of the public lattice: a power of two, at most 2^-20 of the clip norm.

    Raises:
        InputError: when the clip norm is so small or large that norms would not be computed well.
    """
    if not LEAST_CLIP_NORM <= clip_norm <= MOST_CLIP_NORM:
        raise InputError(
            f"a clip norm of {clip_norm:.3g} is beyond all use; take one from "
            f"{LEAST_CLIP_NORM:g} to {MOST_CLIP_NORM:g}"
        )
    _, exponent = math.frexp(clip_norm)
    return math.ldexp(1.0, exponent - 1 - _STEP_BITS)


def clip_bound(clip_norm: float, size: int) -> float:
    """What vectors of `size` entries are clipped to, for a rounded sum to move by `clip_norm`.

    Guarantee: clip_bound + sqrt(size) * lattice_step <= clip_norm.

    Raises:
        InputError: when there are so many entries that nothing is left.
    """
    bound = (clip_norm - math.sqrt(size) * lattice_step(clip_norm)) * (1 - _FLOAT64)
    if bound <= 0:
        raise InputError(f"a vector of {size} entries is too long to be released on a lattice")
    return bound


def finer_step(clip_norm: float) -> float:
    """The step that vectors are brought to before they are summed."""
    return math.ldexp(lattice_step(clip_norm), -FINER_BITS)


#: Memory that `whole_vectors` uses again: float64 and int64, of one length.
Room = tuple[Tensor, Tensor]


def new_room(size: int, device: torch.device) -> Room:
    """Memory for vectors of up to `size` entries: new pages take time."""
    return (
        torch.empty(size, dtype=torch.float64, device=device),
        torch.empty(size, dtype=torch.int64, device=device),
    )


def whole_vectors(
    rows: Tensor, clip_norm: float, factor: float = 1.0, room: Room | None = None
) -> Tensor:
    """Rows times a factor, clipped, in whole numbers of the finer step, towards zero: int64.

    With a `room` one vector, (D,), whose result stands there until the next call.
    """
    # the step is a power of two, so that dividing the factor by it rounds nothing
    steps = factor / finer_step(clip_norm)
    if room is None:
        return (rows.double() * steps).to(torch.int64)
    scaled, whole = (memory[: len(rows)] for memory in room)
    return whole.copy_(scaled.copy_(rows).mul_(steps))


def on_lattice(total: Tensor, clip_norm: float) -> Tensor:
    """A sum in whole numbers of the finer step, int64, rounded to the lattice.

    Returns:
        float64, as `total`: multiples of `lattice_step`, which it holds exactly.
    """
    steps = (total + (1 << (FINER_BITS - 1))).bitwise_right_shift_(FINER_BITS)
    return steps.double().mul_(lattice_step(clip_norm))


def clipped_sum(rows: Tensor, clip_norm: float) -> Tensor:
    """The sum of rows (U, D), each clipped, on the lattice: (D,) float64.

    Guarantee: adding or removing a row moves it by at most `clip_norm`; a row that is not finite
    counts as zero. Rows must each be a function of their own unit.
    """
    bound = clip_bound(clip_norm, rows.shape[1])
    total = torch.zeros(rows.shape[1], dtype=torch.int64)
    for part in rows.split(_ROWS):
        total += whole_vectors(clip_rows(part.double(), bound), clip_norm).sum(dim=0)
    return on_lattice(total, clip_norm)


class Noise(Protocol):
    """What noise is taken from: a `NoiseSource`, or what stands for one."""

    def gaussian(self, shape: tuple[int, ...], scale: float, *, stream: int) -> Tensor:
        """As that of `NoiseSource`."""


def noise_in_steps(mechanism: Mechanism) -> float:
    """The standard deviation of a mechanism's noise, counted in steps of the lattice."""
    return mechanism.noise_scale / lattice_step(mechanism.clip_norm)


def noisy_mean(total: Tensor, mechanism: Mechanism, noise_source: Noise, step: int) -> Tensor:
    """A step's sum with its noise, over the public normaliser: the one way in which sums leave.

    Args:
        total: on the lattice of the mechanism's clip norm (`on_lattice`), any shape; zeros when
            nobody was sampled.
        mechanism: noise and normaliser.
        noise_source: the run's noise.
        step: the number of the step, which names the stream: used once, ever.

    Returns:
        float32, as `total`, on its device.

    Guarantee: what `Mechanism` promises of one step, when the sum on the lattice moves by at most
    the clip norm (the module's reasons 5 and 6).

    Raises:
        InputError: as `refuse_too_much_noise`.
    """
    refuse_too_much_noise(mechanism)
    unit, device = lattice_step(mechanism.clip_norm), total.device
    noise = noise_source.gaussian(tuple(total.shape), noise_in_steps(mechanism), stream=step)
    total = total.detach().cpu()
    mean = torch.empty(total.shape, dtype=torch.float32)
    pieces = (values.flatten().split(_AT_ONCE) for values in (total, noise))
    half = 1 << (_LEFT_BITS - 1)
    # a piece at a time: of millions of entries each array between would be tens of megabytes
    for sums, drawn, means in zip(*pieces, mean.view(-1).split(_AT_ONCE), strict=True):
        steps = _whole(sums.double() / unit) + _whole(drawn)
        steps = ((steps + half) & ((1 << _LEFT_BITS) - 1)) - half
        means.copy_(steps.double() * (unit / mechanism.normaliser))
    return mean.to(device)


def _whole(steps: Tensor) -> Tensor:
    return steps.round().to(torch.int64)


def release_once(rows: Tensor, mechanism: Mechanism, noise_source: Noise) -> Tensor:
    """The noisy mean of one vector a unit: a whole release in a single step.

    Args:
        rows: (U, D) float, one row a unit, a function of that unit alone; a row longer than the
            clip norm is clipped.
        mechanism: of one step that everybody takes part in.
        noise_source: of a key that is used for nothing else.

    Returns:
        (D,) float32: sum of the clipped rows with its noise, over the normaliser.

    Guarantee: that of `mechanism`.

    Raises:
        InputError: when the mechanism has more steps or a sampling rate below 1.
    """
    if mechanism.steps != 1 or mechanism.sampling_rate != 1:
        raise InputError("a single release takes a mechanism of one step on all units")
    return noisy_mean(clipped_sum(rows, mechanism.clip_norm), mechanism, noise_source, 0)
