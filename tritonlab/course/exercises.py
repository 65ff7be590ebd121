"""Exercises: `check("01.2", answer)` says whether an answer is right and, for the usual wrong ones, why it is not.

The answers stand in `exercises.toml` beside this file, out of the notebooks' sight. An exercise has `kind`:

    choice  one of several letters; every choice has its reply
    number  a number, right within `tolerance` (relative); usual wrong numbers have replies
    text    a word or line, compared without case, quotes and extra spaces; usual wrong ones have replies

What has to be tried on a real server is checked by the notebook's own cells, on the server.
"""

from __future__ import annotations

import html
import math
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tritonlab.errors import CourseError

TEXT = Path(__file__).with_name("exercises.toml")


@dataclass(frozen=True)
class Reply:
    """What `check` says. `right` is None when no answer was given yet."""

    exercise: str
    right: bool | None
    text: str

    def __repr__(self) -> str:
        mark = {True: "Right.", False: "Not yet.", None: "Your turn."}[self.right]
        return f"{self.exercise}  {mark} {self.text}"

    def _repr_html_(self) -> str:
        colour = {True: "#1a7f37", False: "#bf3989", None: "#6e7781"}[self.right]
        return f'<div style="border-left:4px solid {colour};padding:.3em .8em">{html.escape(repr(self))}</div>'


def check(exercise: str, answer: Any = None) -> Reply:
    """Check an answer.

    Raises:
        CourseError: there is no such exercise.
    """
    known = exercises()
    if exercise not in known:
        raise CourseError(f"There is no exercise {exercise!r}.", f"There are {', '.join(known)}.")
    entry = known[exercise]
    if answer is None or answer is ... or (isinstance(answer, str) and not answer.strip()):
        return Reply(exercise, None, entry["ask"])
    return _KINDS[entry["kind"]](exercise, entry, answer)


@cache
def exercises() -> dict[str, dict[str, Any]]:
    """Every exercise by its number."""
    return tomllib.loads(TEXT.read_text(encoding="utf-8"))


def _choice(exercise: str, entry: dict[str, Any], answer: Any) -> Reply:
    letter = _plain(answer)
    replies = entry["replies"]
    if letter not in replies:
        return Reply(exercise, False, f"The choices are {', '.join(replies)}.")
    return Reply(exercise, letter == entry["answer"], replies[letter])


def _number(exercise: str, entry: dict[str, Any], answer: Any) -> Reply:
    try:
        given = float(answer)
    except (TypeError, ValueError, OverflowError):
        return Reply(exercise, False, f"A number is wanted, and {answer!r} is none.")
    close = entry.get("tolerance", 0.0)
    if math.isclose(given, entry["answer"], rel_tol=close):
        return Reply(exercise, True, entry["why"])
    for wrong in entry.get("wrong", []):
        if math.isclose(given, wrong["answer"], rel_tol=close):
            return Reply(exercise, False, wrong["reply"])
    return Reply(exercise, False, entry["otherwise"])


def _text(exercise: str, entry: dict[str, Any], answer: Any) -> Reply:
    given = _plain(answer)
    accepted = [entry["answer"], *entry.get("also", [])]
    if given in map(_plain, accepted):
        return Reply(exercise, True, entry["why"])
    for wrong in entry.get("wrong", []):
        if given == _plain(wrong["answer"]):
            return Reply(exercise, False, wrong["reply"])
    return Reply(exercise, False, entry["otherwise"])


def _plain(answer: Any) -> str:
    return " ".join(str(answer).strip().strip("\"'`").split()).lower()


_KINDS = {"choice": _choice, "number": _number, "text": _text}
