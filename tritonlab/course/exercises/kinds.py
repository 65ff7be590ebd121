"""The kinds of exercises, and how an answer of each is judged.

An exercise is a table of NN.toml, by its number. Every one has `kind`, `answer` (the reference solution), `hints`
(told one by one), `why` (said of a right answer) and `wrong` (the usual wrong answers, each with its `reply`);
`otherwise` is said of any other answer, and `ask`, if `ASK` below does not do, of none. The kinds:

    choice      one of several letters. `question`, `choices` by letter, and in place of `why` and `wrong` a reply to
                each letter in `replies`.
    number      right within `tolerance`, which is relative.
    text        a word or a line, compared without case, quotes and extra spaces; `also` lists what is right as well.
    log         a line of `file`, a file of data/logs: its number or its text. `also` lists other right numbers.
    config      a config.pbtxt or a part of it, read through Triton's schema.
    command     a line that begins with docker run, trtllm-build or curl, read as that program would.
    repository  a model repository, laid out at first as `answer` overlaid with `start`: paths and their texts, `false`
                for a file that is not there. It is validated, then `models` are loaded on a real server.

Of the last three the meaning counts. An answer is taken apart into facts (`facts.py`), such as `backend: "vllm"` or
`--publish 127.0.0.1:8000:8000`. Each entry of `wrong` finds fault with an answer that `has` a fact, or `lacks` it (both
are regular expressions), and has an `example`: a whole answer of that kind, or for a repository what it overlays the
`answer` with. An answer is right when no entry finds fault with it, and it says nothing that neither `answer` says nor
`also`, a list of regular expressions, allows. The facts of a repository are `problem: WHAT`, as `validate` tells it, or
`cause: ID` of what its server's log shows.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tritonlab.course.exercises import facts, repositories
from tritonlab.course.paths import data
from tritonlab.errors import TritonlabError

Entry = Mapping[str, Any]
Verdict = tuple[bool, str]

ASK = {
    "choice": "Choose one.",
    "number": "Replace None by a number.",
    "text": "Replace None by a word in quotes.",
    "log": "Replace None by the line's number, or by its text in quotes.",
    "config": 'Replace None by the lines of config.pbtxt, between """ and """.',
    "command": 'Replace None by the command, between r""" and """.',
    "repository": "Replace None by the repository when you have mended it. A server then tries to load it.",
}
"""What an unanswered exercise says."""


@dataclass(frozen=True)
class Reply:
    """What `check`, `hint` and `solution` say.

    Attributes:
        exercise: its number, or a case of the fault lab.
        right: None when no answer was given.
        text: why it is right, or why it is not.
        head: what stands before the text; by default it goes by `right`.
        note: what else there is to say, such as that no progress is kept.
    """

    exercise: str
    right: bool | None
    text: str
    head: str = ""
    note: str = ""

    def __repr__(self) -> str:
        head = self.head or {True: "Right.", False: "Not yet.", None: "Your turn."}[self.right]
        gap = "\n" if "\n" in self.text else " "
        return f"{self.exercise}  {head}{gap}{self.text}" + (f"\n{self.note}" if self.note else "")

    def _repr_html_(self) -> str:
        colour = {True: "#1a7f37", False: "#bf3989", None: "#6e7781"}[self.right]
        style = f"border-left:4px solid {colour};padding:.3em .8em;white-space:pre-wrap"
        return f'<div style="{style}">{html.escape(repr(self))}</div>'


def judge(entry: Entry, answer: Any, target: str) -> Verdict:
    """Whether an answer is right, and what to say of it."""
    return _repository(entry, answer, target) if entry["kind"] == "repository" else _KINDS[entry["kind"]](entry, answer)


def shown(entry: Entry) -> str:
    """The reference solution as somebody would write it."""
    answer = entry["answer"]
    if entry["kind"] == "choice":
        return f"{answer}: {entry['choices'][answer]}. {entry['replies'][answer]}"
    if entry["kind"] == "log":
        return f"line {answer}: {_lines(entry)[answer - 1][:200]}"
    if entry["kind"] == "repository":
        return "\n".join(f"{path}:\n{text.strip()}" for path, text in repositories.written(answer).items())
    return str(answer).strip()


def _choice(entry: Entry, answer: Any) -> Verdict:
    letter, replies = _plain(answer), entry["replies"]
    if letter not in replies:
        return False, f"The choices are {', '.join(replies)}."
    return letter == entry["answer"], replies[letter]


def _number(entry: Entry, answer: Any) -> Verdict:
    try:
        given = float(answer)
    except (TypeError, ValueError, OverflowError):
        return False, f"A number is wanted, and {_short(answer)} is none."
    close = entry.get("tolerance", 0.0)
    if math.isclose(given, entry["answer"], rel_tol=close):
        return True, entry["why"]
    return False, _listed(entry, lambda wrong: math.isclose(given, wrong, rel_tol=close))


def _text(entry: Entry, answer: Any) -> Verdict:
    given = _plain(answer)
    if given in map(_plain, [entry["answer"], *entry.get("also", [])]):
        return True, entry["why"]
    return False, _listed(entry, lambda wrong: given == _plain(wrong))


def _log(entry: Entry, answer: Any) -> Verdict:
    lines = _lines(entry)
    if isinstance(answer, int) and not isinstance(answer, bool):
        numbers = [answer] if 0 < answer <= len(lines) else []
        if not numbers:
            return False, f"The file has the lines 1 to {len(lines)}."
    else:
        numbers = _found(str(answer), lines)
        if not numbers:
            return False, f"No line of {entry['file']} reads so. Copy a whole line, or give its number."
    if set(numbers) & {entry["answer"], *entry.get("also", [])}:
        return True, entry["why"]
    return False, _listed(entry, lambda wrong: wrong in numbers)


def _found(answer: str, lines: list[str]) -> list[int]:
    """The numbers of the lines that an answer means: "57", a line as `grep -n` prints it, or a whole line."""
    given = answer.strip()
    number, colon, rest = given.partition(":")
    if number.isdecimal() and len(number) < 10:
        at = int(number)
        is_named = not colon or (0 < at <= len(lines) and rest.strip() == lines[at - 1].strip())
        if is_named:
            return [at] if 0 < at <= len(lines) else []
    return [at for at, line in enumerate(lines, start=1) if line.strip() == given]


def _lines(entry: Entry) -> list[str]:
    return data(f"logs/{entry['file']}").read_text(encoding="utf-8").splitlines()


def _config(entry: Entry, answer: Any) -> Verdict:
    return _compared(entry, answer, facts.of_config)


def _command(entry: Entry, answer: Any) -> Verdict:
    return _compared(entry, answer, lambda text: facts.of_command(text, str(entry["answer"]).split()[0]))


def _compared(entry: Entry, answer: Any, taken_apart: Any) -> Verdict:
    # A plan or a DockerRun is a command too.
    text = answer.render() if hasattr(answer, "render") else answer
    if not isinstance(text, str):
        return False, f"A text is wanted, and {_short(answer)} is none."
    try:
        given = taken_apart(text)
    except TritonlabError as error:
        return False, f"{error.what} {error.fix}".strip()
    if fault := _fault(entry, given):
        return False, fault
    allowed = taken_apart(str(entry["answer"]))
    unasked = [fact for fact in given if fact not in allowed and not _has(entry.get("also", []), [fact])]
    if unasked:
        return False, f"Nothing asks for {unasked[0]!r}. {entry['otherwise']}"
    return True, entry["why"]


def _repository(entry: Entry, answer: Any, target: str) -> Verdict:
    try:
        tried = repositories.look(answer, entry["models"])
    except (TypeError, ValueError):
        return False, f"A ModelRepository or its path is wanted, and {_short(answer)} is none."
    if not tried.facts:
        tried = repositories.load(answer, entry["models"], target)
    if not tried.facts:
        return True, f"{tried.told} {entry['why']}"
    fault = _fault(entry, tried.facts)
    return False, f"{fault or entry['otherwise']}\n{tried.told}"


def _fault(entry: Entry, given: Iterable[str]) -> str:
    """The reply of the first entry of `wrong` that finds fault with these facts; "" if none does."""
    for wrong in entry["wrong"]:
        is_there = _has([wrong.get("has") or wrong["lacks"]], given)
        if is_there == ("has" in wrong):
            return str(wrong["reply"])
    return ""


def _has(patterns: Iterable[str], given: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, fact, re.DOTALL) for pattern in patterns for fact in given)


def _listed(entry: Entry, is_it: Any) -> str:
    """The reply to a listed wrong answer, or to any other."""
    return next((str(wrong["reply"]) for wrong in entry["wrong"] if is_it(wrong["answer"])), str(entry["otherwise"]))


def _plain(answer: Any) -> str:
    return " ".join(str(answer).strip().strip("\"'`").split()).lower()


def _short(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) <= 60 else f"{text[:60]}…"


_KINDS = {"choice": _choice, "number": _number, "text": _text, "log": _log, "config": _config, "command": _command}
