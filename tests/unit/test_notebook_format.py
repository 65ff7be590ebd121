"""The gate finds what it says it finds, and mends what it says it mends."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbval.plugin import get_sanitize_patterns

from tests.notebook_format import INDEX_ROW, WIDGET, canonical, main, problems
from tritonlab import course

GOOD: dict[str, Any] = json.loads(course.notebooks()[0].read_text())


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def second_title(notebook: dict[str, Any]) -> None:
    notebook["cells"][-1]["source"] = ["# Another title"]


def skipped_level(notebook: dict[str, Any]) -> None:
    notebook["cells"][-1]["source"] = ["#### Deep"]


def no_parameters(notebook: dict[str, Any]) -> None:
    for cell in code(notebook):
        cell["metadata"] = {}


def not_executed(notebook: dict[str, Any]) -> None:
    code(notebook)[-1]["execution_count"] = None


def no_outputs(notebook: dict[str, Any]) -> None:
    for cell in code(notebook):
        cell["outputs"] = []


def an_error(notebook: dict[str, Any]) -> None:
    code(notebook)[-1]["outputs"] = [{"output_type": "error", "ename": "E", "evalue": "", "traceback": []}]


def a_path(notebook: dict[str, Any]) -> None:
    code(notebook)[-1]["source"] = ["open('/home/me/x')"]


def image_without_alt(notebook: dict[str, Any]) -> None:
    notebook["cells"][-1]["source"] = ["![](figures/x.svg)"]


def figure_without_text(notebook: dict[str, Any]) -> None:
    data = {"image/png": "aGk=", "text/plain": ["<Figure size 640x480 with 1 Axes>"]}
    code(notebook)[-1]["outputs"] = [{"output_type": "display_data", "data": data, "metadata": {}}]


def widget_without_text(notebook: dict[str, Any]) -> None:
    data = {"text/plain": ["VBox(children=(Text(value=''),))"], WIDGET: {"model_id": "1"}}
    code(notebook)[-1]["outputs"] = [{"output_type": "display_data", "data": data, "metadata": {}}]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (second_title, "exactly one H1"),
        (skipped_level, "level 4 follows"),
        (no_parameters, "tagged parameters"),
        (not_executed, "not all executed"),
        (no_outputs, "no output is kept"),
        (an_error, "an output is an error"),
        (a_path, "a path of one machine stands in it: /home/me"),
        (image_without_alt, "no alt text"),
        (figure_without_text, "no text beside it"),
        (widget_without_text, "no plain form"),
    ],
)
def test_each_fault_is_found(harm: Callable[[dict[str, Any]], None], words: str, tmp_path: Path) -> None:
    notebook = copy.deepcopy(GOOD)
    harm(notebook)
    path = tmp_path / "x.ipynb"
    path.write_text(canonical(notebook))
    assert any(words in problem for problem in problems(path)), problems(path)


def test_a_dead_widget_is_not_kept() -> None:
    notebook = copy.deepcopy(GOOD)
    widget_without_text(notebook)
    assert WIDGET not in canonical(notebook)
    assert "VBox(children=" in canonical(notebook)


def test_fix_mends_the_mechanical(tmp_path: Path) -> None:
    untidy = copy.deepcopy(GOOD)
    untidy["metadata"]["widgets"] = {"a": 1}
    untidy["cells"][1]["metadata"]["collapsed"] = True
    for count, cell in enumerate(code(untidy)):
        cell["execution_count"] = 10 + 3 * count
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps(untidy))
    assert "canonical" in " ".join(problems(path))
    path.write_text(canonical(untidy))
    assert problems(path) == []
    assert path.read_text() == canonical(json.loads(path.read_text()))


def test_a_new_notebook_is_missed_until_it_can_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in course.notebooks():
        shutil.copy(path, tmp_path)
    first, last = (tmp_path / course.notebooks()[place].name for place in (0, -1))
    new = tmp_path / "99-new.ipynb"
    notebook = json.loads(last.read_text())
    notebook["cells"] = [cell for cell in notebook["cells"] if "Previous: " not in "".join(cell["source"])]
    new.write_text(canonical(notebook))
    for path, words in ((first, "its index does not list"), (last, "its last line"), (new, "its last line")):
        assert words in " ".join(problems(path))
    monkeypatch.setattr("sys.argv", ["notebook_format.py", "--fix", str(last), str(new)])
    assert main() == 0
    assert "Next: [99-new](99-new.ipynb)" in last.read_text()
    assert "its index does not list" in " ".join(problems(first)), "what a notebook gives is written by a person"


def test_readme_has_the_index_of_the_first_notebook() -> None:
    texts = ["".join(cell["source"]) for cell in GOOD["cells"] if cell["cell_type"] == "markdown"]
    rows = INDEX_ROW.findall("\n".join(texts))
    assert len(rows) == len(course.notebooks())
    assert INDEX_ROW.findall((course.root() / "README.md").read_text(encoding="utf-8")) == rows


@pytest.mark.parametrize("path", course.notebooks(), ids=lambda path: path.stem)
def test_notebooks_are_in_form(path: Path) -> None:
    assert problems(path) == []


def test_every_sanitizer_is_read() -> None:
    """nbval passes over a pair that is not written as it expects, such as one with an empty replacement, in silence."""
    text = (Path(__file__).parents[1] / "notebooks" / "sanitize.cfg").read_text()
    assert len(get_sanitize_patterns(text)) == text.count("\nregex:")
