"""The exported package, run as medigan runs it: imported alone, far from our code."""

import ast
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gan.network
from gan.export import performance, run_export
from gan.generate import run_generate
from gan.import_dcgan import run_import_generator
from gan.mix import run_mix_generators
from gan.network.dcgan import DcganGenerator
from gan.network.medigan import as_pixels
from gan.network.sampling import sample_images
from gan.package.model import load_generator
from gan.settings.finished import (
    ExportSettings,
    GenerateSettings,
    ImportGeneratorSettings,
    MixGeneratorsSettings,
)
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.data.dataset import Dataset, load_images, open_dataset
from synthdp.data.images import to_uint8
from synthdp.errors import InputError
from synthdp.evaluation.assessment import AssessedSet, Assessment, FeatureFacts, Figure, Value
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import make_statement
from synthdp.storage.files import read_json, sha256_file
from tests.gan.conftest import settings_of

Finished = Callable[[Path], Path]
MakeSet = Callable[..., Path]
TinySettings = Callable[..., TrainGanSettings]
UNPROTECTED = "--yes-without-protection"
NETWORK = Path(gan.network.__file__).parent

#: Runs texts of Python one after the other, each in a child of its own that begins with PyTorch
#: already read, which takes seconds. A line each asks for one, and one each tells its exit code.
READY = """
import contextlib, json, os, sys
import numpy, torch
assert not {"gan", "synthdp", "pydantic"} & sys.modules.keys()
for line in sys.stdin:
    code, folder, arguments, output = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        sys.argv = ["-c", *arguments]
        sys.stdin.close()
        with open(output, "w") as stream, contextlib.redirect_stdout(stream):
            exec(compile(code, "<call>", "exec"), {"__name__": "__main__"})
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

#: What medigan does: puts the folder above the package on the path, and calls its function.
CALLER = """
import importlib, importlib.util, json, sys
import numpy as np
folder, name, calls, checkout = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
sys.path = [folder, *(path for path in sys.path if path not in ("", checkout))]
sys.meta_path = [one for one in sys.meta_path if "editable" not in repr(one).lower()]
assert importlib.util.find_spec("gan") is importlib.util.find_spec("synthdp") is None
package = importlib.import_module(name)
assert "pydantic" not in sys.modules
results = {}
for number, call in enumerate(calls):
    vector = call.pop("vector", None)
    if vector is not None:
        call["input_latent_vector"] = np.array(vector).reshape(len(vector), -1, 1, 1)
    try:
        pairs = package.generate(model_file=f"{folder}/{name}/weights.pt", **call)
    except Exception as error:
        pairs, words = [], [type(error).__name__, str(error)]
    else:
        words = None if pairs is None else [word for _, word in pairs]
    images = [image for image, _ in pairs or []]
    assert all(isinstance(image, np.ndarray) for image in images)
    results[f"images{number}"] = np.array(images)
    results[f"words{number}"] = np.array(json.dumps(words))
