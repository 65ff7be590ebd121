"""The form that every committed notebook has: python tests/notebook_format.py [--fix] NOTEBOOK...

Checked: nbformat 4.5 with cell ids, canonical metadata, sorted keys and one-space indent; one H1, in the first cell,
and no skipped heading level; one cell tagged `parameters`; every code cell executed, in order, without an error, and
some output kept; no absolute path of a machine; alt text on every image; as its last line the way to the notebooks
before and after and to the index; in the index, which the first notebook holds, each notebook with its minutes. `--fix`
mends what is mechanical: metadata, keys, ids, order of counts, indent, and the last line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

from tritonlab.workshop.handout import METADATA, MINUTES

KEPT_TAGS = {"parameters", "runbook", "nbval-ignore-output", "nbval-check-output"}
WIDGET = "application/vnd.jupyter.widget-view+json"
# A container's own folder of the Hugging Face cache is no machine's.
MACHINE_PATH = re.compile(
    r"/(?:home|root(?!/\.cache/huggingface)|tmp|work|Users|var/folders|opt(?!/tritonserver))/[\w.-]+|[A-Z]:\\\\?Users\\\\?\w"
)
MARKDOWN_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]*)\)")
HTML_IMAGE = re.compile(r"<img\b[^>]*>")
HEADING = re.compile(r"^(#+) (?=[^#\s])", re.MULTILINE)
INDEX_ROW = re.compile(r"^\| \[([\w-]+)\]\((?:notebooks/)?\1\.ipynb\) \| (.+) \| (\d+) \|$", re.MULTILINE)
FENCE = re.compile(r"```.*?```", re.DOTALL)


def canonical(notebook: dict[str, Any]) -> str:
    """The notebook's text in its canonical form."""
    cells = [_canonical_cell(cell, index) for index, cell in enumerate(notebook["cells"])]
    count = 0
    for cell in cells:
        if cell["cell_type"] == "code" and cell["execution_count"] is not None:
            count += 1
            cell["execution_count"] = count
            for output in cell["outputs"]:
                if output["output_type"] == "execute_result":
                    output["execution_count"] = count
    whole = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _canonical_cell(cell: dict[str, Any], index: int) -> dict[str, Any]:
    tags = [tag for tag in cell.get("metadata", {}).get("tags", []) if tag in KEPT_TAGS]
    kept = {
        "cell_type": cell["cell_type"],
        "id": cell.get("id") or f"cell-{index}",
        "metadata": {"tags": tags} if tags else {},
        "source": _lines("".join(cell["source"])),
    }
    if cell["cell_type"] == "code":
        kept["execution_count"] = cell.get("execution_count")
        kept["outputs"] = [_canonical_output(output) for output in _joined(cell.get("outputs", []))]
    return kept


def _canonical_output(output: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in output.items() if key != "metadata"}
    if output["output_type"] == "stream":
        return {**kept, "text": _lines("".join(output["text"]))}
    if "data" in output:
        data = {
            kind: _lines("".join(value)) if isinstance(value, (str, list)) and not kind.startswith("image/") else value
            for kind, value in output["data"].items()
            if kind != WIDGET  # it is dead without its kernel; the plain form beside it is not
        }
        return {**kept, "data": data, "metadata": {}}
    return kept


