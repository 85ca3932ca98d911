"""Patients, runs and ledgers that several tests make up in the same way."""

import hashlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from classify.head.examples import HeadExamples
from classify.model.classifier import new_classifier, new_feature_source
from classify.model.folder import save_classifier
from classify.network.gradients import TokenExamples
from synthdp.config.settings import Settings, validate_settings
from synthdp.data.description import DatasetInfo, read_info
from synthdp.data.looks.spectrum import SpectrumError, binned_powers, spectrum_error
from synthdp.data.writer import create_dataset
from synthdp.evaluation.assessment import (
    QUALITY_FILE,
    AssessedSet,
    Assessment,
    FeatureFacts,
    Figure,
    Value,
)
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.set_record import create_record
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.promise.statement import make_statement
from synthdp.runs.folder import open_run
from synthdp.storage.files import read_json, write_json
from synthdp.study.settings import StudySettings


def clinic_set(out: Path, kind: str = "real", *, n_patients: int = 12, **info: object) -> Path:
    """Patients of one to three noisy patches; those of every second patient are brighter.

    Their ids hold the word secret, which tests look for wherever no id may stand.
    """
    generator = np.random.default_rng(0)
    if kind == "public":
        info = {"lineage": Lineage(public=(out.name,)), **info}
    about = DatasetInfo(name=out.name, kind=kind, size_px=32, **info)
    with create_dataset(out, about) as writer:
        for patient in range(n_patients):
            for _ in range(1 + patient % 3):
                pixels = generator.normal(90 + 70 * (patient % 2), 30, (32, 32)).clip(0, 255)
                writer.add(
                    pixels.astype(np.uint8),
                    patient_id=f"secret-{patient}",
                    split="train",
                    targets=[patient % 2],
                )
    return out


def several_targets_set(
    out: Path,
    kind: str = "real",
    *,
    n_patients: int = 12,
    splits: Sequence[str] = ("train",),
    **info: object,
) -> Path:
    """The same with three targets: bright, its contrary, whose label is often unknown, and one that
    nobody has. The last patient has no known label at all. Each split has as many patients."""
    generator = np.random.default_rng(0)
    about = DatasetInfo(
        name=out.name, kind=kind, size_px=32, targets=("bright", "dark", "rare"), **info
    )
    with create_dataset(out, about) as writer:
        for split in splits:
            for patient in range(n_patients):
                bright, last = patient % 2, patient == n_patients - 1
                labels = [bright, math.nan if patient % 5 == 4 else 1 - bright, 0]
                for _ in range(1 + patient % 3):
                    pixels = generator.normal(90 + 70 * bright, 30, (32, 32)).clip(0, 255)
                    writer.add(
                        pixels.astype(np.uint8),
                        patient_id=f"secret-{split}-{patient}",
                        split=split,
                        targets=[math.nan] * 3 if last else labels,
                        attributes={"view": "AP" if patient % 4 < 2 else "PA"},
                    )
    return out


def begin_record(data: Path) -> Path:
    """Let the ledger of a copied set of patients begin anew: nothing is on record then."""
    for ledger in (data / "private").glob("ledger*"):
        ledger.unlink()
    mark = read_info(data).ledger
    assert mark is not None  # the set is one of patients, of this version
    create_record(data / "private" / "ledger.jsonl", mark)
    return data


def small_study(root: Path) -> dict[str, object]:
    """Settings of a study of heads on a made-up clinic's features: two epsilons, two seeds."""
    data = clinic_set(root / "clinic")
    return {
        "data": data,
        "out": root / "study",
        "strategies": ["real_only"],
        "epsilons": [6, "none"],
        "seeds": [0, 1],
        "evaluate_on": [{"data": data, "split": "train"}],
        "privacy": {"population": 50, "delta": 1e-3},
        "backbone": {"name": "test_vit", "size_px": 32},
        "finetune": {"head": {"steps": 20}},
    }


def study_settings(values: dict[str, object], **changes: object) -> StudySettings:
    """The settings of a study from its values, some of them changed."""
    return validate_settings(StudySettings, {**values, **changes}, where="study")


#: Recipes without and with the images of a private generator.
GENERATOR_ARMS = ["real_only", "real_and_private_synthetic", "private_pretrain_then_finetune"]


def of_own_generator(values: dict[str, object], **changes: object) -> StudySettings:
    """A cross-validated study that trains a tiny private generator for each cell."""
    root = Path(str(values["out"])).parent
    phantoms = root / "phantoms"
    if not phantoms.exists():
        clinic_set(phantoms, "phantom")
    train = {
        "method": "embedding",
        "size_px": 32,
        "channels": [8, 8, 8],
        "z_dim": 16,
        "batch": 8,
        "kimg": 0.02,
        "embedding": {"features": {"name": "test_vit"}, "public": phantoms},
    }
    asked = {
        "strategies": GENERATOR_ARMS,
        "epsilons": [6],
        "seeds": [0],
        "phantoms": phantoms,
        "pretrain": {"trainable_blocks": 0, "epochs": 1},
        "cross_validation": {"folds": 2},
        "private_generator": {"train": train, "generate": {"per_class": 6}, "mu_share": 0.4},
    }
    without = {key: value for key, value in values.items() if key != "evaluate_on"}
    return study_settings(without, **{**asked, **changes})


def give_even_key(data: Path) -> Path:
    """Replace a set's key by a fixed one: either half of its 12 patients then has both classes."""
    (data / "private" / "key").write_bytes(bytes([1]) * KEY_BYTES)
    return data


