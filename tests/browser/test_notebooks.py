"""Every notebook of the course, opened in JupyterLab and run to its end with Run All, against the real server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Lab, open_path, start_lab
from tritonlab import course

# The slowest takes two minutes on two cores.
RUN_S = 540


@pytest.fixture(scope="module")
def course_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab over a copy of the course, so that what the notebooks write harms nobody's work."""
    folder = tmp_path_factory.mktemp("course")
    for name in ("notebooks", "data"):
        shutil.copytree(course.root() / name, folder / name, ignore=shutil.ignore_patterns("workspace", "__pycache__"))
    yield from start_lab(folder, tmp_path_factory.mktemp("lab"), TRITONLAB_PROGRESS="off")


@pytest.mark.parametrize("notebook", course.notebooks(), ids=lambda path: path.stem)
def test_run_all(notebook: Path, page: Page, course_lab: Lab) -> None:
    opened = open_path(page, course_lab, f"notebooks/{notebook.name}")
    expect(opened.outputs.first).to_be_visible()  # the stored ones
    opened.run_all(RUN_S)
    assert not opened.errors()
    expect(page.get_by_role("dialog")).to_have_count(0)
