"""Neighbours before import, of radiographs with several findings: a patient's files, there or not.

As in `test_neighbours_before_import`: both worlds are imported under one key, of one noise, and are
followed from files to what leaves the house. Who goes is odd: nothing is known of the patient, or
there are as many images as of nobody else in NIH's table; and the pixels are the darkest and the
brightest that there are.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from made_up_collections import write_table
from numpy.typing import NDArray
from torch import Tensor

from classify import evaluate as evaluation
from classify.evaluate import run_evaluate
from classify.head.examples import private_sum
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import EvaluateSettings
from classify.setup.head import set_up_head
from synthdp.config.settings import load_settings
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.images import encode_png
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.importing.tables.collection import collection_file
from synthdp.data.people.cohorts import patient_tags
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.data.views.augmentation import Augmentation
from synthdp.evaluation.noisy_counts import NoisyAurocs, noisy_aurocs, unit_rows
from synthdp.privacy import lineage
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.noisy_sum import noise
from synthdp.releases.release import Asked, release
from synthdp.storage.files import read_json, sha256_file
from tests.data.importing.tables.test_radiographs import CHEXPERT
from tests.releases.test_release import PRIVACY, RANDOM, files_in, finetuned, named_by

SIDE_PX, CLIP = 32, 0.1
KEY = bytes(range(32))
FINDINGS = ("effusion", "cardiomegaly", "edema")
#: Whose files are there or not, in train and in valid: what is odd about each.
ODD = ("unknown", "many")
MOST_IMAGES = 184
ROOT = "CheXpert-v1.0"


def patient_of(split: str, odd: str) -> str:
    """Odd patients stand first in every order."""
    return f"patient{'06'[split == 'valid']}000{ODD.index(odd)}"


def pixels_of(odd: str, rng: np.random.Generator) -> NDArray[np.generic]:
    if odd:
        return (rng.random((SIDE_PX + 8, SIDE_PX)) < 0.5).astype(np.uint16) * 65535
    return rng.integers(0, 200, (SIDE_PX, SIDE_PX)).astype(np.uint8)


def write_files(src: Path, gone: str = "") -> Path:
    """Images and tables as CheXpert has them: eight patients in train, six in valid, and the odd.

    Each patient's pixels and labels are drawn by the patient's own number.
    """
    for split, ordinary in (("train", 8), ("valid", 6)):
        people = [(patient_of(split, odd), odd) for odd in ODD]
        first = {"train": 100, "valid": 64000}[split]
        people += [(f"patient{first + number:05d}", "") for number in range(ordinary)]
        lines = [CHEXPERT]
        for patient, odd in people:
            number = int(patient.removeprefix("patient"))
            rng = np.random.default_rng(number)
            labels = ["-1.0"] * 3 if odd == "unknown" else [f"{n}.0" for n in rng.integers(0, 2, 3)]
            if number % 4 == 1 and not odd:
                labels[1] = "-1.0"
            for image in range(MOST_IMAGES if odd == "many" else 1 + number % 3):
                path = f"{ROOT}/{split}/{patient}/study1/view{image}_frontal.jpg"
                picture = encode_png(pixels_of(odd, rng))
                if patient == gone:
                    continue
                (src / path).parent.mkdir(parents=True, exist_ok=True)
                (src / path).write_bytes(picture)
                cells = ["", "", labels[1], "", "", labels[2], *[""] * 4, labels[0], "", "", ""]
                lines.append(",".join([path, "Male", "60", "Frontal", "AP", *cells]))
        write_table(src / ROOT / f"{split}.csv", *lines)
    return src


def imported(world: Path, gone: str = "") -> Dataset:
    src = write_files(world / "src", gone)
    (world / "the.key").write_bytes(KEY)
    pairs = [
        *(f"src={src}", f"out={world / 'clinic'}", "name=clinic", f"size_px={SIDE_PX}"),
        *(f"key={world / 'the.key'}", f"targets=[{', '.join(FINDINGS)}]"),
    ]
    asked = load_settings(PatchesSettings, None, pairs, beneath=collection_file("chexpert"))
    return open_dataset(run_patches(asked))


Worlds = Callable[[str, str], tuple[Dataset, Dataset]]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    """The data set with everybody, and the one without the odd patient of a split."""
    everybody = imported(tmp_path_factory.mktemp("with"))
    made: dict[str, Dataset] = {}

    def worlds_of(split: str, odd: str) -> tuple[Dataset, Dataset]:
        gone = patient_of(split, odd)
        if gone not in made:
            made[gone] = imported(tmp_path_factory.mktemp("without"), gone)
        return everybody, made[gone]

    return worlds_of


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("public") / "phantoms"
    asked = {"out": out, "patients": 8, "size_px": SIDE_PX, "subject": "chest", "workers": 1}
    return run_phantoms(PhantomSettings.model_validate({**asked, "targets": FINDINGS}))


def one_gone(more: Mapping[str, object], fewer: Mapping[str, object], gone: str) -> None:
    """The named entry is missing in the second, and every other one is the same."""
    assert more.keys() - fewer.keys() == {gone}
    assert {one: more[one] for one in fewer} == fewer


def brought(dataset: Dataset) -> dict[str, list[object]]:
    """What each patient brings: split, labels (unknown ones are no equal numbers), pixels, tag."""
    found: dict[str, list[object]] = {}
    ids = sorted({row.patient_id for row in dataset.rows})
    tags = dict(zip(ids, patient_tags(dataset, ids), strict=True))
    for row in dataset.rows:
        pixels = decode_pixels(dataset.root / row.image)
        entry = (row.split, repr(row.targets), row.attributes, str(pixels.dtype), pixels.tobytes())
        found.setdefault(row.patient_id, [tags[row.patient_id]]).append(entry)
    return found


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("odd", ODD)
def test_nobody_else_moves(odd: str, split: str, worlds: Worlds) -> None:
    everybody, fewer = worlds(split, odd)
    marks = [world.info.model_copy(update={"ledger": None}) for world in (everybody, fewer)]
    assert marks[0] == marks[1]
    assert marks[0].targets == FINDINGS
    one_gone(brought(everybody), brought(fewer), patient_of(split, odd))
    heads = [
        (world.root / "manifest.csv").read_text().split("\n")[0] for world in (everybody, fewer)
    ]
    assert heads[0] == heads[1]


def head_settings(data: Path, out: Path, phantoms: Path) -> FinetuneSettings:
    head = {"steps": 8, "prior": {"edema": 0.05}}
    values = {"data": data, "out": out, "privacy": PRIVACY, "backbone": RANDOM}
    return FinetuneSettings.model_validate({**values, "centre": phantoms, "head": head})


@pytest.mark.parametrize("odd", ODD)
def test_inputs_of_a_head_are_each_patients_own_and_its_sum_moves_by_the_clip_norm(
    odd: str, worlds: Worlds, phantoms: Path, tmp_path: Path
) -> None:
    """Features are centred by phantoms, to the last bit; all findings are one bounded vector."""
    inputs, sums = [], []
    for number, world in enumerate(worlds("train", odd)):
        head = set_up_head(head_settings(world.root, tmp_path / str(number), phantoms), world)
        own: dict[str, list[str]] = {}
        rows = zip(head.rows, head.examples.inputs, head.examples.targets, strict=True)
        for row, values, targets in rows:
            own.setdefault(row.patient_id, []).append(repr([values.tolist(), targets.tolist()]))
        inputs.append(own)
        weights = torch.linspace(-3, 3, 3 * head.examples.inputs.shape[1]).reshape(3, -1)
        sums.append(private_sum(weights, head.examples, CLIP).double())
    one_gone(*inputs, patient_of("train", odd))
    moved = float((sums[0] - sums[1]).norm())
    assert moved <= CLIP
    assert (moved > 0.5 * CLIP) == (odd != "unknown")


InTurn = Callable[[str, str], Iterator[tuple[Path, Path]]]


@pytest.fixture
def in_turn(worlds: Worlds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InTurn:
    """A folder of each world, and a copy of its set there, whose ledger nobody else writes.

    Marks and noise of the second world are those of the first, so that whatever differs tells.
    """
    monkeypatch.setattr(noise, "new_key", lambda: b"k" * KEY_BYTES)
    monkeypatch.setattr(evaluation, "new_key", lambda: b"k" * KEY_BYTES)

    def both(split: str, odd: str) -> Iterator[tuple[Path, Path]]:
        for name, world in zip(("with", "without"), worlds(split, odd), strict=True):
            numbers = count()
            marks = SimpleNamespace(token_hex=lambda size, of=numbers: f"{next(of):0{2 * size}x}")
            monkeypatch.setattr(lineage, "secrets", marks)
            folder = tmp_path / name
            yield folder, Path(shutil.copytree(world.root, folder / "clinic"))

    return both


@pytest.fixture
def narrow_resnet9(monkeypatch: pytest.MonkeyPatch) -> None:
    """The papers' network, of a sixteenth of its weights."""
    entries = timm.models._registry._model_entrypoints
    narrow = partial(entries["resnet9"], channels=(32, 64, 96, 128))
    monkeypatch.setitem(entries, "resnet9", narrow)


