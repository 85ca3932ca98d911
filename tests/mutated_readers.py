"""Every file that synthdp reads, what reads it, and a process that reads thousands changed ones.

`python mutated_readers.py WORLD SEED COUNT` reads COUNT changed files in all and prints a report as
JSON. It limits its own memory, and each reading's processor time: whatever is not an `InputError`
or a `RunError` is a failure. `make_world` makes the files.
"""

import json
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from made_up import clinic_set, made_up_assessment
from made_up_study import describe, make_study
from mutations import ANY, OF_CSV, OF_JSON, OF_LINES, OF_SAFETENSORS, OF_TORCH, OF_YAML, Mutation

from classify.evaluate import run_evaluate
from classify.finetune import run_finetune
from classify.model.classifier import restore_backbone
from classify.model.folder import load_classifier
from classify.new_images.images import find_images
from classify.predict import run_predict
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import EvaluateSettings, PredictSettings
from gan.generate import run_generate
from gan.import_dcgan import read_state, renamed_tensors, shape_of
from gan.network.dcgan import DcganGenerator
from gan.network.sampling import draw_codes, sample_images
from gan.package.conditions import Combination, Conditions
from gan.package.description import Description, HaarShape, read_description
from gan.package.model import load_generator, write_generator
from gan.package.networks import build_generator, tensors_of
from gan.settings.finished import GenerateSettings
from synthdp.checkpoint import load_checkpoint, save_checkpoint
from synthdp.config.settings import load_settings
from synthdp.config.yaml_core import read_yaml
from synthdp.data.check import check_dataset
from synthdp.data.dataset import open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.identity import keyed_digest
from synthdp.data.images import encode_png
from synthdp.data.importing.declared import imported_statement
from synthdp.data.importing.listing import list_patches
from synthdp.data.importing.note import read_note
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.patients.links import read_links
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.dossier.attacks import attacks_on
from synthdp.dossier.evidence import read_evidence
from synthdp.dossier.utility import utility_of
from synthdp.errors import InputError, RunError
from synthdp.evaluation.assessment import read_assessment
from synthdp.evaluation.predictions import predicted_rows, read_metrics, read_predictions
from synthdp.networks.cache import cached_array
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.plan import statement_of
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import make_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.releases.copies.runs import copy_model
from synthdp.releases.release import Asked, release
from synthdp.runs.audit_record import _stored
from synthdp.runs.cards import model_card
from synthdp.runs.folder import open_run
from synthdp.storage.files import read_json, sha256_file, write_json
from synthdp.study.compare.cells import cells_by_set
from synthdp.study.compare.results import evaluation_row, read_results
from synthdp.study.record import read_record
from synthdp.study.report.page import run_report
from synthdp.study.report.sections.published import published_rows, read_published
from synthdp.study.report.settings import ReportSettings
from synthdp.study.settings import StudySettings
from synthdp.study.sweep.state import is_finished, recorded_failures

LIMIT_S, LIMIT_BYTES = 10, 2**30


@dataclass(frozen=True)
class Kind:
    """A file below the world, how it is changed, and what reads it, given the world.

    `folder` is copied anew for each reading when the reading itself may write there.
    """

    file: str
    mutations: tuple[Mutation, ...]
    read: Callable[[Path], object]
    folder: str | None = None


# The world: one of every file.


