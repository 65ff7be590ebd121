"""A quiz in JupyterLab: asked, answered by mouse and by keyboard, and its replies read out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tritonlab.course.exercises import exercises

# The learner of this machine is not the one who answers here.
OFF = "import os\n\nos.environ['TRITONLAB_PROGRESS'] = 'off'\nfrom tritonlab import quiz"
ENTRY = exercises()["00.1"]


@pytest.fixture
def notebook(run_cells: Callable[..., Any]) -> Any:
    return run_cells(OFF, 'quiz("00.1")', 'quiz("07.2")')


def test_quiz_is_answered_with_the_mouse(notebook: Any) -> None:
    cell = notebook.cell(1)
    expect(cell.get_by_text(ENTRY["question"])).to_be_visible()
    expect(cell.get_by_role("radio")).to_have_count(4)
    expect(cell.get_by_role("radio", checked=True)).to_have_count(0)
    reply = cell.get_by_role("status")
    cell.get_by_role("button", name="Check").click()
    expect(reply).to_contain_text("Choose one.")
    for letter, choice in ENTRY["choices"].items():
        cell.get_by_role("radio", name=re.compile(re.escape(choice))).check()
        cell.get_by_role("button", name="Check").click()
        expect(reply).to_contain_text(ENTRY["replies"][letter])
        expect(reply).to_contain_text("Right." if letter == ENTRY["answer"] else "Not yet.")
    cell.get_by_role("button", name="Hint").click()
    expect(reply).to_contain_text("Hint 1 of 2.")


def test_quiz_is_answered_with_the_keyboard(notebook: Any) -> None:
    cell, keyboard = notebook.cell(1), notebook.page.keyboard
    # ipywidgets does not join its radio buttons to a group, so each is a stop of the Tab key.
    cell.get_by_role("radio").first.focus()
    keyboard.press("Space")
    expect(cell.get_by_role("radio").first).to_be_checked()
    keyboard.press("Tab")
    keyboard.press("Space")
    expect(cell.get_by_role("radio").nth(1)).to_be_checked()
    expect(cell.get_by_role("radio").first).not_to_be_checked()
    for _ in range(3):
        keyboard.press("Tab")
    expect(cell.get_by_role("button", name="Check")).to_be_focused()
    keyboard.press("Enter")
    expect(cell.get_by_role("status")).to_contain_text(ENTRY["replies"]["b"])
    for name in ("Hint", "Solution"):
        keyboard.press("Tab")
        expect(cell.get_by_role("button", name=name)).to_be_focused()
    keyboard.press("Enter")
    expect(cell.get_by_role("status")).to_contain_text("Solution: c: vLLM's engine.")


def test_quiz_looks_right(notebook: Any) -> None:
    panel = notebook.cell(2).locator(".tl-quiz")
    panel.get_by_role("radio").first.check()
    panel.get_by_role("button", name="Check").click()
    expect(panel.get_by_role("status")).to_contain_text("Not yet.")
    assert len(notebook.screenshots(panel, "quiz")) == 4