def whole_network(data: Path, out: Path, phantoms: Path) -> Path:
    network = {
        **{"trainable_blocks": "all", "steps": 2, "sampling_rate": 0.5, "block_steps": 1},
        **{"max_images": 2, "augment": Augmentation().model_dump()},
    }
    backbone = {"name": "resnet9", "size_px": SIDE_PX, "precision": "float32"}
    return finetuned(data, out, backbone=backbone, network=network)


def head(data: Path, out: Path, phantoms: Path) -> Path:
    asked = head_settings(data, out, phantoms)
    return finetuned(data, out, centre=asked.centre, head=asked.head.model_dump())


def texts_of(folder: Path, weights: str) -> dict[str, str]:
    """What is told beside the weights, digests of what leaves anyway by the files' names.

    Noisy figures are what was paid for: their lines are left out.
    """
    digests = {sha256_file(folder / name): name for name in files_in(folder)}
    texts = {}
    for name in files_in(folder) - {weights}:
        text = named_by((folder / name).read_text(), digests)
        text = re.sub(r"(?m)^- noisy .*$", "", text)
        texts[name] = re.sub(r"(?ms)^  results:\n.*?(?=^\S)", "", text)
    return texts


@pytest.mark.usefixtures("narrow_resnet9")
@pytest.mark.parametrize(
    ("stage", "odd"),
    [
        (head, "unknown"),
        (head, "many"),
        pytest.param(whole_network, "many", marks=pytest.mark.slow),
    ],
)
def test_what_leaves_differs_in_the_noisy_weights_alone(
    stage: Callable[[Path, Path, Path], Path], odd: str, in_turn: InTurn, phantoms: Path
) -> None:
    left = []
    for folder, data in in_turn("train", odd):
        left.append(folder / "released")
        release(stage(data, folder / "run", phantoms), left[-1])
    weights = same_but_for_weights(left)
    sizes = {(folder / weights).stat().st_size for folder in left}
    assert len(sizes) == 1