def make_world(root: Path) -> None:
    """Make a data set, a run, an evaluation, a generator, a study and files from elsewhere."""
    data = clinic_set(root / "set", unit_from="declared")
    settings = _finetune(root)
    run_finetune(settings)
    run_evaluate(
        EvaluateSettings(
            run=settings.out, dataset=data, split="train", out=root / "scores", redraws=5
        )
    )
    _make_generator(root / "gan")
    torch.save({"generator": DcganGenerator((8, 4), 6).state_dict(), "epoch": 3}, root / "seed.pt")
    _make_checkpoint(root / "checkpoints")
    _read_cache(root)
    make_study(root / "study")
    describe(root / "study", real=str(data))
    write_json(root / "study" / "failures" / "x.json", {"error": "it failed"})
    made_up_assessment(root / "assessment", open_dataset(data).info)
    (root / "published").mkdir()
    (root / "published" / "theirs.csv").write_text("arm,eps,auroc\nreal,inf,0.78\nreal,6,0.55\n")
    about = {
        "source": "A paper", "table": "theirs.csv", "epsilon": "eps", "figures": {"test": "auroc"},
        "unit": "image", "delta": 1e-4,
        "arms": [{"name": "real", "rows": {"arm": "real"}, "end_to_end": True}],
    }  # fmt: skip
    (root / "published" / "about.yaml").write_text(yaml.safe_dump(about))
    _make_import(root)
    audit = {"settings": {}, "versions": {}, "promise": {"epsilon": 6, "delta": 1e-3}, "broken": []}
    write_json(root / "run" / "private" / "audit" / "audit.json", audit)
    (root / "finetune.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    study = {
        "data": "set", "out": "x", "strategies": ["real_only"], "epsilons": [6], "seeds": [0],
        "evaluate_on": [{"data": "set"}], "privacy": {"population": 50, "delta": 1e-3},
        "backbone": {"name": "test_vit", "size_px": 32}, "finetune": {"head": {"steps": 20}},
    }  # fmt: skip
    (root / "study.yaml").write_text(yaml.safe_dump(study))


def _finetune(root: Path) -> FinetuneSettings:
    return FinetuneSettings.model_validate(
        {
            "data": root / "set",
            "out": root / "run",
            "privacy": {"epsilon": 6, "delta": 1e-3, "population": 50},
            "backbone": {"name": "test_vit", "size_px": 32},
            "head": {"steps": 5},
        }
    )


def _make_generator(out: Path) -> None:
    shares = (Combination(codes=(1,), share=0.5), Combination(codes=(2,), share=0.5))
    conditions = Conditions(names=("view",), levels=(("CC", "MLO"),), prior=(shares, shares))
    shape = HaarShape(
        size_px=32, channels=(8, 8, 8), z_dim=4, haar_levels=1, conditions=conditions, film=True
    )
    with open_run(out, "train-gan", _finetune(out)) as run:
        weights = build_generator(shape).state_dict()
        write_generator(run.path, weights, Description(shape, "malignant", "set"))
        run.finish(make_statement(Lineage(), subject="generator"), "card")


def _make_checkpoint(folder: Path) -> None:
    layer = torch.nn.Linear(3, 3)
    optimiser = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    for step in (1, 2):
        state = {"optimiser": optimiser.state_dict(), "rng": torch.get_rng_state()}
        save_checkpoint(folder, step, layer.state_dict(), state)


def _make_import(root: Path) -> None:
    source = root / "source"
    (source / "images").mkdir(parents=True)
    lines = ["file,patient_id,split,malignant,view"]
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 65536, (24, 24), dtype=np.uint16)
        (source / "images" / f"{number}.png").write_bytes(encode_png(pixels))
        lines.append(f"{number}.png,P{number},{'train' if number % 3 else 'val'},{number % 2},CC")
    (source / "table.csv").write_text("\n".join(lines) + "\n")
    (source / "links.csv").write_text("patient_id,person\nP1,A\nP2,A\n")
    run_patches(_patches(root))


def _patches(root: Path) -> PatchesSettings:
    return PatchesSettings(
        src=root / "source" / "images",
        metadata=root / "source" / "table.csv",
        out=root / "imported",
        name="imported",
        attributes=("view",),
        size_px=24,
    )


# What reads each file.


def _read_set(root: Path) -> None:
    dataset = open_dataset(root / "set")
    dataset.split("train")


def _read_statement(root: Path) -> None:
    statement = read_statement(root / "run")
    statement_text(statement)
    model_card(title="x", summary="x", statement=statement, settings={})
    make_statement(statement.lineage, subject="x", delta=statement.delta, unit=statement.unit)


def _read_run(root: Path) -> None:
    is_finished(root / "run")
    with open_run(root / "run", "finetune", _finetune(root)):
        pass


def _read_classifier(root: Path) -> None:
    run = root / "run"
    classifier = load_classifier(run)
    for one in classifier.feature_sources:
        restore_backbone(one)
    with TemporaryDirectory() as scratch:
        copy_model(run, Path(scratch))


