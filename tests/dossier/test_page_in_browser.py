"""The dossier as people meet it: in a real Chromium, on a screen and on A4."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, chromium

from synthdp.dossier.page import write_dossier

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

A4_LESS_MARGINS_PX = 680  # 180 mm at 96 px an inch
BOTTOM_OF = "document.querySelector('.glance').getBoundingClientRect().bottom"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(audited: Path, evaluation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dossiers") / "dp"
    shown = ("attacks", "utility", "counts")
    write_dossier(audited, out, evidence=[evaluation], shown=shown)
    return out / "dossier.html"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_overflows_and_nothing_complains(
    browser: Browser, page: Path, width: int, dark: bool
) -> None:
    browser.errors.clear()
    browser.open(page, width=width, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.errors == []


def test_unit_epsilon_uncovered_and_attacked_stand_on_the_first_sheet(
    browser: Browser, page: Path
) -> None:
    browser.open(page, width=A4_LESS_MARGINS_PX, height=1000)
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.run("document.documentElement.scrollWidth") <= A4_LESS_MARGINS_PX
    assert browser.run(BOTTOM_OF) <= 1000


def test_it_prints_as_a4(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page)
    found = browser.call("Page.printToPDF", preferCSSPageSize=True)
    assert len(found["data"]) > 10_000
    browser.print(tmp_path / "dossier.pdf")
    assert (tmp_path / "dossier.pdf").read_bytes().startswith(b"%PDF")
