import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from pytorch_fid import inception

from gan.assess import run_assess
from gan.quality import page
from gan.quality.figures import CONDITION
from gan.quality.scorecard import answered_criteria
from gan.settings.assess import AssessSettings
from synthdp.cli import main
from synthdp.data.dataset import Dataset, load_images, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.images import to_uint8
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.evaluation.assessment import Assessment, Figure, read_assessment
from synthdp.storage.files import sha256_file

TINY = {"label": "Tiny", "name": "test_vit", "weights": None, "size_px": 32}
Images = list[tuple[np.ndarray, float]]


def write_set(out: Path, images: Images, *, size_px: int = 32, **info: object) -> Path:
    """A synthetic set of these images (S, S) uint8 with their labels."""
    about = DatasetInfo(**{"name": out.name, "kind": "synthetic", "size_px": size_px, **info})
    with create_dataset(out, about) as writer:
        for number, (pixels, label) in enumerate(images):
            patient = f"synthetic-{number}"
            writer.add(pixels, patient_id=patient, split="train", targets=[label])
    return out


def images_of(dataset: Dataset, split: str = "all") -> Images:
    rows = dataset.split(split)
    pixels = to_uint8(load_images(dataset, rows)[:, 0])
    return [(image, row.targets[0]) for image, row in zip(pixels, rows, strict=True)]


def settings_of(synthetic: Path, real: Path, out: Path, **changes: object) -> AssessSettings:
    about = {"features": [TINY], "redraws": 100, "neighbours": 3, **changes}
    return AssessSettings(synthetic=synthetic, real=real, out=out, **about)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms that stand for patients, fresh phantoms, and these with three copies of patients."""
    house = tmp_path_factory.mktemp("house")
    about = {"size_px": 32, "val_fraction": 0.3, "test_fraction": 0.0}
    real = run_phantoms(
        PhantomSettings(out=house / "real", patients=60, name="clinic", as_real=True, **about)
    )
    drawn = run_phantoms(PhantomSettings(out=house / "drawn", patients=30, seed=7, **about))
    fresh = images_of(open_dataset(drawn))
    patients = images_of(open_dataset(real), "train")
    copy, mirrored, turned = (patients[place] for place in (2, 20, 40))
    noise = np.random.default_rng(0).integers(-2, 3, (32, 32))
    planted = [
        copy,
        (mirrored[0][:, ::-1], mirrored[1]),
        (np.clip(np.rot90(turned[0]).astype(int) + noise, 0, 255).astype(np.uint8), turned[1]),
    ]
    write_set(house / "fresh", fresh)
    write_set(house / "planted", [*planted, *fresh])
    return house


@pytest.fixture
def without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the curves out of the page, which take half the time of an assessment so small."""
    monkeypatch.setattr(page, "_draw_spectra", lambda sets: "")


@pytest.fixture(scope="module")
def out(house: Path) -> Path:
    """The planted set, judged beside the fresh one."""
    return run_assess(
        settings_of(house / "planted", house / "real", house / "out", baseline=house / "fresh")
    )


def figure(found: Assessment, start: str, *, comparison: str = "") -> Figure:
    return next(
        f for f in found.figures if f.measure.startswith(start) and comparison in f.comparison
    )


