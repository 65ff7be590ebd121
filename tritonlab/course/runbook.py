"""What a notebook uses as a runbook: steps that are done and written down, findings, and one verdict."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tritonlab.errors import CourseError, TritonlabError

if TYPE_CHECKING:
    from tritonlab.logs import LogReport

RESULT = "application/vnd.tritonlab.result+json"
"""Under this type the executed notebook holds the result, for `tritonlab run` and for other programs."""
GOOD = ("ready", "built")
LONGEST = 1500
"""Characters that are kept of what an error says."""
T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One step: what it is, "ok", "failed" or "not tried", how long it took, and what came of it in a few words."""

    what: str
    status: str
    seconds: float
    said: str = ""


class Runbook:
    """What a runbook did, found and concludes. Shown by a notebook, it is also the result that is recorded.

    Attributes:
        steps: what was done.
        findings: what is wrong, the worst first: id, severity, title, cause, fix.
        versions: of what was looked at.
        verdict: "ok"; "failed" once a step or a log has; "undecided" when a log does not tell.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.steps: list[Step] = []
        self.findings: list[dict[str, Any]] = []
        self.versions: dict[str, str] = {}
        self.verdict = "ok"

    def step(self, what: str, do: Callable[[], T], *, anyway: bool = False) -> T | None:
        """Do a step and write down how it went; what it returns, or None if it failed or was not tried.

        Args:
            what: what holds when it went well, e.g. "the server is ready".
            do: does it. A text that it returns is shown; a TritonlabError that it raises is a finding.
            anyway: try it even when an earlier step has failed.
        """
        if self.verdict == "failed" and not anyway:
            self.steps.append(Step(what, "not tried", 0.0))
            return None
        started = time.monotonic()
        try:
            value = do()
        except TritonlabError as error:
            self.steps.append(Step(what, "failed", time.monotonic() - started, error.what.splitlines()[0]))
            self.verdict = "failed"
            self._find(_finding(error))
            return None
        said = value if isinstance(value, str) else ""
        self.steps.append(Step(what, "ok", time.monotonic() - started, said))
        return value

    def read(self, report: LogReport) -> None:
        """Take over what a log says: its findings, and its verdict if that is no good one."""
        for found in report.findings:
            self._find({key: getattr(found, key) for key in ("id", "severity", "title", "cause", "fix", "line")})
        self.versions |= {
            key.removesuffix("_version"): str(value) for key, value in report.facts.items() if key.endswith("_version")
        }
        if self.verdict != "failed" and report.verdict not in GOOD:
            self.verdict = "failed" if report.verdict == "failed" else "undecided"

    def require(self) -> None:
        """Raise CourseError unless all is well: so a scheduler that knows papermill alone sees a failed run as one."""
        if self.verdict != "ok":
            raise CourseError(f"{self!r}", "Read the cells above.")

    def _find(self, finding: dict[str, Any]) -> None:
        if all(finding["id"] != other["id"] for other in self.findings):
            self.findings.append(finding)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it; `record.schema.json` beside this module has its keys."""
        return {
            "title": self.title,
            "verdict": self.verdict,
            "steps": [{**asdict(step), "seconds": round(step.seconds, 3)} for step in self.steps],
            "findings": self.findings,
            "versions": self.versions,
        }

    def __repr__(self) -> str:
        lines = [f"{self.title}: {self.verdict}"]
        for step in self.steps:
            seconds = f"{step.seconds:7.2f} s" if step.status != "not tried" else ""
            lines.append(f"  {step.status:9} {seconds:9}  {step.what}{step.said and f': {step.said}'}")
        for found in self.findings:
            lines.append(f"{found['severity']}: {found['title']} ({found['id']})")
            lines += [f"  {found['cause']}"] if found["cause"] else []
            lines += [f"  What to do: {found['fix']}"] if found["fix"] else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def row(*cells: str) -> str:
            return "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in cells) + "</tr>"

        def heads(*names: str) -> str:
            return "<tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"

        steps = "".join(row(step.what, step.status, f"{step.seconds:.2f} s", step.said) for step in self.steps)
        found = "".join(row(f["severity"], f["title"], f["cause"], f["fix"], f["id"]) for f in self.findings)
        parts = [f"<p>{html.escape(self.title)}: <b>{self.verdict}</b></p>"]
        if steps:
            parts.append(f"<table>{heads('step', 'status', 'time', 'what came of it')}{steps}</table>")
        if found:
            parts.append(
                f"<table>{heads('severity', 'what is wrong', 'in its words', 'what to do', 'id')}{found}</table>"
            )
        return "".join(parts)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/plain": repr(self), "text/html": self._repr_html_(), RESULT: self.to_dict()}


def _finding(error: TritonlabError) -> dict[str, Any]:
    """An error as a finding: under the knowledge base's name if that knows the words, else under the error's kind."""
    from tritonlab.logs import read_log

    known = [found for found in read_log(str(error).splitlines()).findings if found.severity == "error"]
    if known:
        title, fix = known[0].title, error.fix or known[0].fix
        return {"id": known[0].id, "severity": "error", "title": title, "cause": known[0].cause, "fix": fix}
    return unknown(type(error).__name__, error.what, error.fix)


def unknown(kind: str, what: str, fix: str) -> dict[str, Any]:
    """An error that the knowledge base was not asked about, or does not know, as a finding."""
    first, _, rest = what.partition("\n")
    return {"id": kind, "severity": "error", "title": first[:300], "cause": rest[:LONGEST], "fix": fix}
