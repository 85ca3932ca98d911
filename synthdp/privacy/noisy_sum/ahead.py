"""A step's noise, drawn while the step's sum is made.

A network of millions of weights has noise that takes about as long as its gradients, or on a GPU
far longer; neither needs the other.
"""

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self

from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import noise_in_steps
from synthdp.privacy.noisy_sum.noise import NoiseSource

if TYPE_CHECKING:
    from torch import Tensor


class NoiseAhead:
    """The noise of one step, which a thread begins to draw on entry.

    Args:
        source: the run's noise.
        mechanism: whose noise it is.
        size: of the vector that is released.
        step: the number of the step.

    Guarantee: it stands in the place of `source` in `noisy_mean`, and gives the same bits: noise is
    a function of key, kind, scale and stream alone.
    """

    def __init__(self, source: NoiseSource, mechanism: Mechanism, size: int, step: int) -> None:
        self._source = source
        self._asked = ((size,), noise_in_steps(mechanism), step)

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1)
        shape, scale, step = self._asked
        self._drawn = self._thread.submit(self._source.gaussian, shape, scale, stream=step)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._thread.shutdown()

    def wait(self) -> None:
        """Until it is drawn."""
        self._drawn.result()

    def gaussian(self, shape: tuple[int, ...], scale: float, *, stream: int) -> "Tensor":
        """As `NoiseSource.gaussian`; what was not asked for is drawn now."""
        if (shape, scale, stream) == self._asked:
            return self._drawn.result()
        return self._source.gaussian(shape, scale, stream=stream)