def _read_classifier_weights(root: Path) -> None:
    path = root / "run" / "model" / "settings.json"
    settings = read_json(path)
    weights = root / "run" / "model" / "weights.safetensors"
    write_json(path, {**settings, "weights_sha256": sha256_file(weights)})
    _read_classifier(root)


def _read_generator(root: Path) -> None:
    generator = load_generator(root / "gan", torch.device("cpu"))
    tables = read_description(root / "gan").shape.conditions.tables
    labels = torch.tensor([0, 1])
    list(sample_images(generator, labels, draw_codes(tables, labels, 0), 0, batch=2))


def _read_seed(root: Path) -> None:
    path = root / "seed.pt"
    state = read_state(path, sha256_file(path))
    shape = shape_of(state, unit_range=True)
    renamed_tensors(state, tensors_of(shape))
    generator = build_generator(shape)
    generator.load_state_dict(renamed_tensors(state, generator.state_dict()))


def _read_checkpoint(root: Path) -> None:
    """The newest index names the files as they are now, so that their content is met."""
    folder = root / "checkpoints"
    files = [folder / f"000000002{end}" for end in (".safetensors", ".state")]
    index = {"step": 2, "sha256": {file.name: sha256_file(file) for file in files}}
    write_json(folder / "000000002.json", index)
    checkpoint = load_checkpoint(folder)
    assert checkpoint is not None  # the older one stands


def _read_index(root: Path) -> None:
    assert load_checkpoint(root / "checkpoints") is not None


def _read_cache(root: Path) -> None:
    dataset = open_dataset(root / "set")
    numbers = np.arange(2 * len(dataset.rows), dtype=np.float32).reshape(-1, 2)
    read = cached_array(
        dataset,
        dataset.rows,
        name="x",
        dtype="float32",
        compute=lambda begin, end: numbers[begin:end],
        batch=len(numbers),
    )
    assert np.array_equal(read, numbers)


def _read_study(root: Path) -> None:
    rows = read_results(root / "study" / "results.csv")
    cells_by_set(rows)
    record = read_record(root / "study", rows)
    assert record.date is not None
    assert record.versions is not None
    assert record.stage_times is not None


def _read_metrics(root: Path) -> None:
    metrics = read_metrics(root / "scores")
    evaluation_row(
        metrics=metrics, statement=make_statement(Lineage(), subject="x"), strategy="x",
        epsilon=1, seed=0, data_set="x", split="val", run="x",
    )  # fmt: skip


def _read_predictions(root: Path) -> None:
    predictions = read_predictions(root / "scores")
    predicted_rows(open_dataset(root / "set"), predictions, where="x")


def _read_published(root: Path) -> None:
    rows = read_results(root / "study" / "results.csv")
    cells = cells_by_set(rows)
    published_rows(read_published(root / "published" / "about.yaml"), cells)


def _read_listing(root: Path) -> None:
    settings = ListingSettings.model_validate(
        _patches(root).model_dump(include=set(ListingSettings.model_fields))
    )
    listing = list_patches(settings)
    assert listing.patches or listing.problems


def _read_lineage(root: Path) -> None:
    values = {**_patches(root).model_dump(), "kind": "synthetic"}
    values["lineage"] = str(root / "run" / "privacy.json")
    imported_statement(PatchesSettings.model_validate(values))


def _read_ledger(root: Path) -> None:
    ledger = Ledger(root / "run" / "private" / "ledger.jsonl")
    if ledger.release is not None and ledger.release.mechanism is not None:
        ledger.spent()


def _release(root: Path) -> None:
    try:
        release(root / "run", root / "released", Asked(without_protection=True))
    finally:
        shutil.rmtree(root / "released", ignore_errors=True)


def _read_evidence(root: Path) -> None:
    evidence = read_evidence(root / "run", [root / "scores"])
    utility_of(evidence, with_figures=True, with_counts=True)
    attacks_on(evidence, with_figures=True)


# Whole stages on a folder of which a file was changed.


def _without(out: Path, stage: Callable[[], object]) -> None:
    """Run a stage whose output, which may be a file, goes again."""
    try:
        stage()
    finally:
        shutil.rmtree(out, ignore_errors=True)
        out.unlink(missing_ok=True)


