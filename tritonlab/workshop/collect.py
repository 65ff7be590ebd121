"""The progress of many learners in one table, from the files that they exported."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonlab.errors import CourseError

if TYPE_CHECKING:
    import pandas as pd

MOST_BYTES = 1_000_000
MOST_NAME = 60
FORMULA = "=+-@\t\r"  # a spreadsheet would compute a name that begins so


@dataclass(frozen=True)
class Progress:
    """What one learner has done by one moment.

    Attributes:
        exercises: number -> {"tries", "hints", "solution", "solved"}.
    """

    learner: str
    exported: datetime
    exercises: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Class:
    """The newest progress of each learner, by name, and a sentence for each file that does not count, and why."""

    learners: Mapping[str, Progress]
    remarks: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """A row a learner: done of all in each notebook, tries, hints, solutions looked at, where they are stuck.

        Whoever has tried most, in vain, comes first.
        """
        import pandas as pd

        rows = sorted(map(_row, self.learners.values()), key=lambda row: (-row["_vain"], str(row["learner"]).lower()))
        return pd.DataFrame([{name: value for name, value in row.items() if name != "_vain"} for row in rows])


def collect(paths: Iterable[Path]) -> Class:
    """Read progress files, or the folders that hold them; a broken one does not stop the rest.

    Raises:
        CourseError: none of them can be read.
    """
    newest: dict[str, Progress] = {}
    remarks = []
    for path in _files(paths):
        try:
            found = read(path)
        except CourseError as error:
            remarks.append(error.what)
            continue
        other = newest.get(found.learner)
        if other is not None:
            kept, left = sorted((found, other), key=lambda progress: progress.exported, reverse=True)
            remarks.append(
                f"{found.learner} has several files: that of {kept.exported:%Y-%m-%d %H:%M:%S} UTC counts, "
                f"that of {left.exported:%Y-%m-%d %H:%M:%S} does not ({path} was read last)."
            )
            found = kept
        if unknown := sorted(set(found.exercises) - set(_exercises())):
            remarks.append(f"{path}: {', '.join(unknown)} are no exercises of this course, and do not count.")
        newest[found.learner] = found
    if not newest:
        said = " ".join(map(_printable, remarks)) or "There is no .json file in what was named."
        raise CourseError(f"No learner's progress could be read. {said}", "Name the exported files, or their folder.")
    return Class(newest, tuple(map(_printable, remarks)))


def read(path: Path) -> Progress:
    """One exported file.

    Raises:
        CourseError: it cannot be read, or is not what a learner exports; says what is wrong.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise CourseError(f"{path} is too large to be a learner's progress.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise CourseError(f"{path} is no JSON: {error}.") from None
    try:
        return _progress(content)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CourseError(f"{path} is not what a learner exports: {said}.") from None


def for_spreadsheet(table: pd.DataFrame) -> pd.DataFrame:
    """The same with names that no spreadsheet takes for a formula."""
    names = [f"'{name}" if name[0] in FORMULA else name for name in table["learner"]]
    return table.assign(learner=names)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in dict.fromkeys(paths):
        yield from sorted(path.rglob("*.json")) if path.is_dir() else [path]


def _progress(content: Any) -> Progress:
    if not isinstance(content, dict):
        raise TypeError(f"it holds a {type(content).__name__}")
    learner = _printable(str(content["learner"])).strip()
    if not isinstance(content["learner"], str) or not 0 < len(learner) <= MOST_NAME:
        raise ValueError(f"its learner has no name of 1 to {MOST_NAME} letters")
    if not isinstance(content["exercises"], dict):
        raise TypeError("its exercises are no object")
    return Progress(
        learner, _time(content["exported"]), {number: _entry(number, e) for number, e in content["exercises"].items()}
    )


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _entry(number: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise TypeError(f"exercise {number} is no object")
    for name in ("tries", "hints"):
        if type(entry[name]) is not int or not 0 <= entry[name] < math.inf:
            raise ValueError(f"the {name} of exercise {number} are {entry[name]!r}")
    solved = entry["solved"]
    return {**entry, "solution": bool(entry["solution"]), "solved": None if solved is None else _time(solved)}


def _time(text: Any) -> datetime:
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no time")
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _exercises() -> list[str]:
    from tritonlab.course.exercises import exercises

    return list(exercises())


def _row(progress: Progress) -> dict[str, Any]:
    known = _exercises()
    mine = {number: progress.exercises[number] for number in known if number in progress.exercises}
    solved = {number for number, entry in mine.items() if entry["solved"]}
    row: dict[str, Any] = {"learner": progress.learner}
    for notebook in dict.fromkeys(number[:2] for number in known):
        of_it = [number for number in known if number.startswith(notebook)]
        row[notebook] = f"{len(solved.intersection(of_it))}/{len(of_it)}"
    vain = {number: entry["tries"] for number, entry in mine.items() if number not in solved and entry["tries"]}
    stuck = max(vain, key=vain.__getitem__, default="")
    return {
        **row,
        "done": f"{len(solved)}/{len(known)}",
        "tries": sum(entry["tries"] for entry in mine.values()),
        "hints": sum(entry["hints"] for entry in mine.values()),
        "solutions": sum(entry["solution"] for entry in mine.values()),
        "stuck on": f"{stuck} ({vain[stuck]} tries)" if stuck else "",
        "_vain": vain.get(stuck, 0),
    }
