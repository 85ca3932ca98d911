"""A generator of several findings, from a set to what is learned on its images."""

import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan.assess import run_assess
from gan.export import run_export
from gan.generate import run_generate
from gan.library.exported import run_export_model
from gan.library.generator import Generator
from gan.mix import run_mix_generators
from gan.package.conditions import Combination, Conditions
from gan.package.description import read_description
from gan.plans.published import read_published
from gan.plans.train import plan_train_gan
from gan.settings.assess import AssessSettings
from gan.settings.finished import ExportSettings, GenerateSettings, MixGeneratorsSettings
from gan.settings.parts import FindingsTable
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training import loop
from gan.training.examples import load_examples
from synthdp.cli import EXIT_DONE, main
from synthdp.config.settings import load_settings
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.evaluation.assessment import read_assessment
from synthdp.networks.exported.settings import ExportModelSettings
from synthdp.runs.drawn_size import size_setting
from synthdp.storage.files import read_json, write_json

TARGETS = ("bright", "disc", "stripe")
TinySettings = Callable[..., TrainGanSettings]


def findings_at(out: Path, *, seed: int = 0, targets: tuple[str, ...] = TARGETS) -> Path:
    """Images with any of three findings, each drawn apart; one in ten labels is unknown."""
    rng = np.random.default_rng(seed)
    info = DatasetInfo(name="findings", kind="phantom", size_px=32, targets=targets)
    rows, columns = np.mgrid[:32, :32] - 15.5
    with create_dataset(out, info) as writer:
        for number in range(60):
            has = rng.random(3) < 0.4
            grey = 60 + 60 * has[0] + 60 * has[1] * (np.hypot(rows, columns) < 7)
            grey = grey + 60 * has[2] * (np.abs(rows + 10) < 2) + rng.normal(0, 4, (32, 32))
            labels = [float(one) if rng.random() < 0.9 else np.nan for one in has]
            writer.add(
                np.clip(grey, 0, 255).astype(np.uint8),
                patient_id=f"p{number}",
                split="val" if number % 4 == 0 else "train",
                targets=labels[: len(targets)],
                attributes={"view": "AP" if number % 3 else "PA"},
            )
    return out


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return findings_at(tmp_path_factory.mktemp("several") / "set")


