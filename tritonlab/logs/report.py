"""`LogReport`: what a log says, as tables, figures, JSON and text."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Any

from tritonlab.logs import figures, selection
from tritonlab.logs.arithmetic import Check, Shape, checks
from tritonlab.logs.events import Event
from tritonlab.logs.findings import Diagnosis, Finding
from tritonlab.logs.stages import MEMORY, Progress

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

GIB = 2**30
SHOWN_RUNS = 5
LONGEST_SHOWN = 1000
"""Bytes of a line that is shown as it stands."""
LONGEST_CAUSE = 300
"""Characters of a cause in a table; `Finding.cause` has it whole."""


class LogReport:
    """What a log says.

    Attributes:
        verdict: "ready", "starting", "failed", "stopped", "built" or "unknown".
        kind: what wrote it: "triton-vllm", "triton-vllm-cpu", "triton-tensorrtllm", "triton", "vllm",
            "vllm-cpu", "trtllm-build" or "unknown".
        memory: bytes by use, under the keys of `tritonlab.logs.MEMORY`; what the log does not say is absent.
        services: "grpc", "http" and "metrics" -> "host:port".
        facts: other figures; `tritonlab.logs.FACTS` has the keys with their units.
        findings: the root cause of a failure first, then warnings, which a healthy log may have too.
        lines: the numbers of the first and the last line that it tells of.
        runs: the reports on earlier runs in the same log, as a container that was started again leaves them.
    """

    def __init__(
        self,
        progress: Progress,
        diagnosis: Diagnosis,
        runs: Sequence[LogReport],
        lines: tuple[int, int],
        read: selection.Lines,
    ) -> None:
        self._read = read
        self.lines = lines
        self.runs = list(runs)
        self._stages = progress.stages()
        self._models = list(progress.models.values())
        self.verdict: str = progress.verdict
        if self.verdict in {"unknown", "starting", "ready"} and diagnosis.proves_failure(progress):
            self.verdict = "failed"
        if self.verdict == "stopped" and diagnosis.broke_off(progress):
            self.verdict = "failed"
        self.kind: str = progress.kind
        self.memory: dict[str, int] = {key: progress.memory[key] for key in MEMORY if key in progress.memory}
        self.services: dict[str, str] = dict(progress.services)
        self.facts: dict[str, Any] = {**progress.facts, **progress.clock_facts()}
        self.findings: list[Finding] = diagnosis.findings(progress, self.verdict)

    @property
    def events(self) -> pd.DataFrame:
        """Every message: time, clock, level, component, source, pid, message, line, docker_time.

        A line bears up to two times: its writer's (clock "container") and docker's. `time` is the writer's
        where there is one. Without a year in the log it is in 1904. The log is read once more for this.

        Raises:
            LogUnreadable: the log's file is gone.
        """
        import pandas as pd

        # From the first line of all: what came before may tell the year.
        events = (event for event in selection.events(self._read(1)) if event.line >= self.lines[0])
        frame = pd.DataFrame(list(events), columns=list(Event._fields))
        times = {name: pd.to_datetime(frame[name], errors="coerce") for name in ("time", "docker_time")}
        return frame.assign(**times, pid=frame["pid"].astype("Int64"))

    def page(
        self,
        *,
        levels: Collection[str] = (),
        components: Collection[str] = (),
        stage: str = "",
        words: str = "",
        start: int = 0,
        most: int = selection.PAGE,
    ) -> selection.Page:
        """Some of the events: the first `most` of those asked for, in at most 100,000 lines: no log is too long.

        Args:
            levels, components: those wanted, "none" for lines that have none; empty for all.
            stage: a key of `stage_lines`; "" for the whole log.
            words: a text that the message holds, in small letters or capitals.
            start: the line to begin with, such as an earlier page's `more`.
            most: how many.

        Raises:
            LogUnreadable: the log has no such stage, or its file is gone.
        """
        within = selection.known(stage, self.stage_lines()) if stage else self.lines
        return selection.page(
            self._read, within, levels=levels, components=components, words=words, start=start, most=most
        )

    def stage_lines(self) -> dict[str, tuple[int, int]]:
        """The first and the last line of each stage that the log has, and of what is "after the last stage"."""
        return selection.stage_lines(self._stages, self.lines)

    def around(self, line: int, reach: int = 3) -> list[tuple[int, str]]:
        """A line with its neighbours as they stand in the log, each with its number and cut where it is very long.

        Raises:
            LogUnreadable: the log's file is gone.
        """
        found: list[tuple[int, str]] = []
        for number, text in self._read(max(self.lines[0], line - reach)):
            if number > line + reach:
                break
            found.append((number, text[:LONGEST_SHOWN].decode(errors="replace").rstrip()))
        return found

    @property
    def stages(self) -> pd.DataFrame:
        """The stages that ought to come: stage, status, start, seconds, evidence, line (see `Stage`)."""
        import pandas as pd

        frame = pd.DataFrame(
            [astuple(stage) for stage in self._stages],
            columns=["stage", "status", "start", "seconds", "evidence", "line"],
        )
        start = pd.to_datetime(frame["start"], errors="coerce")
        return frame.assign(start=start, seconds=frame["seconds"].astype(float), line=frame["line"].astype("Int64"))

    @property
    def models(self) -> pd.DataFrame:
        """The models that Triton spoke of: name, version, status (READY, LOADING or UNAVAILABLE), reason."""
        import pandas as pd

        rows = [(model.name, model.version, model.status, model.reason) for model in self._models]
        return pd.DataFrame(rows, columns=["name", "version", "status", "reason"])

    def timeline(self) -> Figure:
        """A bar per stage, at its time and as long as it took; a stage without a time has no bar."""
        return figures.timeline(self._stages, self.verdict)

    def memory_figure(self) -> Figure:
        """What lies in the GPU's memory, each use beginning where the one above it ends, and the limits beside it."""
        return figures.memory(self.memory, self.facts)

    def checks(self, shape: Shape | None = None) -> pd.DataFrame:
        """Whether the figures add up: figure, stated, computed, formula, agrees; sizes in bytes.

        Args:
            shape: the model's, such as `ModelShape.of(config)`, for what follows from that; two bytes a weight.
        """
        import pandas as pd

        return pd.DataFrame(checks({**self.facts, **self.memory}, shape), columns=list(Check._fields))

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; `report.schema.json` beside this module names the keys."""
        stages = [{**asdict(stage), "start": stage.start and stage.start.isoformat()} for stage in self._stages]
        models = [{"name": m.name, "version": m.version, "status": m.status, "reason": m.reason} for m in self._models]
        return {
            "verdict": self.verdict,
            "kind": self.kind,
            "stages": stages,
            "memory": self.memory,
            "models": models,
            "services": self.services,
            "facts": self.facts,
            "findings": [asdict(found) for found in self.findings],
            "lines": list(self.lines),
            "runs": [run.to_dict() for run in self.runs],
        }

    def __repr__(self) -> str:
        lines = [f"LogReport: {self.verdict} ({self.kind}, {self._span()})"]
        for heading, rows in self._sections():
            lines.append(f"{heading}:")
            if heading == "findings":
                # Sentences: below each other, since beside each other no terminal is wide enough.
                lines += [
                    f"  {name}, {line}: {title}\n      {said}\n      {fix}" for name, line, title, said, fix in rows
                ]
                continue
            widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
            lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{self.verdict}</b>: {self.kind}, {self._span()}</p>"]
        for heading, rows in self._sections():
            cells = "".join(
                "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row) + "</tr>"
                for row in rows
            )
            parts.append(f"<table><caption style='text-align:left'><b>{heading}</b></caption>{cells}</table>")
        return "".join(parts)

    def _span(self) -> str:
        told = {"elapsed_seconds": "from first to last", "startup_seconds": "to the last service"}
        texts = [f", {self.facts[key]:.1f} s {what}" for key, what in told.items() if key in self.facts]
        if offset := self.facts.get("clock_offset_seconds"):
            texts.append(f", docker's clock is {offset} s ahead of the container's")
        return self._where() + "".join(texts)

    def _where(self) -> str:
        first, last = self.lines
        return f"lines {first} to {last}" if self.runs or first > 1 else f"{last} lines"

    def _sections(self) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
        """The report as tables of text: (heading, rows); empty ones are left out."""
        found: list[tuple[str, ...]] = [
            (f.id, f"line {f.line}", f.title, f.cause[:LONGEST_CAUSE], f.fix) for f in self.findings
        ]
        models: list[tuple[str, ...]] = [(m.name, m.version, m.status, m.reason) for m in self._models]
        stages: list[tuple[str, ...]] = [
            (s.name, s.status, _seconds(s.seconds), f"line {s.line}" if s.line else "") for s in self._stages
        ]
        memory: list[tuple[str, ...]] = [
            (use, f"{size / GIB:.4g} GiB", MEMORY[use]) for use, size in self.memory.items()
        ]
        services: list[tuple[str, ...]] = [*self.services.items()]
        runs: list[tuple[str, ...]] = [
            (run._where(), run.verdict, next((f"{f.title}: {f.cause}"[:LONGEST_CAUSE] for f in run.findings), ""))
            for run in self.runs[-SHOWN_RUNS:]
        ]
        if len(self.runs) > SHOWN_RUNS:
            runs.insert(0, (f"{len(self.runs) - SHOWN_RUNS} more", "", ""))
        headings = ("earlier runs", "findings", "models", "services", "stages", "memory")
        for heading, rows in zip(headings, (runs, found, models, services, stages, memory), strict=True):
            if rows:
                yield heading, rows


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"
