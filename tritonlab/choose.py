"""Which way to serve a model: a few answers, a recommendation with its reasons, and what would change it.

    decision = choose(gpu="ampere", goal="latency", upgrades="freeze")
    decision.path, decision.reasons, decision.flips

Questions, answers and rules stand in `choose.toml`. The helper weighs; it measures nothing.
"""

from __future__ import annotations

import difflib
import html
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tritonlab.errors import TritonlabError

if TYPE_CHECKING:
    import pandas as pd

CLOSE = 1
"""Points between two paths that say: measure both."""


class Reason(NamedTuple):
    """A rule that applies: what it does to which paths (`points`, or None for out), why, and where that is from."""

    paths: tuple[str, ...]
    points: int | None
    why: str
    source: str


class Flip(NamedTuple):
    """An answer that, given in place of yours and with all others as they are, changes the recommendation."""

    question: str
    answer: str
    path: str


@dataclass(frozen=True)
class Decision:
    """What is recommended, why, and when that changes.

    Attributes:
        path: the recommended one, a key of `paths`.
        answers: question -> answer, the assumed ones too.
        assumed: the questions that nobody answered.
        points: path -> points, the best first; those that are out are not in it.
        reasons: the rules that apply.
    """

    path: str
    answers: Mapping[str, str]
    assumed: tuple[str, ...]
    points: Mapping[str, int]
    reasons: tuple[Reason, ...]

    @property
    def close(self) -> tuple[str, ...]:
        """Other paths within a point: measure before you decide."""
        return tuple(path for path, points in self.points.items() if path != self.path and self._lead(points) <= CLOSE)

    def _lead(self, points: int) -> int:
        return self.points[self.path] - points

    @property
    def out(self) -> tuple[str, ...]:
        """The paths that an answer rules out."""
        return tuple(path for path in _table()["paths"] if path not in self.points)

    @property
    def flips(self) -> tuple[Flip, ...]:
        """Every single other answer that changes the recommendation."""
        found = []
        for question, entry in _table()["questions"].items():
            for answer in entry["answers"]:
                points = _points({**self.answers, question: answer})
                other = max(points, key=lambda path: points[path])
                if other != self.path:
                    found.append(Flip(question, answer, other))
        return tuple(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to mind, whichever path it is."""
        return tuple(f"{reason.why} [{reason.source}]" for reason in self.reasons if not reason.paths)

    def about(self, path: str) -> Iterator[str]:
        """What speaks for (+), against (−) and rules out a path, with its source."""
        for reason in self.reasons:
            if path in reason.paths:
                sign = "out" if reason.points is None else f"{reason.points:+d}".replace("-", "−")
                yield f"{sign}: {reason.why} [{reason.source}]"

    def _parts(self) -> Iterator[tuple[str, list[str]]]:
        """The decision as headings and their lines."""
        paths = _table()["paths"]
        others = [path for path in paths if path != self.path]
        yield f"Take {paths[self.path]['title']}.", [paths[self.path]["first"]]
        if self.close:
            near = " and ".join(paths[path]["title"] for path in self.close)
            yield "It is close.", [f"{near} would do nearly as well: measure both with your load."]
        for path in (self.path, *others):
            if said := list(self.about(path)):
                points = f"{self.points[path]:+d}".replace("-", "−") if path in self.points else "out"
                yield f"{paths[path]['title']}: {points}", said
        if self.notes:
            yield "Mind", list(self.notes)
        yield "It changes, if only this were otherwise", [_sentence(flip) for flip in self.flips] or ["nothing does"]
        if self.assumed:
            yield "Assumed, since nobody said", [f"{name}: {self._meaning(name)}" for name in self.assumed]

    def _meaning(self, question: str) -> str:
        return str(_table()["questions"][question]["answers"][self.answers[question]])

    def __repr__(self) -> str:
        return "\n".join(line for head, lines in self._parts() for line in (head, *(f"  {one}" for one in lines)))

    def _repr_html_(self) -> str:
        return "".join(
            f"<p><b>{html.escape(head)}</b></p><ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"
            for head, lines in self._parts()
        )


def choose(**answers: str) -> Decision:
    """Recommend a way to serve.

    Args:
        answers: question -> answer; `questions` lists both. What is left out has its default, and the decision says so.

    Raises:
        TritonlabError: there is no such question or answer.
    """
    known = _table()["questions"]
    for question, answer in answers.items():
        _check(question, known, "question")
        _check(answer, known[question]["answers"], f"answer to {question!r}")
    whole = {question: answers.get(question, entry["default"]) for question, entry in known.items()}
    # Of equals the first stays first, and so the simplest.
    ranked = dict(sorted(_points(whole).items(), key=lambda item: -item[1]))
    assumed = tuple(question for question in known if question not in answers)
    return Decision(next(iter(ranked)), whole, assumed, ranked, tuple(_reasons(whole)))


def questions() -> pd.DataFrame:
    """Every question with its answers, one to a row, and which of them is assumed."""
    import pandas as pd

    return pd.DataFrame(
        [
            {"question": name, "ask": entry["ask"], "answer": answer, "means": means,
             "default": "yes" if answer == entry["default"] else ""}
            for name, entry in _table()["questions"].items()
            for answer, means in entry["answers"].items()
        ]
    )  # fmt: skip


def _reasons(answers: Mapping[str, str]) -> Iterator[Reason]:
    for rule in _table()["rules"]:
        if all(answers[question] in wanted for question, wanted in rule["when"].items()):
            paths = tuple(rule.get("out") or rule.get("paths") or ())
            yield Reason(paths, None if "out" in rule else rule.get("points", 0), rule["why"], rule["source"])


def _points(answers: Mapping[str, str]) -> dict[str, int]:
    found = dict.fromkeys(_table()["paths"], 0)
    reasons = list(_reasons(answers))
    for reason in reasons:
        for path in reason.paths:
            found[path] += reason.points or 0
    gone = {path for reason in reasons if reason.points is None for path in reason.paths}
    return {path: points for path, points in found.items() if path not in gone}


def _sentence(flip: Flip) -> str:
    table = _table()
    means = table["questions"][flip.question]["answers"][flip.answer]
    return f"{flip.question} = {flip.answer} ({means}): {table['paths'][flip.path]['title']}"


def _check(name: str, known: Mapping[str, Any], what: str) -> None:
    if not isinstance(name, str) or name not in known:
        close = difflib.get_close_matches(str(name), known, n=1)
        fix = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(known)}."
        raise TritonlabError(f"There is no {what} {name!r}.", fix)


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("choose.toml").read_text(encoding="utf-8"))
