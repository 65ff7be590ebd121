"""Exercises: `check("01.2", answer)` says whether an answer is right and, for the usual wrong ones, why it is not.

The answers stand in the files NN.toml beside this one, out of the notebooks' sight; `kinds` says what stands in them.
What a learner did is kept, see `tritonlab.course.learner`. An exercise that somebody left unanswered counts as nothing.
"""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from tritonlab.course import learner
from tritonlab.course.exercises.kinds import ASK, Reply, judge, shown
from tritonlab.course.exercises.repositories import lay_out
from tritonlab.errors import CourseError
from tritonlab.repository import ModelRepository

__all__ = ["Reply", "begin", "check", "exercises", "hint", "is_blank", "solution"]


def check(exercise: str, answer: Any = None, *, target: str = "auto") -> Reply:
    """Check an answer: right, or why it is not.

    Args:
        exercise: its number, such as "02.3".
        answer: yours; a command or a configuration as text, a repository as a `ModelRepository` or its path.
        target: where the server runs that has to load a repository, as in `serve`.

    Raises:
        CourseError: there is no such exercise.
        TritonlabError: the target cannot start a server at all.
    """
    entry = _entry(exercise)
    if is_blank(answer):
        return Reply(exercise, None, entry.get("ask") or ASK[entry["kind"]])
    right, text = judge(entry, answer, target)
    return Reply(exercise, right, text, note=learner.tried(exercise, right))


def hint(exercise: str) -> Reply:
    """The next hint of an exercise; the last one again when there is no other.

    Raises:
        CourseError: there is no such exercise.
    """
    hints = _entry(exercise)["hints"]
    number, note = learner.hinted(exercise, len(hints))
    return Reply(exercise, None, hints[number - 1], f"Hint {number} of {len(hints)}.", note)


def solution(exercise: str) -> Reply:
    """The solution, for those who have tried.

    Raises:
        CourseError: there is no such exercise.
    """
    entry = _entry(exercise)
    allowed, note = learner.gave_up(exercise)
    if not allowed:
        text = f'The solution comes after a try of yours that went wrong. hint("{exercise}") helps you to one.'
        return Reply(exercise, None, text, "Not yet.", note)
    return Reply(exercise, None, f"{shown(entry)}\n{entry.get('why', '')}".strip(), "Solution:", note)


def begin(exercise: str, folder: str | os.PathLike[str]) -> ModelRepository:
    """Lay out the repository that an exercise wants mended; one that is there already stays as it is.

    Raises:
        CourseError: there is no such exercise, or none with a repository.
    """
    entry = _entry(exercise)
    if "start" not in entry:
        raise CourseError(f"Exercise {exercise} begins with no repository.", f'Answer it with check("{exercise}", …).')
    if not Path(folder).exists():
        lay_out({**entry["answer"], **entry["start"]}, Path(folder))
    return ModelRepository(folder)


def is_blank(answer: Any) -> bool:
    """Whether nothing was answered yet."""
    return answer is None or answer is ... or (isinstance(answer, str) and not answer.strip())


@cache
def exercises() -> dict[str, dict[str, Any]]:
    """Every exercise by its number."""
    files = sorted(Path(__file__).parent.glob("[0-9][0-9].toml"))
    return {number: entry for file in files for number, entry in tomllib.loads(file.read_text("utf-8")).items()}


def _entry(exercise: str) -> dict[str, Any]:
    known = exercises()
    if exercise not in known:
        raise CourseError(f"There is no exercise {exercise!r}.", f"There are {', '.join(known)}.")
    return known[exercise]
