"""The report as people meet it: in a real Chromium, where there is one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, chromium
from made_up_study import describe, make_patches, make_study, many_runs

from synthdp.study.compare.results import ResultRow, write_results
from synthdp.study.report.page import run_report
from synthdp.study.report.settings import ReportSettings

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

WIDTHS = (400, 1400)
TABLE = "section[aria-labelledby='evaluation-1'] table"
CONTRAST = """(() => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const linear = parts.map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * linear[0] + .7152 * linear[1] + .0722 * linear[2];
  };
  const probe = document.body.appendChild(document.createElement("span"));
  const of = (name) => {
    probe.style.color = `var(--${name})`;
    return light(getComputedStyle(probe).color);
  };
  const found = {};
  for (const back of ["paper", "shade"])
    for (const name of %s) {
      const pair = [of(name), of(back)].sort((one, other) => other - one);
      found[`${name} on ${back}`] = (pair[0] + .05) / (pair[1] + .05);
    }
  probe.remove();
  return found;
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = tmp_path_factory.mktemp("house") / "study"
    make_study(study, sets=("val", "external"))
    synthetic = make_patches(study.parent / "synthetic", "synthetic")
    describe(study, synthetic=str(synthetic))
    return run_report(ReportSettings(study=study))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = tmp_path_factory.mktemp("large") / "study"
    epsilons = (1, 3, 6, 12, 20, 60, None)
    assert len(many_runs(study, strategies=12, epsilons=epsilons, seeds=6)) == 504
    return run_report(ReportSettings(study=study))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_nothing_complains(
    browser: Browser, page: Path, width: int, dark: bool
) -> None:
    browser.errors.clear()
    browser.open(page, width=width, dark=dark)
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.errors == []


def test_the_first_screen_holds_answer_curve_and_odds(browser: Browser, page: Path) -> None:
    browser.open(page, width=1400, height=900)
    bottom = browser.run("document.querySelector('.wide svg').getBoundingClientRect().bottom")
    assert bottom <= 900
    browser.open(page, width=400, height=900)
    drawn = "document.querySelector('.narrow svg').getBoundingClientRect()"
    assert browser.run(f"{drawn}.width") > 300
    assert browser.run(f"{drawn}.top") < 900
    assert browser.run("document.querySelector('.answer').getBoundingClientRect().bottom") < 600


def test_a_dozen_strategies_leave_the_curve_on_the_first_screen(
    browser: Browser, many: Path
) -> None:
    for width, drawing in ((1400, ".wide svg"), (400, ".narrow svg")):
        browser.open(many, width=width, height=900)
        drawn = f"document.querySelector('{drawing}').getBoundingClientRect()"
        assert browser.run(f"{drawn}.bottom") <= 900


@pytest.mark.parametrize("dark", [False, True])
def test_colours_have_contrast(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    for names, least in (
        (["ink", "muted", "link", "warn"], 4.5),
        ([f"mark-{index}" for index in range(8)], 3),
    ):
        found = browser.run(CONTRAST % json.dumps(names))
        assert {name: value for name, value in found.items() if value < least} == {}


def _column(browser: Browser, number: int) -> list[str]:
    cells = f"[...document.querySelectorAll({json.dumps(TABLE + ' tbody tr')})]"
    found = browser.run(f"{cells}.map((row) => row.cells[{number}].innerText.split('\\n')[0])")
    return [str(value) for value in found]


def _order(browser: Browser, number: int) -> str | None:
    head = f"{TABLE} thead th:nth-child({number + 1})"
    value = browser.run(f"document.querySelector({json.dumps(head)}).getAttribute('aria-sort')")
    return None if value is None else str(value)


def test_a_click_sorts_up_then_down_then_as_written(browser: Browser, page: Path) -> None:
    browser.open(page)
    written = _column(browser, 2)
    button = f"{TABLE} thead th:nth-child(3) button"
    browser.click(button)
    assert _order(browser, 2) == "ascending"
    assert _column(browser, 2) == sorted(written)
    browser.click(button)
    assert _order(browser, 2) == "descending"
    assert _column(browser, 2) == sorted(written, reverse=True)
    browser.click(button)
    assert _order(browser, 2) is None
    assert _column(browser, 2) == written


def test_keys_sort_too_and_no_promise_stands_above_every_epsilon(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    button = json.dumps(f"{TABLE} thead th:nth-child(2) button")
    browser.run(f"document.querySelector({button}).focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r")
    assert _order(browser, 1) == "ascending"
    found = _column(browser, 1)
    finite = [float(value) for value in found if value != "∞"]
    assert finite == sorted(finite)
    assert found == [*(f"{value:g}" for value in finite), *["∞"] * (len(found) - len(finite))]


def test_the_table_is_there_without_the_script(browser: Browser, page: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.call("Page.navigate", url=page.resolve().as_uri())
        browser.open(page)
        assert browser.run("document.querySelectorAll('thead button').length") == 0
        assert len(_column(browser, 2)) == 14
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_printing_opens_what_matters(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page, dark=True)
    browser.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert browser.run("document.querySelectorAll('details[open]').length") == 0
    browser.run("dispatchEvent(new Event('beforeprint'))")
    closed = "[...document.querySelectorAll('details:not([open])')].map((part) => part.className)"
    assert browser.run(closed) == ["first runs"]


def test_a_head_that_is_printed_again_on_the_next_page_has_its_words(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    browser.call("Emulation.setEmulatedMedia", media="print")
    shown = "getComputedStyle(document.querySelector('thead button')).display"
    assert browser.run(shown) == "contents"  # Chromium leaves a box of its own out there
    browser.call("Emulation.setEmulatedMedia", media="")


def test_a_page_of_500_runs_opens_at_once(browser: Browser, many: Path) -> None:
    """It takes a fifth of a second of a core; what takes it is counted, which no load moves."""
    assert many.stat().st_size < 2**20
    browser.errors.clear()
    browser.call("Performance.enable")
    for width in WIDTHS:
        browser.open(many, width=width)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("document.querySelectorAll('*').length") < 15_000
        metrics = {
            one["name"]: one["value"] for one in browser.call("Performance.getMetrics")["metrics"]
        }
        assert metrics["LayoutCount"] < 10
        assert metrics["RecalcStyleCount"] < 15
    browser.call("Performance.disable")
    assert browser.errors == []


def test_long_words_do_not_overflow(browser: Browser, tmp_path: Path) -> None:
    long = "averyveryveryverylongnamewithoutanyplacetobreak" * 3
    make_study(tmp_path, seeds=1, with_failure=False)
    describe(tmp_path, title=long)
    cell = {"epsilon": 6, "seed": 0, "data_set": long[:64], "split": "val", "run": f"run-{long}"}
    failed = ResultRow(**cell, state="failed", strategy=long, error=long)
    write_results(tmp_path / "results.csv", [failed])
    page = run_report(ReportSettings(study=tmp_path))
    for width in WIDTHS:
        browser.open(page, width=width)
        assert browser.run("document.documentElement.scrollWidth") <= width
