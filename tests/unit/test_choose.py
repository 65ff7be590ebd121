"""The decision helper: cases that the course can defend, and that no question or rule is idle."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tritonlab import choose as module
from tritonlab.choose import Decision, choose, questions
from tritonlab.errors import TritonlabError

TABLE: dict[str, Any] = tomllib.loads(Path(module.__file__).with_name("choose.toml").read_text())
PATHS, QUESTIONS, RULES = TABLE["paths"], TABLE["questions"], TABLE["rules"]
ENGINE = {"goal": "latency", "changes": "yearly", "team": "weeks", "upgrades": "freeze"}


@pytest.mark.parametrize(
    ("answers", "path"),
    [
        ({}, "vllm-backend"),
        ({"around": "openai"}, "vllm-serve"),
        ({"gpu": "none"}, "vllm-backend"),
        ({"gpu": "other"}, "vllm-backend"),
        ({"gpu": "other", "around": "openai"}, "vllm-serve"),
        ({"goal": "throughput"}, "llm-api"),
        ({"gpu": "blackwell", "quantization": "nvfp4"}, "llm-api"),
        (ENGINE, "trtllm-engine"),
        ({**ENGINE, "gpu": "turing"}, "vllm-backend"),
        ({**ENGINE, "model": "pytorch"}, "vllm-backend"),
        ({**ENGINE, "upgrades": "follow"}, "vllm-backend"),
    ],
)
def test_cases(answers: dict[str, str], path: str) -> None:
    assert choose(**answers).path == path


def test_what_is_out_is_never_recommended() -> None:
    found = choose(**ENGINE, gpu="none")
    assert found.out == ("llm-api", "trtllm-engine")
    assert set(found.points) == {"vllm-backend", "vllm-serve"}
    assert "TensorRT-LLM installs, builds and runs on NVIDIA GPUs alone." in repr(found)
    assert choose(around="pipeline").out == ("vllm-serve",)


def test_a_close_call_says_measure() -> None:
    found = choose()
    assert found.points["vllm-backend"] - found.points["llm-api"] <= 1
    assert found.close == ("llm-api",)
    assert "measure both" in repr(found)
    assert choose(lora="many").close == ()


def test_flips_are_those_of_asking_again() -> None:
    found = choose(**ENGINE)
    assert found.flips
    for flip in found.flips:
        assert choose(**{**found.answers, flip.question: flip.answer}).path == flip.path != found.path
    flipped = {(flip.question, flip.answer) for flip in found.flips}
    for question, entry in QUESTIONS.items():
        for answer in entry["answers"]:
            if (question, answer) not in flipped:
                assert choose(**{**found.answers, question: answer}).path == found.path


def test_every_question_decides_somewhere_and_every_path_can_win() -> None:
    deciding: set[str] = set()
    winning: set[str] = set()
    starts = ({}, ENGINE, {"around": "openai"}, {"goal": "throughput"}, {"goal": "latency", "upgrades": "freeze"})
    for start in starts:
        for question, entry in QUESTIONS.items():
            for answer in entry["answers"]:
                found = choose(**{**start, question: answer})
                winning.add(found.path)
                deciding |= {flip.question for flip in found.flips}
    assert deciding == set(QUESTIONS)
    assert winning == set(PATHS)


def test_there_is_always_a_way() -> None:
    """Whatever the answers to the questions that rule paths out; no other can take a path away."""
    ruling = sorted({question for rule in RULES if "out" in rule for question in rule["when"]})
    for answers in itertools.product(*(QUESTIONS[question]["answers"] for question in ruling)):
        found = choose(**dict(zip(ruling, answers, strict=True)))
        assert found.path in found.points
        assert found.points[found.path] == max(found.points.values())


def test_rules_name_what_there_is_and_say_where_from() -> None:
    for rule in RULES:
        assert {*rule.get("out", []), *rule.get("paths", [])} <= set(PATHS)
        assert not ("out" in rule and "points" in rule)
        assert ("paths" in rule) == bool(rule.get("points")), rule
        assert rule["why"].endswith(".")
        assert rule["source"]
        for question, answers in rule["when"].items():
            assert set(answers) < set(QUESTIONS[question]["answers"])
    used = {(question, answer) for rule in RULES for question, answers in rule["when"].items() for answer in answers}
    for question, entry in QUESTIONS.items():
        assert entry["default"] in entry["answers"]
        idle = [answer for answer in entry["answers"] if (question, answer) not in used]
        assert len(idle) <= 2, (question, idle)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["why"][:40])
def test_every_rule_shows_where_it_holds(rule: dict[str, Any]) -> None:
    found = choose(**{question: answers[0] for question, answers in rule["when"].items()})
    assert f"{rule['why']} [{rule['source']}]" in repr(found)


def test_what_was_assumed_is_said() -> None:
    found = choose(gpu="ampere")
    assert "gpu" not in found.assumed
    assert set(found.assumed) == set(QUESTIONS) - {"gpu"}
    assert "Assumed" in repr(found)
    whole = choose(**found.answers)
    assert whole.assumed == ()
    assert "Assumed" not in repr(whole)
    assert isinstance(whole, Decision)


def test_both_forms_say_the_same() -> None:
    found = choose(**ENGINE, quantization="nvfp4")
    assert found.notes
    rich = found._repr_html_()
    for line in repr(found).splitlines():
        assert line.strip().replace("'", "&#x27;").replace("&", "&").split(" [")[0] in rich


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"gpus": "ampere"}, "Did you mean 'gpu'"),
        ({"weather": "red"}, "There are gpu, model"),
        ({"gpu": "hopper"}, "Did you mean"),
        ({"gpu": 7}, "There is no answer to 'gpu' 7"),
        ({"gpu": []}, "There is no answer"),
    ],
)
def test_unknown_words_are_refused(answers: dict[str, Any], said: str) -> None:
    with pytest.raises(TritonlabError, match=said):
        choose(**answers)


def test_questions_as_a_table() -> None:
    table = questions()
    assert list(table) == ["question", "ask", "answer", "means", "default"]
    assert (table[table.default == "yes"].groupby("question").size() == 1).all()
    assert len(table) == sum(len(entry["answers"]) for entry in QUESTIONS.values())
