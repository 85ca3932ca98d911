"""How long a study will take, said before it starts: from public numbers and counts of rows.

Nearly all of it is the features of images: seconds = images x views x seconds a view, for each
network, and a little for every head and every evaluation. The figures below were measured on one
core of a busy server (2026): 648 s for 1730 images, 8 views and two networks, and a head. A faster
machine takes less. What is kept from
before (features, finished runs) is not counted as done, so that it may take less.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from synthdp.config.settings import FeatureSettings
from synthdp.data.dataset import open_dataset
from synthdp.study.settings import StudySettings
from synthdp.study.sweep.grid import GridRow, expand_grid

#: Seconds of one core for one view of an image, and the side in pixels at which it was measured;
#: the time grows with the pixels. Networks that are not here count as the last one.
SECONDS_A_VIEW = {
    "tf_efficientnet_lite0": (0.007, 160),
    "vit_tiny_patch16_224": (0.010, 168),
    "vit_small_patch14_dinov2": (0.050, 168),
}
_OTHER = SECONDS_A_VIEW["vit_small_patch14_dinov2"]
#: Seconds of one core for a head of 600 steps on 1000 images, and for the scores of a model.
SECONDS_A_HEAD, SECONDS_AN_EVALUATION = 30.0, 10.0
#: A training step of blocks costs so many times the features of its images (forward and backward).
TRAINING = 3.0
#: What is told, in minutes: nobody knows it better.
_TOLD = (1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 1440)


def seconds_a_view(backbone: FeatureSettings) -> float:
    """Seconds of one core that a network takes for one view of an image."""
    seconds, side = SECONDS_A_VIEW.get(backbone.name, _OTHER)
    scale: float = (backbone.size_px / side) ** 2
    return seconds * scale


def study_estimate(settings: StudySettings) -> str:
    """How long the study will take on its workers, in words.

    Raises:
        InputError: when the grid or an ingredient does not fit.
    """
    seconds = study_seconds(settings, expand_grid(settings))
    workers = (
        "as many workers as fit"
        if settings.workers == "all"
        else (f"{settings.workers} worker{'s' if settings.workers > 1 else ''} with a core each")
    )
    return f"will take {estimate_words(seconds)} on {workers}; less where results are kept"


def study_seconds(settings: StudySettings, rows: Sequence[GridRow]) -> float:
    """Seconds that a study takes on its workers, nothing being there yet.

    Raises:
        InputError: when a data set is not there.
    """
    trained, total, seen = set[Path](), 0.0, dict[tuple[Path, str], float]()
    for row in rows:
        for call in row.calls:
            if call.out in trained:
                continue
            trained.add(call.out)
            if call.stage == "pretrain":
                total += _pretraining(call.setting("data"), call.settings)
                continue
            total += SECONDS_A_HEAD * _images([settings.data]) / 1000
            sets = [call.setting(key) for key in ("data", "synthetic", "centre")]
            source = str(call.setting("init") or "")
            asked = (call.setting("backbone") or settings.backbone, *call.setting("beside"))
            for path, one in product({path for path in sets if path is not None}, asked):
                key = (path, f"{source} {one.name} {one.views}")
                seen[key] = _images([path]) * one.views * seconds_a_view(one)
    total += sum(seen.values()) + len(rows) * len(settings.evaluate_on) * SECONDS_AN_EVALUATION
    others = {on.data.resolve() for on in settings.evaluate_on} - {settings.data.resolve()}
    networks = (settings.backbone, *settings.beside)
    total += sum(_images(others) * one.views * seconds_a_view(one) for one in networks)
    workers = 2 if settings.workers == "all" else settings.workers
    n_cores: int = workers * settings.threads
    return total / n_cores


def _images(paths: Iterable[Path]) -> int:
    return sum(len(open_dataset(path).rows) for path in paths)


def _pretraining(data: Path, settings: Any) -> float:
    n_steps: int = settings.epochs * _images([data])
    return TRAINING * n_steps * seconds_a_view(settings.backbone)


def estimate_words(seconds: float) -> str:
    """An estimate for people, as coarse as it is: `about 30 minutes`."""
    minutes = next((told for told in _TOLD if seconds / 60 <= told), None)
    if minutes is None:
        return f"about {seconds / 86400:.0f} days"
    if minutes < 90:
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {minutes // 60 if minutes % 60 == 0 else minutes / 60:g} hours"
