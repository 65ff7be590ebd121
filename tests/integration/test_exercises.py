"""Exercises whose answer is a repository: a real server loads the solution, and says no to each usual wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonlab import check, progress
from tritonlab.course import begin
from tritonlab.course.exercises import exercises
from tritonlab.course.exercises.repositories import lay_out

ENTRIES = {number: entry for number, entry in exercises().items() if entry["kind"] == "repository"}
FAILING = [
    (number, wrong)
    for number, entry in ENTRIES.items()
    for wrong in entry["wrong"]
    if wrong["has"].startswith("cause: ")
]


@pytest.fixture(autouse=True)
def _learner_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not another TRITONLAB_HOME: the engine lies there.
    monkeypatch.setenv("TRITONLAB_PROGRESS", "off")


@pytest.mark.parametrize("number", ENTRIES)
def test_server_loads_the_solution(number: str, tmp_path: Path) -> None:
    lay_out(ENTRIES[number]["answer"], tmp_path / "mended")
    reply = check(number, tmp_path / "mended", target="local")
    assert reply.right, reply
    assert ENTRIES[number]["why"] in reply.text
    assert "A real server loaded " in reply.text
    assert "READY" in (tmp_path / "mended-server.log").read_text()


@pytest.mark.parametrize(
    ("number", "wrong"), FAILING, ids=[f"{number}-{wrong['has'][7:]}" for number, wrong in FAILING]
)
def test_server_refuses_a_usual_wrong_answer(
    number: str, wrong: dict[str, dict[str, str | bool]], tmp_path: Path
) -> None:
    lay_out({**ENTRIES[number]["answer"], **wrong["example"]}, tmp_path / "mine")
    reply = check(number, tmp_path / "mine", target="local")
    assert (reply.right, reply.text.splitlines()[0]) == (False, wrong["reply"])
    assert "the start came as far as " in reply.text
    assert "mine-server.log" in reply.text


def test_fault_that_nobody_listed_is_told_by_the_log(tmp_path: Path) -> None:
    lay_out(ENTRIES["07.6"]["answer"], tmp_path / "mine")
    file = tmp_path / "mine" / "gemma" / "1" / "model.json"
    file.write_text(file.read_text().replace("bfloat16", "float17"))
    reply = check("07.6", tmp_path / "mine", target="local")
    assert (reply.right, reply.text.splitlines()[0]) == (False, ENTRIES["07.6"]["otherwise"])
    assert "float17" in reply.text


def test_exercise_shows_its_second_fault_when_the_first_is_mended(tmp_path: Path) -> None:
    sick = begin("07.6", tmp_path / "sick")
    assert not sick.validate()
    assert "longer than any text" in check("07.6", sick, target="local").text
    sick["gemma"].update_model_json(max_model_len=2048)
    assert "quantized" in check("07.6", sick, target="local").text
    sick["gemma"].update_model_json(quantization=None)
    assert check("07.6", sick, target="local").right
    assert progress().records["07.6"].solved
