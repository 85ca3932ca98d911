"""A blinded reading from the first click to the scores, in a real Chromium, where there is one."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, chromium

from gan.quality.reading.answers import read_readings
from gan.quality.reading.key import Key, read_key
from gan.reader import run_reader_score
from gan.settings.reader import ReaderScoreSettings

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

LIGHT = """(element) => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const linear = parts.map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * linear[0] + .7152 * linear[1] + .0722 * linear[2];
  };
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)" && behind.parentElement)
    behind = behind.parentElement;
  const colours = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
  const pair = colours.map(light);
  pair.sort((one, other) => other - one);
  return (pair[0] + .05) / (pair[1] + .05);
}"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def key(kit: Path) -> Key:
    return read_key(kit)


def begin(browser: Browser, kit: Path, name: str) -> None:
    """Open the page as a reader whom it has not seen."""
    browser.errors.clear()
    browser.open(kit / "reader.html")
    if browser.run("document.getElementById('start').hidden"):
        browser.click("#other")
    browser.run(f"document.getElementById('name').value = {json.dumps(name)}")
    browser.click("#form button")


def press(browser: Browser, *keys: str) -> None:
    for key in keys:
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        browser.call("Input.dispatchKeyEvent", type="keyUp", key=key)


def place(browser: Browser) -> str:
    return str(browser.run("document.getElementById('place').textContent"))


def download(browser: Browser, folder: Path, selector: str) -> Path:
    """What a click saves: the file, once it is whole."""
    folder.mkdir()
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.click(selector)
    for _ in range(600):
        files = [path for path in folder.iterdir() if path.suffix == ".csv"]
        if files:
            return files[0]
        time.sleep(0.05)
    raise AssertionError("the page saved nothing")


def test_a_reading_by_mouse_and_by_keys_is_saved_and_scored(
    browser: Browser, kit: Path, key: Key, tmp_path: Path
) -> None:
    begin(browser, kit, "Dr. A")
    order = browser.run("order")
    assert sorted(order) == sorted(key.by_code)
    for number, code in enumerate(order):
        assert place(browser) == f"Image {number + 1} of 8"
        kind, rating = key.by_code[code].kind, 1 + 3 * key.by_code[code].label
        if number % 2:
            press(browser, kind[0], "c", str(rating), "Enter")
        else:
            browser.click(f"input[name=origin][value={kind}]")
            browser.click("input[name=confidence][value='3']")
            browser.click(f"input[name=rating][value='{rating}']")
            browser.click("#next")
    assert browser.run("document.getElementById('end').hidden") is False
    assert browser.run("document.getElementById('left').textContent").startswith("All 8 images")
    file = download(browser, tmp_path / "saved", "#end .save")
    assert file.name == f"reader-{key.kit}-Dr-A.csv"
    codes = [line.split(",")[2] for line in file.read_text().splitlines()[1:]]
    assert codes == sorted(codes)  # so that the file tells no order
    out = run_reader_score(
        ReaderScoreSettings(kit=kit, answers=(file,), out=tmp_path / "scores", redraws=100)
    )
    scores = json.loads((out / "scores.json").read_text())
    assert [one["value"] for one in scores["figures"] if one["measure"] == "accuracy"] == [1]
    assert browser.errors == []
    for width in (400, 1400):
        browser.open(out / "scores.html", width=width)
        assert browser.run("document.documentElement.scrollWidth") <= width
    assert "1.00" in browser.run("document.querySelector('tbody td').innerText")
    assert browser.errors == []


def test_answers_stay_over_a_reload_and_can_be_changed(
    browser: Browser, kit: Path, key: Key
) -> None:
    begin(browser, kit, "B")
    press(browser, "r", "g", "2", "n", "s")
    browser.open(kit / "reader.html")
    assert place(browser) == "Image 2 of 8"
    chosen = "document.querySelector('input[name=%s]:checked')?.value"
    assert browser.run(chosen % "origin") == "synthetic"
    press(browser, "b")
    assert [browser.run(chosen % name) for name in ("origin", "confidence", "rating")] == [
        *("real", "1", "2")
    ]
    press(browser, "s")
    browser.click("#overview li:nth-child(8) button")
    assert place(browser) == "Image 8 of 8"
    press(browser, "n")
    assert "7 of 8 images are not answered" in browser.run("document.body.innerText")
    browser.click("#left-list li:first-child button")
    assert place(browser) == "Image 2 of 8"
    assert browser.run("answerOf(order[0]).origin") == "synthetic"
    assert browser.run("document.querySelectorAll('#overview .whole').length") == 1
    begin(browser, kit, "C")  # on the same machine
    assert browser.run("count()") == 0
    assert sorted(browser.run("order")) == sorted(key.by_code)


