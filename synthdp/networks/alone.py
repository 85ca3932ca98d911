"""Functions of rows that are computed in batches, and give each row what it would get alone.

A library chooses its kernels, and the order in which they add up, by the shape of a batch. So the
last bits of what a network gives for an image may depend on how many images there are, on where it
stands among them, and on how long the last batch is: taking one patient away would move others.
Here every batch has the same shape, at the same kind of address, so that the same kernels run; and
that these give a row the same bits at every place, whatever stands beside it, is looked at on the
machine at hand before a row is computed. Where it doesn't hold, each row gets a batch of its own.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from synthdp.machine.progress import at_work, progress

#: Rows at once.
BATCH = 16
#: Results that have to agree before places count as the same: of a few, all may agree by chance.
_COMPARED = 64


class Alone:
    """A function of rows (B, ...) to (B, ...), given as many rows as there are.

    function: of `batch` rows.

    Guarantee: a row's result is a function of that row alone, as far as the same kernels on batches
    of the same shape give the same bits for the same numbers; and, for batches of more than one, as
    far as random rows that get the same bits at all places stand for all rows. (Kernels don't
    choose their order by values, so that another order shows in a share of a random row's results.)
    """

    def __init__(self, function: Callable[[Tensor], Tensor], batch: int = BATCH) -> None:
        self._function, self._batch = function, batch
        self._together: dict[tuple[int, ...], bool] = {}

    def __call__(self, rows: Tensor) -> Tensor:
        """The function's results for rows (N, ...), (N, ...)."""
        shape = tuple(rows.shape[1:])
        if shape not in self._together:
            with at_work("looking whether images may be computed together"):
                self._together[shape] = self._same_at_every_position(rows)
        at_once = self._batch if self._together[shape] else 1
        # of no row, too, the shape is asked for
        split = rows.split(at_once)
        if len(split) > 1:
            shown = progress(split, what="images by the network")
            parts = [self._filled(part, at_once) for part in shown]
        else:  # one batch would stand at 0 % as long as it is computed
            with at_work("images by the network"):
                parts = [self._filled(part, at_once) for part in split]
        return torch.cat(parts) if parts else self._filled(rows, at_once)

    def _filled(self, rows: Tensor, size: int) -> Tensor:
        """The results for at most `size` rows, in a batch of that size, beside zeros."""
        batch = rows.new_zeros(size, *rows.shape[1:])  # always new: addresses decide, too
        batch[: len(rows)] = rows
        return self._function(batch)[: len(rows)]

    def _same_at_every_position(self, rows: Tensor) -> bool:
        """Whether random rows get the same bits at every place, beside other random rows."""
        if self._batch == 1:
            return True
        generator = torch.Generator().manual_seed(0)

        def random(count: int) -> Tensor:
            values = torch.rand(count, *rows.shape[1:], generator=generator) * 2 - 1
            return values.to(rows)

        even = torch.arange(self._batch, device=rows.device) % 2 == 0
        compared = 0
        while compared < _COMPARED:
            one, results = random(1), []
            for own in (even, ~even):
                batch = random(self._batch)
                batch[own] = one
                results.append(self._function(batch)[own])
            alike = torch.cat(results)
            if not torch.allclose(alike, alike[:1].expand_as(alike), 0, 0, equal_nan=True):
                return False
            compared += max(1, alike[0].numel())
        return True
