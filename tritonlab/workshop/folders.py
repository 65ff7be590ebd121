"""Folders that are made anew: nothing that lies there already is mixed with them, or lost."""

from __future__ import annotations

from pathlib import Path

from tritonlab.errors import CourseError


def empty(folder: Path, purpose: str) -> Path:
    """The folder, made if needed.

    Raises:
        CourseError: something is in it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise CourseError(
            f"{folder} cannot be used for {purpose}: {error.strerror}.", "Name a folder of your own that is not there."
        ) from None
    if not is_empty:
        raise CourseError(
            f"{folder} is not empty, and {purpose} is made in an empty folder only.",
            "Name another folder, or delete that one yourself.",
        )
    return folder
