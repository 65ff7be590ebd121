"""The tutor model: a small Llama that answers questions about this course; see model/README.md."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
MODEL = HERE / "model"

# The usual ways of asking what something is; an entry with a topic gets them all in training.
TOPIC_FORMS = (
    "What is {}?",
    "What's {}?",
    "Explain {}.",
    "Tell me about {}.",
    "Define {}.",
    "What does {} mean?",
    "Can you explain {}?",
    "I don't understand {}.",
    "what is meant by {}",
)


@dataclass(frozen=True)
class Question:
    """A question with its answer; `also` are the other wordings trained on, `held_out` those only tested."""

    question: str
    answer: str
    also: tuple[str, ...]
    held_out: tuple[str, ...]


def questions() -> list[Question]:
    """Everything that the tutor model was taught."""
    entries = tomllib.loads((HERE / "questions.toml").read_text(encoding="utf-8"))["entry"]
    return [
        Question(
            entry["question"],
            entry["answer"],
            tuple(entry["also"]) + tuple(form.format(entry["topic"]) for form in TOPIC_FORMS if "topic" in entry),
            tuple(entry["held_out"]),
        )
        for entry in entries
    ]