def test_planted_copies_are_found_and_fresh_images_are_not(out: Path) -> None:
    found = read_assessment(out)
    copies = figure(found, "Near copies")
    assert copies.baseline is not None
    assert copies.real is not None
    assert (copies.synthetic.value, copies.baseline.value, copies.real.value) == (3, 0, 0)
    assert any("3 of" in words and "Don't release" in words for words in found.findings)
    assert "without weights starts at random and sees little" in found.findings[0]
    with open(out / "private" / "nearest.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["near_copy"] for row in rows[:4]] == ["1", "1", "1", "0"]
    assert rows[1]["pixels_copy"] == "4"  # mirrored
    train = [row.image for row in open_dataset(out.parent / "real").split("train")]
    assert [row["pixels_image"] for row in rows[:3]] == [train[2], train[20], train[40]]
    assert (out / "private" / "closest_pairs.png").is_file()
    assert (out / "private").stat().st_mode & 0o077 == 0


def test_what_images_show_of_their_view_is_measured_beside_one_target(
    house: Path, tmp_path: Path, without_drawing: None
) -> None:
    """Of a set whose images have columns that the real one has."""
    found = read_assessment(run_assess(settings_of(house / "drawn", house / "real", tmp_path)))
    view = figure(found, f"{CONDITION}, view CC")
    assert view.real is not None
    assert view.synthetic.value is not None
    assert view.synthetic.n[0] == len(open_dataset(house / "drawn").rows)
    asked = {one.measure for one in found.figures if "breast_density" in one.measure}
    assert {f"{CONDITION}, breast_density {level}" for level in "123"} <= asked


def test_every_figure_says_n_features_and_split_and_has_a_real_one_of_its_n(out: Path) -> None:
    found = read_assessment(out)
    assert {f.section for f in found.figures} == {
        *("Distance", "Coverage", "Detector", "Labels", "Groups", "Spectrum"),
        *("Memorisation", "Membership", "Disclosure"),
    }
    for each in found.figures:
        assert each.features
        for value in (each.synthetic, each.baseline, each.real):
            assert value is None or (min(value.n) > 0 and value.split)
    for each in found.figures:
        if each.comparison.startswith("as many as"):
            assert each.real is not None
            assert each.real.n == each.synthetic.n
    whole = figure(found, "FD-Tiny", comparison="all images").synthetic
    assert whole.n == (found.synthetic.used, found.real.used)
    trained = figure(found, "Train on it")
    assert trained.real is not None
    assert trained.real.n[1] == trained.synthetic.n[1] == found.held_out.used
    assert trained.synthetic.ci_low < trained.synthetic.value < trained.synthetic.ci_high


def test_figures_say_that_they_stand_outside_the_promise(out: Path) -> None:
    text = (out / "quality.json").read_text()
    assert "exact functions of the patients of clinic" in json.loads(text)["promise"]
    patients = {row.patient_id for row in open_dataset(out.parent / "real").rows}
    for name in ("quality.json", "quality.html", "config.yaml"):
        written = (out / name).read_text()
        assert not any(patient in written for patient in patients)
    for name in ("quality.json", "quality.html"):
        assert str(out.parent) not in (out / name).read_text()


def test_page_is_one_file_of_synthetic_patches_alone(out: Path) -> None:
    html = (out / "quality.html").read_text()
    assert "<script" not in html
    assert set(re.findall(r"https?://[^\s\"']+", html)) <= {
        *("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")
    }
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)', html))
    assert html.count("<img") == 16
    assert "FD-Tiny" in html
    assert "Power spectrum" in html
    assert "FID" not in html  # its network was not given


def test_the_page_says_which_figure_answers_which_question(out: Path) -> None:
    """Each measure that a criterion names is there, but those that ask for more settings."""
    elsewhere = {"FID", "KID", "Condition fidelity", "Utility by sub-group"}
    for answer in answered_criteria(read_assessment(out)):
        expected = [name for name in answer.criterion.measures if name not in elsewhere]
        found = [figure.measure for figure in answer.figures]
        assert [any(one.startswith(name) for one in found) for name in expected] == [True] * len(
            expected
        ), answer.criterion.name
    html = (out / "quality.html").read_text()
    assert "Which figure answers which question" in html
    assert "Comprehension" in html


