"""Where the course lies. A notebook's working folder differs by tool, so paths come from here."""

from __future__ import annotations

import difflib
import os
import shutil
import tomllib
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


def recorded_logs() -> dict[str, Path]:
    """The course's recorded logs, by their path below data/logs and, where the index has one, their title.

    Raises:
        CourseError: there is no course here.
    """
    folder = root() / "data" / "logs"
    titles = tomllib.loads((folder / "index.toml").read_text(encoding="utf-8"))["logs"]
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.log"))
    # Those with a title first: the others are named after the fault that they show.
    names.sort(key=lambda name: name not in titles)
    return {f"{name}: {titles[name]['title']}" if name in titles else name: folder / name for name in names}


def typed(text: str) -> Path:
    """The path that somebody typed, absolute.

    Raises:
        CourseError: nothing can be looked for there.
    """
    try:
        path = Path(os.path.abspath(Path(text).expanduser()))
        path.exists()
    except (RuntimeError, OSError, ValueError) as error:  # an unknown user's ~, too long a name, a null byte
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise CourseError(f"Nothing can be looked for at such a path: {reason}.", "Give another path.") from None
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


def notebooks(names: Iterable[str] = ()) -> list[Path]:
    """The notebooks of the course in order, or those named, each once: by number, name or path.

    "2", "02", "launch-vllm", "02-launch-vllm" and "notebooks/02-launch-vllm.ipynb" are one notebook.

    Raises:
        CourseError: there is no such notebook.
    """
    every = sorted((root() / "notebooks").glob("[0-9][0-9]-*.ipynb"))
    known = {name: path for path in every for name in (path.stem, path.stem[3:], path.stem[:2])}
    wanted = []
    for name in names:
        path = known.get(name.zfill(2) if name.isdigit() else Path(name).name.removesuffix(".ipynb"))
        if path is None:
            raise CourseError(f"There is no notebook {name!r}.", _nearest(name, [path.stem for path in every]))
        wanted.append(path)
    return list(dict.fromkeys(wanted)) or every


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(sorted(known))}."
