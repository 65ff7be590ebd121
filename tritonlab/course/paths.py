"""Where the course lies. A notebook's working folder differs by tool, so paths come from here."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tritonlab.errors import CourseError

FIRST = Path("notebooks") / "00-start-here.ipynb"


def root() -> Path:
    """The course's folder: the one at or above the working folder, or the checkout of this package.

    Raises:
        CourseError: there is none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).parents[2]):
        if (folder / FIRST).exists():
            return folder
    raise CourseError(
        f"No course was found at or above {here}.",
        "Clone the repository and work inside it: the notebooks are not part of the installed package.",
    )


def data(name: str) -> Path:
    """A file of the course's data folder, e.g. data("logs/triton-vllm-ready.log").

    Raises:
        CourseError: there is no such file.
    """
    folder = root() / "data"
    path = folder / name
    if not path.exists():
        known = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
        raise CourseError(f"The course has no data file {name!r}.", _nearest(name, known))
    return path


def tutor_model() -> str:
    """The tutor model's folder, relative to the working folder, as model.json can name it."""
    from tritonlab.engine.tutor import MODEL

    return os.path.relpath(MODEL)


def workspace(name: str) -> Path:
    """An empty folder for a notebook to work in; what an earlier run left in it is deleted.

    Raises:
        CourseError: the name is that of a link, or of something that no run of the course made.
    """
    folder = Path(name)
    mark = folder / ".tritonlab-workspace"
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if folder.is_symlink() or (folder.exists() and not mark.exists() and not is_empty):
        raise CourseError(
            f"{name!r} is there already, and it is not a workspace of this course.",
            "Give the parameter `workspace_folder` another name.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    # The mark stays throughout, so that an interrupted clearing can be taken up again.
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child != mark:
            child.unlink()
    return folder


def notebooks(numbers: Iterable[str] = ()) -> list[Path]:
    """The notebooks of the course in order, or those whose two-digit numbers are given.

    Raises:
        CourseError: a number has no notebook.
    """
    every = {path.name[:2]: path for path in sorted((root() / "notebooks").glob("[0-9][0-9]-*.ipynb"))}
    wanted = [number.zfill(2) for number in numbers] or list(every)
    for number in wanted:
        if number not in every:
            raise CourseError(f"There is no notebook {number!r}.", f"There are {', '.join(every)}.")
    return [every[number] for number in wanted]


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(sorted(known))}."
