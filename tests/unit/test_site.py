"""The site as it is built: every link arrives, every picture says what it shows, every notebook can be found.

An address on another host is looked at for its form alone: a test must not depend on somebody else's server.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from tritonlab import course

ROOT = Path(__file__).parents[2]
NOTEBOOKS = [path.stem for path in course.notebooks()]
NO_CONTENT = {"search.html"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of Sphinx, such as a link to a heading that is not there, fails it."""
    output = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, str(ROOT / "site" / "build.py"), "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return output / "html"


@cache
def page(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def pages(site: Path) -> list[Path]:
    """Every page of ours; the theme brings templates along in its static folder."""
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]


def test_every_notebook_and_the_readme_have_a_page(site: Path) -> None:
    names = {str(path.relative_to(site)) for path in pages(site)}
    assert {"index.html", *(f"notebooks/{name}.html" for name in NOTEBOOKS)} <= names


def test_every_link_arrives(site: Path) -> None:
    lost = []
    for path in pages(site):
        for element in page(path).select("[href], [src]"):
            address = str(element.get("href") or element.get("src"))
            parts = urlsplit(address)
            if parts.scheme in ("http", "https"):
                # What a page loads must come with it; a link may lead elsewhere.
                if element.name != "a" or not re.fullmatch(r"[\w.-]+\.[a-z]{2,}(:\d+)?", parts.netloc):
                    lost.append((path.name, address))
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            arrives = not parts.scheme and target.is_file()
            if arrives and parts.fragment and target.suffix == ".html":
                arrives = page(target).find(id=unquote(parts.fragment)) is not None
            if not arrives:
                lost.append((path.name, address))
    assert lost == []


def test_every_picture_says_what_it_shows(site: Path) -> None:
    told = [(path.name, image.get("alt", "")) for path in pages(site) for image in page(path).select("article img")]
    assert len(told) >= 10
    assert [(name, alt) for name, alt in told if len(str(alt).split()) < 4] == []


def test_every_page_has_one_title_and_skips_no_level(site: Path) -> None:
    for path in pages(site):
        if path.name in NO_CONTENT:
            continue
        levels = [int(heading.name[1]) for heading in page(path).select("article :is(h1, h2, h3, h4, h5, h6)")]
        assert Counter(levels)[1] == 1, path
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), path


def test_no_panel_is_left_as_a_script(site: Path) -> None:
    for path in pages(site):
        assert "jupyter.widget" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_search_finds_each_notebook_by_its_words(site: Path, name: str) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    [docnames] = re.findall(r'"docnames":\[([^]]*)\]', index)
    number = docnames.replace('"', "").split(",").index(f"notebooks/{name}")
    title = page(site / "notebooks" / f"{name}.html").select_one("article h1")
    assert title is not None
    assert any(
        re.search(rf'"?{re.escape(word)}"?:(\[[^]]*\b{number}\b|{number}\b)', index)
        for word in re.findall(r"[a-z]{4,}", title.text.lower())
    )


def test_a_notebook_can_be_had_from_its_page(site: Path) -> None:
    for name in NOTEBOOKS:
        sources = page(site / "notebooks" / f"{name}.html").select(f'a[href$="{name}.ipynb"]')
        assert sources, name