@pytest.fixture(scope="module")
def run(
    findings: Path, tiny_settings: TinySettings, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    guidance = {"features": {"name": "test_efficientnet", "size_px": 32}, "ramp": (0.0, 0.1)}
    settings = tiny_settings(
        findings,
        tmp_path_factory.mktemp("run") / "gan",
        conditions=("view",),
        guidance={**guidance, "interval": 2},
        class_spread=1.5,
        style_spread=1.1,
    )
    return run_train_gan(settings)


@pytest.fixture(scope="module")
def synthetic(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "set"
    return run_generate(GenerateSettings(run=run, out=out, total=40, batch=16))


def test_a_run_says_which_findings_it_knows(run: Path) -> None:
    description = read_description(run)
    assert (description.target, description.targets) == ("", TARGETS)
    assert "target" not in read_json(run / "model" / "settings.json")
    assert "each of 3 findings (bright, disc, stripe)" in (run / "card.md").read_text()
    assert size_setting(run) == "total"


def test_a_set_has_all_findings_of_its_images_as_they_stand_in_the_train_split(
    findings: Path, synthetic: Path
) -> None:
    made, real = open_dataset(synthetic), open_dataset(findings)
    assert made.info.targets == TARGETS
    assert len(made.rows) == 40

    def shown(rows: Any) -> set[tuple[str, ...]]:
        return {(*map(str, row.targets), row.attributes["view"]) for row in rows}

    assert shown(made.rows) <= shown(real.split("train"))
    assert len(shown(made.rows)) > 5


def test_shares_are_drawn_each_apart(run: Path, tmp_path: Path) -> None:
    shares = {"bright": 1.0, "disc": 0.0, "stripe": 0.5}
    out = tmp_path / "set"
    made = open_dataset(run_generate(GenerateSettings(run=run, out=out, total=60, findings=shares)))
    labels = np.array([row.targets for row in made.rows])
    assert (labels[:, 0] == 1).all()
    assert (labels[:, 1] == 0).all()
    assert 15 < labels[:, 2].sum() < 45
    assert {row.attributes["view"] for row in made.rows} == {"AP", "PA"}
    assert "bright 1, disc 0, stripe 0.5" in made.info.description


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"per_class": 3}, r"3 findings \(bright, disc, stripe\).*set total"),
        ({"total": 4, "malignant_share": 0.5}, "set total"),
        ({"total": 4, "findings": {"bright": 0.5}}, "findings: disc, stripe: give a share"),
        ({"total": 4, "findings": dict.fromkeys((*TARGETS, "x"), 0.5)}, "findings: x: give"),
    ],
)
def test_other_ways_to_ask_for_classes_are_refused(
    run: Path, tmp_path: Path, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        run_generate(GenerateSettings(run=run, out=tmp_path / "set", **asked))
    assert not (tmp_path / "set").exists()


def test_findings_are_no_setting_of_one_target(
    discs: Path, finished_run: Callable[[Path], Path], tiny_settings: TinySettings, tmp_path: Path
) -> None:
    one = finished_run(discs)
    with pytest.raises(InputError, match="knows one target; set malignant_share"):
        run_generate(
            GenerateSettings(run=one, out=tmp_path / "set", total=4, findings={"malignant": 0.5})
        )
    with pytest.raises(InputError, match="findings: the generator knows one target, malignant"):
        plan_train_gan(tiny_settings(discs, tmp_path / "run", findings={"malignant": 0.5}))
    assert size_setting(one) == "per_class"
    with pytest.raises(InputError, match="see malignant"):
        Generator.load(one).sample(2, findings={"malignant": 1})


def table_of(path: Path, lines: list[str]) -> dict[str, Any]:
    path.write_text("\n".join(lines) + "\n")
    return {"table": path, "table_is_public": True}


def test_a_public_table_s_findings_are_drawn_as_they_stand_together(
    run: Path, tmp_path: Path
) -> None:
    rows = [*["1,1,0,AP"] * 3, "0,0,1,PA", "0,0,0,LATERAL"]
    table = table_of(tmp_path / "public.csv", ["bright,disc,stripe,view", *rows])
    settings = GenerateSettings(run=run, out=tmp_path / "set", total=60, findings_table=table)
    made = open_dataset(run_generate(settings))
    seen = [(*row.targets, row.attributes["view"]) for row in made.rows]
    assert set(seen) == {(1, 1, 0, "AP"), (0, 0, 1, "PA")}  # no lateral view is known
    assert 35 < sum(one[0] for one in seen) < 55
    assert "the public table public (sha256" in made.info.description
    assert "public, whose patients are not protected" in (tmp_path / "set/README.md").read_text()
    assert made.info.lineage.public == ("public",)
    assert run_generate(settings) == settings.out  # known again
    without_view = table_of(tmp_path / "two.csv", ["stripe,bright,disc", "1,0,"])
    others = GenerateSettings(run=run, out=tmp_path / "two", total=30, findings_table=without_view)
    made = open_dataset(run_generate(others))
    assert {row.targets[:1] + row.targets[2:] for row in made.rows} == {(0, 1)}
    assert {row.attributes["view"] for row in made.rows} == {"AP", "PA"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["bright,disc", "1,0"], "says nothing of stripe .it has: bright, disc"),
        (["bright,disc,stripe", "1,0,maybe"], "row 2: stripe is none of 1, 0, -1 or empty"),
        (["bright,disc,stripe"], "public.csv: "),
        (["bright,disc,stripe,view", "1,0,1,LATERAL"], "no row of public has a level of view"),
    ],
)
def test_a_table_that_can_t_be_drawn_by_is_refused(
    run: Path, tmp_path: Path, lines: list[str], words: str
) -> None:
    table = table_of(tmp_path / "public.csv", lines)
    with pytest.raises(InputError, match=words):
        run_generate(GenerateSettings(run=run, out=tmp_path / "set", total=4, findings_table=table))
    assert not (tmp_path / "set").exists()


