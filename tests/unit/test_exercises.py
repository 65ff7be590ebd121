"""Every exercise has its question in a notebook, a right answer that is taken, and a reply for each usual wrong one."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tritonlab import check, course
from tritonlab.course.exercises import exercises
from tritonlab.errors import CourseError

ENTRIES = exercises()


def choices(kind: str) -> list[str]:
    return [number for number, entry in ENTRIES.items() if entry["kind"] == kind]


@pytest.mark.parametrize("number", ENTRIES)
def test_right_answer_is_right(number: str) -> None:
    entry = ENTRIES[number]
    for answer in (entry["answer"], *entry.get("also", [])):
        assert check(number, answer).right is True


@pytest.mark.parametrize("number", ENTRIES)
def test_no_answer_is_an_invitation(number: str) -> None:
    for nothing in (None, "", ...):
        reply = check(number, nothing)
        assert reply.right is None
        assert reply.text == ENTRIES[number]["ask"]


@pytest.mark.parametrize("number", choices("choice"))
def test_every_choice_has_its_own_reply(number: str) -> None:
    replies = ENTRIES[number]["replies"]
    assert len(set(replies.values())) == len(replies) >= 3
    for letter, reply in replies.items():
        given = check(number, letter.upper())
        assert given.text == reply
        assert given.right is (letter == ENTRIES[number]["answer"])
    assert check(number, "z").right is False


@pytest.mark.parametrize("number", choices("number") + choices("text"))
def test_usual_wrong_answers_have_replies(number: str) -> None:
    entry = ENTRIES[number]
    assert entry["wrong"]
    for wrong in entry["wrong"]:
        reply = check(number, wrong["answer"])
        assert (reply.right, reply.text) == (False, wrong["reply"])
    assert check(number, "something else entirely").right is False


@pytest.mark.parametrize("answer", [[], {}, object(), float("nan"), b"\xff", 1j, "'\"`", "a" * 10_000, -7])
def test_any_answer_gets_a_reply(answer: Any) -> None:
    for number in ENTRIES:
        assert check(number, answer).right in (False, None)


def test_unknown_exercise_is_a_sentence() -> None:
    with pytest.raises(CourseError, match=r"There is no exercise '99\.9'"):
        check("99.9", "a")


def test_notebooks_ask_each_of_them_once_in_order() -> None:
    asked = []
    for path in course.notebooks():
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        numbers = re.findall(
            r'^check\("([\d.]+)", ', "\n".join("".join(cell["source"]) for cell in cells), re.MULTILINE
        )
        assert len(numbers) >= 3, path
        assert all(number.startswith(path.name[:2]) for number in numbers)
        asked += numbers
    assert asked == list(ENTRIES)


def test_reply_is_safe_html() -> None:
    assert "<script>" not in check("02.2", "<script>")._repr_html_()
    assert "Your turn" in check("00.1")._repr_html_()
