"""What a look at the machine found: single findings, and the report of all."""

from __future__ import annotations

import html
import re
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import overload

SCREEN = (24, 80, 120)  # lines, and columns at least and at most


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `status` is "ok", "warning" or "FAIL"; `fix` says what to do unless it is "ok"."""

    status: str
    what: str
    found: str
    fix: str = ""


class Report(Sequence[Finding]):
    """What `doctor` found, with a table for notebooks and lines for a terminal."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._findings = tuple(findings)

    @property
    def healthy(self) -> bool:
        """Nothing failed."""
        return all(finding.status != "FAIL" for finding in self)

    def as_dict(self) -> dict[str, object]:
        """All of it for programs."""
        return {"healthy": self.healthy, "findings": [asdict(finding) for finding in self]}

    def screen(self, columns: int | None = None) -> str:
        """All of it on one screen: what is wrong comes first, and what is well gives way where room is short."""
        lines, narrow, wide = SCREEN
        width = max(narrow, min(columns or shutil.get_terminal_size((wide, lines)).columns, wide))
        wrong = [found for found in self if found.status != "ok"]
        well = [found for found in self if found.status == "ok"]
        shown = [_cut(f"ok       {found.what}: {found.found}", width) for found in well]
        room = lines - 1 - len(shown)
        bad: list[str] = []
        for found in sorted(wrong, key=lambda found: found.status != "FAIL"):
            bad += _wrapped(f"{found.status:8} {found.what}: {found.found}", width, most=2)
            bad += _wrapped(f"{'':8} -> {found.fix}", width, most=3) if found.fix else []
        if len(bad) > room:
            shown = [_cut(f"ok       {', '.join(found.what for found in well)}", width)] if well else []
        if len(bad) > (room := lines - 1 - len(shown)):
            bad = [*bad[: room - 1], "... and more: --json tells all"]
        counts = ", ".join(f"{sum(f.status == status for f in self)} {status}" for status in ("ok", "warning", "FAIL"))
        return "\n".join([*bad, *shown, counts])

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Finding]: ...
    def __getitem__(self, index: int | slice) -> Finding | Sequence[Finding]:
        return self._findings[index]

    def __len__(self) -> int:
        return len(self._findings)

    def __repr__(self) -> str:
        lines = []
        for finding in self:
            lines.append(f"{finding.status:8} {finding.what}: {finding.found}")
            if finding.fix:
                lines.append(f"{'':8} -> {finding.fix}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><b>{html.escape(f.status)}</b></td><td>{html.escape(f.what)}</td>"
            f"<td style='text-align:left'>{html.escape(f.found)}"
            f"{'<br><i>' + html.escape(f.fix) + '</i>' if f.fix else ''}</td></tr>"
            for f in self
        )
        return f"<table><thead><tr><th>status</th><th>what</th><th>found</th></tr></thead>{rows}</table>"


def _cut(line: str, width: int) -> str:
    line = " ".join(line.split("\n"))
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _wrapped(text: str, width: int, most: int) -> list[str]:
    """A text as few lines; a command in backticks stays on one, so that it can be copied."""
    held = re.sub(r"`[^`]+`", lambda match: match[0].replace(" ", "\0"), text.replace("\n", " "))
    lines = textwrap.wrap(held, width, subsequent_indent=" " * 12, break_on_hyphens=False, drop_whitespace=True,
                          max_lines=most, placeholder=" …")  # fmt: skip
    return [line.replace("\0", " ") for line in lines]
