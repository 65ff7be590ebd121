"""What a check of files found: where, what, why it matters, how to mend it."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a repository: where (`line` 0 is the whole file), what, why it matters, how to mend it."""

    file: str
    line: int
    what: str
    why: str
    fix: str
    severity: str = "error"

    def __repr__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{self.severity}: {place}: {self.what}\n  why: {self.why}\n  fix: {self.fix}"


class Problems(Sequence[Problem]):
    """What `validate` found; empty, and false, when all is good."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._problems = tuple(problems)

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | Sequence[Problem]:
        return self._problems[index]

    def __len__(self) -> int:
        return len(self._problems)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "no problems"

    def _repr_html_(self) -> str:
        if not self:
            return "<p>no problems</p>"
        rows = "".join(
            f"<tr><td>{html.escape(p.severity)}</td><td>{html.escape(p.file)}{f':{p.line}' if p.line else ''}</td>"
            + "".join(f"<td style='text-align:left'>{html.escape(t)}</td>" for t in (p.what, p.why, p.fix))
            + "</tr>"
            for p in self
        )
        heads = "".join(f"<th>{head}</th>" for head in ("severity", "where", "what", "why", "fix"))
        return f"<table><thead><tr>{heads}</tr></thead>{rows}</table>"


def line_of(text: str, word: str) -> int:
    """The first line that has `word` as a whole, outside comments; 0 when none has."""
    if not word:
        return 0
    pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
    for number, line in enumerate(text.splitlines(), start=1):
        if pattern.search(line.partition("#")[0]):
            return number
    return 0