def random_run(folder: Path, targets: tuple[str, ...] = ("malignant",)) -> Path:
    """A finished run of a random transformer under a random head."""
    source = new_feature_source(FeatureSettings(name="test_vit", size_px=32), seed=1)
    plain = new_classifier([source], targets)
    weight = torch.randn(plain.head_weight.shape, generator=torch.Generator().manual_seed(2))
    with open_run(folder, "pretrain", Settings()) as run:
        save_classifier(run.model, plain.with_head(4 * weight, plain.head_bias))
        run.finish(make_statement(Lineage(), subject="classifier"), "card")
    return folder


def received_run(run: Path, out: Path) -> Path:
    """What a receiver has of a run: no private part, and a status that names no ledger."""
    shutil.copytree(run, out, ignore=shutil.ignore_patterns("private"))
    return without_mark(out)


def without_mark(run: Path) -> Path:
    """The run, its status naming no ledger, as that of one that was received, or is older."""
    status = read_json(run / "status.json")
    write_json(run / "status.json", {k: v for k, v in status.items() if k != "ledger"})
    return run


def made_up_assessment(folder: Path, info: DatasetInfo, *, copies: float = 0) -> Path:
    """The folder of an assessment with two figures, one of them without a value."""
    judged = AssessedSet(
        name=info.name, kind=info.kind, size_px=32, images=40, used=40, duplicates=0,
        label_conflicts=0,
    )  # fmt: skip
    figures = (
        Figure(
            section="Distance",
            measure="FD-Net",
            features="Net",
            comparison="all images against train",
            better="low",
            digits=1,
            main=True,
            synthetic=Value(value=73.94, n=(40, 24), split="all against train"),
            real=Value(value=21.25, n=(12, 12), split="halves of train"),
        ),
        Figure(
            section="Labels",
            measure="Label fidelity",
            features="Net",
            comparison="trained on train",
            better="real",
            main=True,
            synthetic=Value(value=None, n=(40, 24), split="all", why="one class <only>"),
        ),
        Figure(
            section="Memorisation",
            measure="Near copies of a patient (images)",
            features="pixels",
            comparison="a detail",
            better="low",
            synthetic=Value(value=copies, n=(40, 24), split="all against train"),
        ),
    )
    assessment = Assessment(
        promise="These figures are exact functions of the patients of clinic.",
        findings=("FD-Net stands at 73.9.",),
        info=info,
        synthetic=judged,
        real=judged.model_copy(update={"name": "clinic", "kind": "real"}),
        features=(
            FeatureFacts(
                label="Net", network="n", size_px=32, precision="float32", weights="random start"
            ),
        ),
        figures=figures,
    )
    write_json(folder / QUALITY_FILE, assessment.model_dump(mode="json"))
    return folder


def claimed_ledger(folder: Path, mechanism: Mechanism, *, block_steps: int) -> Ledger:
    """The ledger in `folder`, claimed for one release of the mechanism."""
    ledger = Ledger(folder / "ledger.jsonl")
    release = Release(id="0" * 16, stage="t", data="d", mu=mechanism.mu, mechanism=mechanism)
    ledger.claim(release, fingerprint="f", block_steps=block_steps)
    return ledger


def head_examples(n_patients: int = 40, seed: int = 0) -> HeadExamples:
    """Unit-norm inputs of patients with one to three images, two targets, some unknown."""
    generator = torch.Generator().manual_seed(seed)
    units = torch.arange(n_patients).repeat_interleave(
        torch.randint(1, 4, (n_patients,), generator=generator)
    )
    inputs = torch.randn(len(units), 9, generator=generator)
    inputs = torch.nn.functional.normalize(inputs, dim=1)
    targets = (inputs[:, :2] > 0).float()
    targets[::7, 1] = math.nan
    return HeadExamples(inputs, targets, units)


def without_head_patient(data: HeadExamples, patient: int) -> HeadExamples:
    """The neighbour without one patient."""
    kept = data.units != patient
    units = data.units[kept]
    units = units - (units > patient).long()
    return HeadExamples(data.inputs[kept], data.targets[kept], units)


def token_examples(
    shape: tuple[int, int], n_patients: int = 10, *, seed: int = 0, views: int = 1
) -> TokenExamples:
    """Tokens (L, C) of patients with one to three images, in mixed order; some targets unknown."""
    generator = torch.Generator().manual_seed(seed)
    units = torch.arange(n_patients).repeat_interleave(1 + torch.arange(n_patients) % 3)
    order = torch.randperm(len(units), generator=generator)
    tokens = torch.randn(len(units), views, *shape, generator=generator)
    targets = (tokens[:, 0, 0, :2] > 0).float()
    targets[::5, 1] = math.nan
    tags = [hashlib.sha256(b"%d" % unit).digest() for unit in range(n_patients)]
    return TokenExamples(tokens.half().numpy()[order], targets[order], units[order], tags)


def without_patient(data: TokenExamples, patient: int) -> TokenExamples:
    """The neighbour without one patient."""
    kept = data.units != patient
    units = data.units[kept] - (data.units[kept] > patient).long()
    tags = [tag for index, tag in enumerate(data.tags) if index != patient]
    return TokenExamples(data.tokens[kept.numpy()], data.targets[kept], units, tags)


def spectrum_error_of(real: np.ndarray, other: np.ndarray) -> SpectrumError:
    """The error of images (N, 1, S, S) in [-1, 1] against real ones of the same side."""
    return spectrum_error(binned_powers(real), binned_powers(other), real.shape[-1])
