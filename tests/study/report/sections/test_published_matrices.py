from pathlib import Path

import pytest
import yaml

from synthdp.errors import InputError
from synthdp.study.compare.results import ResultRow, write_results
from synthdp.study.report.page import run_report
from synthdp.study.report.sections.published import read_published
from synthdp.study.report.sections.published_matrices import PublishedMatrices
from synthdp.study.report.settings import ReportSettings

ABOUT = {
    "source": "A paper",
    "unit": "image",
    "delta": 1e-5,
    "sites": ["x", "y"],
    "matrices": [
        {"target": "effusion", "epsilon": 1, "aurocs": [["none", 0.7], [0.8, "none"]]},
        {"target": "effusion", "epsilon": "none", "aurocs": [[0.9, 0.75], [0.85, 0.95]]},
    ],
}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "published.yaml"
    path.write_text(yaml.safe_dump({**ABOUT, **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sites": ["x", "y", "z"]}, "effusion: not 3 rows of 3 AUROCs"),
        ({"sites": ["x", "x"]}, "sites: one stands twice"),
        ({"matrices": [ABOUT["matrices"][0]] * 2}, "a finding and epsilon stands twice"),
        ({"matrices": [{**ABOUT["matrices"][0], "aurocs": [[1.2, 0], [0, 0]]}]}, "aurocs"),
        ({"unite": "image"}, "unite"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_published(written(tmp_path, **changes))


def test_the_report_shows_matrices_and_what_is_recomputed_from_them(tmp_path: Path) -> None:
    row = ResultRow(
        strategy="real_only", epsilon=6.0, seed=0, data_set="clinic", split="val", auroc=0.7,
        state="finished", run="finetune-1",
    )  # fmt: skip
    write_results(tmp_path / "results.csv", [row])
    (tmp_path / "study.json").write_text('{"title": "T"}')
    path = written(tmp_path)
    about = read_published(path)
    assert isinstance(about, PublishedMatrices)
    assert about.epsilons == (1.0, None)
    page = run_report(ReportSettings(study=tmp_path, published=path)).read_text()
    assert "Published: by site of training and of scoring" in page
    assert "A paper" in page
    assert "effusion, without privacy" in page
    assert '<th scope="row">x</th><td class="n">1</td><td class="n">0.100</td>' in page
    assert 'href="#published"' in page
    path.write_text(yaml.safe_dump({**ABOUT, "sites": ["x"]}))
    page = run_report(ReportSettings(study=tmp_path, published=path)).read_text()
    assert "Published figures can&#39;t be shown" in page or "can't be shown" in page
