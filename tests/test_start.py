"""Commands that say something at once start without what takes long to import; so do plans."""

import json
import subprocess
import sys
from pathlib import Path

from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.stages import STAGES

ROOT = Path(__file__).parent.parent

#: Each takes from .2 to 2 s of CPU.
SLOW = (
    *("torch", "torchvision", "timm", "opacus", "dp_accounting", "sklearn", "matplotlib"),
    *("scipy.stats", "albumentations", "pydicom", "dask", "ray", "skimage"),
)
#: Settings are told wrong, and described, without what computes or reads images.
COMPUTING = (*SLOW, "numpy", "scipy", "joblib", "PIL", "jinja2", "tqdm")
#: What is promised is told of folders, without what reads many images at once.
READING = (*SLOW, "joblib")
#: Help on the whole, the version and a word that is no command need not even these.
CHECKING = (*COMPUTING, "pydantic", "yaml", "argcomplete", "importlib.metadata")
#: Noise for a target is solved with scipy's Gaussian; no plan takes a network, an image or a page.
PLANNED_WITH = ("dp_accounting", "scipy.stats")

CODE = """
import contextlib, io, json, sys
from synthdp.cli import main
told = []
for words in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = main(words)
        except SystemExit as ended:
            code = ended.code
    loaded = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
    told.append([words, code, loaded, out.getvalue()])
print(json.dumps(told))
"""


def after(commands: list[list[str]], modules: tuple[str, ...]) -> list[tuple[int, list[str], str]]:
    """Exit code, which of `modules` were imported, and output, after each command in turn."""
    made = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(commands), json.dumps(modules)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [(code, loaded, text) for _, code, loaded, text in json.loads(made.stdout)]


def test_commands_that_say_something_at_once_import_nothing_slow(tmp_path: Path) -> None:
    data = run_phantoms(PhantomSettings(out=tmp_path / "set", patients=9, size_px=16, as_real=True))
    light = [["--version"], ["--help"]]
    slips = [
        ["no-such-stage"],
        [],
        ["data"],
        ["data", "patch"],
        ["generate"],
        ["generate", "--out"],
    ]
    codes = [*(0 for _ in light), *(2 for _ in slips)]
    for (code, loaded, text), wanted in zip(after([*light, *slips], CHECKING), codes, strict=True):
        assert (code, loaded) == (wanted, []), text
    wrong = [
        ["finetune", "nosuch.yaml"],
        *(
            [*stage, "sed=3"]
            for stage in (
                *(["data", "phantoms"], ["data", "patches"], ["train-gan"], ["mix-generators"]),
                *(["import-generator", "x"], ["generate", "x"], ["assess", "x"], ["pretrain"]),
                *(["export", "x", "y"], ["finetune"], ["calibrate", "x", "y"], ["study"]),
                *(["predict", "x", "y"], ["evaluate", "x", "y"], ["audit", "x"], ["report", "x"]),
            )
        ),
    ]
    for code, loaded, text in after(wrong, COMPUTING):
        assert (code, loaded) == (2, []), text
        assert "no such settings file" in text or "sed: unknown key" in text
    states = [["data", "budget", str(data)], ["privacy", str(data)], ["data", "check", str(data)]]
    for (code, loaded, text), words in zip(after(states[:2], READING), states, strict=False):
        assert (code, loaded) == (0, []), (words, text)
    assert [(code, loaded) for code, loaded, _ in after(states[2:], SLOW)] == [(0, [])]


def test_help_and_settings_of_every_stage_import_nothing_that_computes() -> None:
    asked = [[*stage.split(), "--help"] for stage in STAGES] + [
        ["settings", *stage.split()] for stage in STAGES
    ]
    asked += [["settings", "--all", "--format", "markdown"], ["config", "list"]]
    for code, loaded, text in after(asked, COMPUTING):
        assert (code, loaded) == (0, []), text[:200]


def test_the_library_is_imported_without_what_it_may_need_later() -> None:
    code = "import json, sys, synthdp; print(json.dumps(list(sys.modules)))"
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not set(CHECKING[:-1]) & set(json.loads(made.stdout))  # site itself may ask for metadata


def test_plans_of_one_stage_import_no_network(tmp_path: Path) -> None:
    """A study's tries its networks, since its runs would refuse them one by one, hours later."""
    made = PhantomSettings(out=tmp_path / "set", patients=9, size_px=16, as_real=True)
    data, out = f"data={run_phantoms(made)}", f"out={tmp_path / 'out'}"
    target = ["privacy.epsilon=6", "privacy.population=20", "privacy.delta=1e-3"]
    backbone = ["backbone.name=vit_tiny_patch16_224", "backbone.size_px=32"]
    gan = ["size_px=32", "channels=[8, 8, 8]", "conditions=[view]"]
    commands = [
        ["finetune", data, out, *backbone, *target],
        ["pretrain", data, out, *backbone],
        ["train-gan", data, out, *gan],
        ["generate", "pretrained:mcgan-cbis-dp1", out, "per_class=2"],
        ["export", "pretrained:mcgan-cbis-dp1", out],
        ["mix-generators", out, f"runs=[{', '.join(2 * ['pretrained:mcgan-cbis-dp1'])}]"],
        ["import-generator", "x.pt", out, "trained_on=elsewhere"],
    ]
    network = tuple(name for name in SLOW if name not in PLANNED_WITH)
    planned = after([[*words, "--dry-run"] for words in commands], network)
    for (code, loaded, text), words in zip(planned, commands, strict=True):
        assert (code, loaded) == (0, []), (words, text)
        assert "Not covered" in text, (words, text)
