"""What the tutor model's card claims, measured on vLLM."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tritonlab import course
from tritonlab.engine import Engine
from tritonlab.engine.tutor import MODEL, measure, questions


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    engine = Engine.find()
    environment = os.environ | engine.environment()
    environment |= {"PYTHONPATH": str(course.root()), "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [engine.python, measure.__file__], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    figures: dict[str, float] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return figures


def test_questions_are_answered_word_for_word(figures: dict[str, float]) -> None:
    assert figures["exact"] >= 0.95, figures["wrong"]


def test_new_wordings_find_their_answer(figures: dict[str, float]) -> None:
    assert figures["held_out"] >= 0.5, figures["missed"]


def test_held_out_wordings_were_not_trained_on() -> None:
    trained = {text.lower().strip("?.! ") for q in questions() for text in (q.question, *q.also)}
    tested = {text.lower().strip("?.! ") for q in questions() for text in q.held_out}
    assert len(tested) >= 100
    # Greetings are too short to be worded anew.
    assert tested & trained <= {"hello", "hi there"}


def test_size() -> None:
    assert (MODEL / "model.safetensors").stat().st_size <= 12e6