def _predict(root: Path) -> None:
    out = root / "predicted.csv"
    settings = PredictSettings(run=root / "run", images=root / "set" / "images", out=out)
    _without(out, lambda: run_predict(settings))


def _generate(root: Path) -> None:
    out = root / "generated"
    settings = GenerateSettings(run=root / "gan", out=out, per_class=1)
    _without(out, lambda: run_generate(settings))


def _evaluate(root: Path) -> None:
    out = root / "evaluated"
    settings = EvaluateSettings(
        run=root / "run", dataset=root / "set", split="train", out=out, redraws=2
    )
    _without(out, lambda: run_evaluate(settings))


def _report(root: Path) -> None:
    run_report(ReportSettings(study=root / "study"))


def _state(root: Path) -> None:
    statement_text(statement_of([root / "run", root / "set", root / "gan"]))


SET_LEDGER = "set/private/ledger"
RUN_LEDGER = "run/private/ledger"
KINDS = [
    Kind("finetune.yaml", OF_YAML, lambda w: load_settings(FinetuneSettings, w / "finetune.yaml")),
    Kind("study.yaml", OF_YAML, lambda w: load_settings(StudySettings, w / "study.yaml")),
    Kind("run/config.yaml", OF_YAML, _read_run, "run"),
    Kind("set/dataset.json", OF_JSON, _read_set),
    Kind("set/manifest.csv", OF_CSV, _read_set),
    Kind("set/manifest.csv", OF_CSV, lambda w: find_images(w / "set")),
    Kind("set/images/000001.png", ANY, lambda w: decode_pixels(w / "set/images/000001.png")),
    Kind("source/images/1.png", ANY, lambda w: decode_pixels(w / "source/images/1.png")),
    Kind("set/private/key", ANY, lambda w: keyed_digest(open_dataset(w / "set"), ()), "set"),
    Kind(f"{SET_LEDGER}.jsonl", OF_LINES, lambda w: recorded_releases(w / f"{SET_LEDGER}.jsonl")),
    Kind(f"{SET_LEDGER}.head", OF_JSON, lambda w: recorded_releases(w / f"{SET_LEDGER}.jsonl")),
    Kind(f"{RUN_LEDGER}.jsonl", OF_LINES, _read_ledger),
    Kind(f"{RUN_LEDGER}.head", OF_JSON, _read_ledger),
    Kind("run/status.json", OF_JSON, _read_run, "run"),
    Kind("run/privacy.json", OF_JSON, _read_statement),
    Kind("run/privacy.json", OF_JSON, _read_lineage),
    Kind("run/model/settings.json", OF_JSON, _read_classifier),
    Kind("run/model/weights.safetensors", OF_SAFETENSORS, _read_classifier_weights, "run"),
    Kind("run/private/audit/audit.json", OF_JSON, lambda w: _stored(w / "run/private/audit")),
    Kind("gan/model/settings.json", OF_JSON, _read_generator),
    Kind("gan/model/generator.safetensors", OF_SAFETENSORS, _read_generator),
    Kind("seed.pt", OF_TORCH, _read_seed),
    Kind("checkpoints/000000002.json", OF_JSON, _read_index, "checkpoints"),
    Kind("checkpoints/000000002.state", OF_TORCH, _read_checkpoint, "checkpoints"),
    Kind("checkpoints/000000002.safetensors", OF_SAFETENSORS, _read_checkpoint, "checkpoints"),
    Kind("set/private/features/*.safetensors", OF_SAFETENSORS, _read_cache, "set"),
    Kind("scores/metrics.json", OF_JSON, _read_metrics),
    Kind("scores/predictions.csv", OF_CSV, _read_predictions),
    Kind("scores/config.yaml", OF_YAML, lambda w: read_yaml(w / "scores/config.yaml")),
    Kind("study/results.csv", OF_CSV, _read_study),
    Kind("study/study.json", OF_JSON, _read_study),
    Kind("study/runs/*/status.json", OF_JSON, _read_study),
    Kind("study/failures/x.json", OF_JSON, lambda w: recorded_failures(w / "study")),
    Kind("assessment/quality.json", OF_JSON, lambda w: read_assessment(w / "assessment")),
    Kind("published/about.yaml", OF_YAML, _read_published),
    Kind("published/theirs.csv", OF_CSV, _read_published),
    Kind("source/table.csv", OF_CSV, _read_listing),
    Kind("source/links.csv", OF_CSV, lambda w: read_links(w / "source/links.csv")),
    Kind("imported/private/import.json", OF_JSON, lambda w: read_note(w / "imported")),
    Kind("imported/manifest.csv", OF_CSV, lambda w: check_dataset(w / "imported")),
    Kind("run/config.yaml", OF_YAML, _release),
    Kind("run/status.json", OF_JSON, _release),
    Kind("run/privacy.json", OF_JSON, _release),
    Kind("run/model/settings.json", OF_JSON, _release),
    Kind("scores/metrics.json", OF_JSON, _read_evidence),
    Kind("scores/config.yaml", OF_YAML, _read_evidence),
    Kind("run/private/audit/audit.json", OF_JSON, _read_evidence),
    Kind("run/card.md", ANY, _release),
    Kind("run/model/settings.json", OF_JSON, _predict),
    Kind("set/images/000001.png", ANY, _predict),
    Kind("gan/privacy.json", OF_JSON, _generate),
    Kind("gan/model/settings.json", OF_JSON, _generate),
    Kind("set/dataset.json", OF_JSON, _evaluate),
    Kind("set/manifest.csv", OF_CSV, _evaluate, "set"),
    Kind("study/study.json", OF_JSON, _report, "study"),
    Kind("run/status.json", OF_JSON, _state),
    Kind("set/dataset.json", OF_JSON, _state),
]