@pytest.mark.slow
def test_nih_s_own_table_is_one() -> None:
    """The shares of three findings in its 112,120 radiographs, and two of them together."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    data = Path(os.environ.get("SYNTHDP_DATA", beside))
    path = data / "nih-labels" / "Data_Entry_2017_v2020.csv.gz"
    if not path.is_file():
        pytest.skip("no NIH labels here")
    asked = FindingsTable(table=path, table_is_public=True, collection="nih-cxr14")
    names = ("atelectasis", "effusion", "infiltration")
    known = Conditions(findings=names, blocks=((Combination(codes=(1, 1, 1), share=1),),))
    drawn = read_published(asked, names).drawn_by(known)
    assert [round(share, 3) for share in drawn.finding_shares] == [0.103, 0.119, 0.177]
    both = sum(one.share for one in drawn.blocks[0] if one.codes[:2] == (2, 2))
    assert both > 2 * 0.103 * 0.119  # together more often than by chance


def test_an_object_draws_the_findings_that_it_is_asked_for(run: Path) -> None:
    generator = Generator.load(run)
    drawn = generator.sample(
        6, findings={"disc": 1, "stripe": [0, 1, 0, 1, 0, 1]}, conditions={"view": "PA"}, seed=2
    )
    assert drawn.malignant[:, 1].tolist() == [1] * 6
    assert drawn.malignant[:, 2].tolist() == [0, 1, 0, 1, 0, 1]
    assert set(drawn.conditions["view"]) == {"PA"}
    assert len(np.unique(generator.sample(30).malignant[:, 0])) > 1
    with pytest.raises(InputError, match="name them in findings"):
        generator.sample(2, malignant=1)
    with pytest.raises(InputError, match="knows no 'edema'"):
        generator.sample(2, findings={"edema": 1})


def test_truncation_keeps_each_findings_own_mean(run: Path) -> None:
    generator = Generator.load(run)
    kept, other = (
        generator.sample(8, findings=dict.fromkeys(TARGETS, value), truncation=0.01).images
        for value in (0, 1)
    )
    assert np.abs(kept.mean(axis=0) - other.mean(axis=0)).max() > 1e-3


def test_a_package_draws_findings_and_refuses_a_class(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unimported: None
) -> None:
    about = ExportSettings(run=_released(run), out=tmp_path / "out", package_name="findings_gan")
    run_export(about)
    monkeypatch.syspath_prepend(str(tmp_path / "out"))
    package = import_module("findings_gan")
    call = {"model_file": tmp_path / "out" / "findings_gan" / "weights.pt", "output_path": "x"}
    pairs = package.generate(num_samples=12, save_images=False, seed=1, **call)
    words = {word for _, word in pairs}
    assert len(words) > 2
    assert all(set(word.split("+")) <= {*TARGETS, "none"} for word in words)
    with pytest.raises(ValueError, match="leave condition None"):
        package.generate(num_samples=2, save_images=False, condition=0, **call)


@pytest.fixture
def unimported() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith("findings_gan")]:
        del sys.modules[name]


def _released(run: Path) -> Path:
    """What of the run may leave; its card draws by what such a generator takes."""
    out = run.parent / "released"
    assert main(["privacy", "--release", str(run), str(out)]) == EXIT_DONE
    assert "--total 4" in (out / "README.md").read_text()
    return out


def test_one_file_draws_what_the_generator_draws(run: Path, tmp_path: Path) -> None:
    settings = ExportModelSettings(run=_released(run), out=tmp_path / "file", format="torch-export")
    folder = run_export_model(settings)
    assert any("bright, disc, stripe" in path.read_text() for path in folder.glob("*.json"))


def test_generators_of_the_same_findings_are_joined(run: Path, tmp_path: Path) -> None:
    joined = run_mix_generators(MixGeneratorsSettings(runs=(run, run), out=tmp_path / "mixed"))
    made = run_generate(GenerateSettings(run=joined, out=tmp_path / "set", total=6))
    assert open_dataset(made).info.targets == TARGETS


def test_an_assessment_has_figures_of_each_finding(
    findings: Path, synthetic: Path, tmp_path: Path
) -> None:
    tiny = {"label": "Tiny", "name": "test_vit", "weights": None, "size_px": 32}
    settings = AssessSettings(
        synthetic=synthetic,
        real=findings,
        out=tmp_path / "out",
        features=[tiny],
        redraws=100,
        neighbours=3,
    )
    assessment = read_assessment(run_assess(settings))
    measures = [one.measure for one in assessment.figures if one.section == "Labels"]
    assert [one.rpartition(", ")[2] for one in measures] == [
        *(name for name in TARGETS for _ in range(2)),
        "view AP",
    ]
    (shown,) = [one for one in assessment.figures if one.measure.startswith("Condition fidelity")]
    assert shown.synthetic.n == (40, 45)
    assert (shown.synthetic.value, shown.real is not None) != (None, False)
    assert any("mean AUROC" in one and "of 3 findings" in one for one in assessment.findings)


def test_a_set_that_knows_some_of_the_findings_is_assessed_on_these(
    findings: Path, tmp_path: Path, tiny_settings: TinySettings
) -> None:
    settings = tiny_settings(findings, tmp_path / "gan", targets=("stripe", "bright"))
    made = run_generate(
        GenerateSettings(run=run_train_gan(settings), out=tmp_path / "set", total=30)
    )
    assert open_dataset(made).info.targets == ("stripe", "bright")
    tiny = {"label": "Tiny", "name": "test_vit", "weights": None, "size_px": 32}
    out = run_assess(
        AssessSettings(
            synthetic=made, real=findings, out=tmp_path / "out", features=[tiny], redraws=100
        )
    )
    figures = read_assessment(out).figures
    assert {one.measure.rpartition(", ")[2] for one in figures if one.section == "Labels"} == {
        "stripe",
        "bright",
    }


def test_one_of_several_targets_is_learned_as_a_set_of_one_is(
    findings: Path, tmp_path: Path, tiny_settings: TinySettings
) -> None:
    """One target by name has two classes; a label that is unknown is refused as in a set of one."""
    with pytest.raises(InputError, match="no label in column 'disc'"):
        plan_train_gan(tiny_settings(findings, tmp_path / "run", targets=("disc",)))
    known = tmp_path / "known"
    with create_dataset(
        known, DatasetInfo(name="known", kind="phantom", size_px=32, targets=TARGETS)
    ) as writer:
        for number in range(8):
            writer.add(
                np.full((32, 32), 40 * (number % 4) + 20, dtype=np.uint8)
                + np.arange(32, dtype=np.uint8),
                patient_id=f"p{number}",
                split="train",
                targets=[0, number % 2, np.nan],
            )
    run = run_train_gan(tiny_settings(known, tmp_path / "run", targets=("disc",)))
    description = read_description(run)
    assert (description.target, description.shape.conditions.findings) == ("disc", ())
    examples = load_examples(open_dataset(known), open_dataset(known).rows, 32, None, {"disc": 1})
    assert examples.labels.tolist() == [0, 1] * 4


def test_bad_input_is_refused_by_name(
    findings: Path, tmp_path: Path, tiny_settings: TinySettings
) -> None:
    public = {"embedding": {"features": {"name": "test_vit"}, "public": findings}}
    promise = {"epsilon": 8, "delta": 1e-3, "population": 100}
    out = tmp_path / "run"
    for changes, told in (
        ({"targets": ("edema",)}, "has no target edema .it has: bright, disc, stripe"),
        ({"findings": {"bright": 0.2}}, "findings: disc, stripe: give a share"),
        (
            {"method": "embedding", "privacy": promise, **public},
            "findings: method: embedding draws",
        ),
        ({"arch": "dcgan", "channels": (16, 8, 8)}, "arch: dcgan knows one target, not 3"),
        ({"conditions": ("sex",)}, "no column 'sex'"),
    ):
        with pytest.raises(InputError, match=told):
            plan_train_gan(tiny_settings(findings, out, **changes))
    two = findings_at(tmp_path / "two", targets=TARGETS[:2])
    manifest = two / "manifest.csv"
    lines = manifest.read_text().splitlines()
    column = lines[0].split(",").index("disc")
    cells = [line.split(",") for line in lines[1:]]
    never = [",".join([*row[:column], "0", *row[column + 1 :]]) for row in cells]
    manifest.write_text("\n".join([lines[0], *never]) + "\n")
    with pytest.raises(InputError, match=r"disc = 1.*name the other findings in `targets`"):
        plan_train_gan(tiny_settings(two, out))


def test_a_start_from_other_findings_is_refused(
    run: Path, findings: Path, tmp_path: Path, tiny_settings: TinySettings
) -> None:
    about = {"init": run, "conditions": ("view",)}
    with pytest.raises(InputError, match="targets differ"):
        plan_train_gan(
            tiny_settings(findings, tmp_path / "run", targets=("disc", "bright"), **about)
        )
    assert plan_train_gan(tiny_settings(findings, tmp_path / "run", **about)).epsilon == 0


def test_public_shares_replace_what_stands_in_the_rows(
    findings: Path, tmp_path: Path, tiny_settings: TinySettings
) -> None:
    shares = {"bright": 0.25, "disc": 0.5, "stripe": 0.125}
    asked = {"findings": shares, "conditions": ("view",), "condition_prior": {"view": {"AP": 1}}}
    made = run_train_gan(tiny_settings(findings, tmp_path / "run", kimg=0.008, **asked))
    blocks = read_description(made).shape.conditions.tables
    assert blocks == [
        [([1], 0.75), ([2], 0.25)],
        [([1], 0.5), ([2], 0.5)],
        [([1], 0.875), ([2], 0.125)],
        [([1], 1.0)],
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"target": "disc"},
        {"conditions": {"findings": ["a", "b"], "blocks": []}},
        {"conditions": {"findings": ["a", "b"], "blocks": [[{"codes": [3, 0], "share": 1}]]}},
        {"conditions": {"findings": ["a", "b"], "blocks": [[{"codes": [1], "share": 1}]]}},
        {"conditions": {"findings": ["a", "b"], "blocks": [[{"codes": [1, 1], "share": 0}]]}},
    ],
)
def test_a_damaged_description_is_refused(
    run: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    content = read_json(run / "model" / "settings.json")
    (tmp_path / "model").mkdir()
    write_json(tmp_path / "model" / "settings.json", {**content, **change})
    with pytest.raises(InputError, match=r"target|blocks|restore"):
        read_description(tmp_path)


def test_the_shipped_settings_are_valid() -> None:
    path = Path(__file__).parents[2] / "configs" / "gan" / "chest.yaml"
    settings = load_settings(TrainGanSettings, path, [])
    assert settings.augmentation.symmetry == "none"
    assert len(settings.targets or ()) == 6


def test_a_stopped_training_goes_on_to_the_bit(
    findings: Path, tmp_path: Path, tiny_settings: TinySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    guidance = {"features": {"name": "test_efficientnet", "size_px": 32}, "ramp": (0.0, 0.1)}
    about = {"guidance": {**guidance, "interval": 1}, "checkpoint_kimg": 0.016, "kimg": 0.04}
    whole = run_train_gan(tiny_settings(findings, tmp_path / "whole", **about))
    settings, step, taken = tiny_settings(findings, tmp_path / "torn", **about), loop.train_step, []

    def killed(*arguments: Any) -> dict[str, torch.Tensor]:
        taken.append(1)
        if len(taken) == 4:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(loop, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        run_train_gan(settings)
    monkeypatch.setattr(loop, "train_step", step)
    weights = Path("model") / "generator.safetensors"
    assert (run_train_gan(settings) / weights).read_bytes() == (whole / weights).read_bytes()