def _joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbouring pieces of one stream as one: how a stream is cut depends on timing."""
    joined: list[dict[str, Any]] = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output["output_type"] == "stream" == last.get("output_type") and output["name"] == last["name"]:
            joined[-1] = {**last, "text": "".join(last["text"]) + "".join(output["text"])}
        else:
            joined.append(output)
    return joined


def course_of(path: Path) -> list[Path]:
    """The numbered notebooks beside this one, in order; none if it is not numbered itself."""
    course = sorted(path.parent.glob("[0-9][0-9]-*.ipynb"))
    return course if path in course else []


def navigation(path: Path) -> str:
    """The last line of a notebook of the course: the one before, the index, the one after."""
    course = course_of(path)
    place = course.index(path)
    steps = [("Previous", course[place - 1])] if place else []
    steps += [("Next", after) for after in course[place + 1 : place + 2]]
    ways = [f"{word}: [{to.stem}]({to.name})" for word, to in steps]
    return " · ".join([*ways[: bool(place)], f"Index: [all notebooks]({course[0].name})", *ways[bool(place) :]])


def _navigated(notebook: dict[str, Any], path: Path) -> dict[str, Any]:
    """The notebook with its last line anew, if it is one of the course."""
    if not course_of(path):
        return notebook
    *earlier, last = notebook["cells"]
    if last["cell_type"] != "markdown":
        earlier, last = notebook["cells"], {"cell_type": "markdown", "id": "navigation", "source": ""}
    lines = "".join(last["source"]).splitlines()
    if lines and lines[-1].startswith(("Previous: ", "Index: ")):
        lines = lines[:-2]
    return {**notebook, "cells": [*earlier, {**last, "source": "\n".join([*lines, "", navigation(path)]).strip()}]}


def _ways(cells: list[dict[str, Any]], path: Path) -> list[str]:
    course = course_of(path)
    if not course:
        return []
    found = []
    if "".join(cells[-1]["source"]).splitlines()[-1:] != [navigation(path)]:
        found.append("its last line is not the way to the one before, the index and the one after (--fix mends that)")
    if path == course[0]:
        markdown = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        listed = [(name, minutes) for name, _, minutes in INDEX_ROW.findall(markdown)]
        if listed != [(other.stem, _minutes(other)) for other in course]:
            found.append("its index does not list each notebook of the course with its minutes, in order")
    return found


def _minutes(path: Path) -> str:
    first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    match = MINUTES.search(first)
    return match[1] if match else "none"


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def problems(path: Path) -> list[str]:
    """What is wrong with a notebook, each as a sentence."""
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    found = []
    if notebook.get("nbformat") != 4 or text != canonical(notebook):
        found.append("it is not in canonical form (--fix mends that)")
    cells = notebook["cells"]
    found += _headings(cells)
    code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    if sum("parameters" in cell["metadata"].get("tags", []) for cell in code) != 1:
        found.append("it needs exactly one cell tagged parameters")
    if [cell.get("execution_count") for cell in code] != list(range(1, len(code) + 1)):
        found.append("its code cells are not all executed in order (make notebooks does it)")
    outputs = [output for cell in code for output in cell.get("outputs", [])]
    if not outputs:
        found.append("no output is kept in it")
    if any(output["output_type"] == "error" for output in outputs):
        found.append("an output is an error; show an expected one with expect_error")
    if any("".join(output.get("data", {}).get("text/plain", "")).startswith("VBox(children=") for output in outputs):
        found.append("a widget has no plain form; make it a tritonlab.widgets.Panel")
    for cell in code:
        if match := MACHINE_PATH.search(json.dumps([cell["source"], cell.get("outputs")], ensure_ascii=False)):
            found.append(f"a path of one machine stands in it: {match[0]}")
    return found + _ways(cells, path) + _images(cells, outputs)


def _headings(cells: list[dict[str, Any]]) -> list[str]:
    texts = [FENCE.sub("", "".join(c["source"])) for c in cells if c["cell_type"] == "markdown"]
    levels = [len(match[1]) for text in texts for match in HEADING.finditer(text)]
    found = []
    if levels.count(1) != 1 or not texts or not HEADING.match(texts[0]):
        found.append("it needs exactly one H1, at the top of its first cell")
    for before, after in itertools.pairwise(levels):
        if after > before + 1:
            found.append(f"a heading of level {after} follows one of level {before}")
    return found


def _images(cells: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> list[str]:
    found = []
    markdown = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for alt, target in MARKDOWN_IMAGE.findall(markdown):
        if len(alt.split()) < 3:
            found.append(f"the image {target} has no alt text that says what it shows")
    for tag in HTML_IMAGE.findall(markdown):
        if not re.search(r'alt="[^"]{10,}"', tag):
            found.append(f"an image has no alt text: {tag[:60]}")
    for output in outputs:
        data = output.get("data", {})
        if any(kind.startswith("image/") for kind in data):
            said = "".join(data.get("text/plain", ""))
            if len(said.split()) < 4 or said.startswith("<"):
                found.append("a figure has no text beside it that says what it shows (its text/plain)")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fix", action="store_true")
    parser.add_argument("notebooks", nargs="+", type=Path)
    options = parser.parse_args()
    failed = 0
    for path in options.notebooks:
        if options.fix:
            notebook = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(canonical(_navigated(notebook, path)), encoding="utf-8")
        for problem in problems(path):
            failed += 1
            print(f"{path}: {problem}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
