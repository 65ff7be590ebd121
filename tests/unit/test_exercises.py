"""Every exercise has its question in a notebook, a right answer that is taken, and a reply for each usual wrong one.

What has to be loaded on a server is in tests/integration/test_exercises.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tritonlab import DockerRun, ModelRepository, check, course, hint, quiz, solution
from tritonlab.course import begin
from tritonlab.course.exercises import exercises, facts
from tritonlab.course.exercises.kinds import ASK
from tritonlab.course.exercises.repositories import lay_out
from tritonlab.errors import CommandError, CourseError
from tritonlab.trtllm import BuildPlan

ENTRIES = exercises()


@pytest.fixture(autouse=True)
def _learner_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITONLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TRITONLAB_PROGRESS", raising=False)


def of(*kinds: str) -> list[str]:
    return [number for number, entry in ENTRIES.items() if entry["kind"] in kinds]


def taken_apart(number: str, text: str) -> list[str]:
    if ENTRIES[number]["kind"] == "config":
        return facts.of_config(text)
    return facts.of_command(text, ENTRIES[number]["answer"].split()[0])


def test_each_notebook_has_four_and_the_course_every_kind() -> None:
    for notebook in course.notebooks():
        assert sum(number.startswith(f"{notebook.name[:2]}.") for number in ENTRIES) >= 4, notebook
    assert {entry["kind"] for entry in ENTRIES.values()} == set(ASK)
    for number, entry in ENTRIES.items():
        assert len(entry["hints"]) >= 1, number
        assert len(set(entry["hints"])) == len(entry["hints"])


@pytest.mark.parametrize("number", [n for n in ENTRIES if n not in of("repository")])
def test_right_answer_is_right(number: str) -> None:
    entry = ENTRIES[number]
    also = entry.get("also", []) if entry["kind"] in ("text", "number", "log") else []
    for answer in (entry["answer"], *also):
        assert check(number, answer).right is True


@pytest.mark.parametrize("number", ENTRIES)
def test_no_answer_is_an_invitation(number: str) -> None:
    for nothing in (None, "", ...):
        reply = check(number, nothing)
        assert reply.right is None
        assert reply.text == ENTRIES[number].get("ask", ASK[ENTRIES[number]["kind"]])


@pytest.mark.parametrize("number", of("choice"))
def test_every_choice_has_its_own_reply(number: str) -> None:
    entry = ENTRIES[number]
    replies = entry["replies"]
    assert list(replies) == list(entry["choices"]) == ["a", "b", "c", "d"]
    assert len(set(replies.values())) == len(set(entry["choices"].values())) == 4
    for letter, reply in replies.items():
        given = check(number, letter.upper())
        assert given.text == reply
        assert given.right is (letter == entry["answer"])
    assert check(number, "z").right is False


@pytest.mark.parametrize("number", [n for n in ENTRIES if n not in of("choice", "repository")])
def test_usual_wrong_answers_have_replies_of_their_own(number: str) -> None:
    entry = ENTRIES[number]
    assert entry["wrong"]
    for wrong in entry["wrong"]:
        reply = check(number, wrong["answer"] if "answer" in wrong else wrong["example"])
        assert (reply.right, reply.text) == (False, wrong["reply"])
    replies = [wrong["reply"] for wrong in entry["wrong"]]
    assert len({*replies, entry["otherwise"], entry["why"]}) == len(replies) + 2
    assert check(number, "something else entirely").right is False


@pytest.mark.parametrize("number", of("config", "command"))
def test_each_fact_of_a_solution_is_needed_unless_it_is_optional(number: str) -> None:
    """Every rule that lacks something is there: leave one fact out, and somebody misses it."""
    entry = ENTRIES[number]
    whole = taken_apart(number, entry["answer"])
    for fact in whole:
        is_optional = any(re.fullmatch(pattern, fact) for pattern in entry.get("also", []))
        rest = [other for other in whole if other != fact]
        missed = [
            wrong
            for wrong in entry["wrong"]
            if "lacks" in wrong and not any(re.fullmatch(wrong["lacks"], other) for other in rest)
        ]
        assert bool(missed) or is_optional, fact


def test_meaning_counts_and_not_words() -> None:
    assert check(
        "01.4",
        'name: "mistral" instance_group [{kind: KIND_MODEL}] max_batch_size: 0 # by vLLM\n'
        'model_transaction_policy: { decoupled: true }, backend: "vllm"',
    ).right
    assert check(
        "02.6",
        "docker run --gpus=all -v ${PWD}/model_repository:/models:ro -dp 127.0.0.1:9000:8000 -eHF_TOKEN "
        "nvcr.io/nvidia/tritonserver:25.06-vllm-python-py3 tritonserver --model-store /models --load-model llama "
        "--model-control-mode explicit",
    ).right
    assert check("02.6", DockerRun.parse(ENTRIES["02.6"]["answer"])).right
    assert check("02.6", DockerRun.parse(ENTRIES["02.6"]["answer"]).render("powershell")).right
    inner = r"{\"max_tokens\": 20, \"temperature\": 0.0}"
    body = f'{{"text_input": "What is Triton?", "stream": true, "sampling_parameters": "{inner}"}}'
    assert check("03.5", f"curl --no-buffer -d '{body}' localhost:8000/v2/models/gemma/generate_stream").right
    plan = BuildPlan(
        "checkpoints/Llama-3.2-1B",
        "engines/Llama-3.2-1B",
        {"max_batch_size": 128, "remove_input_padding": "enable", "gpt_attention_plugin": "auto"},
    )
    assert check("04.6", plan).right


def test_what_nobody_asked_for_is_named() -> None:
    reply = check("02.6", ENTRIES["02.6"]["answer"].replace("--gpus all", "--gpus all --network host"))
    assert not reply.right
    assert "--network host" in reply.text
    reply = check("01.4", ENTRIES["01.4"]["answer"] + "version_policy { latest { num_versions: 2 } }")
    assert "version_policy.latest.num_versions: 2" in reply.text


def test_what_cannot_be_read_is_explained() -> None:
    assert "move gpu_memory_utilization to model.json" in check("01.4", "gpu_memory_utilization: 0.9").text
    assert "docker run has no option --load-model" in check("02.6", "docker run --load-model=llama image").text
    assert "not JSON" in check("03.5", "curl -d '{text_input: 1}' localhost:8000").text
    assert "no JSON object" in check("03.5", "curl -d '[1]' localhost:8000").text
    assert "would not take" in check("03.5", "curl --nobuffers localhost:8000").text
    assert "removed in 0.11" in check("04.6", "trtllm-build --checkpoint_dir a --output_dir b --max_output_len 5").text
    assert "has no value" in check("04.6", "trtllm-build --max_batch_size").text
    assert "belongs to no option" in check("04.6", "trtllm-build engines").text
    with pytest.raises(CommandError, match="begins with 'wget'"):
        facts.of_command("wget localhost", "curl")


def test_line_of_a_log_by_number_or_text() -> None:
    lines = course.data("logs/trtllm-build.log").read_text().splitlines()
    for answer in (7, "7", lines[6], f"  {lines[6]} ", f"7:{lines[6]}"):
        assert check("04.7", answer).right, answer
    assert check("04.7", lines[10]).text == check("04.7", 11).text
    assert "lines 1 to 19" in check("04.7", 20).text
    for answer in (0, -1, "99", "8:" + lines[6], "Compute", True):
        assert check("04.7", answer).right is False


@pytest.mark.parametrize(
    "answer", [[], {}, object(), float("nan"), b"\xff", 1j, "'\"`", "a" * 10_000, -7, "{" * 5000, "\ud800", "a\0b"]
)
def test_any_answer_gets_a_reply(answer: Any) -> None:
    for number in ENTRIES:
        assert check(number, answer).right in (False, None)


def test_unknown_exercise_is_a_sentence() -> None:
    for ask in (check, hint, solution, quiz):
        with pytest.raises(CourseError, match=r"99\.9"):
            ask("99.9")


def test_hints_come_one_by_one() -> None:
    first, second = ENTRIES["02.3"]["hints"]
    told = [hint("02.3") for _ in range(3)]
    assert [reply.text for reply in told] == [first, second, second]
    assert "Hint 1 of 2." in repr(told[0])
    assert hint("02.4").text == ENTRIES["02.4"]["hints"][0]


@pytest.mark.parametrize("number", ENTRIES)
def test_solution_comes_after_a_try(number: str) -> None:
    before = solution(number)
    refused = f'The solution comes after a try of yours that went wrong. hint("{number}") helps you to one.'
    assert (before.right, before.text) == (None, refused)
    check(number, None)
    assert solution(number).text == before.text
    assert not check(number, "something else entirely").right
    shown = solution(number).text
    assert "Solution" in repr(solution(number))
    entry = ENTRIES[number]
    wanted = entry["answer"].keys() if entry["kind"] == "repository" else [str(entry["answer"]).strip()]
    assert all(part in shown for part in wanted)


def test_quiz_has_a_plain_form() -> None:
    asked = quiz("00.1")
    assert repr(asked).splitlines() == [
        "00.1  Which part holds the KV cache?",
        "  a  your client",
        "  b  Triton's front end",
        "  c  vLLM's engine",
        "  d  the model repository",
        'Answer with quiz("00.1", "…").',
    ]
    bundle = asked._repr_mimebundle_()
    assert bundle["text/plain"] == repr(asked)
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "<li>vLLM&#x27;s engine</li>" in bundle["text/html"]
    assert quiz("00.1", "c").right is True
    assert quiz("00.1", "a").text == ENTRIES["00.1"]["replies"]["a"]
    with pytest.raises(CourseError, match=r"'00\.2' is no quiz"):
        quiz("00.2")


def test_quiz_answers_its_buttons() -> None:
    widget = quiz("00.1").widget
    _, radio, buttons, reply = widget.children
    press = {button.description: button.click for button in buttons.children}
    press["Check"]()
    assert ASK["choice"] in reply.value
    press["Solution"]()
    assert "comes after a try" in reply.value
    radio.value = "a"
    press["Check"]()
    assert "Not yet." in reply.value
    press["Hint"]()
    assert "Hint 1 of 2." in reply.value
    press["Solution"]()
    assert "c: vLLM" in reply.value
    radio.value = "c"
    press["Check"]()
    assert "Right." in reply.value


@pytest.mark.parametrize("number", of("repository"))
def test_repository_begins_broken_and_stays_as_the_learner_left_it(number: str, tmp_path: Path) -> None:
    broken = begin(number, tmp_path / "mine")
    assert isinstance(broken, ModelRepository)
    model = broken.path / ENTRIES[number]["models"][0]
    (model / "config.pbtxt").write_text("# mine\n")
    begin(number, tmp_path / "mine")
    assert (model / "config.pbtxt").read_text() == "# mine\n"
    assert "config.pbtxt" in check(number, broken).text
    with pytest.raises(CourseError, match="begins with no repository"):
        begin("00.1", tmp_path / "none")


@pytest.mark.parametrize("number", of("repository"))
def test_repository_is_validated_before_a_server_is_started(number: str, tmp_path: Path) -> None:
    entry = ENTRIES[number]
    seen = [wrong for wrong in entry["wrong"] if "problem" in wrong["has"]]
    assert seen
    for at, wrong in enumerate(seen):
        (tmp_path / str(at)).mkdir()
        lay_out({**entry["answer"], **wrong["example"]}, tmp_path / str(at))
        reply = check(number, tmp_path / str(at), target="a target that starts nothing")
        assert (reply.right, reply.text.splitlines()[0]) == (False, wrong["reply"])
    assert len({wrong["reply"] for wrong in entry["wrong"]} | {entry["otherwise"]}) == len(entry["wrong"]) + 1


def test_notebooks_ask_each_of_them_once_in_order() -> None:
    asked = []
    for path in course.notebooks():
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        source = "\n".join("".join(cell["source"]) for cell in cells)
        numbers = re.findall(r'^(?:check|quiz)\("([\d.]+)"', source, re.MULTILINE)
        assert len(numbers) >= 4, path
        assert all(number.startswith(path.name[:2]) for number in numbers)
        for number in numbers:
            call = f'quiz("{number}")' if number in of("choice") else f'check("{number}", None'
            assert call in source
            assert ("start" in ENTRIES[number]) == bool(re.search(rf'= begin\("{number}", ', source))
        asked += numbers
    assert asked == list(ENTRIES)


@pytest.mark.parametrize("path", course.notebooks(), ids=lambda path: path.stem)
def test_notebooks_hold_no_solution(path: Path) -> None:
    """No example of a notebook solves an exercise of its own, and no cell or output has the reply to a right answer."""
    text = "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])
    examples = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) + re.findall(r'r?"""(.*?)"""', text, re.DOTALL)
    for number, entry in ENTRIES.items():
        if number[:2] == path.name[:2]:
            if entry["kind"] in ("config", "command"):
                assert [example for example in examples if check(number, example).right] == []
            told = [entry["why"]] if "why" in entry else list(entry["replies"].values())
            assert [reply for reply in told if reply in path.read_text()] == []


def test_reply_is_safe_html() -> None:
    assert "<script>" not in check("02.2", "<script>")._repr_html_()
    assert "Your turn" in check("00.2")._repr_html_()