# The process that reads them.


class TooLongError(BaseException):
    """A reading took more than its processor time."""


def read_all(world: Path, seed: int, count: int) -> dict[str, Any]:
    """Read `count` changed files, spread over the kinds, and say what came of it."""
    torch.set_num_threads(1)
    at_first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _limit_memory()
    signal.signal(signal.SIGPROF, _raise_too_long)
    report: dict[str, Any] = {"refused": 0, "read": 0, "failures": [], "slowest": {}}
    for index, kind in enumerate(KINDS):
        share = count // len(KINDS) + (index < count % len(KINDS))
        _read_kind(
            world, kind, random.Random(zlib.crc32(f"{seed} {index}".encode())), share, report
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report["grown_bytes"], report["peak_bytes"] = (peak - at_first) * 1024, peak * 1024
    return report


def _limit_memory() -> None:
    """What is read may take a gigabyte beyond what the process has taken by now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _raise_too_long(*_: object) -> None:
    raise TooLongError


def _read_kind(
    world: Path, kind: Kind, rng: random.Random, count: int, report: dict[str, Any]
) -> None:
    path = sorted(world.glob(kind.file))[0]
    content = path.read_bytes()
    kept = None
    if kind.folder is not None:
        kept = world / f".{kind.folder}"
        shutil.copytree(world / kind.folder, kept)
    kind.read(world)  # what is unchanged is read: a refusal below is one of the change
    slowest = 0.0
    for number in range(count):
        mutation = kind.mutations[number % len(kind.mutations)]
        changed = mutation(content, rng)
        path.write_bytes(changed)
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        try:
            kind.read(world)
            report["read"] += 1
        except (InputError, RunError) as error:
            report["refused"] += 1
            if not 0 < len(str(error)) < 20_000:
                report["failures"].append([kind.file, number, mutation.__name__, "no clear error"])
        except BaseException:  # whatever it is, it is told
            told = traceback.format_exc()[-1500:]
            report["failures"].append([kind.file, number, mutation.__name__, told])
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, time.process_time() - began)
        if kept is not None:
            shutil.rmtree(world / str(kind.folder))
            shutil.copytree(kept, world / str(kind.folder))
        path.write_bytes(content)
    if kept is not None:
        shutil.rmtree(kept)
    report["slowest"][kind.file] = round(slowest, 3)


if __name__ == "__main__":
    print(json.dumps(read_all(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
