"""What a training tells a tracker (TensorBoard, MLflow, Weights & Biases): never a private score.

`private/metrics.jsonl` of a run has every figure and stays in the house. A tracker may stand
anywhere, so that a hook gets the names below alone:

- `PUBLIC_NAMES`: how far a training has come, which is decided by settings;
- `COVERED_NAMES`: figures of what was released with noise, where a promise covers it;
- every name of a training that met no patient, and whose ancestors met none without noise.

The rest (losses on patients, rates and times, which grow with their number) is not sent. When a
line reaches a hook tells how long a step took: no promise is about that, so keep a tracker of
private trainings in the house.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from synthdp.errors import InputError

if TYPE_CHECKING:
    from synthdp.privacy.promise.plan import PrivacyPlan

logger = logging.getLogger(__name__)

#: Takes a step and the figures of it, by `stage/name`.
Hook: TypeAlias = Callable[[int, dict[str, float]], object]

#: Functions of settings alone, the first of which that a line has is its step.
PUBLIC_NAMES = ("step", "steps_spent", "epoch", "kimg", "generator_steps")
#: Functions of what was released with noise: the gap to noisy means of an embedding, and the
#: generator's loss against a discriminator that learns by DP-SGD.
COVERED_NAMES = ("gap", "loss_generator")

_hooks: ContextVar[tuple[Hook, ...]] = ContextVar("hooks", default=())


@contextmanager
def track(*hooks: Hook) -> Iterator[None]:
    """Let hooks follow the trainings that this context runs, in this process.

    Each is called as `hook(step, {"stage/name": value, ...})`, with what may be told alone: never
    a figure that depends on patients beyond the run's promise. A hook that raises is not called
    again, and the training goes on.

    >>> import synthdp
    >>> def show(step: int, metrics: dict[str, float]) -> None:
    ...     print(step, sorted(metrics))
    >>> with synthdp.track(show):
    ...     send("finetune", {"steps_spent": 8, "loss": 0.4}, names=PUBLIC_NAMES)
    8 ['finetune/steps_spent']
    """
    token = _hooks.set((*_hooks.get(), *hooks))
    try:
        yield
    finally:
        _hooks.reset(token)


@contextmanager
def tensorboard_hook(folder: str | Path) -> Iterator[Hook]:
    """A hook that writes event files of TensorBoard into a folder.

    ```python
    with synthdp.tensorboard_hook("boards/dp") as hook, synthdp.track(hook):
        synthdp.run_stage("finetune", "classify/best", data="data/mine", out="runs/dp")
    ```

    Raises:
        InputError: when tensorboard, which is an extra, is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise InputError(
            "the package tensorboard is not installed; install it with "
            "pip install 'synthdp[tensorboard]'"
        ) from error
    writer = SummaryWriter(str(folder))

    def write(step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    try:
        yield write
    finally:
        writer.close()


def names_to_send(plan: "PrivacyPlan") -> Collection[str] | None:
    """Which figures of a training may be told, by its plan; None for all of them."""
    if plan.ancestors.unprotected:
        return PUBLIC_NAMES
    if not plan.dataset.info.protects_patients:
        return None
    return (*PUBLIC_NAMES, *COVERED_NAMES) if plan.mechanism is not None else PUBLIC_NAMES


def send(
    stage: str,
    metrics: Mapping[str, float | int | str | None],
    *,
    names: Collection[str] | None,
) -> None:
    """Tell the hooks of this context a line of metrics, as far as `names` lets them know it.

    Guarantee: a hook gets no figure by another name; and none at all where a line has no other.
    """
    hooks = _hooks.get()
    if not hooks:
        return
    values = {
        f"{stage}/{name}": float(value)
        for name, value in metrics.items()
        if (names is None or name in names) and isinstance(value, int | float)
    }
    step = next((metrics[name] for name in PUBLIC_NAMES if name in metrics), 0)
    if not values:
        return
    for hook in hooks:
        try:
            hook(int(step or 0), dict(values))
        except Exception as error:
            _hooks.set(tuple(one for one in _hooks.get() if one is not hook))
            logger.warning(
                "a tracking hook failed (%s) and is left out; the training goes on",
                type(error).__name__,
            )
