"""The site: built without a warning, and without anything from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FETCHED = (
    r"<(?:script|img|iframe|source)[^>]*\ssrc(?:set)?=\"(?:https?:)?//|<link[^>]*href=\"https?:"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    fetching = [page.name for page in pages if re.search(FETCHED, page.read_text(encoding="utf-8"))]
    assert fetching == []
    sheets = (path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not [sheet for sheet in sheets if re.search(r"(@import|url\()\s*[\"']?https?:", sheet)]


@pytest.mark.slow
def test_what_a_page_leads_to_or_shows_is_in_the_site(site: Path) -> None:
    lost = []
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # served for any address, so its links begin at the top
            continue
        text = page.read_text(encoding="utf-8")
        targets = re.findall(r'\s(?:href|src|srcset)="([^"#]+)', text)
        inside = (target for target in targets if not re.match(r"[a-z]+:|//", target))
        lost += [(page.name, target) for target in inside if not (page.parent / target).exists()]
    assert lost == []


def test_a_gate_that_forbids_warnings_lets_mkdocs_see_them() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (build,) = [line for line in makefile.splitlines() if "mkdocs build" in line]
    assert "--quiet" not in build  # with it strict counts no warning


@pytest.mark.slow
def test_the_reference_holds_every_public_name(site: Path) -> None:
    import synthdp  # noqa: PLC0415

    reference = (site / "api.html").read_text(encoding="utf-8")
    lost = [name for name in synthdp.__all__ if f">{name}<" not in re.sub(r"\s", "", reference)]
    assert lost == []
