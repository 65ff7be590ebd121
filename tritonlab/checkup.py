"""What a look at the machine found: single findings, and the report of all."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload


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
