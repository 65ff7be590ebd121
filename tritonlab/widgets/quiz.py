"""A question with choices, to be answered with the mouse, the keyboard, or in Python.

quiz("00.1")         # the question; in JupyterLab with buttons
quiz("00.1", "c")    # an answer, the same as check("00.1", "c")
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

from tritonlab.course import check, hint, solution
from tritonlab.course.exercises import Reply, exercises, is_blank
from tritonlab.errors import CourseError


class Quiz:
    """A question with choices.

    Attributes:
        exercise: its number.
        question: what is asked.
        choices: what can be answered, by letter.
    """

    def __init__(self, exercise: str) -> None:
        """Raises CourseError when there is no such exercise, or it has no choices."""
        known = exercises()
        if "choices" not in known.get(exercise, {}):
            quizzes = [number for number, entry in known.items() if "choices" in entry]
            raise CourseError(f"Exercise {exercise!r} is no quiz.", f"Quizzes are {', '.join(quizzes)}.")
        self.exercise = exercise
        self.question: str = known[exercise]["question"]
        self.choices: dict[str, str] = known[exercise]["choices"]

    def __repr__(self) -> str:
        lines = [f"  {letter}  {text}" for letter, text in self.choices.items()]
        return "\n".join([f"{self.exercise}  {self.question}", *lines, f'Answer with quiz("{self.exercise}", "…").'])

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        items = "".join(f"<li>{_marked(text)}</li>" for text in self.choices.values())
        # What shows where no widget lives: in a stored notebook that is not trusted or not run, and on a web page.
        plain = f"<p><b>{self.exercise}</b> {_marked(self.question)}</p><ol type='a'>{items}</ol>"
        bundle: dict[str, Any] = self.widget._repr_mimebundle_(**kwargs)
        return {**bundle, "text/plain": repr(self), "text/html": plain}

    @cached_property
    def widget(self) -> Any:
        """The question, radio buttons, three buttons, and a place for the reply."""
        import ipywidgets as widgets

        question = widgets.HTML(f"<p id='quiz-{self.exercise}'><b>{self.exercise}</b> {_marked(self.question)}</p>")
        radio = widgets.RadioButtons(
            options=[(f"{letter}  {_unmarked(text)}", letter) for letter, text in self.choices.items()],
            value=None,
            layout={"width": "max-content"},
        )
        reply = widgets.HTML()
        # A screen reader reads out what changes in an element of this role.
        reply.value = _area("")

        def tell(what: Callable[[], Reply]) -> Callable[[object], None]:
            def told(_: object) -> None:
                reply.value = _area(what()._repr_html_())

            return told

        buttons = []
        for text, what in (
            ("Check", lambda: check(self.exercise, radio.value)),
            ("Hint", lambda: hint(self.exercise)),
            ("Solution", lambda: solution(self.exercise)),
        ):
            button = widgets.Button(description=text, button_style="primary" if text == "Check" else "")
            button.on_click(tell(what))
            buttons.append(button)
        box = widgets.VBox([question, radio, widgets.HBox(buttons), reply])
        box.add_class("tl-quiz")
        return box


def quiz(exercise: str, answer: Any = None) -> Quiz | Reply:
    """A question with choices; with an answer, a letter, the reply to it.

    Raises:
        CourseError: there is no such exercise, or it has no choices.
    """
    asked = Quiz(exercise)
    return asked if is_blank(answer) else check(exercise, answer)


def _area(content: str) -> str:
    return f'<div role="status" aria-live="polite">{content}</div>'


def _marked(text: str) -> str:
    """Text with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _unmarked(text: str) -> str:
    return text.replace("`", "")
