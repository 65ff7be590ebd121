"""A folder for learners: clean notebooks, what they read, and an index."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tritonlab import course
from tritonlab.errors import CourseError
from tritonlab.workshop import folders

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)[^)]*\)")
MINUTES = re.compile(r"\*\*Takes\*\*\s+(\d+)\s+minutes")
ASKING = ("check", "quiz")
KEPT_TAGS = ("parameters", "runbook")  # what papermill and `tritonlab run` go by
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "name": "python"},
}
INDEX = """# {title}

Open a shell in this folder, with the course's environment active.

1. `tritonlab doctor` says whether your machine is ready. A line that says FAIL says what to do.
2. `tritonlab lab` opens the notebooks in JupyterLab.

| notebook | | minutes |
| --- | --- | --- |
{rows}

Replace the `None` of an exercise by your answer and run its cell: it says whether you are right, and why not.
"""


def make(folder: Path, numbers: Iterable[str] = ()) -> list[Path]:
    """Write clean notebooks, the figures and data that they read, and an index into an empty folder.

    Args:
        folder: where; made if needed.
        numbers: which notebooks, by their two digits; all without any. 00 always comes along: by it a course's folder
            is known.

    Returns:
        The notebooks written.

    Raises:
        CourseError: the folder is not empty, or there is no such notebook.
    """
    chosen = course.notebooks(sorted({"00", *(number.zfill(2) for number in numbers)}) if numbers else ())
    folders.empty(folder, "a hand-out")
    (folder / "notebooks").mkdir()
    written, rows = [], []
    for source in chosen:
        notebook = clean(json.loads(source.read_text(encoding="utf-8")))
        _keep_links(notebook, source, folder, {path.name for path in chosen})
        target = folder / "notebooks" / source.name
        target.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(target)
        rows.append(f"| [{source.stem}](notebooks/{source.name}) | {title(source)} | {minutes(source)} |")
    shutil.copytree(course.root() / "data", folder / "data", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    index = INDEX.format(title="LLM serving with Triton", rows="\n".join(rows))
    (folder / "README.md").write_text(index, encoding="utf-8")
    return written


def check(folder: Path) -> bool:
    """Whether every notebook of a hand-out runs against a real server; `tritonlab run` tells of each as it is done.

    It runs in a copy, so that the hand-out stays clean, and in a process of its own, as a learner would run it. What
    was executed is kept only if something failed.
    """
    place = Path(tempfile.mkdtemp(prefix="tritonlab-handout-"))
    copy = place / "handout"
    try:
        shutil.copytree(folder, copy)
        command = [sys.executable, "-m", "tritonlab", "run", "--runs", str(place / "runs")]
        succeeded = subprocess.run(command, cwd=copy, check=False).returncode == 0
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    shutil.rmtree(place if succeeded else copy, ignore_errors=True)
    return succeeded


def clean(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook without outputs, counts and metadata, and with exercises that nobody has answered."""
    return {"cells": [_clean_cell(cell) for cell in notebook["cells"]], "metadata": METADATA,
            "nbformat": 4, "nbformat_minor": 5}  # fmt: skip


def minutes(notebook: Path) -> int:
    """What its first cell says that it takes.

    Raises:
        CourseError: it does not say.
    """
    found = MINUTES.search(_opening(notebook))
    if not found:
        raise CourseError(
            f"{notebook.name} does not say how long it takes.", 'Write "**Takes** 30 minutes." at its top.'
        )
    return int(found[1])


def title(notebook: Path) -> str:
    """The heading of its first cell."""
    found = TITLE.search(_opening(notebook))
    return found[1] if found else notebook.stem


def _opening(notebook: Path) -> str:
    return "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"])


def _clean_cell(cell: dict[str, Any]) -> dict[str, Any]:
    source = "".join(cell["source"])
    tags = [tag for tag in cell["metadata"].get("tags", []) if tag in KEPT_TAGS]
    kept = {
        "cell_type": cell["cell_type"],
        "id": cell["id"],
        "metadata": {"tags": tags} if tags else {},
    }
    if cell["cell_type"] != "code":
        return {**kept, "source": source.splitlines(keepends=True)}
    return {**kept, "source": _unanswered(source).splitlines(keepends=True), "execution_count": None, "outputs": []}


def _unanswered(source: str) -> str:
    """The source with None for the answer of each `check("02.3", "b")` or quiz; what a cell computes stays."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a shell command or a magic
        return source
    lines = source.encode().splitlines(keepends=True)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ASKING]
    answers = [call.args[1] for call in calls if len(call.args) > 1]
    for answer in sorted(answers, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        if _is_written_out(answer):
            assert answer.end_lineno is not None
            first, last = answer.lineno - 1, answer.end_lineno - 1
            rest = lines[last][answer.end_col_offset :]
            lines[first : last + 1] = [lines[first][: answer.col_offset] + b"None" + rest]
    return b"".join(lines).decode()


def _is_written_out(answer: ast.expr) -> bool:
    try:
        ast.literal_eval(answer)
    except ValueError:
        return False
    return True


def _keep_links(notebook: dict[str, Any], source: Path, folder: Path, handed_out: set[str]) -> None:
    """Bring the files along that the text shows; a link to what is not handed out becomes plain text."""

    def kept(link: re.Match[str]) -> str:
        is_image, words, target = link.groups()
        path = (source.parent / target).resolve()
        if (
            "://" in target
            or target == "../README.md"
            or (path.parent == source.parent.resolve() and path.name in handed_out)
        ):
            return link[0]
        if is_image and path.is_file():
            copy = folder / "notebooks" / target
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            return link[0]
        return words

    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = LINK.sub(kept, "".join(cell["source"])).splitlines(keepends=True)