np.savez(f"{folder}/results.npz", **results)
"""
#: Runs a text far from our code; gives what it printed.
Elsewhere = Callable[[str, Path, list[str]], str]
#: Runs calls of the package of that name in a folder: images and words of each.
Medigan = Callable[..., list[tuple[np.ndarray, Any]]]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    folder = tmp_path_factory.mktemp("elsewhere")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with subprocess.Popen(
        [sys.executable, "-c", READY], cwd=folder, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as ready:  # fmt: skip
        assert ready.stdin is not None
        assert ready.stdout is not None

        def run_elsewhere(code: str, where: Path, arguments: list[str]) -> str:
            asked = [code, str(where), arguments, str(folder / "printed")]
            print(json.dumps(asked), file=ready.stdin, flush=True)
            assert ready.stdout.readline() == "0\n"
            return (folder / "printed").read_text()

        yield run_elsewhere
        ready.stdin.close()


@pytest.fixture(scope="module")
def as_medigan_does(elsewhere: Elsewhere) -> Medigan:
    def generated(
        packages: Path, name: str, *calls: dict[str, Any]
    ) -> list[tuple[np.ndarray, Any]]:
        defaults = {"output_path": str(packages / "images"), "save_images": False}
        complete = json.dumps([{**defaults, **call} for call in calls])
        checkout = str(Path(__file__).parents[2])
        elsewhere(CALLER, packages, [str(packages), name, complete, checkout])
        with np.load(packages / "results.npz") as results:
            return [
                (results[f"images{number}"], json.loads(str(results[f"words{number}"])))
                for number in range(len(calls))
            ]

    return generated


@pytest.fixture(scope="module")
def run(discs_as_real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "gan"
    return run_train_gan(settings_of(discs_as_real, out, film=True))


@pytest.fixture(scope="module")
def packages(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("share") / "packages"
    assert main(["export", str(run), str(out), "--licence", "CC-BY-3.0", UNPROTECTED]) == EXIT_DONE
    return out


def drawn(run: Path, count: int, seed: int) -> np.ndarray:
    labels, none = torch.arange(count) % 2, torch.empty(count, 0, dtype=torch.int64)
    generator = load_generator(run, torch.device("cpu"))
    images = torch.cat(list(sample_images(generator, labels, none, seed)))
    return to_uint8(images[:, 0].numpy())


def grey_levels(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_medigan_gets_images_and_labels_in_words(
    packages: Path, run: Path, as_medigan_does: Medigan
) -> None:
    vector = np.random.default_rng(5).normal(size=(3, 16)).tolist()
    results = as_medigan_does(
        packages,
        "mcgan_discs",
        {"num_samples": 35, "seed": 7},
        {"num_samples": 0},
        {"num_samples": 3, "condition": 0, "seed": 1, "other": "kept for medigan"},
        {"num_samples": 3, "condition": 1.0, "seed": 1},
        {"num_samples": 3, "condition": 0.2, "vector": vector},
        {"num_samples": 3, "condition": 0.0, "vector": vector},
        {"num_samples": 6},
        {"num_samples": 6},
        {"num_samples": 4, "save_images": True, "seed": 7},
    )
    seeded, none, malignant, benign, some, same, first, second, saved = results
    assert seeded[0].shape == (35, 32, 32)
    assert seeded[0].dtype == np.uint8
    assert seeded[1][:3] == ["benign", "malignant", "benign"]
    assert grey_levels(seeded[0], drawn(run, 35, 7)) <= 1
    assert none == (pytest.approx(np.empty(0)), [])
    assert (malignant[1], benign[1]) == (["malignant"] * 3, ["benign"] * 3)
    assert grey_levels(malignant[0], benign[0]) > 5  # of the same z and noise
    assert some[1] == ["malignant"] * 3
    assert grey_levels(some[0], same[0]) == 0
    assert sorted(first[1]) == sorted(second[1]) == ["benign"] * 3 + ["malignant"] * 3
    assert grey_levels(first[0], second[0]) > 0
    assert saved[1] is None
    names = {path.name for path in (packages / "images").iterdir()}
    assert names == {"0_benign.png", "1_malignant.png", "2_benign.png", "3_malignant.png"}
    from PIL import Image  # noqa: PLC0415 (beside its only use)

    with Image.open(packages / "images" / "1_malignant.png") as image:
        assert (image.mode, image.size) == ("L", (32, 32))
        assert np.array_equal(np.asarray(image), seeded[0][1])


def test_a_latent_vector_draws_what_our_own_generator_draws(
    packages: Path, run: Path, as_medigan_does: Medigan
) -> None:
    vectors = torch.randn(2, 16, generator=torch.Generator().manual_seed(3))
    ((images, _),) = as_medigan_does(
        packages, "mcgan_discs", {"num_samples": 2, "condition": 1, "vector": vectors.tolist()}
    )
    generator = load_generator(run, torch.device("cpu"))
    streams = [np.random.default_rng((0, position)) for position in (0, 1)]
    size = generator.z_dim + generator.noise_dim
    latents = np.stack([stream.standard_normal(size, dtype=np.float32) for stream in streams])
    noise = torch.from_numpy(latents)[:, generator.z_dim :]
    with torch.no_grad():
        own = generator(vectors, noise, torch.zeros(2, dtype=torch.long))
    assert grey_levels(images, to_uint8(own[:, 0].numpy())) <= 1


def test_a_mixture_is_one_package(
    run: Path,
    discs_as_real: Path,
    tmp_path_factory: pytest.TempPathFactory,
    as_medigan_does: Medigan,
) -> None:
    root = tmp_path_factory.mktemp("mixture")
    plain = run_train_gan(settings_of(discs_as_real, root / "plain", seed=1))
    mixed = run_mix_generators(MixGeneratorsSettings(runs=(run, plain), out=root / "mixed"))
    assert main(["export", str(mixed), str(root / "packages"), UNPROTECTED]) == EXIT_DONE
    ((images, _),) = as_medigan_does(
        root / "packages", "mcgan_discs", {"num_samples": 35, "seed": 7}
    )
    assert grey_levels(images, drawn(mixed, 35, 7)) <= 1


def test_bad_arguments_raise(packages: Path, as_medigan_does: Medigan) -> None:
    results = as_medigan_does(
        packages,
        "mcgan_discs",
        {"num_samples": -1},
        {"num_samples": 1, "condition": 2},
        {"num_samples": 2, "vector": [[1.0] * 15] * 2},
        {"num_samples": 1, "vector": [[1.0] * 16], "z": [[1.0] * 16]},
    )
    errors = [words for _, words in results]
    assert {kind for kind, _ in errors} == {"ValueError"}
    for (_, message), words in zip(
        errors, ("0 or more", "0 malignant, 1 benign", "(2, 16, 1, 1)", "give one"), strict=True
    ):
        assert words in message


def test_the_package_holds_what_a_release_would(
    packages: Path, run: Path, discs_as_real: Path
) -> None:
    package = packages / "mcgan_discs"
    assert {path.name for path in packages.iterdir()} >= {"mcgan_discs"}
    assert {path.name for path in package.iterdir()} - {"__pycache__"} == {
        *("__init__.py", "weights.pt", "LICENSE", "requirements.txt", "metadata.json"),
        *("card.md", "privacy.json", "network"),
    }
    network = {path.name for path in (package / "network").iterdir()} - {"__pycache__"}
    assert network == {path.name for path in NETWORK.glob("*.py")}
    folders = [str(path).encode() for path in (run, run.parent, discs_as_real.parent, packages)]
    for path in package.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert not [folder for folder in folders if folder in path.read_bytes()], path.name
    licence = (package / "LICENSE").read_text()
    assert licence.startswith("The weights in this folder: CC-BY-3.0.")
    assert "Apache License" in licence
    for path in package.rglob("*.py"):
        assert "print(" not in path.read_text(), path.name
    content = torch.load(package / "weights.pt", weights_only=True)
    assert set(content) == {"weights", "arguments", "prior", "words"}
    generator = load_generator(run, torch.device("cpu"))
    assert set(content["weights"]) == set(generator.state_dict())  # never the discriminator


def test_the_metadata_says_how_to_run_it_and_what_is_promised(packages: Path, run: Path) -> None:
    ((model_id, entry),) = read_json(packages / "mcgan_discs" / "metadata.json").items()
    assert model_id == "00000_MCGAN-DISCS"
    execution, selection = entry["execution"], entry["selection"]
    assert execution["package_name"] == "mcgan_discs"
    assert (execution["model_name"], execution["extension"]) == ("weights", ".pt")
    assert execution["image_size"] == [32, 32]
    method = execution["generate_method"]
    assert method["name"] == "generate"
    assert method["args"]["base"] == ["model_file", "num_samples", "output_path", "save_images"]
    assert method["args"]["custom"] == {"condition": None, "z": None, "seed": None}
    assert method["input_latent_vector_size"] == 16
    assert selection["privacy_preservation"] == {
        "epsilon": "inf",
        "delta": 1e-4,
        "unit": "patient",
        "neighbours": "add or remove one patient",
    }
    assert selection["license"] == "CC-BY-3.0"
    assert selection["performance"] is None  # nothing was measured
    assert read_statement(run).lineage.releases[0].id in entry["description"]["comment"]


def test_a_run_is_released_first_and_a_package_is_kept_or_refused(
    packages: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="--release RUN OUT"):
        run_export(ExportSettings(run=run, out=tmp_path / "out"))
    metadata = packages / "mcgan_discs" / "metadata.json"
    written = metadata.stat().st_mtime_ns
    command = ["export", str(run), str(packages), UNPROTECTED]
    assert main([*command, "--licence", "CC-BY-3.0"]) == EXIT_DONE
    assert metadata.stat().st_mtime_ns == written
    assert main([*command, "--licence", "MIT"]) == EXIT_BAD_INPUT
    assert "holds another package" in capsys.readouterr().err
    understated = Path(shutil.copytree(run, tmp_path / "understated"))
    promised = read_statement(run).model_dump(mode="json")
    (understated / "privacy.json").write_text(json.dumps({**promised, "epsilon": 1.0}))
    assert main(["export", str(understated), str(tmp_path / "out")]) == EXIT_BAD_INPUT
    assert "promises more than what was spent" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["export", str(run), str(tmp_path / "dry"), "--dry-run", UNPROTECTED]) == EXIT_DONE
    assert "epsilon = inf" in capsys.readouterr().out
    assert not (tmp_path / "dry").exists()


def test_a_package_that_promises_nothing_is_asked_for_by_name(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), str(tmp_path / "out")]) == EXIT_BAD_INPUT
    assert UNPROTECTED in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_attributes_are_drawn_from_the_prior(
    make_set: MakeSet, tiny_settings: TinySettings, tmp_path: Path, as_medigan_does: Medigan
) -> None:
    data = make_set(tmp_path / "discs")
    manifest = data / "manifest.csv"
    head, *rows = manifest.read_text().splitlines()
    views = ["CC", "MLO", ""]
    lines = [f"{row},{views[number % 3]}" for number, row in enumerate(rows)]
    manifest.write_text("\n".join([f"{head},view", *lines]) + "\n")
    settings = tiny_settings(data, tmp_path / "run", conditions=("view",), kimg=0.016)
    run = run_train_gan(settings)
    assert (
        main(["export", str(run), str(tmp_path / "out"), "--package-name", "views", UNPROTECTED])
        == EXIT_DONE
    )
    ((images, _),) = as_medigan_does(tmp_path / "out", "views", {"num_samples": 24, "seed": 4})
    made = open_dataset(
        run_generate(GenerateSettings(run=run, out=tmp_path / "set", per_class=12, seed=4))
    )
    assert len({row.attributes["view"] for row in made.rows}) == 3
    own = to_uint8(load_images(made, made.rows)[:, 0])
    assert grey_levels(images, own) <= 1
    condition = read_json(tmp_path / "out/views/metadata.json")["00000_VIEWS"]["selection"]
    assert condition["condition"] == ["malignant", "view"]


def test_a_dcgan_is_exported_as_well(
    discs: Path, tiny_settings: TinySettings, tmp_path: Path, as_medigan_does: Medigan
) -> None:
    settings = tiny_settings(
        discs, tmp_path / "run", arch="dcgan", loss="bce", channels=(16, 12, 8), kimg=0.016
    )
    run = run_train_gan(settings)
    assert main(["export", str(run), str(tmp_path / "out"), UNPROTECTED]) == EXIT_DONE
    ((images, _),) = as_medigan_does(tmp_path / "out", "mcgan_discs", {"num_samples": 6, "seed": 2})
    assert grey_levels(images, drawn(run, 6, 2)) <= 1
    content = torch.load(tmp_path / "out/mcgan_discs/weights.pt", weights_only=True)
    assert set(content["weights"]) == set(DcganGenerator((16, 12, 8), 16).state_dict())


def test_an_imported_checkpoint_leaves_as_a_package_that_promises_nothing(tmp_path: Path) -> None:
    network = DcganGenerator((16, 12, 8), 16)
    torch.save({"generator": network.state_dict()}, tmp_path / "seed.pt")
    settings = ImportGeneratorSettings(
        file=tmp_path / "seed.pt",
        out=tmp_path / "run",
        sha256=sha256_file(tmp_path / "seed.pt"),
        trained_on="cbis-ddsm",
    )
    run = run_import_generator(settings)
    assert main(["export", str(run), str(tmp_path / "out"), UNPROTECTED]) == EXIT_DONE
    package = tmp_path / "out" / "mcgan_cbis_ddsm"
    (entry,) = read_json(package / "metadata.json").values()
    assert entry["selection"]["privacy_preservation"]["epsilon"] == "inf"
    assert torch.load(package / "weights.pt", weights_only=True)["arguments"]["unit_range"] is True


def assessment(made: Dataset, **changes: Any) -> Assessment:
    """An assessment with a figure on train and one on held-out patients."""
    about: dict[str, Any] = {"features": "DINOv2", "comparison": "all", "better": "low"}
    value = {"n": (10, 12), "value": 44.5}
    held_out = {"n": (10, 3), "value": 0.66, "split": "all, tested on val", "ci_low": 0.6}
    facts = {"kind": "phantom", "size_px": 32, "images": 12, "used": 12, "duplicates": 0}
    one = AssessedSet(name="discs", label_conflicts=0, **facts)
    figures = (
        Figure(
            section="Distance",
            measure="FD-DINOv2",
            main=True,
            synthetic=Value(split="train", **value),
            **about,
        ),
        Figure(
            section="Labels",
            measure="Train on it",
            main=True,
            synthetic=Value(**held_out),
            real=Value(**{**held_out, "split": "train, tested on val"}),
            **about,
        ),
        Figure(section="Labels", measure="minor", synthetic=Value(**held_out), **about),
    )
    space = FeatureFacts(label="DINOv2", network="v", size_px=224, precision="x", weights="y")
    values: dict[str, Any] = {"promise": "none", "findings": (), "info": made.info}
    values |= {"synthetic": one, "real": one, "features": (space,), "figures": figures}
    return Assessment(**{**values, **changes})


def test_figures_on_trained_patients_leave_only_without_a_promise(
    run: Path, tmp_path: Path
) -> None:
    made = open_dataset(run_generate(GenerateSettings(run=run, out=tmp_path / "set", per_class=1)))
    figures = performance(assessment(made), read_statement(run))
    assert set(figures) == {"FD-DINOv2", "Train on it"}
    assert figures["FD-DINOv2"]["DINOv2"]["synthetic"]["value"] == 44.5
    assert figures["Train on it"]["DINOv2"]["real"]["split"] == "train, tested on val"
    release = Release(stage="train-gan", data="discs", mu=0.5)
    private = make_statement(Lineage(releases=(release,)), subject="generator")
    assert math.isfinite(private.epsilon)
    info = made.info.model_copy(update={"lineage": private.lineage})
    kept = performance(assessment(made, info=info), private)
    assert set(kept) == {"Train on it"}
    assert set(kept["Train on it"]["DINOv2"]) == {"comparison", "synthetic"}
    with pytest.raises(InputError, match="other releases"):
        performance(assessment(made), private)


def test_an_assessment_stands_in_the_metadata(run: Path, tmp_path: Path) -> None:
    made = open_dataset(run_generate(GenerateSettings(run=run, out=tmp_path / "set", per_class=1)))
    folder = tmp_path / "assessment"
    folder.mkdir()
    (folder / "quality.json").write_text(assessment(made).model_dump_json())
    command = ["export", str(run), str(tmp_path / "out"), UNPROTECTED, "--quality", str(folder)]
    assert main(command) == EXIT_DONE
    (entry,) = read_json(tmp_path / "out" / "mcgan_discs" / "metadata.json").values()
    assert entry["selection"]["performance"]["FD-DINOv2"]["DINOv2"]["synthetic"]["n"] == [10, 12]
    package = tmp_path / "out" / "mcgan_discs"
    told = "exact figures of the patients of discs, and how many images they are of"
    assert told in read_json(package / "privacy.json")["not_covered"][-1]
    assert told in (package / "card.md").read_text()
    assert told not in (run / "card.md").read_text()


def test_the_card_of_a_package_tells_of_the_package_and_its_code_runs(
    packages: Path, elsewhere: Elsewhere
) -> None:
    package = packages / "mcgan_discs"
    text = (package / "card.md").read_text()
    for gone in ("synthdp generate", "run_stage", "--check", "release.json", "safetensors"):
        assert gone not in text
    assert "Privacy of this generator" in text
    assert "- the weights: CC-BY-3.0" in text
    files = re.findall(r"^- ([\w.]+): ", text.partition("## Files")[2], flags=re.MULTILINE)
    there = {path.name for path in package.iterdir()}
    assert {*files} == there - {"__init__.py", "__pycache__"}
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    code = 'import sys; sys.path.insert(0, "")\n' + code
    assert elsewhere(code, packages, []).startswith("4 images of shape (32, 32)")


def test_the_networks_need_torch_and_numpy_alone_and_import_each_other_relatively() -> None:
    allowed = {"torch", "numpy", *sys.stdlib_module_names}
    for path in NETWORK.glob("*.py"):
        extra = {"PIL"} if path.name == "medigan.py" else set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {name.name.split(".")[0] for name in node.names} <= allowed, path.name
            elif isinstance(node, ast.ImportFrom):
                root = str(node.module).split(".")[0]
                assert node.level == 1 or root in allowed | extra, path.name


def test_a_package_writes_pixels_as_synthdp_does() -> None:
    images = np.linspace(-1.5, 1.5, 100_001, dtype=np.float32)
    assert np.array_equal(as_pixels(images), to_uint8(images))