def test_kernel_distance_has_an_interval_and_supports_their_reference(out: Path) -> None:
    found = read_assessment(out)
    kernel = figure(found, "KD-Tiny", comparison="as many as half")
    for value in (kernel.synthetic, kernel.baseline, kernel.real):
        assert value.ci_low < value.value < value.ci_high
    for start in ("Alpha-precision", "Beta-recall, k = 3", "FRD"):
        supports = figure(found, start, comparison="as many as val")
        assert supports.real is not None
        assert supports.real.n == supports.synthetic.n
    copied = figure(found, "Authenticity over images", comparison="equal")
    assert copied.section == "Memorisation"


def test_same_settings_return_at_once_and_others_are_refused(out: Path, house: Path) -> None:
    written = (out / "quality.json").stat().st_mtime_ns
    settings = settings_of(house / "planted", house / "real", out, baseline=house / "fresh")
    assert run_assess(settings) == out
    assert (out / "quality.json").stat().st_mtime_ns == written
    with pytest.raises(InputError, match="other settings"):
        run_assess(settings.model_copy(update={"seed": 1}))
    with pytest.raises(InputError, match="exists already"):
        run_assess(settings.model_copy(update={"out": house / "fresh"}))


def test_an_assessment_of_an_older_version_stands(out: Path, house: Path) -> None:
    """Whose settings do not know the radiomics yet."""
    config, written = out / "config.yaml", (out / "config.yaml").read_text()
    assert "\nradiomics_n: 1104\n" in written
    settings = settings_of(house / "planted", house / "real", out, baseline=house / "fresh")
    config.write_text(written.replace("radiomics_n: 1104\n", ""))
    try:
        assert run_assess(settings) == out
    finally:
        config.write_text(written)


def test_an_assessment_that_knew_no_groups_is_still_the_same_one(out: Path, house: Path) -> None:
    config = out / "config.yaml"
    written = config.read_text()
    assert "attributes: null\n" in written
    config.write_text(written.replace("attributes: null\n", ""))
    settings = settings_of(house / "planted", house / "real", out, baseline=house / "fresh")
    assert run_assess(settings) == out
    config.write_text(written)
    figures = json.loads((out / "quality.json").read_text())
    kept = [one for one in figures["figures"] if one["section"] not in ("Groups", "Disclosure")]
    old = Assessment.model_validate_json(json.dumps({**figures, "figures": kept}))
    assert len(old.figures) == len(kept)


def test_the_same_command_gives_the_same_figures(out: Path, house: Path, tmp_path: Path) -> None:
    again = run_assess(
        settings_of(house / "planted", house / "real", tmp_path / "again", baseline=house / "fresh")
    )
    assert (again / "quality.json").read_text() == (out / "quality.json").read_text()


