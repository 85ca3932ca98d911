"""A training that may last so long: how far it is, and when it ends, by a clock.

Rates and ramps follow the share of a training that is done. Where a clock ends it, that share must
reach 1 when time is up, or the model stops in the middle of its schedule. So the number of steps
that fit is foretold from the speed so far, now and then, and the share goes on from where it is
towards that step. While all steps are foretold to fit, the share is step / steps, and a training
that the clock does not end is the same to the bit as one without a clock.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: The speed is looked at each time that so much of the budget has passed; the first look waits
#: for as much, so that a slow start decides nothing.
_LOOK_SHARE = 0.02
#: A forecast that differs by less changes nothing: speeds waver.
_WAVER = 0.01


@dataclass
class TimeBudget:
    """At most `steps` steps, and at most `seconds` where that is given.

    Steps may be parts of one: a training of three epochs is halfway through its second at 1.5.
    spent_s: seconds that earlier processes took. The share of the training that is done rises
    evenly from `from_share` at `from_step` to 1 at `last_step`.
    """

    steps: float
    seconds: float | None = None
    clock: Callable[[], float] = time.monotonic
    spent_s: float = 0.0
    from_step: float = 0
    from_share: float = 0.0
    last_step: float = 0.0

    def __post_init__(self) -> None:
        """Start the clock."""
        self.last_step = self.last_step or float(self.steps)
        self._began = self.clock()
        self._looked_at: tuple[float, float] | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds that were taken, by earlier processes too."""
        return self.spent_s + self.clock() - self._began

    def share(self, step: float) -> float:
        """The share of the training that is done before step number `step`, from 0, in [0, 1]."""
        if self.from_share == 0 and self.last_step == self.steps:
            return step / self.steps
        done = (step - self.from_step) / max(self.last_step - self.from_step, 1e-9)
        return min(self.from_share + (1 - self.from_share) * done, 1.0)

    def is_over(self, step: float) -> bool:
        """Whether nothing is left to do after `step` steps: no step, or no time."""
        if step >= self.steps:
            return True
        return self.seconds is not None and self.elapsed_s >= self.seconds

    def note(self, step: float) -> None:
        """Look at the clock after `step` steps, and foretell anew how many fit."""
        if self.seconds is None:
            return
        now = self.elapsed_s
        if self._looked_at is None:  # the first step is slower than all others
            self._looked_at = (now, step)
            return
        since, from_step = self._looked_at
        if now - since < _LOOK_SHARE * self.seconds:
            return
        self._looked_at = (now, step)
        per_second = (step - from_step) / (now - since)
        fitting = min(float(self.steps), step + max(self.seconds - now, 0.0) * per_second)
        if abs(fitting - self.last_step) > _WAVER * self.last_step:
            self.from_share, self.from_step = self.share(step), step
            self.last_step = max(fitting, step)

    def seconds_left(self) -> float | None:
        """How long it still takes, where time ends it; None where steps do."""
        if self.seconds is None or self.last_step >= self.steps:
            return None
        return max(self.seconds - self.elapsed_s, 0.0)

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {
            "spent_s": self.elapsed_s,
            "from_step": self.from_step,
            "from_share": self.from_share,
            "last_step": self.last_step,
        }

    def load(self, state: Mapping[str, float]) -> None:
        """Go on from what `state` gave, with the clock where it was."""
        self._began, self._looked_at = self.clock(), None
        self.spent_s = float(state["spent_s"])
        self.from_step = float(state["from_step"])
        self.from_share, self.last_step = float(state["from_share"]), float(state["last_step"])


def budget_of(steps: float, minutes: float | None) -> TimeBudget:
    """The budget of a training of at most `steps` steps and `minutes`, which begins now."""
    return TimeBudget(steps, None if minutes is None else 60 * minutes)
