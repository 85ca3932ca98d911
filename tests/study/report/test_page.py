import base64
import json
import re
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up import made_up_assessment
from made_up_study import describe, make_patches, make_study, stated

from synthdp.data.description import DatasetInfo
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.evaluation.assessment import CLOSEST_PAIRS_FILE
from synthdp.study.compare.results import ResultRow, evaluation_row, read_results, write_results
from synthdp.study.report.page import measured_duration, run_report
from synthdp.study.report.settings import ReportSettings


class Page(HTMLParser):
    """Collects what the tests look at, and checks that every element is closed."""

    VOID = ("meta", "img", "br", "link", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house") / "study"
    make_study(folder, sets=("val", "external"))
    synthetic = make_patches(folder.parent / "synthetic", "synthetic")
    real = make_patches(folder.parent / "real", "real")
    describe(folder, synthetic=str(synthetic), real=str(real))
    (folder / "config.yaml").write_text(f"data: {real}\nout: study\nepsilons: [1, 6, none]\n")
    return folder


@pytest.fixture(scope="module")
def html(study: Path) -> str:
    return run_report(ReportSettings(study=study)).read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_is_one_file_whose_script_is_its_own_and_nothing_is_fetched(html: str, page: Page) -> None:
    assert page.all("script") == [{}]
    script = html[html.index("<script>") + len("<script>") : html.index("</script>")]
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    policy = next(found["content"] for found in page.all("meta") if "http-equiv" in found)
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}'" in policy
    assert not page.all("link")
    assert all(attributes["src"].startswith("data:") for attributes in page.all("img"))
    links = [attributes["href"] for attributes in page.all("a")]
    assert all(link.startswith(("data:", "#")) for link in links)
    addresses = set(re.findall(r"https?://[^\s\"']+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_names_no_path_and_no_patient(html: str, study: Path) -> None:
    for secret in (str(study.parent), "/tmp", "/srv", "secret"):
        assert secret not in html
    assert "dinov2.safetensors: no such file" in html


def test_every_picture_has_words(page: Page) -> None:
    drawings = [svg for svg in page.all("svg") if svg.get("class") == "curve"]
    assert len(drawings) == 4
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for svg in drawings:
        assert svg["role"] == "img"
        assert svg["aria-labelledby"] in ids
    assert all(attributes["alt"] for attributes in page.all("img"))
    assert "Privacy-utility curve" in page.text


def test_colours_come_from_the_page(html: str) -> None:
    drawing = html[html.index('<svg class="curve"') : html.index("</figure>")]
    assert "var(--mark-0)" in drawing
    assert "prefers-color-scheme: dark" in html
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", drawing)) <= {"#ffffff", "#000000"}


def test_hollow_rows_say_that_they_promise_nothing(page: Page) -> None:
    assert "so their end-to-end epsilon is infinite" in page.text
    assert (
        "used patients without privacy: pretrain then finetune, synthetic only; at best"
        in page.text
    )
    assert "stage 6" in page.text
    assert "train-gan on cbis-ddsm had no protection (a GAN without DP)" in page.text


def test_answers_in_its_first_paragraph(page: Page) -> None:
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "the best AUROC is 0." in text
    assert "at epsilon 1, " in page.text
    assert re.search(r"The best attacker then finds at most 2.3 %, [\d.]+ % and 100 % of", text)
    assert "Epsilon 60 is formally almost no protection" in text
    assert "Without any patient's image (epsilon 0), phantoms only reaches" in page.text
    assert "1 of 28 runs failed" in page.text


def test_table_is_embedded_as_it_stands(page: Page, study: Path) -> None:
    link = next(attributes for attributes in page.all("a") if attributes.get("download"))
    content = base64.b64decode(link["href"].partition("base64,")[2])
    assert content == (study / "results.csv").read_bytes()


def test_states_what_publishing_everything_and_the_private_rows_promise(page: Page) -> None:
    assert "all of its runs published together: epsilon = inf" in page.text
    assert "its private runs alone published together: epsilon = " in page.text


def test_shows_synthetic_patches_and_real_ones_only_when_allowed(study: Path, page: Page) -> None:
    assert len(page.all("img")) == 16
    assert "Synthetic patches: made-up synthetic" in page.text
    assert "Real patches" not in page.text
    allowed = run_report(ReportSettings(study=study, show_real=True)).read_text()
    assert "Real patches: made-up real" in allowed
    assert len(Page(allowed).all("img")) == 32


def test_writes_the_same_file_again(study: Path, html: str) -> None:
    assert run_report(ReportSettings(study=study)).read_text() == html


def test_no_finished_run(tmp_path: Path) -> None:
    cell = {"strategy": "real_only", "data_set": "cbis", "split": "val", "run": "finetune-1"}
    cell |= {"epsilon": 6, "state": "failed", "error": "out of memory"}
    rows = [ResultRow(**cell, seed=seed) for seed in (0, 1)]
    write_results(tmp_path / "results.csv", rows)
    page = Page(run_report(ReportSettings(study=tmp_path)).read_text())
    assert "None of the 2 runs finished" in page.text
    assert page.text.count("out of memory") == 2
    assert "so nothing is promised" in page.text
    assert not [svg for svg in page.all("svg") if svg.get("class") == "curve"]


@pytest.mark.parametrize("epsilon", [6.0, None])
def test_one_epsilon_one_seed_and_intervals_without_value(
    tmp_path: Path, epsilon: float | None
) -> None:
    missing = {"value": None, "ci_low": None, "ci_high": None}
    metrics = {
        "auroc": {"value": 0.7, "ci_low": None, "ci_high": None},
        **dict.fromkeys(("auprc", "sensitivity", "specificity"), missing),
        "n_images": 4,
        "n_patients": 3,
    }
    row = evaluation_row(
        strategy="real_only",
        epsilon=epsilon,
        seed=0,
        data_set="cbis",
        split="val",
        run="finetune-1",
        metrics=metrics,
        statement=stated("real_only", epsilon),
    )
    write_results(tmp_path / "results.csv", [row])
    page = Page(run_report(ReportSettings(study=tmp_path)).read_text())
    assert "0.700" in page.text
    assert "Runs without a statement" in page.text


def test_no_auroc_at_all(tmp_path: Path) -> None:
    missing = {"value": None, "ci_low": None, "ci_high": None}
    metrics = dict.fromkeys(("auroc", "auprc", "sensitivity", "specificity"), missing)
    row = evaluation_row(
        strategy="real_only",
        epsilon=1,
        seed=0,
        data_set="cbis",
        split="val",
        run="finetune-1",
        metrics={**metrics, "n_images": 4, "n_patients": 3},
        statement=stated("real_only", 1),
    )
    write_results(tmp_path / "results.csv", [row])
    text = Page(run_report(ReportSettings(study=tmp_path)).read_text()).text
    assert "There is no curve" in text
    assert "holds one class alone" in text


def test_a_table_of_another_version_and_a_figure_that_is_no_number_are_refused(
    tmp_path: Path,
) -> None:
    make_study(tmp_path, seeds=1, with_failure=False)
    table = tmp_path / "results.csv"
    written = table.read_text()
    table.write_text(written.replace("auroc,", "roc_auc,", 1))
    with pytest.raises(InputError, match=r"columns differ .*auroc.*run `synthdp study` again"):
        run_report(ReportSettings(study=tmp_path))
    first = written.splitlines()[1].split(",")
    table.write_text(written.replace(first[5], "nan", 1))
    with pytest.raises(InputError, match=r"row 2:\s+auroc: Input should be a finite number"):
        run_report(ReportSettings(study=tmp_path))


def test_a_statement_of_a_newer_version_is_told_and_the_rest_stands(tmp_path: Path) -> None:
    rows = make_study(tmp_path, seeds=1, with_failure=False)
    path = tmp_path / "runs" / rows[0].run / "privacy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    text = Page(run_report(ReportSettings(study=tmp_path)).read_text()).text
    assert "Runs without a statement" in text
    assert "written by a newer synthdp" in text
    assert "the best AUROC is 0." in text


def test_an_empty_table_is_a_report_that_says_so(tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", [])
    text = Page(run_report(ReportSettings(study=tmp_path)).read_text()).text
    assert "The study holds no run, so there is nothing to compare yet." in text


def test_the_settings_shown_hold_no_folder(tmp_path: Path) -> None:
    make_study(tmp_path, seeds=1, with_failure=False)
    (tmp_path / "config.yaml").write_text("data: mercy/hospital/masses\ntitle: a/b\nseeds: [0]\n")
    html = run_report(ReportSettings(study=tmp_path)).read_text()
    assert "data: masses" in html
    assert "mercy" not in html
    (tmp_path / "config.yaml").write_text("data: [")
    assert "Settings of the study" not in run_report(ReportSettings(study=tmp_path)).read_text()


def test_closest_pairs_are_shown_only_where_patients_may_be(tmp_path: Path) -> None:
    make_study(tmp_path, seeds=1, with_failure=False)
    info = DatasetInfo(name="made up", kind="synthetic", size_px=32)
    judged = made_up_assessment(tmp_path / "judged", info)
    (judged / "private").mkdir()
    (judged / CLOSEST_PAIRS_FILE).write_bytes(b"a picture of patients")
    picture = base64.b64encode(b"a picture of patients").decode()
    describe(tmp_path, assessment=str(judged))
    kept = run_report(ReportSettings(study=tmp_path)).read_text()
    assert picture not in kept
    assert "private folder" in kept
    assert picture in run_report(ReportSettings(study=tmp_path, show_real=True)).read_text()


def test_a_synthetic_set_that_is_gone_is_said_and_does_not_stop_the_report(tmp_path: Path) -> None:
    make_study(tmp_path, seeds=1, with_failure=False)
    describe(tmp_path, synthetic="/srv/gone/synthetic")
    html = run_report(ReportSettings(study=tmp_path)).read_text()
    assert "The data set can&#39;t be shown" in html
    assert "/srv" not in html


def test_text_from_files_is_escaped(tmp_path: Path) -> None:
    write_results(
        tmp_path / "results.csv",
        [
            ResultRow(
                state="failed",
                strategy="<b>x</b>",
                epsilon=1,
                seed=0,
                data_set="cbis",
                split="val",
                run="finetune-1",
                error="<img src=x>",
            )
        ],
    )
    describe(tmp_path, synthetic=None, title="A & <i>B</i>")
    html = run_report(ReportSettings(study=tmp_path)).read_text()
    assert "<img" not in html
    assert "<b>x" not in html
    assert "A &amp; &lt;i&gt;B" in html


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no results table"):
        run_report(ReportSettings(study=tmp_path))
    write_results(tmp_path / "results.csv", [])
    (tmp_path / "study.json").write_text(json.dumps({"titel": "x"}))
    with pytest.raises(InputError, match="did you mean title"):
        run_report(ReportSettings(study=tmp_path))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(8.2, "8.2 s"), (250, "4 min 10 s"), (3900, "1 h 05 min"), (59.99, "60.0 s")],
)
def test_durations(seconds: float, words: str) -> None:
    assert measured_duration(seconds) == words


def columns_of(html: str, label: str) -> list[str]:
    """The heads of the table in the region of that name."""
    region = html[html.index(f'aria-label="{label}"') :]
    head = region[region.index("<tr>") : region.index("</thead>")]
    return [re.sub(r"<[^>]+>", " ", found) for found in re.findall(r"<th\b[^>]*>(.*?)</th>", head)]


@pytest.mark.parametrize("label", ["Every run", "Failed runs"])
def test_runs_of_several_sites_say_where_they_were_trained(
    tmp_path: Path, html: str, label: str
) -> None:
    assert "Trained on" not in columns_of(html, label)
    one = tmp_path / "one"
    make_study(one, sites=("clinic",))
    rows = [row for row in read_results(one / "results.csv") if row.trained_on]
    write_results(one / "results.csv", rows)
    alone = run_report(ReportSettings(study=one)).read_text()
    assert "Trained on" not in columns_of(alone, label)
    several = tmp_path / "several"
    make_study(several, sites=("clinic (site A)", "clinic"))
    message = run_report(ReportSettings(study=several)).read_text()
    assert columns_of(message, label)[:2] == ["Strategy", "Trained on"]
    region = message[message.index(f'aria-label="{label}"') :]
    assert '<th scope="row">real only</th><td>clinic (site A)</td>' in region
    if label == "Every run":
        assert '<th scope="row">synthetic only</th><td>\N{EN DASH}</td>' in region


def test_a_study_of_phantoms_says_what_comes_next(tmp_path: Path) -> None:
    make_study(tmp_path / "study", with_failure=False)
    assert 'id="next"' not in run_report(ReportSettings(study=tmp_path / "study")).read_text()
    phantoms = tmp_path / "phantoms"
    run_phantoms(PhantomSettings(out=phantoms, patients=6, size_px=32, as_real=True))
    (tmp_path / "study" / "config.yaml").write_text(f"data: {phantoms}\n")
    describe(tmp_path / "study", real=str(phantoms), show_real=True)
    page = run_report(ReportSettings(study=tmp_path / "study")).read_text()
    assert '<a href="#next">What next</a>' in page
    assert "synthdp init mine --images my-patches" in page
    assert "Phantoms in place of patients: phantoms" in page
    assert "Real patches" not in page


def test_each_strategy_is_explained_and_each_interval_too(page: Page) -> None:
    assert "trained on synthetic images alone, and scored on real ones" in page.text
    anchors = {attributes.get("href") for attributes in page.all("a")}
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {"#intervals"} <= anchors
    assert {anchor.removeprefix("#") for anchor in anchors if anchor.startswith("#")} <= ids
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "% intervals hold patients alone, not seeds" in text


def test_the_answer_names_its_set_where_the_page_has_several(page: Page, tmp_path: Path) -> None:
    assert "the first of 2 parts below" in page.text
    make_study(tmp_path, seeds=1, with_failure=False)
    alone = Page(run_report(ReportSettings(study=tmp_path)).read_text()).text
    assert "parts below" not in alone