@pytest.mark.usefixtures("without_drawing")
def test_a_closer_set_has_better_figures(house: Path, tmp_path: Path) -> None:
    """Fresh phantoms beside the same ones striped, shrunk in variety, and mislabelled."""
    fresh = images_of(open_dataset(house / "fresh"))
    stripes = (20 * (np.arange(32) % 4 < 2)).astype(np.uint8)[:, None]
    poor = [(image // 2 + stripes, 1 - label) for image, label in fresh[:8] for _ in range(4)]
    settings = settings_of(
        write_set(tmp_path / "poor", poor), house / "real", tmp_path / "out",
        baseline=house / "fresh",
    )  # fmt: skip
    found = read_assessment(run_assess(settings))
    for start, comparison, sign in (
        ("FD-Tiny", "as many as half", 1),
        ("KD-Tiny", "as many as half", 1),
        ("Recall", "equal", -1),
        ("Coverage", "equal", -1),
        ("Real-versus-synthetic", "equal", 1),
        ("Log10 power", "all", 1),
    ):
        each = figure(found, start, comparison=comparison)
        assert sign * (each.synthetic.value - each.baseline.value) > 0, each
    assert figure(found, "Log10 power").synthetic.value > 1
    assert "8 to 12 vertical cycles" in found.findings[-1]  # a period of 4 px
    # shown four times each, in 32 images of 8 pictures
    assert (found.synthetic.duplicates, found.synthetic.label_conflicts) == (24, 0)


def test_ten_images_of_one_class_and_another_size_still_have_figures(
    house: Path, tmp_path: Path
) -> None:
    fresh = images_of(open_dataset(house / "fresh"))
    few = [(image[::2, ::2], 1.0) for image, _ in fresh[:9]]
    few.append(few[0])
    synthetic = write_set(tmp_path / "few", few, size_px=16)
    found = read_assessment(run_assess(settings_of(synthetic, house / "real", tmp_path / "out")))
    assert found.synthetic.duplicates == 1
    assert figure(found, "FD-Tiny").synthetic.value > 0
    assert figure(found, "Recall").synthetic.n == (10, 10)
    for start in ("Train on it", "Label fidelity"):
        value = figure(found, start).synthetic
        assert value.value is None
        assert "one class" in value.why
    assert "one class" in (tmp_path / "out" / "quality.html").read_text()


@pytest.mark.usefixtures("without_drawing")
def test_images_of_mixed_size_are_read_at_the_size_of_their_set(
    house: Path, tmp_path: Path
) -> None:
    fresh = images_of(open_dataset(house / "fresh"))
    mixed = [
        (np.kron(image, np.ones((2, 2), np.uint8)) if number % 2 else image, label)
        for number, (image, label) in enumerate(fresh)
    ]
    synthetic = write_set(tmp_path / "mixed", mixed)
    found = read_assessment(run_assess(settings_of(synthetic, house / "real", tmp_path / "out")))
    assert figure(found, "Recall").synthetic.value > 0.5


@pytest.mark.usefixtures("without_drawing")
def test_without_val_the_rest_is_still_measured(house: Path, tmp_path: Path) -> None:
    real = run_phantoms(
        PhantomSettings(
            out=tmp_path / "real", patients=20, size_px=32, val_fraction=0, test_fraction=0
        )
    )
    found = read_assessment(run_assess(settings_of(house / "fresh", real, tmp_path / "out")))
    assert found.held_out is None
    assert figure(found, "FD-Tiny").synthetic.value > 0
    assert figure(found, "Near copies").synthetic.value == 0
    for start in ("Train on it", "Membership attack"):
        assert figure(found, start).synthetic.why == "the real set has no val"
    assert "holds no patients" in found.promise
    assert "nothing is known of membership" in " ".join(found.findings)


@pytest.mark.usefixtures("without_drawing")
def test_equal_images_with_both_labels_are_counted(house: Path, tmp_path: Path) -> None:
    fresh = images_of(open_dataset(house / "fresh"))
    twice = [*fresh, (fresh[0][0], 1 - fresh[0][1]), fresh[1]]
    synthetic = write_set(tmp_path / "twice", twice)
    found = read_assessment(run_assess(settings_of(synthetic, house / "real", tmp_path / "out")))
    assert (found.synthetic.duplicates, found.synthetic.label_conflicts) == (2, 1)


@pytest.mark.usefixtures("without_drawing")
def test_a_large_set_is_thinned_evenly_and_says_so(house: Path, tmp_path: Path) -> None:
    settings = settings_of(house / "fresh", house / "real", tmp_path / "out", max_images=12)
    found = read_assessment(run_assess(settings))
    assert (found.synthetic.images > 12, found.synthetic.used) == (True, 12)
    assert figure(found, "FD-Tiny", comparison="all").synthetic.n[0] == 12


@pytest.mark.usefixtures("without_drawing")
def test_fid_is_computed_with_the_checked_inception_file_alone(house: Path, tmp_path: Path) -> None:
    fresh = images_of(open_dataset(house / "fresh"))
    synthetic = write_set(tmp_path / "synthetic", fresh[:3])
    real = write_set(tmp_path / "real", fresh[:3], kind="phantom")
    weights = tmp_path / "inception.pth"
    torch.save(random_inception(), weights)
    about = {"weights": weights, "sha256": sha256_file(weights)}
    settings = settings_of(synthetic, real, tmp_path / "out", inception=about)
    found = read_assessment(run_assess(settings))
    assert figure(found, "FID").features == "Inception"
    assert figure(found, "FID").synthetic.value == pytest.approx(0, abs=1e-3)  # the same images
    torch.save({"weight": torch.zeros(2)}, weights)
    for changes, message in (
        (about, "the file's SHA-256 is"),
        ({**about, "sha256": sha256_file(weights)}, "not the weights of pytorch-fid"),
        ({**about, "weights": tmp_path / "none.pth"}, "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            run_assess(settings_of(synthetic, real, tmp_path / "x", inception=changes))
    assert not (tmp_path / "x").exists()


def random_inception() -> dict[str, torch.Tensor]:
    """Weights that fit pytorch-fid's network, as its own builder makes it before loading."""
    network = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    for name, width in (("Mixed_5b", 192), ("Mixed_5c", 256), ("Mixed_5d", 288)):
        pooled = 32 if name == "Mixed_5b" else 64
        setattr(network, name, inception.FIDInceptionA(width, pool_features=pooled))
    for name, width in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
        block = inception.FIDInceptionC(768, channels_7x7=width)
        setattr(network, f"Mixed_6{name}", block)
    network.Mixed_7b = inception.FIDInceptionE_1(1280)
    network.Mixed_7c = inception.FIDInceptionE_2(2048)
    return network.state_dict()


def test_bad_input_is_refused_before_anything_is_written(house: Path, tmp_path: Path) -> None:
    images = images_of(open_dataset(house / "fresh"))[:4]
    other = write_set(tmp_path / "other", images, targets=("cancer",))
    real = house / "real"
    for synthetic, against, changes, message in (
        (real, real, {}, "holds patients' images"),
        (house / "fresh", house / "planted", {}, "is a synthetic set"),
        (other, real, {}, "its target is cancer"),
        (house / "fresh", real, {"compare_n": 4000}, "4000 images of each set"),
        (tmp_path / "none", real, {}, "not a data-set folder"),
    ):
        with pytest.raises(InputError, match=message):
            run_assess(settings_of(synthetic, against, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_too_few_patients_are_refused(house: Path, tmp_path: Path) -> None:
    info = DatasetInfo(name="one", kind="real", size_px=32)
    with create_dataset(tmp_path / "one", info) as writer:
        for image, label in images_of(open_dataset(house / "fresh"))[:12]:
            writer.add(image, patient_id="secret", split="train", targets=[label])
    with pytest.raises(InputError, match="fewer than three patients") as caught:
        run_assess(settings_of(house / "fresh", tmp_path / "one", tmp_path / "out"))
    assert "secret" not in str(caught.value)


def test_spaces_are_named_and_named_apart(tmp_path: Path) -> None:
    for spaces, message in (
        ([], "name at least one frozen network"),
        ([TINY, {**TINY, "label": "tiny"}], "the same label"),
        ([{**TINY, "label": "Inception"}], "label is taken"),
        ([{**TINY, "label": "../x"}], "pattern"),
    ):
        with pytest.raises(ValidationError, match=message):
            settings_of(tmp_path, tmp_path, tmp_path, features=spaces)


def test_command_line_takes_the_sets_and_a_config(
    house: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "assess.yaml"
    config.write_text("features: [{label: Tiny, name: test_vit, weights: none, size_px: 32}]\n")
    sets = [str(house / "fresh"), str(config), "--real", str(house / "real")]
    out = tmp_path / "out"
    command = ["assess", *sets, "--out", str(out), "redraws=100"]
    assert main([*command, "--dry-run"]) == 0
    assert not out.exists()
    assert main(command) == 0
    assert read_assessment(out).real.name == "clinic"
    assert main([*command, "seed=1"]) == 2
    assert "other settings" in capsys.readouterr().err
