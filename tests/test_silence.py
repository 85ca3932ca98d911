"""No stage is silent: whatever it does with an image or a step is within something that is told.

The clock is a made one, and moves by a second with whatever takes long on real data: an image that
is decoded or written, a network's pass, a gradient, a redraw. So a loop over images or steps that
nobody named shows, however small the set is: as seconds in which nothing that is told went on.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from classify import predict
from synthdp.data.importing.images import prepare, survey
from synthdp.data.phantoms import phantoms
from synthdp.data.writer import DatasetWriter
from synthdp.evaluation.uncertainty import intervals
from synthdp.machine import progress as module
from synthdp.machine.progress import Reporter, progress
from synthdp.machine.progress_task import Task
from synthdp.stages import STAGES
from synthdp.storage import kept_digests

ROOT = Path(__file__).parents[1]
#: Seconds without a sign of life that are a silence: a step of a generator and its picture take 21.
SILENCE_S = 25
NETWORK = {"name": "test_vit", "size_px": 32, "weights": "none"}


class Watch:
    """A clock, and the display that listens for silences by it."""

    needs_a_thread = False

    def __init__(self) -> None:
        self.now = self.sign_at = 0.0
        self.silences: dict[str, float] = {}
        self._inside = False
        self.tasks: Sequence[Task] = ()

    def show(self, tasks: Sequence[Task], now: float) -> None:
        self.tasks, self.sign_at = tasks, self.now

    def end(self, task: Task, now: float) -> None:
        self.sign_at = self.now

    def close(self) -> None:
        self.sign_at = self.now

    def works(self, *_: object) -> None:
        """A second of work goes by."""
        self.now += 1
        told = self.tasks[-1] if self.tasks else None
        if told is not None and not told.is_stage and told.total is None:
            self.sign_at = self.now  # what can't be counted says that it is at work
        silent = self.now - self.sign_at
        if silent > SILENCE_S:
            where = [
                f"{Path(frame.filename).relative_to(ROOT)}, {frame.name}"
                for frame in traceback.extract_stack()
                if frame.filename.startswith(str(ROOT)) and "tests" not in frame.filename
            ]
            self.silences[" < ".join(where[:-6:-1])] = silent

    @contextmanager
    def once(self) -> Iterator[None]:
        """Of calls within each other the outermost counts."""
        if self._inside:
            yield
            return
        self._inside = True
        try:
            self.works()
            yield
        finally:
            self._inside = False


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Listens; what takes long moves its clock."""
    watch = Watch()

    class Told(Reporter):
        def open(self, task: Task) -> None:
            super().open(task)
            self.look()

    reporter = Told(clock=lambda: watch.now, choose=lambda: watch, threaded=False)
    monkeypatch.setattr(module, "_reporter", reporter)

    def slow(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            with watch.once():
                return real(*arguments, **named)

        monkeypatch.setattr(owner, name, timed)

    slow(ImageFile.ImageFile, "load")
    slow(torch.nn.Module, "__call__")
    slow(torch.Tensor, "backward")
    slow(torch.autograd, "grad")
    slow(DatasetWriter, "add")
    slow(phantoms, "draw_patient")
    slow(intervals, "_auroc_draws_at_once")
    slow(kept_digests, "_read_digest")
    # images are read some at a time, here fewer
    monkeypatch.setitem(prepare.prepare.__kwdefaults__, "at_once", 4)
    monkeypatch.setattr(survey, "_AT_ONCE", 4)
    monkeypatch.setattr(predict, "BATCH", 4)
    return watch


@pytest.fixture
def run(watch: Watch, tmp_path: Path) -> Callable[..., Path]:
    """Runs a stage with these settings below the test's folder; gives what it made."""

    def started(stage: str, **values: Any) -> Path:
        settings = STAGES[stage].settings_class().model_validate(values)
        made = STAGES[stage].start(settings)
        assert watch.silences == {}, f"{stage} is silent here; name the loop by `progress`"
        return made

    return started


def patches(root: Path, count: int = 84) -> Path:
    generator = np.random.default_rng(0)
    for number in range(count):
        label = number % 2
        folder = root / ("train" if number % 3 else "val") / ("benign", "malignant")[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.normal(90 + 60 * label, 25, (32, 32)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"patient{number:03d}.png")
    return root


def test_a_loop_that_nobody_named_is_heard(watch: Watch, tmp_path: Path) -> None:
    files = sorted(patches(tmp_path / "patches").rglob("*.png"))
    for path in progress(files, what="reading"):
        Image.open(path).load()
    assert watch.silences == {}
    for path in files:
        Image.open(path).load()
    assert watch.silences != {}


@pytest.mark.slow
def test_no_stage_is_silent(run: Callable[..., Path], tmp_path: Path) -> None:
    public = run("data phantoms", out=tmp_path / "phantoms", patients=32, size_px=32)
    patients = run(
        "data patches",
        src=patches(tmp_path / "patches"),
        out=tmp_path / "mine",
        name="mine",
        size_px=32,
        patient_pattern=r"patient(\d+)",
        workers=1,
    )
    tiny = {"size_px": 32, "channels": (16, 16, 8), "z_dim": 16, "batch": 8, "kimg": 0.2}
    gan = run("train-gan", data=patients, out=tmp_path / "gan", film=True, style_spread=1.2, **tiny)
    synthetic = run("generate", run=gan, out=tmp_path / "synthetic", per_class=20, batch=4)
    run(
        "assess",
        synthetic=synthetic,
        real=patients,
        out=tmp_path / "assessed",
        features=[{**NETWORK, "label": "A"}],
        redraws=100,
    )
    pretrained = run(
        "pretrain", data=synthetic, out=tmp_path / "pre", backbone=NETWORK, epochs=2, batch=2
    )
    privacy = {"epsilon": 6.0, "population": 60}
    head = run(
        "finetune",
        data=patients,
        out=tmp_path / "head",
        init=pretrained,
        privacy=privacy,
        head={"steps": 30},
    )
    run(
        "finetune",
        data=patients,
        centre=public,
        out=tmp_path / "network",
        backbone=NETWORK,
        privacy=privacy,
        network={"trainable_blocks": 1, "steps": 3, "batch": 2, "sampling_rate": 0.5},
    )
    run("evaluate", run=head, dataset=patients, split="val", out=tmp_path / "scores", redraws=200)
    run("calibrate", run=head, data=synthetic, split="train", out=tmp_path / "calibrated")
    run(
        "predict",
        run=head,
        images=synthetic / "images",
        out=tmp_path / "scores.csv",
        saliency=tmp_path / "saliency",
    )
    run("audit", run=head, runs=20, shadows=8, canaries=40, replayed=2)