def same_but_for_weights(left: Sequence[Path]) -> str:
    """The file of weights, after making sure that two releases tell the same beside it."""
    assert files_in(left[0]) == files_in(left[1])
    (weights,) = (one for one in files_in(left[0]) if one.endswith(".safetensors"))
    assert texts_of(left[0], weights) == texts_of(left[1], weights)
    return weights


@pytest.mark.parametrize("odd", ODD)
def test_noisy_aurocs_are_all_that_tells_of_who_was_scored(
    odd: str, in_turn: InTurn, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = list[Tensor]()

    def summed(
        targets: NDArray[np.float64], scores: NDArray[np.float32], units: Sequence[str], **how: Any
    ) -> NoisyAurocs:
        _, owners = np.unique(units, return_inverse=True)
        sums.append(unit_rows(targets, scores, owners).double().sum(dim=0))
        return noisy_aurocs(targets, scores, units, **how)

    monkeypatch.setattr(evaluation, "noisy_aurocs", summed)
    left, told = [], []
    for folder, data in in_turn("valid", odd):
        run = head(data, folder / "run", phantoms)
        values = {"run": run, "dataset": data, "split": "val", "out": folder / "scored"}
        paid = {"auroc_epsilon": 6, "auroc_delta": 1e-3, "population": 500, "redraws": 10}
        scored = run_evaluate(EvaluateSettings.model_validate({**values, **paid}))
        left.append(folder / "released")
        release(run, left[-1], Asked(evidence=(scored,)))
        noisy = read_json(scored / "noisy_metrics.json")
        assert set(noisy["targets"]) == set(FINDINGS)
        told.append({key: one for key, one in noisy.items() if key not in ("auroc", "targets")})
    assert told[0] == told[1]
    weights = same_but_for_weights(left)
    contents = [(folder / weights).read_bytes() for folder in left]
    assert contents[0] == contents[1]  # those scored were not trained on
    moved = float(torch.linalg.vector_norm(sums[0] - sums[1]))
    assert moved <= 1 + 1e-4
    assert (moved > 0.5) == (odd != "unknown")