def test_names_that_no_file_may_have_are_refused(browser: Browser, kit: Path) -> None:
    begin(browser, kit, "")
    for name in (" ", "=1+1", "a,b", "M\u00fcller", "x" * 41):
        browser.run(f"document.getElementById('name').value = {json.dumps(name)}")
        browser.click("#form button")
        assert browser.run("document.getElementById('name-wrong').hidden") is False
        assert browser.run("document.getElementById('start').hidden") is False
    browser.run("document.getElementById('name').value = 'constructor'")
    browser.click("#form button")
    assert browser.run("count()") == 0


def test_a_browser_that_keeps_nothing_goes_on_from_the_file(
    browser: Browser, kit: Path, key: Key, tmp_path: Path
) -> None:
    forbid = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })"
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=forbid)["identifier"]
    try:
        begin(browser, kit, "D")
        assert browser.run("document.getElementById('not-kept').hidden") is False
        press(browser, "r", "c", "5", "n", "s")
        file = download(browser, tmp_path / "saved", "#top .save")
        browser.open(kit / "reader.html")
        assert browser.run("document.getElementById('start').hidden") is False
        root = browser.call("DOM.getDocument")["root"]["nodeId"]
        node = browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        browser.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)
        while browser.run("document.getElementById('top').hidden"):
            time.sleep(0.02)
        assert browser.run("count()") == 1
        assert browser.run("document.getElementById('who').textContent") == "D"
        wrong = "takeBack(%s)"
        text = file.read_text()
        for changed in (text.replace(key.kit, "XXXXXX"), "a,b\n1,2\n", text.replace(",D,", ",=D,")):
            assert browser.run(wrong % json.dumps(changed)).startswith("This ")
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    (reading,) = read_readings([file], key, allow_missing=True)
    assert sorted(one.is_whole for one in reading.answers.values()) == [False] * 7 + [True]


def test_zoom_and_window_change_the_look_alone(browser: Browser, kit: Path) -> None:
    begin(browser, kit, "E")
    style = "document.getElementById('image').style.transform"
    slope = "Number(document.querySelector('feFuncR').getAttribute('slope'))"
    assert (browser.run(style), browser.run(slope)) == ("translate(0%, 0%) scale(1)", 1)
    press(browser, "+", "+", "i")
    assert "scale(1.5625)" in browser.run(style)
    assert browser.run(slope) == -1
    browser.run("look({ width: 51, inverted: false })")
    assert browser.run(slope) == 5
    press(browser, "0")
    assert (browser.run(style), browser.run(slope)) == ("translate(0%, 0%) scale(1)", 1)
    assert browser.run("count()") == 0


@pytest.mark.parametrize("width", [400, 1400])
def test_page_fits_is_named_for_screen_readers_and_has_contrast(
    browser: Browser, kit: Path, width: int
) -> None:
    begin(browser, kit, "F")
    browser.open(kit / "reader.html", width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "radio", "slider", "image", "progressbar")
    widgets = [node for node in tree if node.get("role", {}).get("value") in roles]
    assert len(widgets) > 25
    assert all(node["name"]["value"].strip() for node in widgets)
    for part in (
        "legend",
        "#done",
        ".choices span",
        ".choices kbd",
        ".view label",
        "#next",
        "#who",
    ):
        assert browser.run(f"({LIGHT})(document.querySelector({json.dumps(part)}))") >= 4.5, part
    press(browser, "r")
    assert browser.run(f"({LIGHT})(document.querySelector('input:checked + span'))") >= 4.5
    assert browser.errors == []
